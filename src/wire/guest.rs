//! Messages between the host and the guest agent, version [`VERSION`].
//!
//! Every connection goes from the host to port [`PORT`] of the guest and serves one request, or one program or copy
//! after the other:
//!
//! ```text
//! host                                   agent
//!  Hello {version, nonce}          ──▶
//!                                  ◀──   Hello {version, nonce, proof}
//!  Proof {proof}, Request, …       ──▶            (proofs: module `proof`)
//!                                  ◀──   Reply, …
//!   ┌─ after Exec and Copy only    ◀──   … ExecEnded, ExecFailed, or Copied
//!   └▶ Request, …                  ──▶            (a frame of its own kind)
//!                                  ◀──   Reply, …
//! ```
//!
//! A program's end leaves its connection proven and unused, and so does that of a copy which was made. The host may
//! keep it and send another request, of any sort, in a [`Request`](super::frame::Frame::Request) frame; what else it
//! had on its way for what has ended is thrown away before that. After every other request, and after a copy that
//! failed, the connection ends.
//!
//! Messages are JSON in [`Control`](super::frame::Frame) frames; bytes travel beside them in data
//! frames. What follows a request is said at its variant. Everything the agent says is hostile input
//! to the host: frames are bounded by the codec, strings by the limits below.

use serde::{Deserialize, Serialize};

use super::survey::ListedBy;
use crate::id::{BootId, ExecId, VmId};

mod copy;
mod exec;
mod network;
mod observed;
mod plan;
mod tree;

pub use copy::{CopyDirection, CopyFailure, CopyFiles, CopyKind, Incoming, Skipped, place_of};
pub use exec::{
    Attached, Detach, DetachOutcome, DetachedProgram, DetachedPrograms, DetachedState,
    DetachedStdin, Exec, ExecFailure, ExecInput, ExecStatus, MAX_COMMAND, MAX_DETACHED, TtySize,
};
pub use network::{Ipv6, Network};
pub use observed::{
    FileSystemStats, GuestStats, Listening, ListeningSocket, MAX_PROGRAM, MAX_SOCKETS, Protocol,
};
pub use plan::{BlockPlace, PlanStep};
pub use tree::{
    ReceiveTree, TreeChange, TreeFailure, UPDATE_DEEPENED, UPDATE_REMOVED, UPDATE_REPLACED,
    UPDATE_TREE,
};

/// The vsock port on which the agent listens.
pub const PORT: u32 = 1024;

/// The vsock port of the host to which the agent connects once it listens, to say so. Nothing is sent.
pub const READY_PORT: u32 = 1025;

/// The version of this protocol. Host and agent are built together and must agree exactly.
pub const VERSION: u32 = 9;

/// First message of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostHello {
    /// [`VERSION`] of the host.
    pub version: u32,
    /// 32 random bytes, hexadecimal.
    pub nonce: String,
}

/// First message of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentHello {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// 32 random bytes, hexadecimal.
    pub nonce: String,
    /// The agent's proof that it holds the key of this VM and this boot, hexadecimal.
    pub proof: String,
}

/// The host's proof, sent together with the request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostProof {
    /// Hexadecimal.
    pub proof: String,
}

/// What the host asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Is the guest up? Answer: [`Reply::Health`].
    Health,
    /// Identity and work-disk plan, once per boot, before anything else is served. The request is
    /// followed by `steps` times one control frame with a [`PlanStep`] and, where the step has
    /// content, data frames with exactly `size` bytes and an end-of-data frame. Answer:
    /// [`Reply::Done`] when the guest runs in its own root, or [`Reply::Failed`] naming the step.
    Setup(Box<Setup>),
    /// Run a program. Answer: [`Reply::ExecStarted`] or [`Reply::ExecFailed`]; then stdout and stderr
    /// frames, and last [`Reply::ExecEnded`]. The host meanwhile sends stdin frames (no more than its
    /// [`StdinWindow`](super::window::StdinWindow) lets it, which [`Reply::StdinTaken`] opens again), an
    /// end-of-stdin frame, and control frames with [`ExecInput`]. When the host closes the connection
    /// early the program gets SIGHUP. After the last reply the connection is there for another request.
    Exec(Exec),
    /// Run a program that goes on with nobody there. Answer: [`Reply::ExecDetached`] or
    /// [`Reply::ExecFailed`].
    Detach(Box<Detach>),
    /// Attach to a detached program. Answer: [`Reply::ExecAttached`] or [`Reply::Failed`]; then the output
    /// that is kept and what follows, as after [`Request::Exec`]. Whoever was attached before gets
    /// [`Reply::Failed`]. When the host closes the connection the program goes on.
    Attach {
        /// The program.
        id: ExecId,
    },
    /// Which programs are detached? Answer: [`Reply::Detached`].
    Detached,
    /// Unpack a tar stream. Followed by data frames and an end-of-data frame. Answer: data frames with records
    /// [`Same`](super::survey::Seen::Same), by which files that came are known again, and an end-of-data frame;
    /// [`Reply::Done`]. At any time [`Reply::TreeFailed`] or [`Reply::Failed`] instead, which ends it.
    ReceiveTree(ReceiveTree),
    /// Copy a file or a tree. Out of the guest, the answer is [`Reply::Copying`], data frames with a tar stream, an
    /// end-of-data frame and [`Reply::Copied`]. Into it, the request is followed by data frames with a tar stream
    /// and an end-of-data frame, and the answer is [`Reply::Copied`] once all of it is in its place. At any time
    /// [`Reply::CopyFailed`] or [`Reply::Failed`] instead, which ends it; then what was at the destination still is.
    /// After [`Reply::Copied`] the connection is there for another request.
    Copy(CopyFiles),
    /// Look at a tree. Followed by data frames with what the host knows of it ([`survey`](super::survey)) and an
    /// end-of-data frame. Answer: data frames with what is seen of it and an end-of-data frame; data frames with
    /// the contents of what is new or otherwise, one after the other, and an end-of-data frame;
    /// [`Reply::Done`]. At any time [`Reply::Failed`] instead, which ends it.
    Survey {
        /// The tree's root, relative to the home or absolute.
        path: String,
        /// By what its files are found.
        by: ListedBy,
    },
    /// Connect to this TCP port of the guest's loopback. Answer: [`Reply::Connected`],
    /// [`Reply::ConnectFailed`] or [`Reply::Failed`]. After the first, the connection is carried both ways as
    /// module `relay` says.
    Connect {
        /// The port.
        port: u16,
    },
    /// How busy and how full is the guest? Answer: [`Reply::Stats`] or [`Reply::Failed`].
    Stats,
    /// Which sockets wait for others? Answer: [`Reply::Listening`] or [`Reply::Failed`].
    Listening,
    /// Grow the work disk's file system to its device, as soon as that has at least so many bytes.
    /// Answer: [`Reply::Done`] or [`Reply::Failed`].
    GrowWorkDisk {
        /// The bytes.
        bytes: u64,
    },
    /// Set the wall clock, which has stood still with the machine. Answer: [`Reply::Done`] or [`Reply::Failed`].
    SetClock {
        /// Milliseconds since 1970, UTC.
        unix_ms: u64,
    },
    /// Sync the disks and power off. Answer: [`Reply::Done`] after the sync, before the power goes.
    PowerOff,
}

