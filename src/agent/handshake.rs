//! The agent's side of the mutual proof.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{AgentHello, HostHello, HostProof, Reply, Request, VERSION};
use crate::wire::proof::{BootKey, Role, nonce};

/// How long a peer may take to prove itself and to ask: the host needs milliseconds, and under
/// emulation a few hundred.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a peer without the key is told.
const NOT_PROVEN: &str = "the peer does not hold the key of this boot";

/// Proves both sides to each other and returns the request.
///
/// # Errors
/// When the peer is slow, speaks another version or does not hold the key.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Framed<S, FrameCodec>,
    key: &BootKey,
) -> io::Result<Request> {
    tokio::time::timeout(DEADLINE, exchange(frames, key)).await?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Framed<S, FrameCodec>,
    key: &BootKey,
) -> io::Result<Request> {
    let host: HostHello = next(frames).await?.message()?;
    let own = nonce();
    let hello = AgentHello {
        version: VERSION,
        proof: key.prove(Role::Agent, &host.nonce, &own),
        nonce: own.clone(),
    };
    frames.send(Frame::control(&hello)?).await?;
    let proof: HostProof = next(frames).await?.message()?;
    if !key.verify(Role::Host, &host.nonce, &own, &proof.proof) {
        let reply =
            Reply::Failed { step: "prove the host".to_owned(), message: NOT_PROVEN.to_owned() };
        frames.send(Frame::control(&reply)?).await?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_PROVEN));
    }
    next(frames).await?.message()
}

/// The next frame, which must come.
///
/// # Errors
/// When the connection ends or a frame is malformed.
pub async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    frames: &mut Framed<S, FrameCodec>,
) -> io::Result<Frame> {
    frames.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
}
