//! Plugins that mean harm, and the host that runs them.
//!
//! `corpus.rs` has the plugins, by source; the other files try them. Each ends in an error that has a type
//! and names the plugin, within its budget; nothing is written, and nothing is left.

#[path = "corpus.rs"]
mod corpus;
#[path = "left.rs"]
mod left;
#[path = "table.rs"]
mod table;
#[path = "world.rs"]
mod world;
