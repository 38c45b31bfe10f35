//! What daemon and keeper say to each other: one JSON value per line over a Unix socket, the TAP device's
//! descriptor beside one of them.
//!
//! The daemon asks, the keeper answers each question once. There can be several connections at a time.
//! Both ends run as one user; still each bounds what it reads.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::ranges::Prefix;
use super::way::Way;
use crate::egress::{DnsName, Policy};
use crate::wire::rpc::{Denials, NetExplanation};

/// The keeper's socket in the VM's folder.
pub(crate) const SOCKET: &str = "network.sock";

/// How long a keeper waits for a denial at most.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The longest line: the addresses of a host with thousands of them.
const MAX_LINE: usize = 512 * 1024;

/// How many address ranges of a host are told to a keeper: far more than hosts have, and their line
/// stays below [`MAX_LINE`].
pub(crate) const MAX_HOST_RANGES: usize = 4096;

/// A question of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Set up everything but the uplink. Answered with [`Reply::Done`] and the TAP's descriptor.
    SetUp {
        /// How it is connected.
        way: Way,
        /// The zone of VMs' names.
        zone: DnsName,
        /// The host's own addresses.
        host: Vec<Prefix>,
        /// What the VM may reach.
        policy: Policy,
    },
    /// Wait until the uplink is there, or set up this end of one that is. The daemon gives up, not the
    /// keeper. Where it is there already nothing changes.
    AwaitUplink,
    /// The VMs of the bridge that this one reaches, and that reach it, have changed.
    Peers {
        /// Their addresses, all of them.
        peers: Vec<IpAddr>,
    },
    /// The host's own addresses have changed.
    HostAddresses {
        /// All of them.
        host: Vec<Prefix>,
    },
    /// What the VM may reach has changed, or may have.
    Policy {
        /// All of it.
        policy: Policy,
    },
    /// Why may the VM reach something, or not? Answered with [`Reply::Explained`].
    Explain {
        /// What it is about.
        host: Host,
        /// The port, if the question is about one.
        port: Option<u16>,
    },
    /// What was the VM refused? Answered with [`Reply::Denied`].
    Denials {
        /// Only those after this number.
        after: u64,
        /// How many milliseconds to wait for one when there is none.
        wait_ms: u64,
    },
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Host {
    /// A name.
    Name(DnsName),
    /// An address.
    Address(IpAddr),
}

/// An answer of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// This is why.
    Explained(NetExplanation),
    /// This was refused.
    Denied(Denials),
    /// It could not be done.
    Failed {
        /// Why, outermost cause first.
        why: Vec<String>,
    },
}

/// One end of the connection.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    /// Bytes after the last line that was taken.
    received: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Channel {
    /// Speaks over `stream`.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), descriptor: None }
    }

    /// Sends a value, and a descriptor with it.
    ///
    /// # Errors
    /// When the other end is gone, or the value is too long.
    pub(crate) async fn send(
        &self,
        value: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        let numbers: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let with_first = rest.len() == line.len() && !numbers.is_empty();
            let control = [ControlMessage::ScmRights(&numbers)];
            let control = if with_first { &control[..] } else { &[] };
            let send = || {
                let data = [IoSlice::new(rest)];
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(sendmsg::<()>(self.stream.as_raw_fd(), &data, control, flags, None)?)
            };
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// The next value, or `None` at the end of the connection. Cancel-safe: what has been read of a
    /// value is kept.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not such a value.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.received.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
            }
            let mut buffer = [0; 16 * 1024];
            let read = || receive_once(&self.stream, &mut buffer);
            let (count, descriptor) = self.stream.async_io(Interest::READABLE, read).await?;
            if count == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(&buffer[..count]);
            self.descriptor = descriptor.or(self.descriptor.take());
        }
    }

    /// The descriptor that came with what was received.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }
}

#[expect(unsafe_code, reason = "descriptors out of a control message come as numbers")]
fn receive_once(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut data = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut data, Some(&mut control), flags)?;
    let mut descriptor = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (Channel::new(one), Channel::new(other))
    }

    #[tokio::test]
    async fn a_descriptor_travels_with_its_answer() {
        let (keeper, mut daemon) = pair();
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4711).expect("a length");
        keeper.send(&Reply::Done, Some(file.as_fd())).await.expect("sent");
        assert_eq!(daemon.receive().await.expect("received"), Some(Reply::Done));
        let got = std::fs::File::from(daemon.take_descriptor().expect("a descriptor"));
        assert_eq!(got.metadata().expect("metadata").len(), 4711);
        assert!(daemon.take_descriptor().is_none());
    }

    #[tokio::test]
    async fn the_most_addresses_fit_a_line() {
        let (daemon, mut keeper) = pair();
        let longest = Prefix::around(Ipv4Addr::new(255, 255, 255, 255), 32);
        let request = Request::HostAddresses { host: vec![longest; MAX_HOST_RANGES] };
        let (sent, received) = tokio::join!(daemon.send(&request, None), keeper.receive());
        sent.expect("sent");
        assert_eq!(received.expect("received"), Some(request));
    }

    #[tokio::test]
    async fn what_never_ends_and_what_is_no_message_is_refused() {
        let (daemon, mut keeper) = pair();
        daemon.send(&serde_json::json!({"ask": "explode"}), None).await.expect("sent");
        assert!(keeper.receive::<Request>().await.is_err());
        let flood = async {
            let junk = [b'x'; 4096];
            loop {
                daemon.stream.writable().await?;
                match daemon.stream.try_write(&junk) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        return Err::<(), _>(error);
                    }
                    _ => {}
                }
            }
        };
        tokio::select! {
            flooded = flood => panic!("{flooded:?}"),
            received = keeper.receive::<Request>() => assert!(received.is_err()),
        }
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_no_error() {
        let (daemon, mut keeper) = pair();
        drop(daemon);
        assert_eq!(keeper.receive::<Request>().await.expect("an end"), None);
    }
}
