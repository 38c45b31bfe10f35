//! The sockets: questions by UDP and TCP, bounded in number, size and time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::message::{self, Heard};
use super::shares::Shares;
use crate::task::Tasks;

/// The longest question that is read. One name and options take far less.
const MAX_QUESTION: usize = 4096;

/// How long a question may take: what upstream takes, and the firewall.
const QUESTION_DEADLINE: Duration = Duration::from_secs(8);

/// How long a connection may be silent, and one message may take on its way.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(10);

/// After a failure of the socket itself, how long to leave it alone.
const PAUSE: Duration = Duration::from_millis(100);

/// How much is served at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Questions that are being answered. Each holds at most one answer from far away.
    pub(super) questions: usize,
    /// Connections. Further ones wait in the kernel.
    pub(super) connections: usize,
    /// The part of either that one client may have: one of so many.
    pub(super) parts: usize,
}

/// Who answers.
#[async_trait]
pub(super) trait Answers: Send + Sync + 'static {
    /// How much of it.
    fn bounds(&self) -> Bounds;

    /// Whether this client is heard at all.
    fn hears(&self, client: IpAddr) -> bool;

    /// Answers a question. Dropped when it takes too long.
    async fn answer(&self, question: &message::Question, client: IpAddr) -> Message;
}

/// Serves both sockets until shutdown.
pub(super) fn serve(udp: UdpSocket, tcp: TcpListener, answers: Arc<dyn Answers>, tasks: &Tasks) {
    let bounds = answers.bounds();
    let questions = Arc::new(Semaphore::new(bounds.questions));
    let server = Server { answers, bounds, questions, shares: Shares::default() };
    let (other, inner) = (server.clone(), tasks.clone());
    drop(tasks.spawn_until_shutdown("names-udp", async move { other.udp(udp, inner).await }));
    let inner = tasks.clone();
    drop(tasks.spawn_until_shutdown("names-tcp", async move { server.tcp(tcp, inner).await }));
}

#[derive(Clone)]
struct Server {
    answers: Arc<dyn Answers>,
    bounds: Bounds,
    questions: Arc<Semaphore>,
    /// Of the questions by UDP.
    shares: Shares,
}

impl Server {
    async fn udp(self, socket: UdpSocket, tasks: Tasks) {
        let socket = Arc::new(socket);
        let mut buffer = [0; MAX_QUESTION];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            if !self.answers.hears(client.ip()) {
                continue;
            }
            // Too many at once are lost, as a network may lose them: whoever asks, asks again.
            let most = self.bounds.questions / self.bounds.parts;
            let Some(share) = self.shares.take(client.ip(), most) else {
                continue;
            };
            let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
                continue;
            };
            let bytes = buffer[..length].to_vec();
            let (server, socket) = (self.clone(), Arc::clone(&socket));
            drop(tasks.spawn_until_shutdown("names-question", async move {
                if let Some(answer) = server.answer(&bytes, client, Transport::Udp).await
                    && let Err(error) = socket.send_to(&answer, client).await
                {
                    tracing::debug!(%error, "an answer was not sent");
                }
                drop((permit, share));
            }));
        }
    }

    async fn tcp(self, listener: TcpListener, tasks: Tasks) {
        let connections = Arc::new(Semaphore::new(self.bounds.connections));
        let (shares, most) = (Shares::default(), self.bounds.connections / self.bounds.parts);
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let permit = permit.expect("nobody closes it");
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            if !self.answers.hears(client.ip()) {
                continue;
            }
            let Some(share) = shares.take(client.ip(), most) else {
                continue;
            };
            let server = self.clone();
            drop(tasks.spawn_until_shutdown("names-connection", async move {
                if let Err(error) = server.connection(stream, client).await {
                    tracing::debug!(%error, "a connection for names broke off");
                }
                drop((permit, share));
            }));
        }
    }

    /// Questions of one connection, one after the other, until it is silent.
    async fn connection(&self, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        loop {
            let Some(bytes) = timeout(MESSAGE_DEADLINE, read(&mut stream)).await?? else {
                return Ok(());
            };
            let permit = self.questions.acquire().await.expect("nobody closes it");
            let Some(answer) = self.answer(&bytes, client, Transport::Tcp).await else {
                return Ok(());
            };
            drop(permit);
            let length = u16::try_from(answer.len()).expect("an answer has a limit");
            let whole = [&length.to_be_bytes()[..], &answer].concat();
            timeout(MESSAGE_DEADLINE, stream.write_all(&whole)).await??;
        }
    }

    async fn answer(
        &self,
        bytes: &[u8],
        client: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let (question, message) = match message::hear(bytes) {
            Heard::Nothing => return None,
            Heard::Wrong(message) => return message::bytes(*message, message::UDP_LIMIT),
            Heard::Question(question) => {
                let answer = self.answers.answer(&question, client.ip());
                let answer = timeout(QUESTION_DEADLINE, answer).await;
                (question, answer)
            }
        };
        let failed = || question.reply(ResponseCode::ServFail);
        let message = message.unwrap_or_else(|_| failed());
        let limit = match transport {
            Transport::Udp => question.udp_limit(),
            Transport::Tcp => u16::MAX,
        };
        message::bytes(message, limit).or_else(|| message::bytes(failed(), limit))
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

/// One message with its length before it; `None` at the end, or when it is longer than a question is.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_QUESTION {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the socket for names failed");
    sleep(PAUSE).await;
}
