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
    Messages, Request, failure, identities, is_signature, is_success, messages, read_identities,
    which_keys,
};
use super::record::{Outcome, Record};

/// How long an agent may take for an answer: a person may have to confirm it, or to touch a token.
const ANSWER: Duration = Duration::from_secs(120);

/// How long one that reads no answers is waited for.
const TAKEN: Duration = Duration::from_secs(10);

/// A connection to the user's agent.
pub(super) struct Agent(Messages);

impl Agent {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let connected = tokio::time::timeout(TAKEN, UnixStream::connect(socket)).await?;
        Ok(Self(messages(connected?)))
    }

    /// The keys that it has.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn keys(&mut self) -> io::Result<Vec<Key>> {
        let answer = self.ask(which_keys()).await?;
        read_identities(&answer).map_err(io::Error::other)
    }

    async fn ask(&mut self, question: Bytes) -> io::Result<BytesMut> {
        tokio::time::timeout(TAKEN, self.0.send(question)).await??;
        let answer = tokio::time::timeout(ANSWER, self.0.next()).await?;
        answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?
    }
}

/// What stands between the two.
pub(super) struct Filter<'a> {
    agent: Agent,
    keys: &'a [Key],
    record: &'a Record,
    /// The fingerprint of the host key of the server that signatures are for, where that was said.
    server: Option<String>,
}

impl<'a> Filter<'a> {
    /// Lets these keys of an agent through.
    pub(super) fn new(agent: Agent, keys: &'a [Key], record: &'a Record) -> Self {
        Self { agent, keys, record, server: None }
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
            Request::Sign { key } => self.sign(&key, message).await,
            Request::Bind { server, carrier } => {
                let answer = self.agent.ask(message).await?;
                // The first such server is the guest's own, which carries what others ask for.
                if is_success(&answer) && !carrier {
                    self.server = Some(fingerprint(&server));
                }
                Ok(answer.freeze())
            }
            Request::Other => Ok(failure()),
        }
    }

    async fn sign(&mut self, key: &[u8], message: Bytes) -> io::Result<Bytes> {
        let server = self.server.as_deref();
        let Some(named) = self.keys.iter().find(|known| known.blob == key) else {
            self.record.write(Outcome::Refused, key, None, server).await?;
            return Ok(failure());
        };
        let answer = self.agent.ask(message).await;
        let signed = answer.as_ref().is_ok_and(|answer| is_signature(answer));
        let outcome = if signed { Outcome::Signed } else { Outcome::Declined };
        self.record.write(outcome, key, Some(named), server).await?;
        Ok(if signed { answer?.freeze() } else { failure() })
    }
}
