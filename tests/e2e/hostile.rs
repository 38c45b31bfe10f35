//! Guests and neighbours that mean harm.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{QUICK, Who, World, as_everybody};
use crate::still::{self, Still};
use crate::watch::{self, until};

/// What a guest must never read.
const SECRET: &str = "SECRET-OF-THE-HOST-f3b1";

/// The ring's size, in bytes.
const RING: u64 = 1 << 20;

as_everybody!(a_hostile_guest_reads_and_writes_nothing_of_the_host);

fn a_hostile_guest_reads_and_writes_nothing_of_the_host(who: Who) {
    let world = World::new(who);
    let vm = world.start("evil", &[]);
    every_disk_is_raw(&world, &vm);
    strangers_are_refused_by_the_agent(&world, &vm);
    escape_sequences_stay_in_the_console(&world);
    a_flood_on_the_console_costs_a_ring(&world, &vm);
    a_foreign_header_on_a_raw_disk_is_bytes(&world, &vm);
    a_symlink_leads_hooks_nowhere(&world);
    world.finish();
}

fn every_disk_is_raw(world: &World, vm: &Value) {
    let monitor = watch::monitor(world, vm);
    let words = fs::read(format!("/proc/{monitor}/cmdline")).expect("it runs");
    let words = String::from_utf8(words).expect("UTF-8");
    let drives: Vec<_> = words.split('\0').filter(|word| word.contains("file=")).collect();
    assert_eq!(drives.len(), 3, "{words}");
    assert!(drives.iter().all(|drive| drive.contains(",format=raw,")), "{drives:?}");
    assert!(words.contains("-sandbox\0on,obsolete=deny,elevateprivileges=deny,spawn=deny"));
}

/// A connection to the agent's port as any local process can make it.
fn agent(world: &World, vm: &Value) -> UnixStream {
    let mut stream =
        UnixStream::connect(world.vm_folder(vm).join("vsock.sock")).expect("it listens");
    stream.set_read_timeout(Some(QUICK)).expect("set");
    stream.write_all(b"CONNECT 1024\n").expect("written");
    let mut byte = [0];
    let mut answer = String::new();
    while !answer.ends_with('\n') {
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(char::from(byte[0]));
    }
    assert!(answer.starts_with("OK "), "{answer}");
    stream
}

/// A control frame: its length, its kind, its text.
fn frame(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let length = u32::try_from(text.len() + 1).expect("short");
    [&length.to_be_bytes()[..], &[0], text.as_bytes()].concat()
}

/// What the agent says until it closes the connection, which it must do. A reset is a close as well.
fn rest(stream: &mut UnixStream) -> String {
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn strangers_are_refused_by_the_agent(world: &World, vm: &Value) {
    let exec = json!({ "request": "exec", "argv": ["touch", "/root/owned"], "env": [], "cwd": null,
        "tty": null });
    let hello = json!({ "version": 1, "nonce": "ab".repeat(32) });

    let mut stream = agent(world, vm);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    assert_eq!(rest(&mut stream), "", "garbage gets no answer");

    let mut stream = agent(world, vm);
    stream.write_all(&frame(&exec)).expect("written");
    assert!(!rest(&mut stream).contains("exec_started"), "a request without a greeting");

    let mut stream = agent(world, vm);
    stream.write_all(&frame(&hello)).expect("written");
    stream.write_all(&frame(&json!({ "proof": "cd".repeat(32) }))).expect("written");
    stream.write_all(&frame(&exec)).expect("written");
    let said = rest(&mut stream);
    assert!(said.contains("does not hold the key") && !said.contains("exec_started"), "{said}");

    // Its own proof, sent back to it, proves nothing.
    let mut stream = agent(world, vm);
    stream.write_all(&frame(&hello)).expect("written");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("its greeting");
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut text).expect("its greeting");
    let greeting: Value = serde_json::from_slice(&text[1..]).expect("json");
    stream.write_all(&frame(&json!({ "proof": greeting["proof"] }))).expect("written");
    stream.write_all(&frame(&exec)).expect("written");
    assert!(rest(&mut stream).contains("does not hold the key"), "a proof reflected");

    world.cove(["exec", "evil", "--", "test", "!", "-e", "/root/owned"]).success();
}

