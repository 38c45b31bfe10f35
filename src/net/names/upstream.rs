//! Questions to the nameservers behind us: each with a socket and an id of its own, so that answering in
//! their place takes guessing both; but where nobody else can answer, sockets are used again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::UDP_LIMIT;

/// Where nameservers listen.
const DNS: u16 = 53;

/// How many sockets are kept for other questions: as many as are asked at a time.
const MAX_IDLE: usize = 64;

/// How often a question is asked. With more nameservers, each time another one.
const TRIES: usize = 2;

/// How long one try may take, both transports together: 5 s in all, as long as guests wait.
const TRY_DEADLINE: Duration = Duration::from_millis(2500);

/// The longest answer that is read. A record takes many times its bytes in memory, and a guest may own
/// the servers that answer it.
const MAX_ANSWER: usize = 16 << 10;

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("there is no nameserver to ask")]
    NoServer,
    #[error("the nameserver did not answer in time")]
    Deadline,
    #[error("cannot reach the nameserver")]
    Unreachable(#[source] io::Error),
    #[error("the nameserver's answer cannot be read")]
    Unreadable,
    #[error("the nameserver answered with {length} bytes, more than {MAX_ANSWER}")]
    TooLong { length: usize },
}

/// Where a host says which nameservers it has (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The nameservers behind us.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    servers: Servers,
    /// None: each socket is used once.
    idle: Option<Idle>,
}

/// Sockets that were used and are idle, with whom they are connected to.
type Idle = Arc<Mutex<Vec<(SocketAddr, UdpSocket)>>>;

#[derive(Debug, Clone)]
enum Servers {
    These(Vec<SocketAddr>),
    OfTheHost,
}

impl Upstream {
    /// Nameservers in the order in which they are asked, each time from another port. None: every question
    /// fails.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers: Servers::These(servers), idle: None }
    }

    /// Nameservers over a link on which nobody else can answer, in the order in which they are asked. pasta
    /// keeps a port and a descriptor for every port that it has heard from, for minutes, and comes to an end of
    /// both: so there are few.
    #[must_use]
    pub(crate) fn on_a_link(servers: Vec<SocketAddr>) -> Self {
        Self { servers: Servers::These(servers), idle: Some(Arc::default()) }
    }

    /// Those of the host, as they are at each question: a host that moves has others.
    #[must_use]
    pub(crate) fn of_the_host() -> Self {
        Self { servers: Servers::OfTheHost, idle: None }
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        match &self.servers {
            Servers::These(servers) => servers.clone(),
            Servers::OfTheHost => {
                let text = tokio::fs::read(RESOLV_CONF).await;
                text.map(|text| nameservers(&text)).unwrap_or_default()
            }
        }
    }

    /// Asks. The answer is to this question, and `NoError` or `NXDomain` unless no server had that.
    ///
    /// # Errors
    /// When no server answered.
    pub(super) async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, UpstreamError> {
        let query = Query::query(name.clone(), kind);
        let mut last = Err(UpstreamError::NoServer);
        for server in self.servers().await.into_iter().cycle().take(TRIES) {
            last = match timeout(TRY_DEADLINE, self.ask_one(server, &query)).await {
                Ok(answer) => answer,
                Err(_) => Err(UpstreamError::Deadline),
            };
            let good = [ResponseCode::NoError, ResponseCode::NXDomain];
            if last.as_ref().is_ok_and(|answer| good.contains(&answer.metadata.response_code)) {
                break;
            }
        }
        last
    }

    /// One try: by UDP, and by TCP when that was cut. Where TCP fails, the cut answer is the answer, and says
    /// that it is cut: some uplinks carry no DNS over TCP.
    async fn ask_one(&self, server: SocketAddr, query: &Query) -> Result<Message, UpstreamError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_LIMIT);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(|_| UpstreamError::Unreadable)?;
        let cut = self.by_udp(server, &message, &bytes).await;
        let cut = cut.map_err(UpstreamError::Unreachable)?;
        if !cut.metadata.truncation {
            return Ok(cut);
        }
        match timeout(TRY_DEADLINE / 2, by_tcp(server, &message, &bytes)).await {
            Ok(Ok(whole)) => Ok(whole),
            Ok(Err(error)) => {
                tracing::debug!(%error, "an answer stays cut");
                Ok(cut)
            }
            Err(_) => Ok(cut),
        }
    }

    /// Waits for the answer to this question; whatever else arrives is none of ours. Ends by its caller's
    /// deadline, and then its socket is not used again.
    async fn by_udp(
        &self,
        server: SocketAddr,
        asked: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        let socket = match self.take(server) {
            Some(socket) => socket,
            None => connected(server).await?,
        };
        socket.send(bytes).await?;
        let mut buffer = [0; UDP_LIMIT as usize];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = answer_to(asked, &buffer[..length]) {
                self.give_back(server, socket);
                return Ok(answer);
            }
        }
    }

    /// An idle socket, if there is one.
    fn take(&self, server: SocketAddr) -> Option<UdpSocket> {
        let mut idle = self.idle.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(connected, _)| *connected == server)?;
        Some(idle.swap_remove(at).1)
    }

    fn give_back(&self, server: SocketAddr, socket: UdpSocket) {
        if let Some(idle) = &self.idle {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push((server, socket));
            }
        }
    }
}

