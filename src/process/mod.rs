//! Processes of the host: tools that run to their end, and servants that outlive the daemon.
//!
//! The only place that makes child processes. A *tool* (git, mke2fs, qemu-img) is run with a deadline
//! and a bound on its output, and its stderr becomes part of the error. A *servant* (a monitor, an
//! uplink) gets a process group of its own, so that neither a terminal's Ctrl-C nor the daemon's end
//! reaches it, and is known afterwards by [`ProcessId`]: its pid together with its start time, so that
//! a pid which the kernel gave to somebody else is never taken for it. Signals go through a pidfd that
//! was opened before that check. A *producer* reads one open file, and its output is taken as it comes. The
//! command line can also become another program (ssh), or wait for one that it has started beside itself.

mod beside;
mod descriptor;
mod identity;
mod producer;
mod replace;
mod servant;
mod stamp;
mod tool;
mod usage;

pub use beside::Beside;
pub use descriptor::{ShortFolder, close_all_but_standard, inherited};
pub use identity::{Process, ProcessId, find_servants};
pub use producer::Producer;
pub use replace::replaced_by;
pub use servant::{Servant, ServantOutput};
pub use stamp::{FileStamp, find_program};
pub use tool::{Tool, ToolError};
pub use usage::{Sleeps, Usage, usage};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::servant::MAX_SERVANT_OUTPUT;
    use super::*;

    #[tokio::test]
    async fn a_failing_tool_tells_its_stderr() {
        let error = Tool::new("sh").args(["-c", "echo no luck >&2; exit 3"]).run().await;
        let text = error.expect_err("it fails").to_string();
        assert!(text.contains("no luck") && text.contains("exit status: 3"), "{text}");
    }

    #[tokio::test]
    async fn a_tool_is_bounded_in_time_and_output() {
        let slow = Tool::new("sleep").arg("60").deadline(Duration::from_millis(50)).run().await;
        assert!(matches!(slow, Err(ToolError::TimedOut { .. })), "{slow:?}");
        let loud = Tool::new("head").args(["-c", "5000", "/dev/zero"]).max_output(4999).run().await;
        assert!(matches!(loud, Err(ToolError::TooMuchOutput { .. })), "{loud:?}");
        let fits = Tool::new("cat").input(vec![7; 5000]).max_output(5000).run().await;
        assert_eq!(fits.expect("fits"), vec![7; 5000]);
    }

    fn servant(script: &str) -> Servant {
        Servant {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            folder: "/".into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            descriptors: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_servant_is_known_by_pid_and_start_time_only() {
        let (process, _output) = servant("exec sleep 600").spawn().expect("starts");
        let id = process.id();
        assert!(Process::open(id).expect("opens").is_some());
        let impostor = ProcessId { start_ticks: id.start_ticks + 1, ..id };
        assert!(Process::open(impostor).expect("opens").is_none(), "another start time");
        process.kill(Duration::from_secs(10)).await.expect("dies");
        assert!(Process::open(id).expect("opens").is_none_or(|p| p.id() == id));
    }

    #[tokio::test]
    async fn a_servant_cannot_fill_the_memory_with_output() {
        let (process, output) =
            servant("echo first; head -c 300000 /dev/zero | tr '\\0' x").spawn().expect("starts");
        process.ended().await.expect("ends");
        let text = output.text();
        assert!(text.starts_with("first\nxxx"), "{}", &text[..20]);
        assert!(text.len() as u64 <= MAX_SERVANT_OUTPUT);
    }

    #[test]
    fn a_program_that_is_not_there_replaces_nothing() {
        let error = replaced_by(std::path::Path::new("/nowhere/ssh"), ["-V"]);
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn sockets_in_deep_folders_have_short_names() {
        let root = tempfile::tempdir().expect("tempdir");
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).expect("made");
        let short = ShortFolder::open(&deep).expect("opens");
        let _listener = std::os::unix::net::UnixListener::bind(short.path_of("s")).expect("binds");
        assert!(deep.join("s").exists());
    }

    #[tokio::test]
    async fn a_search_finds_servants_and_never_the_users_own_programs() {
        let marker = format!("marker-{}", std::process::id());
        let folder = tempfile::tempdir().expect("tempdir");
        let like_a_servant = folder.path().join("coved");
        std::os::unix::fs::symlink("/bin/sh", &like_a_servant).expect("linked");
        let start = |program: &std::path::Path| {
            let mut servant = servant(&format!("kill -STOP $$; : {marker}"));
            servant.program = program.to_owned();
            servant.spawn().expect("starts").0
        };
        let pager = start(std::path::Path::new("/bin/sh"));
        assert_eq!(find_servants(&marker), Vec::new(), "a shell that names it is the user's");
        let ours = start(&like_a_servant);
        assert_eq!(find_servants(&marker), [ours.id()]);
        for process in [pager, ours] {
            process.kill(Duration::from_secs(10)).await.expect("dies");
        }
    }
}