fn escape_sequences_stay_in_the_console(world: &World) {
    let line = r"printf '\033]0;title\007\033[31mred\233marker\r\n' > /dev/ttyS0";
    world.guest("evil", line);
    let logs = until("the console has the line", QUICK, || {
        let ran = world.cove(["logs", "evil"]).success();
        ran.stdout.contains("marker").then_some(ran.bytes)
    });
    assert_no_control(&logs);
    let raw = world.cove(["logs", "--raw", "evil"]).success().bytes;
    assert!(raw.windows(5).any(|bytes| bytes == b"\x1b[31m"), "raw is what was asked for");
}

fn a_flood_on_the_console_costs_a_ring(world: &World, vm: &Value) {
    let flood = "exec yes flood-of-lines-that-does-not-end > /dev/ttyS0";
    let flood = world.command(["exec", "evil", "--", "sh", "-c", flood]).spawn();
    let ring = || -> (u64, u64) {
        let entries = fs::read_dir(world.vm_folder(vm)).expect("a folder");
        let names = entries.map(|entry| entry.expect("read").path());
        let numbered = names.filter_map(|path| {
            let number = path.file_name()?.to_str()?.strip_prefix("console-")?.parse().ok()?;
            // A segment may be removed between two looks.
            Some((number, fs::metadata(&path).map_or(0, |metadata| metadata.len())))
        });
        numbered.fold((0, 0), |(last, sum), (number, size)| (last.max(number), sum + size))
    };
    until("the ring has turned twice", Duration::from_secs(120), || {
        let (last, size) = ring();
        assert!(size <= RING, "{size} bytes of console");
        let begun = Instant::now();
        world.cove(["list", "--json"]).success();
        assert!(begun.elapsed() < Duration::from_secs(5), "the daemon answers");
        (last >= 2).then_some(())
    });
    flood.signal(nix::sys::signal::Signal::SIGINT);
    flood.wait().status(130);
    assert!(ring().1 <= RING);
}

/// A qcow2 image of `size` bytes without any data of its own, whose backing file is `backing`: a
/// monitor that took the disk for one would show the guest that file. Header at the start, in the bytes
/// that ext4 leaves to boot loaders; tables in the last four clusters of the disk, which are empty.
fn foreign_header(backing: &Path, size: u64) -> Vec<u8> {
    const CLUSTER_BITS: u32 = 16;
    let cluster = 1_u64 << CLUSTER_BITS;
    let name = backing.to_str().expect("UTF-8").as_bytes();
    let tables = size - 4 * cluster;
    let entries = u32::try_from(size.div_ceil(cluster * cluster / 8)).expect("few");
    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(2_u32.to_be_bytes());
    header.extend(128_u64.to_be_bytes());
    header.extend(u32::try_from(name.len()).expect("short").to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0_u32.to_be_bytes());
    header.extend(entries.to_be_bytes());
    header.extend(tables.to_be_bytes());
    header.extend((tables + cluster).to_be_bytes());
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12]);
    header.resize(128, 0);
    header.extend(name);
    assert!(header.len() <= 1024, "the file system begins there");
    header
}

fn a_foreign_header_on_a_raw_disk_is_bytes(world: &World, vm: &Value) {
    let secret = world.folder().join("secret");
    fs::write(&secret, format!("{SECRET}\n").repeat(1000)).expect("written");
    let sizes = |world: &World| world.guest("evil", "cat /sys/block/vd*/size");
    let before = sizes(world);
    for (serial, file) in [("cove-root", "root.ext4"), ("cove-work", "work.ext4")] {
        let size = fs::metadata(world.vm_folder(vm).join(file)).expect("there").len();
        let script = format!(
            "dd of=/dev/$(grep -lx {serial} /sys/block/vd*/serial | cut -d/ -f4) \
             conv=notrunc status=none && sync"
        );
        let write = world.command(["exec", "evil", "--", "sh", "-c", &script]);
        write.stdin(foreign_header(&secret, size)).run().success();
    }
    world.cove(["stop", "evil"]).success();
    for file in ["root.ext4", "work.ext4"] {
        let mut start = [0; 4];
        let path = world.vm_folder(vm).join(file);
        fs::File::open(path).and_then(|mut disk| disk.read_exact(&mut start)).expect("read");
        assert_eq!(&start, b"QFI\xfb", "the attack has reached {file}");
    }
    world.cove(["start", "evil"]).success();
    assert_eq!(sizes(world), before, "the disks are as large as before");
    let starts = world.guest("evil", "for d in /dev/vd[bc]; do head -c 3 $d; echo; done");
    assert_eq!(starts, "QFI\nQFI\n", "the guest sees its own bytes");
    let found = world.cove([
        "exec",
        "evil",
        "--",
        "sh",
        "-c",
        &format!("cat /dev/vd[bc] | head -c 64M | grep -c {SECRET}"),
    ]);
    found.status(1).prints("0\n");
    assert!(!world.cove(["logs", "--raw", "evil"]).success().stdout.contains(SECRET));
}