/// What the agent answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Health`].
    Health(Health),
    /// To [`Request::Stats`].
    Stats(GuestStats),
    /// To [`Request::Listening`].
    Listening(Listening),
    /// It is done.
    Done,
    /// It failed; nothing more follows on this connection.
    Failed {
        /// What was being done: a boot step, or the plan step with its path.
        step: String,
        /// The chain of errors.
        message: String,
    },
    /// A tree was not taken.
    TreeFailed {
        /// What is known of it, for programs.
        reason: TreeFailure,
        /// What was being done.
        step: String,
        /// The chain of errors.
        message: String,
    },
    /// What is copied out of the guest; its tar stream follows.
    Copying {
        /// What it is.
        kind: CopyKind,
    },
    /// The copy is whole.
    Copied(Skipped),
    /// Nothing was copied.
    CopyFailed {
        /// Why, for programs.
        reason: CopyFailure,
        /// The chain of errors.
        message: String,
    },
    /// The connection to the guest's port is there.
    Connected,
    /// It could not be made.
    ConnectFailed {
        /// Why, for programs.
        reason: ConnectFailure,
        /// The error.
        message: String,
    },
    /// The program runs.
    ExecStarted {
        /// Its process id in the guest.
        pid: i32,
    },
    /// The program runs, with nobody there.
    ExecDetached {
        /// Its id, of this boot.
        id: ExecId,
        /// Its process id in the guest.
        pid: i32,
    },
    /// To [`Request::Attach`].
    ExecAttached(Attached),
    /// To [`Request::Detached`].
    Detached(DetachedPrograms),
    /// The program has taken more of its input, or will never read it.
    StdinTaken {
        /// How many bytes, since this was said last.
        bytes: u32,
    },
    /// The program could not be started.
    ExecFailed {
        /// Why, in the sense of exit statuses 126 and 127.
        reason: ExecFailure,
        /// The error.
        message: String,
    },
    /// The program ended and all of its output has been sent.
    ExecEnded(ExecStatus),
}

/// Why no connection to a port of the guest could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectFailure {
    /// Nothing listens there.
    Refused,
    /// There are as many forwarded connections as the agent takes.
    TooMany,
    /// Anything else.
    Other,
}

/// How the guest is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// The boot this agent belongs to.
    pub boot_id: BootId,
    /// Whether [`Request::Setup`] has been done.
    pub ready: bool,
    /// Milliseconds since the guest's kernel started.
    pub uptime_ms: u64,
}

/// Who the guest is. Everything a guest must know that is not in its image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The VM's id.
    pub vm: VmId,
    /// Its hostname.
    pub hostname: String,
    /// The time of the host: nanoseconds since 1970 (UTC).
    pub unix_time_ns: i64,
    /// Random bytes for the guest's kernel, hexadecimal, at least 64 bytes.
    pub entropy: String,
    /// The network, or none.
    pub network: Option<Network>,
    /// The ssh host key, as OpenSSH writes it, to `/etc/ssh/ssh_host_ed25519_key`.
    pub ssh_host_key: Option<SshHostKey>,
    /// How many plan steps follow.
    pub steps: u32,
}

/// An ssh host key pair in OpenSSH's own formats.
#[derive(Clone, Serialize, Deserialize)]
pub struct SshHostKey {
    /// The private key file's content.
    pub private: String,
    /// The public key file's content.
    pub public: String,
}

impl std::fmt::Debug for SshHostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshHostKey").field("public", &self.public).finish_non_exhaustive()
    }
}
