//! Plugins that mean harm, and the host that runs them.
//!
//! `corpus.rs` has the plugins, by source; the other files try them. Each ends in an error that has a type
//! and names the plugin, within its budget; nothing is written, and nothing is left.

mod corpus;
mod left;
mod table;
mod world;
