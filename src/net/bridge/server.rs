//! The network helper: the only program of cove with privilege. `cove-net-helper --user UID`, and `--socket
//! PATH` where its socket is not to be at the usual place, or `--descriptor NUMBER` where it was made for it
//! (systemd's is 3).
//!
//! ```text
//!  arguments ── configuration (root's) ── socket (the user's, 0600) ── all privileges but one given up
//!            ── accept: that user only, one daemon at a time ── Sync ── Attach, Detach, Check …
//! ```
//!
//! It knows no rules of its own: what it is asked for it checks and does with the code that a root daemon
//! uses in its own process (`host.rs`). It keeps nothing: what there is on the host outlives it, and each
//! connection begins with the daemon's word about which VMs there are.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chown};
use tokio::net::{UnixListener, UnixStream};

use super::super::control::Channel;
use super::error::{BridgeError, Refusal};
use super::protocol::{Reply, Request};
use super::setup::{Setup, SetupError};
use super::{Host, Privileged, privileges};
use crate::config::{BridgeConfig, ConfigError, machine_id};
use crate::report::{Kind, Report, with_causes};
use crate::task::Tasks;

/// The helper's configuration, which only root may write: the keys of `[net.bridge]`.
pub const CONFIGURATION: &str = "/etc/cove/net-helper.toml";

/// How long a second daemon waits for the end of the first one's connection.
const GRACE: Duration = Duration::from_secs(3);

