//! The VM service (being written).

pub mod ledger;
pub mod plan;
pub mod ports;
pub mod record;
pub mod state;
