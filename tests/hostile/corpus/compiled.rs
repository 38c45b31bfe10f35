//! What the program in `rust/` does, by its setting.

use cove::wire::rpc::HookPoint;

use super::Hostile;

/// The name of the misbehaviour, lines for the limits, and how it ends.
const MISBEHAVIOUR: &[(&str, &str, &str)] = &[
    ("loop", "cpu = '50ms'", "it used more than 50 ms of processor time"),
    ("wasi-flood", "cpu = '50ms'", "it used more than 50 ms of processor time"),
    ("recurse", "", "it crashed: "),
    ("allocate", "", "it wanted more than 64 MiB of memory"),
    ("allocate", "memory = '8MiB'", "it wanted more than 8 MiB of memory"),
    ("allocate", "class = 'large'", "it wanted more than 256 MiB of memory"),
    ("panic", "", "it panicked: at tests/hostile/rust/src/anywhere.rs"),
    ("panic", "", "the moon is full"),
    ("exit", "", "it exited with status 1 instead of returning"),
    ("error", "", "redo from start (out-of-cheese)"),
    ("write-and-error", "", "no (changed-my-mind)"),
    ("twice", "", "`allowed/file` is already planned (conflict)"),
    ("through-link", "", "`allowed/link` is already planned (conflict)"),
    ("mode", "", "more than permission bits (bad-argument)"),
    ("call-flood", "", "it went over its limit of 100,000 calls of the host"),
    ("many-files", "", "at most 2048 steps (too-many)"),
    ("many-files", "files = 3", "at most 3 steps (too-many)"),
    ("many-bytes", "", "at most 16777216 bytes (too-large)"),
    ("many-bytes", "output = '2MiB'", "at most 2097152 bytes (too-large)"),
    ("long-file", "", "at most 16777216 bytes (too-large)"),
    ("large-piece", "", "at most 1048576 bytes (too-large)"),
    ("many-writers", "", "it crashed: "),
    ("other-files", "", "`host-files:ssh-private-keys` is not granted (not-granted)"),
    ("other-git", "", "`git-config:credential.helper` is not granted (not-granted)"),
    ("unheard-of", "", "no misbehaviour is called `unheard-of`"),
];

/// What it does with a path, the path, and how that ends.
const PATHS: &[(&str, &str, &str)] = &[
    ("write", "../../etc/shadow", "`../../etc/shadow` is refused: it must not contain"),
    ("write", "..", "must not contain `.` or `..`"),
    ("write", "/etc/shadow", "`/etc/shadow` is refused: it must be relative"),
    ("write", "allowed/../../b", "must not contain `.` or `..`"),
    ("write", "allowed/./b", "must not contain `.` or `..`"),
    ("write", "allowed//b", "it has an empty component"),
    ("write", "allowed/b/", "it has an empty component"),
    ("write", "", "it is empty"),
    ("write", "allowed/\0", "it has a NUL in it"),
    ("write", ".ssh/authorized_keys", "`.ssh/authorized_keys` is not granted"),
    ("write", "allowedx", "`allowedx` is not granted"),
    ("directory", "..", "must not contain `.` or `..`"),
    ("remove", ".bashrc", "`.bashrc` is not granted"),
    ("link", "/etc/shadow", "a link must be relative"),
    ("link", "../../x", "the link would leave the home"),
    ("link", "../.ssh", "`.ssh` is not granted"),
    ("marker", "two\nlines", "is no marker of a block"),
    ("marker", "", "is no marker of a block"),
];

pub(super) fn all() -> Vec<Hostile> {
    let hostile =
        |name, path, said| Hostile::compiled(HookPoint::PrepareWorkDisk, name, path, said);
    let mut all = Vec::new();
    for (name, limits, said) in MISBEHAVIOUR {
        all.push(hostile(name, None, said).with(limits));
    }
    for (name, path, said) in PATHS {
        all.push(hostile(name, Some((*path).to_owned()), said));
    }
    for (path, said) in [
        (format!("allowed/{}", "x".repeat(5000)), "it is too long"),
        (format!("allowed/{}", "x".repeat(256)), "a component is too long"),
        (format!("allowed/{}", ["d"; 32].join("/")), "it is too deep"),
    ] {
        all.push(hostile("write", Some(path), said));
    }
    all.push(hostile("marker", Some("m".repeat(65)), "is no marker of a block"));
    // Long enough for the processor time to be what ends it, on the busiest machine.
    let patient = hostile("loop", None, "it used more than 1000 ms of processor time");
    all.push(Hostile { hook: "timeout = '60s'", ..patient });
    let large = hostile("loop", None, "it used more than 5000 ms of processor time");
    all.push(Hostile { hook: "timeout = '60s'", limits: "class = 'large'", ..large });
    let sleeper = hostile("sleep", None, "it took longer than 200 ms");
    all.push(Hostile { hook: "timeout = '200ms'", ..sleeper });
    all
}
