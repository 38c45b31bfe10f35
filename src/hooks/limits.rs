//! What a plugin may use up: every limit a constant with its reason.
//!
//! A manifest may ask for less, never for more. For each limit there is a test that fails
//! when the limit is gone: `tests/hostile/main.rs` has the list.

use std::time::Duration;

use serde::Deserialize;

use crate::wire::rpc::HookPoint;

/// How large a plugin is. A plugin is small unless its manifest says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A program: it lives in a pool that is made beforehand.
    #[default]
    Small,
    /// A component that carries an interpreter, as those of Python and JavaScript do: memory is made for it
    /// when it runs.
    Large,
}

/// What differs between the classes.
#[derive(Debug, Clone, Copy)]
pub struct Ceilings {
    /// Bytes of a component. The standard plugins have 60 to 80 KB; components that carry an interpreter
    /// have 8 to 35 MB.
    pub component_bytes: u64,
    /// Processor time of one compilation. An honest component of the largest size takes a few seconds; a
    /// hostile one of 2 MiB takes 80 s and is cut off here.
    pub compile_cpu: Duration,
    /// Wall time of one compilation: the machine may be busy with guests.
    pub compile_wall: Duration,
    /// Address space of the process that compiles.
    pub compile_address_space: u64,
    /// Bytes of compiled code: compilation makes about three times the component of it.
    pub compiled_bytes: u64,
    /// Bytes of linear memory of one component, all its memories together.
    pub memory: usize,
    /// Elements of all tables of one component together: a Rust component has about a hundred.
    pub table_elements: usize,
    /// Processor time of one run, start functions and host functions included. An interpreter needs some
    /// of it to get going.
    pub cpu: Duration,
}

impl Class {
    /// The ceilings of a class.
    #[must_use]
    pub fn ceilings(self) -> Ceilings {
        match self {
            Self::Small => Ceilings {
                component_bytes: 8 << 20,
                compile_cpu: Duration::from_secs(30),
                compile_wall: Duration::from_secs(120),
                compile_address_space: 2 << 30,
                compiled_bytes: 64 << 20,
                memory: 64 << 20,
                table_elements: 20_000,
                cpu: Duration::from_secs(1),
            },
            Self::Large => Ceilings {
                component_bytes: 48 << 20,
                compile_cpu: Duration::from_secs(120),
                compile_wall: Duration::from_secs(480),
                compile_address_space: 4 << 30,
                compiled_bytes: 256 << 20,
                memory: 256 << 20,
                table_elements: 100_000,
                cpu: Duration::from_secs(5),
            },
        }
    }

    /// Its name, as a manifest has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// Bytes of a manifest: a page of text.
pub const MANIFEST_BYTES: u64 = 64 << 10;
/// Bytes of a signature: two comments and two keys' worth of base64.
pub const SIGNATURE_BYTES: u64 = 4 << 10;
/// Plugins in one folder: all of them run at every start.
pub const PLUGINS: usize = 64;

/// Hooks that run at once, in all VMs together. They take well under a millisecond each; more at once
/// would only make the pool larger.
pub const CONCURRENT: u32 = 8;
/// Hooks after starts that run at once: they wait for programs of guests, and must not keep others waiting.
pub const CONCURRENT_IN_GUESTS: u32 = 8;
/// Memories of one component: one for the program, one for each adapter.
pub const MEMORIES: usize = 4;
/// Tables of one component.
pub const TABLES: usize = 16;
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

/// How often a running component is looked at: the precision of its processor time.
pub const EPOCH: Duration = Duration::from_millis(2);
/// Wall time of one run of a hook: when the manifest says nothing, and at most. Hooks run beside booting
/// guests, so most of it may pass while others have the processor.
#[must_use]
pub fn wall(point: HookPoint) -> (Duration, Duration) {
    let seconds = |usual, most| (Duration::from_secs(usual), Duration::from_secs(most));
    match point {
        HookPoint::Preflight | HookPoint::ConfigureMachine | HookPoint::Doctor => seconds(10, 10),
        HookPoint::PrepareWorkDisk => seconds(10, 60),
        // What it runs in the guest may install whole tool chains.
        HookPoint::PostStart => seconds(60, 900),
        // Somebody waits for the VM to end.
        HookPoint::PreStop | HookPoint::Cleanup => seconds(5, 5),
    }
}

/// Wall time of all hooks of one phase together. It is less than what many slow plugins could take: a start
/// must end.
#[must_use]
pub fn phase(point: HookPoint) -> Duration {
    match point {
        HookPoint::Preflight | HookPoint::ConfigureMachine | HookPoint::Doctor => {
            Duration::from_secs(20)
        }
        HookPoint::PrepareWorkDisk => Duration::from_secs(120),
        HookPoint::PostStart => Duration::from_secs(1200),
        HookPoint::PreStop | HookPoint::Cleanup => Duration::from_secs(10),
    }
}

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

/// Variables and labels that one plugin may ask for.
pub const WISHES: usize = 128;
/// Bytes of their names and values: a page or two of configuration.
pub const WISH_BYTES: usize = 64 << 10;

/// Keys that one plugin may remember.
pub const STATE_KEYS: usize = 64;
/// Bytes of one such key.
pub const STATE_KEY_BYTES: usize = 128;
/// Bytes of all keys and values that one plugin may remember: they are read at every run.
pub const STATE_BYTES: usize = 64 << 10;

/// Programs that one run may start in a guest.
pub const GUEST_PROGRAMS: usize = 32;
/// Bytes of a program's arguments and variables: well below what the guest's kernel takes.
pub const GUEST_ARGUMENT_BYTES: usize = 64 << 10;
/// Bytes kept of each of a program's outputs: the last ones, because errors come last. Together they fit
/// into one host call.
pub const GUEST_OUTPUT_BYTES: usize = 256 << 10;

/// Lines or findings that one run may answer with.
pub const ANSWERS: usize = 16;

/// Reads and refusals of one run that its record names; more are counted.
pub const JOURNAL_ENTRIES: usize = 256;

/// Entries of one list of host files.
pub const LISTED_ENTRIES: usize = 2048;
/// Files and folders that one run holds open because they were mapped themselves, by their paths or by a
/// pattern: those of one full list. What is below a mapped folder is opened when it is needed.
pub const OPEN_FILES: usize = 2048;
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
