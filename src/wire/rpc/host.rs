//! What the daemon tells of images, its host and itself.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ImageName};

/// An image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// The digest of its file system.
    pub digest: Digest,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// What it is, for people: "Debian 12, 2026-11-23".
    pub description: String,
}

/// A kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Kernel {
    /// The digest of its file.
    pub digest: Digest,
    /// Its release: `6.1.0-30-cloud-amd64`.
    pub release: String,
}

/// One row of `cove doctor`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All right.
    Pass,
    /// Works, but not as well as it could.
    Warn,
    /// VMs cannot be started.
    Fail,
}

/// The result of `daemon.ping`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Pong {
    /// The daemon's version.
    pub version: String,
}

/// The result of `daemon.status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct DaemonStatusReply {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The path of its socket.
    pub socket: String,
    /// The path of its database.
    pub database: String,
    /// When it started.
    pub started_at: String,
    /// How many VMs it has.
    pub vms: u64,
    /// Its resident memory in KiB.
    pub resident_kib: u64,
    /// The path of its log.
    pub log: String,
}
