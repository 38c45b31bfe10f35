//! The jail, in a process of its own: what is forbidden kills it, and outside of the jail it would not.

use std::os::unix::process::ExitStatusExt as _;

use nix::libc;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::process::{Producer, ToolError};

/// What the jail has to keep a process from.
const TEMPTATIONS: &[&str] =
    &["open", "create", "socket", "exec", "fork", "signal", "read", "executable memory"];

/// Does what is forbidden, and says whether it was possible.
fn fall(temptation: &str) -> bool {
    match temptation {
        "open" => File::open("/etc/passwd").is_ok(),
        "create" => nix::sys::memfd::memfd_create(c"x", nix::sys::memfd::MFdFlags::empty()).is_ok(),
        "socket" => std::os::unix::net::UnixDatagram::unbound().is_ok(),
        "exec" => {
            crate::process::replaced_by(Path::new("/bin/true"), [""; 0]);
            false
        }
        "fork" => std::thread::Builder::new().spawn(|| ()).is_ok(),
        "signal" => nix::sys::signal::kill(nix::unistd::getpid(), None).is_ok(),
        "read" => nix::unistd::read(io::stdin(), &mut [0; 8]).is_ok(),
        "executable memory" => is_executable(),
        other => panic!("{other}"),
    }
}

#[expect(unsafe_code, reason = "memory is mapped as a program that was taken over would")]
fn is_executable() -> bool {
    let (length, program) = (4096, libc::PROT_READ | libc::PROT_EXEC);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory that nobody uses.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), length, program, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// What this process was told on stdin.
fn temptation() -> String {
    let mut word = [0; 64];
    let length = nix::unistd::read(io::stdin(), &mut word).expect("told");
    String::from_utf8(word[..length].to_vec()).expect("text")
}

#[test]
#[ignore = "not a test: another test runs it in a process of its own"]
fn child_in_the_jail() {
    let temptation = temptation();
    jail::enter().expect("it closes");
    end(temptation.as_str());
}

#[test]
#[ignore = "not a test: another test runs it in a process of its own"]
fn child_outside() {
    end(temptation().as_str());
}

fn end(temptation: &str) -> ! {
    leave(i32::from(!fall(temptation)))
}

/// Ends this process without what is left of the harness, which does more than a reader may.
#[expect(unsafe_code, reason = "the process is to end without what is run at its end")]
fn leave(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

async fn child(test: &str, temptation: &str) -> Result<Vec<u8>, ToolError> {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let test = format!("disk::reader::tests::jailed::{test}");
    let tool = Tool::new(binary).args(["--ignored", "--exact", &test, "--nocapture"]);
    tool.input(temptation.into()).run().await
}

#[tokio::test]
async fn what_a_reader_may_not_do_kills_it() {
    for temptation in TEMPTATIONS {
        let free = child("child_outside", temptation).await;
        assert!(free.is_ok(), "{temptation}, outside: {free:?}");
    }
    for temptation in TEMPTATIONS {
        match child("child_in_the_jail", temptation).await {
            Err(ToolError::Failed { status, stderr, .. }) => {
                assert_eq!(status.signal(), Some(libc::SIGSYS), "{temptation}: {status} {stderr}");
            }
            other => panic!("{temptation}: {other:?}"),
        }
    }
}

#[test]
#[ignore = "not a test: another test runs it in a process of its own"]
fn child_that_reads() {
    let disk = File::from(io::stdin().as_fd().try_clone_to_owned().expect("cloned"));
    let output = File::from(io::stdout().as_fd().try_clone_to_owned().expect("cloned"));
    jail::enter().expect("it closes");
    let wanted = Wanted { vm: "web".to_owned(), home: "/root".into(), path: "tree".to_owned() };
    leave(i32::from(tell(&wanted, disk, output).is_err()));
}

#[tokio::test]
async fn a_disk_is_read_and_refused_in_the_jail() {
    let disk = Disk::make(16, &[], |source| {
        std::fs::create_dir(source.join("tree")).expect("made");
        std::fs::write(source.join("tree/large"), vec![b'L'; 3 << 20]).expect("written");
    })
    .await;
    let noise = disk.folder.path().join("noise");
    std::fs::write(&noise, vec![7; 8192]).expect("written");
    let binary = std::env::current_exe().expect("the test binary has a path");
    let test = "disk::reader::tests::jailed::child_that_reads";
    for (disk, length, last) in
        [(&disk.path, 3 << 20, r#"{"reply":"copied","#), (&noise, 0, "it is no ext4")]
    {
        let arguments = ["--ignored", "--exact", test, "--nocapture"];
        let input = File::open(disk).expect("there");
        let (reader, mut output) = Producer::start(&binary, arguments, input).expect("starts");
        let mut said = Vec::new();
        output.read_to_end(&mut said).await.expect("read");
        let (status, error) = reader.ended().await.expect("ended");
        assert!(status.success(), "{status}: {error}");
        assert!(said.len() >= length, "{} bytes", said.len());
        let end = String::from_utf8_lossy(&said[said.len().saturating_sub(400)..]).into_owned();
        assert!(end.contains(last), "{end}");
    }
}

#[test]
#[ignore = "not a test: another test runs it in a process of its own"]
fn child_with_limits() {
    let limits = File::open("/proc/self/limits").expect("there");
    let output = io::stdout();
    jail::enter().expect("it closes");
    let mut text = vec![0; 4096];
    let length = nix::sys::uio::pread(&limits, &mut text, 0).expect("read");
    nix::unistd::write(&output, &text[..length]).expect("written");
    leave(0);
}

#[tokio::test]
async fn a_reader_has_little() {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let test = "disk::reader::tests::jailed::child_with_limits";
    let tool = Tool::new(binary).args(["--ignored", "--exact", test, "--nocapture"]);
    let printed = tool.run().await.expect("printed");
    let printed = String::from_utf8_lossy(&printed).into_owned();
    // Written out: a limit that is raised is to be seen here.
    for (name, soft, hard) in [
        ("Max cpu time", 900_u64, 901_u64),
        ("Max address space", 1 << 30, 1 << 30),
        ("Max file size", 0, 0),
        ("Max core file size", 0, 0),
        ("Max open files", 0, 0),
    ] {
        let line = printed.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {printed}"));
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        assert_eq!(words, [soft.to_string(), hard.to_string()], "{name}");
    }
}
