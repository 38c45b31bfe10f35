//! What was signed: a line on stderr, and one in a file that stays. A signature that cannot be written down is
//! not given away.
//!
//! A guest decides how much is asked for, so all of it is bounded: what one session may have signed, and what is
//! written of it.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::config::Paths;
use crate::keys::fingerprint;
use crate::wire::rpc::Vm;

use super::super::super::output::say;
use super::keys::Key;

/// Signatures of one session, given and refused: an honest one needs one for each connection of git or ssh. They
/// are far from filling the file, so that no guest can drive out what was written before.
const MAX_LINES: u32 = 1000;

/// Bytes after which the file becomes `signatures.1.jsonl` and a new one is begun.
const TURN_AT: u64 = 4 << 20;

/// How long one line may take to be written.
const DEADLINE: Duration = Duration::from_secs(10);

/// What became of a request for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It was signed.
    Signed,
    /// The user's agent did not sign: it asked the user, or has the key no more.
    Declined,
    /// The key was not named with `--ssh-agent`.
    Refused,
}

/// One line of the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    at: jiff::Timestamp,
    vm: &'a str,
    vm_id: &'a str,
    outcome: Outcome,
    /// The key's fingerprint.
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// The fingerprint of the host key of the server that it was for, where ssh has said that.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
}

/// That a session may have one line more.
#[derive(Debug)]
pub(super) struct PlaceTaken {
    is_last: bool,
}

/// The record of one session.
#[derive(Debug)]
pub(super) struct Record {
    folder: PathBuf,
    vm: String,
    vm_id: String,
    left: AtomicU32,
    /// Whether the user knows that their agent is gone.
    gone: AtomicBool,
}

impl Record {
    /// Of a session with a VM.
    pub(super) fn of(vm: &Vm, paths: &Paths) -> Self {
        Self {
            folder: paths.home.join("ssh"),
            vm: vm.name.to_string(),
            vm_id: vm.id.to_string(),
            left: AtomicU32::new(MAX_LINES),
            gone: AtomicBool::new(false),
        }
    }

    /// Tells the user, once, that their agent cannot be asked any more.
    pub(super) fn agent_is_gone(&self, error: &io::Error) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            tell(&format!(
                "your ssh agent does not answer, and `{}` gets nothing: {error}",
                self.vm
            ));
        }
    }

    /// Takes one of the lines that the session may have, before anybody is asked for a signature.
    ///
    /// # Errors
    /// When it has had all of them.
    pub(super) fn take_place(&self) -> io::Result<PlaceTaken> {
        let less = |left: u32| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let left =
            left.map_err(|_| io::Error::other("the session has asked for too many signatures"))?;
        Ok(PlaceTaken { is_last: left == 1 })
    }

    /// Writes down what became of a request for a signature with `key`, which has a comment when it is one of
    /// those that were named.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(super) async fn write(
        &self,
        place: PlaceTaken,
        outcome: Outcome,
        key: &[u8],
        named: Option<&Key>,
        server: Option<&str>,
    ) -> io::Result<()> {
        let line = Line {
            at: jiff::Timestamp::now(),
            vm: &self.vm,
            vm_id: &self.vm_id,
            outcome,
            key: fingerprint(key),
            comment: named.map(Key::name),
            server,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let folder = self.folder.clone();
        let written = tokio::task::spawn_blocking(move || append(&folder, &text));
        let written = tokio::time::timeout(DEADLINE, written).await;
        let written = written.map_err(io::Error::from).and_then(|written| written?);
        let shown = named.map_or_else(|| format!("a key ({})", line.key), Key::shown);
        tell(&self.told(&written, outcome, &shown, server));
        if place.is_last {
            tell(&format!("{}: {MAX_LINES} signatures were asked for: no more are given", self.vm));
        }
        written
    }

    /// What the user is told of it.
    fn told(
        &self,
        written: &io::Result<()>,
        outcome: Outcome,
        key: &str,
        server: Option<&str>,
    ) -> String {
        let vm = &self.vm;
        let server = match server {
            Some(server) => format!(", for the server with the host key {server}"),
            None => String::new(),
        };
        match (written, outcome) {
            (Err(error), _) => format!(
                "`{vm}` gets no signature with {key}, because it cannot be written down: {error}"
            ),
            (Ok(()), Outcome::Signed) => format!("signed for `{vm}` with {key}{server}"),
            (Ok(()), Outcome::Declined) => {
                format!("your ssh agent did not sign for `{vm}` with {key}{server}")
            }
            (Ok(()), Outcome::Refused) => {
                format!("refused `{vm}` a signature with {key}, which `--ssh-agent` does not name")
            }
        }
    }
}

