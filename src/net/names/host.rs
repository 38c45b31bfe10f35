//! The resolver that the host asks for the names of VMs. Never an open one: it answers the host itself, and
//! only about our zone. Clients of a bridge are served when their ranges are given; for them other names are
//! asked upstream. Whoever is neither gets no answer at all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::message::{Extended, Question};
use super::reply::{ask, fill, from_zone, of_a_special_range};
use super::serve::{self, Answers, Bounds};
use super::{Upstream, Zone};
use crate::task::Tasks;

/// Where it listens on a bridge: any user may, and nothing of a host is usually there.
pub(crate) const PORT: u16 = 5354;

/// Who is answered besides the loopback.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// Where their addresses lie.
    pub(crate) ranges: Vec<IpNet>,
    /// The host's nameservers, which are asked for other names than ours. Never this resolver itself: its
    /// questions would have no end.
    pub(crate) upstream: Upstream,
}

/// Why the resolver cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It would answer strangers.
    #[error("`{address}` is not on the loopback, and no clients are given for it")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The kernel does not give the address.
    #[error("cannot bind `{address}`")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// Whether another program has the port.
    pub(crate) fn is_taken(&self) -> bool {
        match self {
            Self::Bind { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::NotLoopback { .. } => false,
        }
    }
}

/// A resolver that has its sockets.
#[derive(Debug)]
pub(crate) struct HostResolver {
    udp: UdpSocket,
    tcp: TcpListener,
    own: IpAddr,
    clients: Clients,
}

impl HostResolver {
    /// Binds one address for UDP and TCP.
    ///
    /// # Errors
    /// When it is not on the loopback and there are no clients, or when it is taken or not ours.
    pub(crate) async fn bind(address: SocketAddr, clients: Clients) -> Result<Self, BindError> {
        if clients.ranges.is_empty() && !address.ip().to_canonical().is_loopback() {
            return Err(BindError::NotLoopback { address });
        }
        let failed = |source| BindError::Bind { address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        // Where the kernel chooses the port, both get the same.
        let bound = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(bound).await.map_err(failed)?;
        Ok(Self { udp, tcp, own: address.ip(), clients })
    }

    /// The address, with its port.
    ///
    /// # Errors
    /// When the kernel does not say.
    #[cfg(test)]
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until shutdown, in tasks of `tasks`, from the present state of `zone`.
    pub(crate) fn serve(self, zone: watch::Receiver<Arc<Zone>>, tasks: &Tasks) {
        let Self { udp, tcp, own, clients } = self;
        serve::serve(udp, tcp, Arc::new(HostAnswers { zone, own, clients }), tasks);
    }
}

pub(super) struct HostAnswers {
    pub(super) zone: watch::Receiver<Arc<Zone>>,
    /// The address that is asked. Whoever has it too is the host itself.
    pub(super) own: IpAddr,
    pub(super) clients: Clients,
}

impl HostAnswers {
    fn is_known(&self, client: IpAddr) -> bool {
        self.clients.ranges.iter().any(|range| range.contains(&client))
    }

    /// Whom to ask for other names, for this client. The host itself has nameservers, which may well ask us.
    fn upstream(&self, client: IpAddr) -> Option<&Upstream> {
        let itself = client.is_loopback() || client == self.own;
        (self.is_known(client) && !itself).then_some(&self.clients.upstream)
    }
}

#[async_trait]
impl Answers for HostAnswers {
    fn bounds(&self) -> Bounds {
        // Clients are VMs, and one must not take the others' answers.
        Bounds { questions: 1024, connections: 64, parts: 16 }
    }

    fn hears(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.is_known(client)
    }

    async fn answer(&self, question: &Question, client: IpAddr) -> Message {
        let zone = Arc::clone(&self.zone.borrow());
        if let Some(reply) = from_zone(&zone, question) {
            return reply;
        }
        let Some(upstream) = self.upstream(client.to_canonical()) else {
            return question.fails(ResponseCode::Refused, Some(Extended::Prohibited));
        };
        if let Some(message) = of_a_special_range(question) {
            return message;
        }
        match ask(upstream, question, question.query.name()).await {
            Ok((mut reply, answer)) => {
                fill(&mut reply, answer);
                reply
            }
            Err(failed) => *failed,
        }
    }
}
