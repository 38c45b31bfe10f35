//! What the agent sees of its guest. Hostile like everything a guest says.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How busy and how full a guest is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct GuestStats {
    /// Milliseconds since its kernel started.
    pub uptime_ms: u64,
    /// Processes that ran or wanted to, on average of the last minute.
    pub load_1m: f32,
    /// The same of the last five minutes.
    pub load_5m: f32,
    /// The same of the last fifteen minutes.
    pub load_15m: f32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Memory in bytes that programs could still get.
    pub memory_available_bytes: u64,
    /// The work disk's file system, where the home is.
    pub work_disk: FileSystemStats,
    /// The root's file system, where everything else is.
    pub root_disk: FileSystemStats,
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct FileSystemStats {
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes that can still be written.
    pub available_bytes: u64,
}

/// The most sockets that are told of.
pub const MAX_SOCKETS: usize = 512;

/// The most characters of a program's name; the kernel keeps 15 bytes.
pub const MAX_PROGRAM: usize = 64;

/// Sockets that wait for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct Listening {
    /// The sockets, by protocol, port and address.
    pub sockets: Vec<ListeningSocket>,
    /// Whether there are more than are told of.
    pub more: bool,
}

/// One socket: TCP that listens, or UDP that is bound and not connected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct ListeningSocket {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The guest's own address it is bound to; unspecified for all of them.
    pub address: IpAddr,
    /// A process that has it open, when one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The name of that process. Hostile: escape before showing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// The protocol of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Listening {
    /// The same, no larger than it may be.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if self.sockets.len() > MAX_SOCKETS {
            self.sockets.truncate(MAX_SOCKETS);
            self.more = true;
        }
        for program in self.sockets.iter_mut().filter_map(|socket| socket.program.as_mut()) {
            if let Some((end, _)) = program.char_indices().nth(MAX_PROGRAM) {
                program.truncate(end);
            }
        }
        self
    }
}