/// A message beside what ssh shows. The terminal may be ssh's, in raw mode: there a line goes on below the end of
/// the one before it, unless it says otherwise.
fn tell(message: &str) {
    match io::stderr().is_terminal() {
        true => say(&format!("\r{message}\r")),
        false => say(message),
    }
}

/// Adds a line to the file. Sessions take turns.
fn append(folder: &Path, line: &[u8]) -> io::Result<()> {
    let open = |name: &str| -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(name))
    };
    let turn = open("signatures.lock")?;
    turn.lock()?;
    let mut file = open("signatures.jsonl")?;
    if file.metadata()?.len() > TURN_AT {
        std::fs::rename(folder.join("signatures.jsonl"), folder.join("signatures.1.jsonl"))?;
        file = open("signatures.jsonl")?;
    }
    file.write_all(line)?;
    file.sync_data()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;

    /// A record in a folder.
    pub(in super::super) fn record(folder: &Path) -> Record {
        Record {
            folder: folder.to_owned(),
            vm: "web".to_owned(),
            vm_id: "0123".to_owned(),
            left: AtomicU32::new(MAX_LINES),
            gone: AtomicBool::new(false),
        }
    }

    /// What the record in a folder says.
    pub(in super::super) fn lines(folder: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(folder.join("signatures.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn a_line_says_who_what_and_for_whom() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = record(folder.path());
        let key = Key { blob: b"key".to_vec(), comment: b"me\n".to_vec() };
        let place = || record.take_place().expect("there is one");
        let (signed, server) = (Outcome::Signed, Some("SHA256:host"));
        record.write(place(), signed, &key.blob, Some(&key), server).await.expect("written");
        record.write(place(), Outcome::Refused, b"other", None, None).await.expect("written");
        let lines = lines(folder.path());
        assert_eq!(lines.len(), 2);
        let said = |line: usize, key: &str| lines[line][key].as_str();
        assert_eq!(said(0, "vm"), Some("web"));
        assert_eq!(said(0, "key"), Some(key.fingerprint().as_str()));
        assert_eq!((said(0, "comment"), said(0, "outcome")), (Some("me\n"), Some("signed")));
        assert_eq!((said(0, "server"), said(1, "server")), (Some("SHA256:host"), None));
        assert_eq!((said(1, "comment"), said(1, "outcome")), (None, Some("refused")));
        said(0, "at").expect("a time").parse::<jiff::Timestamp>().expect("a time");
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_one_session_gets() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = Record { left: AtomicU32::new(1), ..record(folder.path()) };
        let place = record.take_place().expect("the last one");
        record.write(place, Outcome::Signed, b"key", None, None).await.expect("written");
        record.take_place().expect_err("no more");
        assert_eq!(lines(folder.path()).len(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_written_down_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = record(&folder.path().join("not there"));
        let place = record.take_place().expect("there is one");
        record.write(place, Outcome::Signed, b"key", None, None).await.expect_err("no folder");
    }

    #[test]
    fn a_long_file_is_turned_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = vec![b'x'; usize::try_from(TURN_AT).expect("fits") + 1];
        append(folder.path(), &long).expect("written");
        append(folder.path(), b"new\n").expect("written");
        let length = |name: &str| std::fs::metadata(folder.path().join(name)).expect("there").len();
        assert_eq!((length("signatures.jsonl"), length("signatures.1.jsonl")), (4, TURN_AT + 1));
    }
}
