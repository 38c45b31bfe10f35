//! One connection of a guest to the user's agent, of which little gets through.
//!
//! | asked for | answered |
//! |---|---|
//! | which keys | those that were named |
//! | a signature with one of those | by the user's agent, once it is written down |
//! | a signature with another | with a failure, once that is written down |
//! | `session-bind` | by the user's agent, which checks it; it says for whom signatures are |
//! | anything else | with a failure |

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::UnixStream;

use crate::keys::fingerprint;

use super::keys::Key;
use super::messages::{
    Messages, Request, failure, identities, is_for, is_signature, is_success, messages,
    read_identities, which_keys,
};
use super::record::{Outcome, Record};

/// How long an agent may take for an answer: a person may have to confirm it, or to touch a token.
const ANSWER: Duration = Duration::from_secs(120);

/// How long one that reads no answers is waited for.
const TAKEN: Duration = Duration::from_secs(10);

/// A connection to the user's agent; none any more once it has left a question without an answer.
pub(super) struct Agent(Option<Messages>);

impl Agent {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let connected = tokio::time::timeout(TAKEN, UnixStream::connect(socket)).await?;
        Ok(Self(Some(messages(connected?))))
    }

    /// The keys that it has.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn keys(&mut self) -> io::Result<Vec<Key>> {
        let answer = self.ask(which_keys()).await?;
        read_identities(&answer).map_err(io::Error::other)
    }

    /// One, and the agent that it is a connection to.
    #[cfg(test)]
    pub(super) fn pair() -> io::Result<(Self, Messages)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self(Some(messages(one))), messages(other)))
    }

    async fn ask(&mut self, question: Bytes) -> io::Result<BytesMut> {
        // An answer that comes too late must not be taken for that to another question.
        let mut agent = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        tokio::time::timeout(TAKEN, agent.send(question)).await??;
        let answer = tokio::time::timeout(ANSWER, agent.next()).await?;
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
        self.0 = Some(agent);
        Ok(answer)
    }
}

/// What stands between the two.
pub(super) struct Filter<'a> {
    agent: Agent,
    keys: &'a [Key],
    record: &'a Record,
    /// The session for which signatures are, where that was said.
    session: Option<Session>,
}

/// A session of ssh that the guest has begun.
struct Session {
    id: Vec<u8>,
    /// The fingerprint of its server's host key.
    server: String,
}

impl<'a> Filter<'a> {
    /// Lets these keys of an agent through.
    pub(super) fn new(agent: Agent, keys: &'a [Key], record: &'a Record) -> Self {
        Self { agent, keys, record, session: None }
    }

    /// Answers what is asked on a connection, until it ends.
    ///
    /// # Errors
    /// When it breaks off, or what comes is no message.
    pub(super) async fn serve(mut self, connection: UnixStream) -> io::Result<()> {
        let mut client = messages(connection);
        while let Some(message) = client.next().await {
            // Whoever asks learns no more than that it was not done; the user is told why where it matters.
            let answer = self.answer(message?.freeze()).await.unwrap_or_else(|_| failure());
            tokio::time::timeout(TAKEN, client.send(answer)).await??;
        }
        Ok(())
    }

    async fn answer(&mut self, message: Bytes) -> io::Result<Bytes> {
        match Request::read(&message).map_err(io::Error::other)? {
            Request::Identities => identities(self.keys).map_err(io::Error::other),
            Request::Sign { key, data } => self.sign(&key, &data, message).await,
            Request::Bind { server, session: id, carrier } => {
                let answer = self.agent.ask(message).await?;
                if !is_success(&answer) {
                    return Ok(failure());
                }
                // The first such server is the guest's own, which carries what others ask for.
                if !carrier {
                    self.session = Some(Session { id, server: fingerprint(&server) });
                }
                Ok(answer.freeze())
            }
            Request::Other => Ok(failure()),
        }
    }

    async fn sign(&mut self, key: &[u8], data: &[u8], message: Bytes) -> io::Result<Bytes> {
        // A guest may say one server and have something signed for another.
        let session = self.session.as_ref().filter(|session| is_for(data, &session.id));
        let server = session.map(|session| session.server.as_str());
        let place = self.record.take_place()?;
        let Some(named) = self.keys.iter().find(|known| known.blob == key) else {
            self.record.write(place, Outcome::Refused, key, None, server).await?;
            return Ok(failure());
        };
        let answer = self.agent.ask(message).await;
        let signed = answer.as_ref().is_ok_and(|answer| is_signature(answer));
        let outcome = if signed { Outcome::Signed } else { Outcome::Declined };
        self.record.write(place, outcome, key, Some(named), server).await?;
        Ok(if signed { answer?.freeze() } else { failure() })
    }
}
