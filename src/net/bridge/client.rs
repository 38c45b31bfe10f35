//! The daemon's side of the network helper.
//!
//! The connection is made when it is needed, and again when it broke: the helper may have been started
//! again. On each new one the helper is told first which VMs there are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::super::control::Channel;
use super::Privileged;
use super::plan::HostPlan;
use super::protocol::{Reply, Request};
use super::setup::Setup;
use crate::id::VmId;
use crate::report::{Explain, Kind, Report};

/// A thousand ports are mended within seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why the helper did not answer.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("cannot reach the network helper at `{}`", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the network helper broke")]
    Broken(#[source] io::Error),
    #[error("the network helper did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

impl Explain for HelperError {
    fn kind(&self) -> Kind {
        match self {
            Self::Connect { .. } | Self::Broken(_) => Kind::Failed,
            Self::TimedOut => Kind::TimedOut,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { .. } => Some(
                "`--net bridge` needs it, unless the daemon is root's: README says under Network how to \
                 install it; `--net user` needs nothing"
                    .to_owned(),
            ),
            Self::Broken(_) | Self::TimedOut => Some("the helper's log says why".to_owned()),
        }
    }
}

/// Asks the network helper.
#[derive(Debug)]
pub struct Helper {
    socket: PathBuf,
    /// What the helper is told on a new connection.
    plan: HostPlan,
    channel: Option<Channel>,
}

impl Helper {
    /// The helper that listens at `socket`, for the bridge `setup`.
    #[must_use]
    pub fn new(socket: PathBuf, setup: Setup) -> Self {
        Self { socket, plan: HostPlan::new(setup), channel: None }
    }

    /// Asks on the connection there is, or on a new one. What broke because the helper was started again
    /// is asked once more: all requests can be made twice.
    async fn ask(
        &mut self,
        request: &Request,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Reply, Report> {
        if self.channel.is_some() {
            match self.exchange(request, namespace).await {
                Err(HelperError::Broken(error)) => {
                    tracing::info!(%error, "the network helper is connected anew");
                }
                answered => return answer(answered),
            }
        }
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|source| {
            Report::of(&HelperError::Connect { path: self.socket.clone(), source })
        })?;
        self.channel = Some(Channel::new(stream));
        match request {
            Request::Sync { .. } => {}
            // To look changes nothing. What comes next begins anew, with the VMs.
            Request::Check => {
                let answered = self.exchange(request, namespace).await;
                self.channel = None;
                return answer(answered);
            }
            Request::Attach { .. } | Request::Detach { .. } => {
                let sync = Request::Sync { plan: self.plan.clone() };
                answer(self.exchange(&sync, None).await)?;
            }
        }
        answer(self.exchange(request, namespace).await)
    }

    async fn exchange(
        &mut self,
        request: &Request,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<Reply, HelperError> {
        // Taken out: a request that is cut off, or fails, leaves a connection that nobody can use.
        let Some(mut channel) = self.channel.take() else {
            return Err(HelperError::Broken(io::ErrorKind::NotConnected.into()));
        };
        let exchange = async {
            channel.send(request, namespace).await?;
            channel.receive::<Reply>().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let reply = match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(reply) => reply.map_err(HelperError::Broken)?,
            Err(_) => return Err(HelperError::TimedOut),
        };
        self.channel = Some(channel);
        Ok(reply)
    }
}

fn answer(answered: Result<Reply, HelperError>) -> Result<Reply, Report> {
    match answered {
        Ok(Reply::Failed { report }) => Err(report),
        Ok(reply @ (Reply::Done | Reply::Synced { .. } | Reply::Checked { .. })) => Ok(reply),
        Err(error) => Err(Report::of(&error)),
    }
}

fn unexpected() -> Report {
    Report::new(Kind::Failed, "the network helper answered something else")
}

#[async_trait]
impl Privileged for Helper {
    async fn sync(&mut self, plan: &HostPlan) -> Result<Vec<VmId>, Report> {
        self.plan = plan.clone();
        match self.ask(&Request::Sync { plan: plan.clone() }, None).await? {
            Reply::Synced { missing } => Ok(missing),
            Reply::Done | Reply::Checked { .. } | Reply::Failed { .. } => Err(unexpected()),
        }
    }

    async fn attach(&mut self, vm: &VmId, slot: u32, namespace: OwnedFd) -> Result<(), Report> {
        let request = Request::Attach { vm: vm.clone(), slot };
        self.ask(&request, Some(namespace.as_fd())).await?;
        self.plan = self.plan.with(vm, slot);
        Ok(())
    }

    async fn detach(&mut self, vm: &VmId) -> Result<(), Report> {
        self.ask(&Request::Detach { vm: vm.clone() }, None).await?;
        self.plan = self.plan.without(vm);
        Ok(())
    }

    async fn check(&mut self) -> Result<Option<super::ForwardingProblem>, Report> {
        match self.ask(&Request::Check, None).await? {
            Reply::Checked { problem } => Ok(problem),
            Reply::Done | Reply::Synced { .. } | Reply::Failed { .. } => Err(unexpected()),
        }
    }
}
