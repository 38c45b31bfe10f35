//! The agent that a guest gets to use with `cove ssh --ssh-agent`: the keys of the user's own that were named, for
//! one session.
//!
//! ```text
//!  ssh in the guest ══ its sshd ══ our ssh ══ socket ══▶ filter ══▶ the user's agent
//!                                                          └──▶ record: a line for each signature
//! ```
//!
//! The socket is in a folder for the user alone, which goes with the session. Private keys stay where they are.

mod filter;
mod keys;
mod messages;
mod record;
#[cfg(test)]
mod tests;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Paths;
use crate::report::{Kind, Report};
use crate::task::Tasks;
use crate::wire::rpc::Vm;

use super::super::output::failed;
use filter::{Agent, Filter};
use keys::{Key, chosen};
use record::Record;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16;

/// How long until a listener that could not accept tries again.
const RETRY: Duration = Duration::from_millis(200);

/// How long connections may take to end with the session.
const GRACE: Duration = Duration::from_secs(1);

/// What one session gets to use of the user's agent.
#[derive(Debug)]
pub(super) struct Forwarding {
    folder: TempDir,
    tasks: Tasks,
}

impl Forwarding {
    /// Begins to listen for a session with a VM, which may use the named keys of the agent at `agent`.
    ///
    /// # Errors
    /// When there is no agent, or it has not exactly one key of each name.
    pub(super) async fn begin(
        wanted: Vec<String>,
        agent: Option<PathBuf>,
        vm: &Vm,
        paths: &Paths,
    ) -> Result<Self, Report> {
        let agent = agent.ok_or_else(|| {
            Report::new(Kind::NotFound, "there is no ssh agent: `SSH_AUTH_SOCK` is not set")
                .with_hint(
                    "start one with `eval \"$(ssh-agent)\"`, and give it keys with `ssh-add`",
                )
        })?;
        let offered = offered(&agent).await?;
        let keys = tokio::task::spawn_blocking(move || chosen(&wanted, &offered)).await;
        let keys = keys.map_err(|error| failed("cannot choose the keys", &error))??;
        Self::listen(agent, keys, Record::of(vm, paths))
            .map_err(|error| failed("cannot listen for an ssh agent's clients", &error))
    }

    fn listen(agent: PathBuf, keys: Vec<Key>, record: Record) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cove-agent-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let forwarding = Self { folder, tasks: Tasks::default() };
        let listener = UnixListener::bind(forwarding.socket())?;
        let way = Arc::new(Way { agent, keys, record });
        let accept = accept(listener, way, forwarding.tasks.clone());
        forwarding.tasks.spawn_until_shutdown("agent", accept);
        Ok(forwarding)
    }

    /// Where ssh finds it.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Ends it: nobody gets to use anything any more.
    pub(super) async fn end(self) {
        self.tasks.drain(GRACE).await;
    }
}

/// The keys that an agent has.
async fn offered(agent: &Path) -> Result<Vec<Key>, Report> {
    let keys = async { Agent::connect(agent).await?.keys().await };
    keys.await.map_err(|error: io::Error| {
        let message = format!("your ssh agent at `{}` does not answer", agent.display());
        Report::new(Kind::Failed, message)
            .with_cause(&error)
            .with_hint("see whether `ssh-add -l` lists your keys")
    })
}

/// The way to the user's agent.
struct Way {
    agent: PathBuf,
    keys: Vec<Key>,
    record: Record,
}

impl Way {
    async fn carry(self: Arc<Self>, connection: UnixStream, _place: OwnedSemaphorePermit) {
        let agent = match Agent::connect(&self.agent).await {
            Ok(agent) => agent,
            Err(error) => return self.record.agent_is_gone(&error),
        };
        // That it broke off is known to whoever is at its other end.
        Filter::new(agent, &self.keys, &self.record).serve(connection).await.ok();
    }
}

async fn accept(listener: UnixListener, way: Arc<Way>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((connection, _)) => {
                tasks.spawn_until_shutdown("connection", way.clone().carry(connection, place));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
