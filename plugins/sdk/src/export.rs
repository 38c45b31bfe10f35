//! Exports: from a function of the plugin to what the host calls.

/// Exports hook points, each with the function that does its work:
///
/// ```text
/// plugin! { prepare_work_disk = prepare, doctor = look }
///
/// fn prepare(call: &PrepareWorkDisk) -> Result<()> { … }
/// fn look(call: &Doctor) -> Result<Vec<Finding>> { … }
/// ```
///
/// | hook point | called with | returns |
/// |---|---|---|
/// | `preflight` | [`Preflight`](crate::Preflight) | `Result<Vec<String>>` |
/// | `configure_machine` | [`ConfigureMachine`](crate::ConfigureMachine) | `Result<()>` |
/// | `prepare_work_disk` | [`PrepareWorkDisk`](crate::PrepareWorkDisk) | `Result<()>` |
/// | `post_start` | [`PostStart`](crate::PostStart) | `Result<()>` |
/// | `pre_stop` | [`PreStop`](crate::PreStop) | `Result<()>` |
/// | `cleanup` | [`Cleanup`](crate::Cleanup) | `Result<()>` |
/// | `doctor` | [`Doctor`](crate::Doctor) | `Result<Vec<Finding>>` |
#[macro_export]
macro_rules! plugin {
    ($($point:ident = $function:path),+ $(,)?) => { $($crate::__hook!($point, $function);)+ };
}

/// One hook point: its handles, in the order of the contract, become the fields of its call.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    (preflight, $function:path) => {
        $crate::__export!(preflight, Preflight, $function, ::std::vec::Vec<::std::string::String>,
            machine: Machine, files: HostFiles, git: GitConfig, settings: Settings);
    };
    (configure_machine, $function:path) => {
        $crate::__export!(configure_machine, ConfigureMachine, $function, (),
            machine: Machine, request: MachineRequest, files: HostFiles, git: GitConfig,
            settings: Settings, state: State);
    };
    (prepare_work_disk, $function:path) => {
        $crate::__export!(prepare_work_disk, PrepareWorkDisk, $function, (),
            machine: Machine, disk: WorkDisk, files: HostFiles, git: GitConfig,
            settings: Settings, state: State);
    };
    (post_start, $function:path) => {
        $crate::__export!(post_start, PostStart, $function, (),
            machine: Machine, guest: Guest, settings: Settings, state: State);
    };
    (pre_stop, $function:path) => {
        $crate::__export!(pre_stop, PreStop, $function, (),
            machine: Machine, settings: Settings, state: State);
    };
    (cleanup, $function:path) => {
        $crate::__export!(cleanup, Cleanup, $function, (),
            machine: Machine, settings: Settings, state: State);
    };
    (doctor, $function:path) => {
        $crate::__export!(doctor, Doctor, $function, ::std::vec::Vec<$crate::Finding>,
            files: HostFiles, git: GitConfig, settings: Settings);
    };
}

/// The glue: a type that has the generated trait, and the generated export of it.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($point:ident, $call:ident, $function:path, $returned:ty, $($field:ident: $handle:ident),+) => {
        const _: () = {
            struct Plugin;
            impl $crate::bindings::$point::exports::cove::hooks::$point::Guest for Plugin {
                fn run($($field: &$crate::$handle),+) -> $crate::Result<$returned> {
                    $function(&$crate::$call { $($field),+ })
                }
            }
            $crate::bindings::$point::export!(Plugin with_types_in $crate::bindings::$point);
        };
    };
}
