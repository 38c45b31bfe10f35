//! Producers: programs that read one open file, and whose output is taken as it comes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout};

/// How much of what it says on stderr is kept, in bytes: one sentence.
const MAX_STDERR: u64 = 4096;

/// A program with a file as its stdin, no environment, and no folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct Producer {
    child: Child,
}

impl Producer {
    /// Starts it. What it writes to stdout is returned beside it.
    ///
    /// # Errors
    /// When the program cannot be executed.
    #[expect(clippy::disallowed_methods, reason = "one wrapper of a program whose output flows")]
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: File,
    ) -> io::Result<(Self, ChildStdout)> {
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        Ok((Self { child }, output))
    }

    /// Waits for its end. How it ended, and the beginning of what it said on stderr. Its output must have ended
    /// before, or be dropped.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(mut self) -> io::Result<(ExitStatus, String)> {
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            stderr.take(MAX_STDERR).read_to_end(&mut said).await?;
        }
        let status = self.child.wait().await?;
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_producer_has_its_file_and_no_environment() {
        let file = tempfile::NamedTempFile::new().expect("made");
        std::fs::write(file.path(), "what is in it").expect("written");
        let script = "cat; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL=; echo why >&2; exit 3";
        let input = File::open(file.path()).expect("opens");
        let (producer, mut output) =
            Producer::start(Path::new("/bin/sh"), ["-c", script], input).expect("starts");
        let mut text = String::new();
        output.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "what is in it");
        let (status, said) = producer.ended().await.expect("ended");
        assert_eq!((status.code(), said.as_str()), (Some(3), "why"));
    }
}