/// Why the helper does not run.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error(
        "usage: cove-net-helper --user UID [--socket PATH | --descriptor NUMBER] [--config FILE]"
    )]
    Arguments,
    #[error("`{}` can be written by others than this user", path.display())]
    Writable { path: PathBuf },
    #[error("the configuration cannot be used")]
    Configuration(#[source] ConfigError),
    #[error("the configuration cannot be used")]
    Setup(#[source] SetupError),
    #[error("cannot listen for the daemon")]
    Listen(#[source] io::Error),
    #[error("cannot give up privileges; CAP_NET_ADMIN and CAP_SETPCAP are needed at the start")]
    Privileges(#[source] io::Error),
}

/// What the program was told.
#[derive(Debug, Default)]
struct Arguments {
    socket: Option<PathBuf>,
    descriptor: Option<i32>,
    user: Option<u32>,
    configuration: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            let value = words.next()?;
            match word.to_str()? {
                "--socket" => arguments.socket = Some(value.into()),
                "--descriptor" => arguments.descriptor = Some(value.to_str()?.parse().ok()?),
                "--user" => arguments.user = Some(value.to_str()?.parse().ok()?),
                "--config" => arguments.configuration = Some(value.into()),
                _ => return None,
            }
        }
        Some(arguments)
    }
}

/// Runs the helper. `arguments` are the program's, without its name. To be called before the program has a
/// second thread: privileges belong to threads.
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started it reads this; there is nobody else to tell.
            drop(writeln!(io::stderr(), "cove-net-helper: {}", with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), HelperError> {
    let arguments = Arguments::parse(arguments).ok_or(HelperError::Arguments)?;
    let user = arguments.user.ok_or(HelperError::Arguments)?;
    let configuration = arguments.configuration.unwrap_or_else(|| CONFIGURATION.into());
    let config = configured(&configuration)?;
    let setup = Setup::new(&config, &machine_id(), user).map_err(HelperError::Setup)?;
    let listener = match (arguments.socket, arguments.descriptor) {
        (None, None) => listen(&config.socket(user), user),
        (Some(path), None) => listen(&path, user),
        (None, Some(number)) => crate::process::inherited(number).map(StdListener::from),
        (Some(_), Some(_)) => return Err(HelperError::Arguments),
    };
    let listener = listener.map_err(HelperError::Listen)?;
    privileges::give_up().map_err(HelperError::Privileges)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(HelperError::Listen)?.block_on(async {
        listener.set_nonblocking(true).map_err(HelperError::Listen)?;
        let listener = UnixListener::from_std(listener).map_err(HelperError::Listen)?;
        serve(&listener, &setup, user).await
    })
}

fn configured(path: &Path) -> Result<BridgeConfig, HelperError> {
    let own = nix::unistd::geteuid().as_raw();
    match std::fs::metadata(path) {
        Ok(file) if file.uid() != own || file.mode() & 0o022 != 0 => {
            return Err(HelperError::Writable { path: path.to_owned() });
        }
        // What is not there, or cannot be read, the reader tells.
        Ok(_) | Err(_) => {}
    }
    BridgeConfig::load(path).map_err(HelperError::Configuration)
}

/// Listens at `path`, where only `user` can connect: the socket appears there when it is so. One that an
/// earlier helper left is replaced.
fn listen(path: &Path, user: u32) -> io::Result<StdListener> {
    let mut before = path.as_os_str().to_owned();
    before.push(".new");
    let before = Path::new(&before);
    for path in [path, before] {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mask = umask(Mode::from_bits_truncate(0o177));
    let bound = StdListener::bind(before);
    umask(mask);
    let listener = bound?;
    std::fs::set_permissions(before, std::fs::Permissions::from_mode(0o600))?;
    chown(before, Some(Uid::from_raw(user)), None)?;
    std::fs::rename(before, path)?;
    Ok(listener)
}

async fn serve(listener: &UnixListener, setup: &Setup, user: u32) -> Result<(), HelperError> {
    let tasks = Tasks::default();
    let mut next = None;
    loop {
        let stream = match next.take() {
            Some(stream) => stream,
            None => accept(listener, user).await?,
        };
        let mut channel = Channel::new(stream);
        let mut host = match Host::new(setup.clone(), user, &tasks) {
            Ok(host) => host,
            Err(error) => {
                let failed = Reply::Failed { report: Report::of(&error) };
                // Who has gone does not need to know.
                drop(channel.send(&failed, None).await);
                continue;
            }
        };
        // `answer_all` is over when its connection is. `turn_away` is cancel-safe: accepting is, and who
        // waits is in `next`.
        tokio::select! {
            biased;
            () = answer_all(&mut channel, &mut host) => {}
            failed = turn_away(listener, user, &mut next) => return failed,
        }
    }
}

/// The next connection of the user; others are closed at once.
async fn accept(listener: &UnixListener, user: u32) -> Result<UnixStream, HelperError> {
    loop {
        let (stream, _) = listener.accept().await.map_err(HelperError::Listen)?;
        if stream.peer_cred().is_ok_and(|peer| peer.uid() == user) {
            return Ok(stream);
        }
    }
}

/// Two daemons would take each other's VMs off the bridge. One that was started again comes while the
/// helper is still at the last request of the one before, so who comes waits in `next` for a moment.
async fn turn_away(
    listener: &UnixListener,
    user: u32,
    next: &mut Option<UnixStream>,
) -> Result<(), HelperError> {
    loop {
        *next = Some(accept(listener, user).await?);
        tokio::time::sleep(GRACE).await;
        if let Some(stream) = next.take() {
            let busy = "another daemon of this user uses the network helper";
            let report = Report::new(Kind::Conflict, busy);
            drop(Channel::new(stream).send(&Reply::Failed { report }, None).await);
        }
    }
}

/// Answers until the connection ends, or something comes that is no request.
async fn answer_all(channel: &mut Channel, host: &mut Host) {
    while let Ok(Some(request)) = channel.receive::<Request>().await {
        let descriptor = channel.take_descriptor();
        let answered = match request {
            Request::Sync { plan } => {
                host.sync(&plan).await.map(|missing| Reply::Synced { missing })
            }
            Request::Attach { vm, slot } => match descriptor {
                Some(namespace) => host.attach(&vm, slot, namespace).await.map(|()| Reply::Done),
                None => Err(Report::of(&BridgeError::from(Refusal::NoNamespace { vm }))),
            },
            Request::Detach { vm } => host.detach(&vm).await.map(|()| Reply::Done),
            Request::Check => host.check().await.map(|problem| Reply::Checked { problem }),
        };
        let reply = answered.unwrap_or_else(|report| Reply::Failed { report });
        if channel.send(&reply, None).await.is_err() {
            return;
        }
    }
}
