//! What a plugin may use up: every limit a constant with its reason.
//!
//! A manifest may ask for less, never for more. For each limit there is a test in `tests_limits.rs`
//! that fails when the limit is gone.

use std::time::Duration;

/// Bytes of a component. The standard plugins have 60 to 80 KB; components that carry an interpreter
/// have 8 to 35 MB and belong to a class with limits of its own, which does not exist yet.
pub const COMPONENT_BYTES: u64 = 8 << 20;
/// Bytes of a manifest: a page of text.
pub const MANIFEST_BYTES: u64 = 64 << 10;
/// Plugins in one folder: all of them run at every start.
pub const PLUGINS: usize = 64;

/// Processor time of one compilation. An honest component of the largest size takes a few seconds; a
/// hostile one of 2 MiB takes 80 s and is cut off here.
pub const COMPILE_CPU: Duration = Duration::from_secs(30);
/// Wall time of one compilation: the machine may be busy with guests.
pub const COMPILE_WALL: Duration = Duration::from_secs(120);
/// Address space of the process that compiles.
pub const COMPILE_ADDRESS_SPACE: u64 = 2 << 30;
/// Bytes of compiled code: compilation makes about three times the component of it.
pub const COMPILED_BYTES: u64 = 64 << 20;

/// Hooks that run at once, in all VMs together. They take well under a millisecond each; more at once
/// would only make the pool larger.
pub const CONCURRENT: u32 = 8;
/// Bytes of linear memory of one component, all its memories together.
pub const MEMORY: usize = 64 << 20;
/// Memories of one component: one for the program, one for each adapter.
pub const MEMORIES: usize = 4;
/// Tables of one component.
pub const TABLES: usize = 16;
/// Elements of all tables of one component together: a Rust component has about a hundred.
pub const TABLE_ELEMENTS: usize = 20_000;
/// Core instances of one component: a Rust component has about ten, most of them adapters.
pub const INSTANCES: usize = 32;
/// Bytes of the stack of a component's calls.
pub const STACK: usize = 512 << 10;
/// Bytes of the stack of one call with the host functions it calls, which run on it too.
pub const FIBER_STACK: usize = 2 << 20;
/// Live handles of one component: those of one full list of host files twice over, and some.
pub const HANDLES: usize = 5 * 1024;
/// Live resources on the host's side, for the same reason.
pub const RESOURCES: usize = 5 * 1024;

/// Processor time of one run, start functions and host functions included.
pub const CPU: Duration = Duration::from_secs(1);
/// How often a running component is looked at: the precision of the limit above.
pub const EPOCH: Duration = Duration::from_millis(2);
/// Wall time of one run, when the manifest says nothing. Hooks run beside booting guests, so most of it
/// may pass while others have the processor.
pub const WALL: Duration = Duration::from_secs(10);
/// Wall time that a manifest may ask for.
pub const WALL_CEILING: Duration = Duration::from_secs(60);
/// How long after its wall time a run may hang in a host function, before it is left behind.
pub const WALL_GRACE: Duration = Duration::from_secs(2);

/// Calls of cove's host functions. A call takes 0.2 µs, and two full lists of files with all their
/// properties are 30,000.
pub const HOST_CALLS: u64 = 100_000;
/// Bytes that one host call may carry out of the component: a piece and its envelope.
pub const HOST_CALL_BYTES: usize = 2 << 20;
/// Bytes of one piece of content, in either direction.
pub const PIECE_BYTES: usize = 1 << 20;
/// Random bytes that WASI gives out in one call.
pub const RANDOM_BYTES: u64 = 64 << 10;

/// Steps that one plugin may plan. A file of the host that is imported is held open until the guest has
/// it, so this bounds descriptors too.
pub const STAGED_STEPS: usize = 2048;
/// Bytes of content made by one plugin: they are held in memory until the guest has them.
pub const STAGED_BYTES: u64 = 16 << 20;
/// Bytes of host files imported by one plugin: they cross the vsock at every start.
pub const IMPORTED_BYTES: u64 = 256 << 20;
/// Bytes of a path: `PATH_MAX` of Linux.
pub const PATH_BYTES: usize = 4096;
/// Bytes of one component of a path: `NAME_MAX` of ext4.
pub const NAME_BYTES: usize = 255;
/// Components of a path.
pub const PATH_DEPTH: usize = 32;
/// Bytes of a block's marker.
pub const MARKER_BYTES: usize = 64;

/// Entries of one list of host files.
pub const LISTED_ENTRIES: usize = 2048;
/// Depth of the folders that a list walks.
pub const WALK_DEPTH: usize = 16;
/// Bytes of host files that one plugin may read in.
pub const READ_BYTES: u64 = 4 << 20;

/// Bytes of log lines kept of one run; the newest are kept.
pub const LOG_BYTES: usize = 32 << 10;
/// Bytes of one log line.
pub const LOG_LINE_BYTES: usize = 2 << 10;
/// Bytes of stderr kept of one run: the last ones, because a panic comes last.
pub const STDERR_BYTES: usize = 8 << 10;
/// Bytes of a message that a plugin returns as its error.
pub const MESSAGE_BYTES: usize = 2 << 10;
