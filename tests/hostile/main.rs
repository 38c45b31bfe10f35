//! Plugins that mean harm, and the host that runs them.
//!
//! `corpus/` has the plugins, by source; the other files try them. Each ends in an error that has a type
//! and names the plugin, within its budget; nothing is written, and nothing is left.

mod compiling;
mod corpus;
mod files;
mod left;
mod mutations;
mod points;
mod table;
mod text;
mod world;
