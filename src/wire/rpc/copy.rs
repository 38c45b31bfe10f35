//! Copying files and trees.

use serde::{Deserialize, Serialize};

use crate::wire::guest::CopyDirection;

/// Parameters of `vm.copy`. Into a VM that runs; out of one that runs, or out of the home of one at rest, which is
/// read from its disk and cannot be started meanwhile. The returned ticket opens a byte stream, which carries frames as they are said at
/// `wire::guest::Request::Copy`, from the reply on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CopyVm {
    /// The VM.
    pub vm: String,
    /// The path in the guest: relative to the home, absolute, or beginning with `~/`. An empty one is the home.
    pub path: String,
    /// `out` of the guest, or `in`to it.
    pub direction: CopyDirection,
}