fn a_symlink_leads_hooks_nowhere(world: &World) {
    world.guest("evil", "rm -rf ~/.ssh ~/etc && ln -s /etc ~/.ssh && sync");
    world.cove(["stop", "evil"]).success();
    let refused = world.cove(["start", "evil"]).status(1);
    refused.says("`.ssh` is a link that leads to no folder inside").says("operation");
    assert_eq!(world.json(["show", "evil", "--json"])["state"], "stopped");
    // The way out for the user, and the proof that nothing was written where the link led.
    world.configure("[hooks]\ndisabled = [\"ssh-key\"]\n");
    world.cove(["daemon", "stop"]).success();
    world.cove(["start", "evil"]).success();
    let seen =
        world.guest("evil", "readlink ~/.ssh; ls -d ~/.ssh/authorized_keys 2>/dev/null; true");
    assert_eq!(seen, "/etc\n");
    world.cove(["stop", "evil"]).success();
}

/// What the guest prints to deceive whoever reads its last words, and how it is shown.
const DECEIT: (&str, &str) = (r"\033]0;pwned\007\033[31mred", r"\u{1b}]0;pwned\u{7}\u{1b}[31mred");

as_everybody!(escape_sequences_reach_no_error_cause);

fn escape_sequences_reach_no_error_cause(who: Who) {
    let world = World::new(who);
    let vm = world.start("liar", &[]);
    let lie =
        format!("for i in 1 2 3 4 5 6 7 8 9; do printf '{}\r\n'; done > /dev/ttyS0", DECEIT.0);
    world.guest("liar", &lie);
    until("the console has all lines", QUICK, || {
        let logs = world.cove(["logs", "--raw", "liar"]).success().stdout;
        (logs.matches("\u{1b}]0;pwned\u{7}").count() == 9).then_some(())
    });
    watch::end(watch::monitor(&world, &vm));
    watch::state(&world, "liar", "stopped");
    nothing_moves_the_terminal(&world);

    // What it printed last is in the ring still when a boot comes to nothing, and so in the cause.
    world.cove(["daemon", "stop"]).success();
    let monitor = still::monitor(world.folder(), &Still::Always);
    world.configure(&format!(
        "[monitor]\nqemu = \"{monitor}\"\naccel = \"tcg\"\nlife_seconds = 1\n"
    ));
    let ran = world.cove(["start", "liar"]).status(7).says("its last words").says(DECEIT.1);
    assert_no_control(ran.stderr.as_bytes());
    let shown = nothing_moves_the_terminal(&world);
    assert!(shown.contains("its last words") && shown.contains(DECEIT.1), "{shown}");
    world.finish();
}

/// Looks at the VM in every way that shows its cause. Returns what `cove show` printed.
#[track_caller]
fn nothing_moves_the_terminal(world: &World) -> String {
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["show", "liar", "--json"],
        &["op", "list"],
        &["op", "list", "--json"],
        &["exec", "liar", "--", "true"],
    ] {
        let ran = world.cove(arguments);
        assert_no_control(&ran.bytes);
        assert_no_control(ran.stderr.as_bytes());
    }
    assert_no_control(world.log().as_bytes());
    let shown = world.cove(["show", "liar"]).success();
    assert_no_control(&shown.bytes);
    shown.stdout
}

/// None of these bytes does anything to a terminal.
#[track_caller]
fn assert_no_control(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let control = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
    assert_eq!(text.chars().find(control), None, "{text}");
}
