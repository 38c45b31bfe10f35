//! The resolver that the host asks for the names of VMs. Never an open one: by itself it answers the
//! loopback only, and only about our zone. Clients of a bridge are served when their ranges are given;
//! for them other names are asked upstream. Whoever is neither gets no answer at all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::message::{Extended, Question};
use super::reply::{ask, fill, from_zone};
use super::serve::{self, Answers};
use super::{Upstream, Zone};
use crate::task::Tasks;

/// Who is answered besides the loopback.
#[derive(Debug, Clone)]
pub(crate) enum Clients {
    /// Nobody.
    Loopback,
    /// Clients with addresses in `ranges`, which are not empty; other names than ours are asked of
    /// `upstream` for them.
    Ranges {
        /// Their ranges.
        ranges: Vec<IpNet>,
        /// The host's nameservers. Never this resolver itself: its questions would have no end.
        upstream: Upstream,
    },
}

/// Why the resolver cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
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

/// A resolver that has its sockets.
#[derive(Debug)]
pub(crate) struct HostResolver {
    udp: UdpSocket,
    tcp: TcpListener,
    clients: Clients,
}

impl HostResolver {
    /// Binds one address for UDP and TCP.
    ///
    /// # Errors
    /// When it is not on the loopback and there are no clients, or when it is taken or not ours.
    pub(crate) async fn bind(address: SocketAddr, clients: Clients) -> Result<Self, BindError> {
        let given = match &clients {
            Clients::Loopback => false,
            Clients::Ranges { ranges, .. } => !ranges.is_empty(),
        };
        if !given && !address.ip().to_canonical().is_loopback() {
            return Err(BindError::NotLoopback { address });
        }
        let failed = |source| BindError::Bind { address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        // Where the kernel chooses the port, both get the same.
        let bound = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(bound).await.map_err(failed)?;
        Ok(Self { udp, tcp, clients })
    }

    /// The address, with its port.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until shutdown, in tasks of `tasks`, from the present state of `zone`.
    pub(crate) fn serve(self, zone: watch::Receiver<Arc<Zone>>, tasks: &Tasks) {
        let Self { udp, tcp, clients } = self;
        serve::serve(udp, tcp, Arc::new(HostAnswers { zone, clients }), tasks);
    }
}

pub(super) struct HostAnswers {
    pub(super) zone: watch::Receiver<Arc<Zone>>,
    pub(super) clients: Clients,
}

impl HostAnswers {
    /// Whom to ask for other names, for this client.
    fn upstream(&self, client: IpAddr) -> Option<&Upstream> {
        match &self.clients {
            Clients::Ranges { ranges, upstream } => {
                let client = client.to_canonical();
                ranges.iter().any(|range| range.contains(&client)).then_some(upstream)
            }
            Clients::Loopback => None,
        }
    }
}

#[async_trait]
impl Answers for HostAnswers {
    fn hears(&self, client: IpAddr) -> bool {
        client.to_canonical().is_loopback() || self.upstream(client).is_some()
    }

    async fn answer(&self, question: &Question, client: IpAddr) -> Message {
        let zone = Arc::clone(&self.zone.borrow());
        if let Some(reply) = from_zone(&zone, question) {
            return reply;
        }
        // The loopback is the host itself: it has nameservers, which may well ask us.
        let upstream = self.upstream(client).filter(|_| !client.to_canonical().is_loopback());
        let Some(upstream) = upstream else {
            return question.fails(ResponseCode::Refused, Some(Extended::Prohibited));
        };
        match ask(upstream, question, question.query.name()).await {
            Ok((mut reply, answer)) => {
                fill(&mut reply, answer);
                reply
            }
            Err(failed) => *failed,
        }
    }
}