/// A socket that hears nobody but `server`.
async fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// The nameservers in a `resolv.conf`. Those that need an interface to be reached by are left out.
fn nameservers(text: &[u8]) -> Vec<SocketAddr> {
    let Ok(read) = resolv_conf::Config::parse(text) else { return Vec::new() };
    let unscoped = read.nameservers.iter().filter_map(|server| match server {
        resolv_conf::ScopedIp::V4(address) => Some(IpAddr::V4(*address)),
        resolv_conf::ScopedIp::V6(address, None) => Some(IpAddr::V6(*address)),
        resolv_conf::ScopedIp::V6(_, Some(_)) => None,
    });
    unscoped.map(|address| SocketAddr::new(address, DNS)).collect()
}

async fn by_tcp(
    server: SocketAddr,
    asked: &Message,
    bytes: &[u8],
) -> Result<Message, UpstreamError> {
    let mut stream = TcpStream::connect(server).await.map_err(UpstreamError::Unreachable)?;
    let length = u16::try_from(bytes.len()).map_err(|_| UpstreamError::Unreadable)?;
    let whole = [&length.to_be_bytes()[..], bytes].concat();
    stream.write_all(&whole).await.map_err(UpstreamError::Unreachable)?;
    let length = stream.read_u16().await.map_err(UpstreamError::Unreachable)?;
    let length = usize::from(length);
    if length > MAX_ANSWER {
        return Err(UpstreamError::TooLong { length });
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.map_err(UpstreamError::Unreachable)?;
    answer_to(asked, &answer).ok_or(UpstreamError::Unreadable)
}

/// The message in `bytes`, if it answers what was asked.
fn answer_to(asked: &Message, bytes: &[u8]) -> Option<Message> {
    let id = bytes.first_chunk::<2>()?;
    if u16::from_be_bytes(*id) != asked.metadata.id {
        return None;
    }
    let answer = Message::from_vec(bytes).ok()?;
    let ours = answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query
        && answer.queries == asked.queries;
    ours.then_some(answer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_hosts_nameservers_are_read() {
        let text = "# of somebody\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n\
                    nameserver fe80::1%eth0\noptions edns0 trust-ad\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().expect("one"));
        assert_eq!(nameservers(text.as_bytes()), expected);
        assert_eq!(nameservers(b""), []);
        assert_eq!(nameservers(b"nameserver somewhere\n"), []);
    }

    /// From how many ports four questions in a row come.
    async fn ports(upstream: impl Fn(SocketAddr) -> Upstream) -> usize {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let upstream = upstream(server.local_addr().expect("bound"));
        let name = Name::from_ascii("a.example.").expect("a name");
        let ask = async {
            for _ in 0..4 {
                upstream.ask(&name, RecordType::A).await.expect("answered");
            }
        };
        let answer = async {
            let mut ports = BTreeSet::new();
            for _ in 0..4 {
                let mut bytes = [0; 512];
                let (length, client) = server.recv_from(&mut bytes).await.expect("a question");
                ports.insert(client.port());
                let mut message = Message::from_vec(&bytes[..length]).expect("a message");
                message.metadata.message_type = MessageType::Response;
                let bytes = message.to_vec().expect("bytes");
                server.send_to(&bytes, client).await.expect("sent");
            }
            ports.len()
        };
        tokio::join!(ask, answer).1
    }

    #[tokio::test]
    async fn sockets_are_used_again_on_a_link_only() {
        assert_eq!(ports(|server| Upstream::on_a_link(vec![server])).await, 1);
        assert_eq!(ports(|server| Upstream::new(vec![server])).await, 4);
    }
}
