//! Frames: how messages and bytes share one connection, to the guest agent and on the daemon's byte
//! streams alike.
//!
//! A frame is a big-endian 32-bit length, one byte of kind, and the payload; the length counts the
//! kind and the payload. The codec refuses frames of more than [`MAX_PAYLOAD`] bytes, so neither side
//! can make the other allocate without bound.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

/// The longest payload of a frame in bytes: room for bulk data without many wake-ups under emulation
/// (small buffers moved 19 MB/s), little enough to be held a few times per connection.
pub const MAX_PAYLOAD: usize = 512 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message in JSON.
    Control(Bytes),
    /// Bytes for the program's standard input.
    Stdin(Bytes),
    /// The end of standard input.
    StdinEnd,
    /// Bytes of the program's standard output.
    Stdout(Bytes),
    /// Bytes of the program's standard error.
    Stderr(Bytes),
    /// Bytes of a content or a tar stream.
    Data(Bytes),
    /// The end of a content or a tar stream.
    DataEnd,
}

impl Frame {
    /// A control frame.
    ///
    /// # Errors
    /// When the message cannot be written as JSON or is longer than [`MAX_PAYLOAD`].
    pub fn control(message: &impl Serialize) -> io::Result<Self> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_PAYLOAD {
            return Err(invalid(format!("a message of {} bytes is too long", text.len())));
        }
        Ok(Self::Control(text.into()))
    }

    /// The message in a control frame.
    ///
    /// # Errors
    /// When this is another frame, or the message is not a `T`.
    pub fn message<T: DeserializeOwned>(&self) -> io::Result<T> {
        match self {
            Self::Control(text) => Ok(serde_json::from_slice(text)?),
            other => Err(invalid(format!("a message was due, not a {} frame", other.name()))),
        }
    }

    /// The frame's kind, for error messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Control(_) => "control",
            Self::Stdin(_) => "stdin",
            Self::StdinEnd => "stdin-end",
            Self::Stdout(_) => "stdout",
            Self::Stderr(_) => "stderr",
            Self::Data(_) => "data",
            Self::DataEnd => "data-end",
        }
    }

    fn parts(self) -> (u8, Bytes) {
        match self {
            Self::Control(bytes) => (0, bytes),
            Self::Stdin(bytes) => (1, bytes),
            Self::StdinEnd => (2, Bytes::new()),
            Self::Stdout(bytes) => (3, bytes),
            Self::Stderr(bytes) => (4, bytes),
            Self::Data(bytes) => (5, bytes),
            Self::DataEnd => (6, Bytes::new()),
        }
    }
}

/// The codec for `tokio_util::codec::Framed`.
#[derive(Debug)]
pub struct FrameCodec(LengthDelimitedCodec);

impl Default for FrameCodec {
    fn default() -> Self {
        Self(LengthDelimitedCodec::builder().max_frame_length(MAX_PAYLOAD + 1).new_codec())
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> io::Result<()> {
        let (kind, payload) = frame.parts();
        // Written by hand, because the length-delimited encoder would need kind and payload in one
        // piece: a copy of every byte that goes through a guest.
        let length = u32::try_from(payload.len() + 1).map_err(io::Error::other)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(invalid(format!("a frame of {length} bytes is too long")));
        }
        buffer.reserve(payload.len() + 5);
        buffer.put_u32(length);
        buffer.put_u8(kind);
        buffer.put(payload);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some(body) = self.0.decode(buffer)? else {
            return Ok(None);
        };
        let mut body = body.freeze();
        if body.is_empty() {
            return Err(invalid("a frame without a kind".to_owned()));
        }
        let kind = body.split_to(1)[0];
        match (kind, body.is_empty()) {
            (0, _) => Ok(Some(Frame::Control(body))),
            (1, _) => Ok(Some(Frame::Stdin(body))),
            (2, true) => Ok(Some(Frame::StdinEnd)),
            (3, _) => Ok(Some(Frame::Stdout(body))),
            (4, _) => Ok(Some(Frame::Stderr(body))),
            (5, _) => Ok(Some(Frame::Data(body))),
            (6, true) => Ok(Some(Frame::DataEnd)),
            (kind, _) => Err(invalid(format!("a frame of unknown kind {kind}"))),
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let payload = proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Bytes::from);
        (0_u8..7, payload).prop_map(|(kind, bytes)| match kind {
            0 => Frame::Control(bytes),
            1 => Frame::Stdin(bytes),
            2 => Frame::StdinEnd,
            3 => Frame::Stdout(bytes),
            4 => Frame::Stderr(bytes),
            5 => Frame::Data(bytes),
            _ => Frame::DataEnd,
        })
    }

    proptest! {
        #[test]
        fn frames_survive_the_wire_however_it_is_cut(
            frames in proptest::collection::vec(any_frame(), 0..8), cut in 1_usize..700,
        ) {
            let (mut codec, mut wire) = (FrameCodec::default(), BytesMut::new());
            for frame in frames.clone() {
                codec.encode(frame, &mut wire).expect("encodes");
            }
            let (mut received, mut buffer) = (Vec::new(), BytesMut::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = codec.decode(&mut buffer).expect("decodes") {
                    received.push(frame);
                }
            }
            prop_assert_eq!(received, frames);
        }

        #[test]
        fn hostile_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut codec = FrameCodec::default();
            while let Ok(Some(_)) = codec.decode(&mut buffer) {}
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(FrameCodec::default().decode(&mut buffer).is_err());
    }
}
