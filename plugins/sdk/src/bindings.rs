//! What wit-bindgen makes of the contract: the handles once, and on top of them one world for each hook
//! point, so that a component exports only what it has. Everything in here is shown elsewhere.

/// The handles and the log, which all hook points share.
pub mod handles {
    wit_bindgen::generate!({
        inline: "
            package cove:sdk;
            world handles {
                import cove:hooks/types@0.2.0;
                import cove:hooks/log@0.2.0;
                import cove:hooks/machine@0.2.0;
                import cove:hooks/machine-request@0.2.0;
                import cove:hooks/host-files@0.2.0;
                import cove:hooks/work-disk@0.2.0;
                import cove:hooks/git-config@0.2.0;
                import cove:hooks/settings@0.2.0;
                import cove:hooks/state@0.2.0;
                import cove:hooks/guest@0.2.0;
            }
        ",
        path: "../../wit/0.2.0",
        world: "cove:sdk/handles",
        generate_all,
    });
}

/// One hook point: its module, its world, and the interfaces that this one mentions.
macro_rules! hook_point {
    ($module:ident, $world:tt, $($interface:tt = $types:ident),+) => {
        /// The hook point of this name.
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit/0.2.0",
                world: $world,
                pub_export_macro: true,
                with: {
                    "cove:hooks/types@0.2.0": crate::bindings::handles::cove::hooks::types,
                    "cove:hooks/log@0.2.0": crate::bindings::handles::cove::hooks::log,
                    $($interface: crate::bindings::handles::cove::hooks::$types,)+
                },
            });
        }
    };
}

hook_point!(
    preflight,
    "preflight-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/host-files@0.2.0" = host_files,
    "cove:hooks/git-config@0.2.0" = git_config,
    "cove:hooks/settings@0.2.0" = settings
);
hook_point!(
    configure_machine,
    "configure-machine-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/machine-request@0.2.0" = machine_request,
    "cove:hooks/host-files@0.2.0" = host_files,
    "cove:hooks/git-config@0.2.0" = git_config,
    "cove:hooks/settings@0.2.0" = settings,
    "cove:hooks/state@0.2.0" = state
);
hook_point!(
    prepare_work_disk,
    "prepare-work-disk-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/work-disk@0.2.0" = work_disk,
    "cove:hooks/host-files@0.2.0" = host_files,
    "cove:hooks/git-config@0.2.0" = git_config,
    "cove:hooks/settings@0.2.0" = settings,
    "cove:hooks/state@0.2.0" = state
);
hook_point!(
    post_start,
    "post-start-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/guest@0.2.0" = guest,
    "cove:hooks/settings@0.2.0" = settings,
    "cove:hooks/state@0.2.0" = state
);
hook_point!(
    pre_stop,
    "pre-stop-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/settings@0.2.0" = settings,
    "cove:hooks/state@0.2.0" = state
);
hook_point!(
    cleanup,
    "cleanup-plugin",
    "cove:hooks/machine@0.2.0" = machine,
    "cove:hooks/settings@0.2.0" = settings,
    "cove:hooks/state@0.2.0" = state
);
hook_point!(
    doctor,
    "doctor-plugin",
    "cove:hooks/host-files@0.2.0" = host_files,
    "cove:hooks/git-config@0.2.0" = git_config,
    "cove:hooks/settings@0.2.0" = settings
);
