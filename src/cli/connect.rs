//! How a command reaches the daemon, and starts it when it does not run.
//!
//! ```text
//!  connect ──▶ somebody answers ─────────────────────────────▶ client
//!     │ nobody listens
//!     ▼
//!  coved --ready-fd 3 ──▶ `1`: it listens ──▶ connect ───────▶ client
//!                    ├──▶ a report of kind `conflict`: another client's daemon was first ──▶
//!                    │    connect until that one listens ─────▶ client
//!                    └──▶ another report, or none: the report, or the end of its stderr
//! ```

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::config::{ClientEnvironment, Paths, daemon_environment};
use crate::process::{Process, Servant, ServantOutput};
use crate::report::{Kind, Report};
use crate::rpc::client::{Client, ClientError};
use crate::wire::rpc::{ClientContext, Method, Nothing};

use super::failure::Failure;
use super::output::{Format, say};

/// How long a daemon may take from its start until it listens: it opens its database, runs migrations,
/// compiles hooks that it has not seen before, and recovers. That is a fraction of a second, but the
/// compiler of a debug build on a busy machine needs half a minute.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// After so long, the user hears what is waited for.
const UNREMARKED: Duration = Duration::from_secs(2);

/// How long another client's daemon may take until it listens, when ours found it to be there first.
const OTHERS_DEADLINE: Duration = START_DEADLINE;

/// How long is waited for it before another daemon is started to see whether it is still there.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// How long a daemon that breaks connections off may take to be gone: its process is ending.
const BREAK_PATIENCE: Duration = Duration::from_secs(2);

/// The time between two attempts to connect while another client starts the daemon: nothing tells us
/// of that daemon's start.
const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// The number under which the daemon knows the pipe that it reports its readiness on.
const READY_DESCRIPTOR: i32 = 3;

/// The longest report of a daemon that cannot start, in bytes.
const MAX_START_REPORT: u64 = 64 * 1024;

/// How many of the last lines on the daemon's stderr are shown when it gave no report.
const SHOWN_LINES: usize = 10;

/// The paths of the daemon.
pub(super) fn paths() -> Result<Paths, Report> {
    Paths::from_environment().map_err(|error| Report::of(&error))
}

/// What this client's environment offers to hooks.
pub(super) fn client_context() -> ClientContext {
    ClientContext { ssh_auth_sock: ClientEnvironment::read().ssh_auth_sock }
}

/// A connection to the daemon, which is started when it does not run.
pub(super) async fn connect() -> Result<Client, Report> {
    let paths = paths()?;
    match reach(&paths.socket).await {
        Ok(client) => return Ok(client),
        Err(error) if error.nobody_listens() => {}
        Err(error) => return Err(Report::of(&error)),
    }
    let deadline = Instant::now() + OTHERS_DEADLINE;
    loop {
        let failure = start(&paths, daemon_environment()).await.err();
        // Another client's daemon was first, and may not listen yet. Or it has ended meanwhile, as a
        // daemon with a wrong configuration does; then ours says so at the next attempt.
        let others = failure.as_ref().is_some_and(|report| report.kind == Kind::Conflict);
        let patience = if others { OTHERS_PATIENCE } else { Duration::ZERO };
        match connect_within(&paths.socket, patience).await {
            Ok(client) => return Ok(client),
            Err(error) if others && error.nobody_listens() && Instant::now() < deadline => {}
            Err(error) => return Err(failure.unwrap_or_else(|| Report::of(&error))),
        }
    }
}

/// A connection to the daemon if it runs; `None` when nobody listens.
pub(super) async fn connect_if_running() -> Result<Option<Client>, Report> {
    match reach(&paths()?.socket).await {
        Ok(client) => Ok(Some(client)),
        Err(error) if error.nobody_listens() => Ok(None),
        Err(error) => Err(Report::of(&error)),
    }
}

/// Asks for everything that there is of a kind, and prints it.
pub(super) async fn list_all<M, T>(
    format: Format,
    text: impl FnOnce(&[T]) -> String,
) -> Result<u8, Failure>
where
    M: Method<Params = Nothing, Reply = Vec<T>>,
    T: Serialize,
{
    let all = connect().await?.call::<M>(Nothing {}).await?;
    format.print(&all[..], text)?;
    Ok(0)
}

/// A connection to whoever listens. A daemon that ends while it is being called breaks the connection off;
/// a moment later nobody listens there, or the next one does.
async fn reach(socket: &Path) -> Result<Client, ClientError> {
    let deadline = Instant::now() + BREAK_PATIENCE;
    loop {
        match Client::connect(socket).await {
            Err(error) if error.broke_off() && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            settled => return settled,
        }
    }
}

async fn connect_within(socket: &Path, patience: Duration) -> Result<Client, ClientError> {
    let deadline = Instant::now() + patience;
    loop {
        match reach(socket).await {
            Err(error) if error.nobody_listens() && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            settled => return settled,
        }
    }
}

/// Starts the daemon of these paths, in an environment that says the same, and waits until it listens.
pub(super) async fn start(
    paths: &Paths,
    environment: Vec<(OsString, OsString)>,
) -> Result<Process, Report> {
    let program = paths.programs.join("coved");
    let (mut ready, theirs) =
        std::io::pipe().map_err(|error| cannot_start(&program).with_cause(&error))?;
    let servant = Servant {
        program: program.clone(),
        args: vec!["--ready-fd".into(), READY_DESCRIPTOR.to_string().into()],
        folder: PathBuf::from("/"),
        env: environment,
        descriptors: vec![(theirs.into(), READY_DESCRIPTOR)],
    };
    let (process, output) = servant.spawn().map_err(|error| {
        cannot_start(&program)
            .with_cause(&error)
            .with_hint("`coved` is looked for beside `cove`: is it installed there?")
    })?;
    let mut word = tokio::task::spawn_blocking(move || {
        let mut word = Vec::new();
        let read = (&mut ready).take(1).read_to_end(&mut word);
        if word != b"1" {
            ready.take(MAX_START_REPORT).read_to_end(&mut word)?;
        }
        read.map(|_| word)
    });
    let heard = match tokio::time::timeout(UNREMARKED, &mut word).await {
        Ok(word) => Ok(word),
        Err(_) => {
            say("the daemon is starting; at first it compiles its hooks");
            tokio::time::timeout(START_DEADLINE, word).await
        }
    };
    let Ok(word) = heard else {
        return Err(Report::new(
            Kind::TimedOut,
            format!("`coved` did not listen within {} s", START_DEADLINE.as_secs()),
        )
        .with_hint(format!(
            "it is process {}; see its log at `{}`",
            process.id().pid,
            paths.log.display()
        )));
    };
    let word = word.map_err(std::io::Error::other).and_then(|word| word);
    match word {
        Ok(word) if word == b"1" => Ok(process),
        Ok(word) => Err(start_failure(&program, &word, &output)),
        Err(error) => Err(cannot_start(&program).with_cause(&error)),
    }
}

/// Why the daemon ended before it listened: its own report, or else the end of what it printed.
fn start_failure(program: &Path, word: &[u8], output: &ServantOutput) -> Report {
    if let Ok(report) = serde_json::from_slice::<Report>(word) {
        return report;
    }
    let mut report = cannot_start(program);
    let text = output.text();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    report.cause.push(match last {
        [] => "it ended without a word".to_owned(),
        last => last.join("\n"),
    });
    report
}

fn cannot_start(program: &Path) -> Report {
    let message = format!("cannot start the daemon `{}`", program.display());
    Report::new(Kind::Unreachable, message)
}
