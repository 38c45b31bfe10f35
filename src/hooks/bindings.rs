//! The contract's types and traits, made from `wit/`. The functions are in `handles`.

wasmtime::component::bindgen!({
    path: "wit/0.1.0",
    world: "work-disk-plugin",
    imports: { default: trappable },
    exports: { default: async },
    trappable_error_type: {
        "cove:hooks/types.error" => crate::hooks::handles::CallError,
    },
    with: {
        "cove:hooks/work-disk.work-disk": crate::hooks::handles::WorkDisk,
        "cove:hooks/work-disk.file-writer": crate::hooks::handles::FileWriter,
        "cove:hooks/host-files.host-files": crate::hooks::handles::HostFiles,
        "cove:hooks/host-files.host-file": crate::hooks::handles::HostFile,
        "cove:hooks/git-config.git-config": crate::hooks::handles::GitConfig,
        "cove:hooks/settings.settings": crate::hooks::handles::Settings,
    },
});

pub(super) use cove::hooks::{git_config, host_files, log, settings, types, work_disk};
