//! A monitor whose guest stands still.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How often a monitor shows no life.
pub(crate) enum Still {
    /// At its first start.
    Once,
    /// Always.
    Always,
}

/// The path of such a monitor in this folder: QEMU itself, with a firmware that is one endless loop.
pub(crate) fn monitor(folder: &Path, still: &Still) -> String {
    let [program, mark, firmware] =
        ["monitor", "mark", "firmware"].map(|name| folder.join(name).display().to_string());
    let mut loops = vec![0; 64 * 1024];
    // `jmp $`, where the processor begins.
    loops[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]);
    fs::write(&firmware, loops).expect("written");
    fs::write(&mark, "").expect("written");
    let take = match still {
        Still::Once => format!("rm {mark}; "),
        Still::Always => String::new(),
    };
    let script = format!(
        "#!/bin/sh\nif [ -e {mark} ] && [ \"$1\" != --version ]; then {take}\
         set -- \"$@\" -bios {firmware}; fi\nexec qemu-system-x86_64 \"$@\"\n"
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    program
}
