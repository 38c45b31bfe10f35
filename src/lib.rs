//! cove: private Linux machines for developers and coding agents.
//!
//! # Modules
//!
//! Imports run one way, from right to left; the guest's side stands on the common ground alone.
//!
//! ```text
//!   common ground   ◀──  services  ◀──  adapters  ◀──  rim
//!   id report wire       vm             vmm  net       rpc cli doctor
//!   config size egress   workspace      disk guest     daemon
//!   process task         image          store hooks    (bin/)
//!   block keys archive
//!   index line
//!         ▲
//!         └── agent
//! ```
//!
//! - [`id`]: types of every id and name
//! - [`report`]: failures as their reader gets them: message, causes, hint, kind
//! - [`wire`]: the only serde contract types: RPC, guest protocol, proof
//! - [`config`]: the only reader of configuration files and environment
//! - [`size`]: sizes as people write them
//! - [`block`]: blocks of text in people's files
//! - [`keys`]: ssh keys in OpenSSH's formats
//! - [`archive`]: files and trees as tar streams: packing, unpacking, and their place
//! - [`index`]: git's index, and what it says of files so that git need not read them
//! - `line`: a connection of frames that a thread has for itself
//! - [`egress`]: what a VM may reach: rules, and the one decision about them
//! - [`process`]: the only maker of child processes, and how one is known again
//! - [`task`]: named, tracked tasks
//! - [`vm`]: the VM service: states, operations, recovery, and the traits it needs
//! - [`workspace`]: the workspace service: what of a repository goes in, is kept of that, and comes out
//! - [`image`]: the image service: images, kernels, initramfs
//! - [`vmm`]: virtual machine monitors: QEMU
//! - [`net`]: a network namespace per VM: TAP device, rules, uplink
//! - [`disk`]: overlay and work disk files, and the jailed reader of them
//! - [`guest`]: the host's side of the agent connection
//! - [`store`]: the database
//! - [`hooks`]: the hook host
//! - [`rpc`]: server and client of the RPC
//! - [`cli`]: one file per command
//! - [`doctor`]: checks of the host
//! - [`daemon`]: the composition root; everything that knows two sides of the house
//! - [`agent`]: the guest's side: PID 1, boot, exec, applying a plan
//!
//! # Invariants
//!
//! What must never become untrue, written as absences. The README has the same list. A change that needs
//! to break one of these is a change of design.
//!
//! 1. The host never mounts or writes a file system that a guest could have written; and no process of it parses
//!    one, but a reader in a jail that holds that disk, read only, and can do nothing but say what is on it.
//! 2. No disk reaches a monitor without an explicit `format=raw`.
//! 3. Nothing is said to a guest, and nothing a guest says is heard, before both sides have proved
//!    themselves with the key of this boot.
//! 4. A plugin has no authority but the handles it is given: no files, environment, sockets, arguments.
//! 5. A hook that fails, traps or is cut off has changed nothing: its plan is committed whole or dropped.
//! 6. The source repository is never written: index, refs, configuration and files stay identical; and
//!    nothing in it runs. But for files of its working tree, all or none, when the user has work applied.
//! 7. A guest never reaches the host's loopback, nor a VM that is not its peer, and the host's addresses,
//!    private ranges, link-local addresses and metadata services only by a rule of the user's about them;
//!    the firewall in its own namespace sees to it, not the uplink, and its proxy before it connects.
//! 8. No host resource exists without a row that was written before it, and none outlives its row.
//! 9. No process is signalled by its pid alone: its start time must match.
//! 10. No guest dies with the daemon or the client; only a lease (`--rm`) ends it.
//! 11. No service knows another service or an adapter: `vm` knows no SQLite, no QEMU, no socket and no
//!     terminal, only the small traits it owns.
//! 12. Nothing but `hooks` knows wasmtime, but `store` SQLite, but `rpc` jsonrpsee; nothing but `config`
//!     reads the environment, but `process` makes child processes of the host, but `task` spawns tasks.
//! 13. Nothing but data goes to stdout, and no text of a guest, plugin or image reaches a terminal
//!     unescaped unless it is the remote command's own output or `--raw` asked for it.
//! 14. A published file (image, kernel, initramfs) appears by rename and is never rewritten; no VM needs
//!     the cache once it is made.
//! 15. No queue without a bound, no wait without a deadline, no lock across an await, but for a plugin's own
//!     while it is loaded (two callers must not compile one plugin twice), and the lease of a disk that is
//!     copied from, which guards no data and is waited for two seconds at most.
//!
//! `tests/tidy.rs` checks those that can be seen in the source; the others have tests of their own.

pub mod egress;
pub mod id;
pub mod report;
pub mod wire;

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod archive;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod block;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod index;
#[cfg(any(feature = "client", feature = "agent"))]
mod line;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod task;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod disk;
#[cfg(feature = "daemon")]
pub mod doctor;
#[cfg(feature = "daemon")]
pub mod guest;
#[cfg(feature = "daemon")]
pub mod hooks;
#[cfg(feature = "daemon")]
pub mod image;
#[cfg(feature = "daemon")]
pub mod keys;
#[cfg(feature = "daemon")]
pub mod net;
#[cfg(feature = "daemon")]
pub mod process;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "daemon")]
pub mod size;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod vm;
#[cfg(feature = "daemon")]
pub mod vmm;
#[cfg(feature = "daemon")]
pub mod workspace;
