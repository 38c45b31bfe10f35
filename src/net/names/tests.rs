//! Real sockets on loopback: the resolver between a scripted nameserver and a client.

mod forwarded;
mod host;
mod hostile;
mod local;
mod measure;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use super::guest::{self, Families, GuestResolver, VmNames};
use super::{Judge, NotOpened, Refused, Upstream, Zone};
use crate::egress::{DnsName, special_range};
use crate::task::Tasks;

/// What a scripted nameserver does with a question: changes its empty answer.
type Script = dyn Fn(&Query, Transport, &mut Message) + Send + Sync;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// A nameserver that does as scripted, by UDP and TCP on one port.
struct Nameserver {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Nameserver {
    async fn start(tasks: &Tasks, script: Arc<Script>) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script_tcp, asked_udp) = (Arc::clone(&script), Arc::clone(&asked));
        drop(tasks.spawn_until_shutdown("nameserver", async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.expect("a question");
                let message = Message::from_vec(&buffer[..length]).expect("a message");
                let query = message.queries[0].clone();
                let text = query.name().to_ascii();
                asked_udp.lock().expect("sound").push((text, query.query_type()));
                let mut answer = message.into_response();
                script(&query, Transport::Udp, &mut answer);
                let bytes = answer.to_vec().expect("an answer");
                udp.send_to(&bytes, client).await.expect("sent");
            }
        }));
        drop(tasks.spawn_until_shutdown("nameserver", async move {
            loop {
                let (mut stream, _) = tcp.accept().await.expect("a connection");
                let message = receive(&mut stream).await.expect("a question");
                let query = message.queries[0].clone();
                let mut answer = message.into_response();
                script_tcp(&query, Transport::Tcp, &mut answer);
                send(&mut stream, &answer.to_vec().expect("an answer")).await;
            }
        }));
        Self { address, asked }
    }

    fn asked(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().expect("sound").clone()
    }
}

/// A judge that refuses some names and all addresses that are not public.
#[derive(Default)]
struct TestJudge {
    refused: HashSet<String>,
    broken: bool,
    told: Mutex<Vec<(String, Vec<IpAddr>, u64)>>,
}

#[async_trait]
impl Judge for TestJudge {
    fn may_resolve(&self, name: &DnsName) -> Result<(), Refused> {
        if self.refused.contains(name.as_str()) { Err(Refused) } else { Ok(()) }
    }

    async fn answered(
        &self,
        name: &DnsName,
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<Vec<IpAddr>, NotOpened> {
        if self.broken {
            return Err(NotOpened);
        }
        let told = (name.to_string(), addresses.to_vec(), ttl.as_secs());
        self.told.lock().expect("sound").push(told);
        let public = addresses.iter().filter(|address| special_range(**address).is_none());
        Ok(public.copied().collect())
    }
}

/// A guest's resolver with all around it.
struct House {
    tasks: Tasks,
    address: SocketAddr,
    nameserver: Nameserver,
    judge: Arc<TestJudge>,
    zone: watch::Sender<Arc<Zone>>,
}

impl House {
    async fn new(script: impl Fn(&Query, Transport, &mut Message) + Send + Sync + 'static) -> Self {
        Self::with(TestJudge::default(), Families::Ipv4, script).await
    }

    async fn with(
        judge: TestJudge,
        families: Families,
        script: impl Fn(&Query, Transport, &mut Message) + Send + Sync + 'static,
    ) -> Self {
        let tasks = Tasks::default();
        let nameserver = Nameserver::start(&tasks, Arc::new(script)).await;
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().expect("bound");
        let (zone, seen) = watch::channel(Arc::new(test_zone()));
        let judge = Arc::new(judge);
        let resolver = GuestResolver {
            zone: VmNames::Here(seen),
            upstream: Upstream::new(vec![nameserver.address]),
            judge: Arc::clone(&judge) as Arc<dyn Judge>,
            families,
        };
        guest::serve(udp, tcp, resolver, &tasks);
        Self { tasks, address, nameserver, judge, zone }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        by_udp(self.address, &question(name, kind, Some(1232))).await
    }
}

fn test_zone() -> Zone {
    let mut zone = Zone::new("cove.internal".parse().expect("a name"), 7);
    let addresses = vec![[10, 9, 0, 2].into(), "fd00::2".parse().expect("an address")];
    zone.add(&"web".parse().expect("a name"), addresses).expect("a name");
    zone
}

async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        // The same port may be taken for UDP: then another one.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("bound")).await {
            return (udp, tcp);
        }
    }
}

/// A name of any bytes: characters up to `ÿ` stand for one, and `/` for a dot inside a label.
fn name(text: &str) -> Name {
    let byte = |c: char| if c == '/' { b'.' } else { u8::try_from(c).expect("one byte") };
    let labels = text.split('.').filter(|label| !label.is_empty());
    let labels = labels.map(|label| label.chars().map(byte).collect::<Vec<_>>());
    Name::from_labels(labels.collect::<Vec<_>>().iter().map(Vec::as_slice)).expect("a name")
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn address(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    record(owner, ttl, RData::from(Ipv4Addr::from(address)))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(target))))
}

fn question(text: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}

async fn by_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let bytes = message.to_vec().expect("a message");
    socket.send_to(&bytes, server).await.expect("sent");
    let mut buffer = [0; 65535];
    let length = socket.recv(&mut buffer).await.expect("an answer");
    let answer = Message::from_vec(&buffer[..length]).expect("a message");
    assert_eq!(answer.metadata.id, message.metadata.id);
    answer
}

async fn by_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("connected");
    send(&mut stream, &message.to_vec().expect("a message")).await;
    receive(&mut stream).await.expect("an answer")
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("fits").to_be_bytes();
    stream.write_all(&[&length[..], bytes].concat()).await.expect("sent");
}

async fn receive(stream: &mut TcpStream) -> Option<Message> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Message::from_vec(&bytes).ok()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

fn addresses(message: &Message) -> Vec<String> {
    let found = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        RData::AAAA(address) => Some(address.to_string()),
        _ => None,
    });
    found.collect()
}
