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
    /// The next request on a connection that has been proven, in JSON: the one before has ended. A kind of its
    /// own, so that nothing which is sent to a program or with a copy can be taken for it.
    Request(Bytes),
}

impl Frame {
    /// A control frame.
    ///
    /// # Errors
    /// When the message cannot be written as JSON or is longer than [`MAX_PAYLOAD`].
    pub fn control(message: &impl Serialize) -> io::Result<Self> {
        json(message).map(Self::Control)
    }

    /// A request frame.
    ///
    /// # Errors
    /// When the request cannot be written as JSON or is longer than [`MAX_PAYLOAD`].
    pub fn request(request: &impl Serialize) -> io::Result<Self> {
        json(request).map(Self::Request)
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
        self.kind().name()
    }

    fn kind(&self) -> FrameKind {
        match self {
            Self::Control(_) => FrameKind::Control,
            Self::Stdin(_) => FrameKind::Stdin,
            Self::StdinEnd => FrameKind::StdinEnd,
            Self::Stdout(_) => FrameKind::Stdout,
            Self::Stderr(_) => FrameKind::Stderr,
            Self::Data(_) => FrameKind::Data,
            Self::DataEnd => FrameKind::DataEnd,
            Self::Request(_) => FrameKind::Request,
        }
    }

    fn into_payload(self) -> Bytes {
        match self {
            Self::Control(bytes)
            | Self::Stdin(bytes)
            | Self::Stdout(bytes)
            | Self::Stderr(bytes)
            | Self::Data(bytes)
            | Self::Request(bytes) => bytes,
            Self::StdinEnd | Self::DataEnd => Bytes::new(),
        }
    }
}

/// What a frame is, by the byte that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// [`Frame::Control`].
    Control = 0,
    /// [`Frame::Stdin`].
    Stdin = 1,
    /// [`Frame::StdinEnd`].
    StdinEnd = 2,
    /// [`Frame::Stdout`].
    Stdout = 3,
    /// [`Frame::Stderr`].
    Stderr = 4,
    /// [`Frame::Data`].
    Data = 5,
    /// [`Frame::DataEnd`].
    DataEnd = 6,
    /// [`Frame::Request`].
    Request = 7,
}

impl FrameKind {
    /// What this byte says of a frame with so many bytes of payload.
    fn of(byte: u8, payload: usize) -> io::Result<Self> {
        match (byte, payload) {
            (0, _) => Ok(Self::Control),
            (1, _) => Ok(Self::Stdin),
            (2, 0) => Ok(Self::StdinEnd),
            (3, _) => Ok(Self::Stdout),
            (4, _) => Ok(Self::Stderr),
            (5, _) => Ok(Self::Data),
            (6, 0) => Ok(Self::DataEnd),
            (7, _) => Ok(Self::Request),
            (kind, _) => Err(invalid(format!("a frame of unknown kind {kind}"))),
        }
    }

    /// Its name, for error messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Stdin => "stdin",
            Self::StdinEnd => "stdin-end",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Data => "data",
            Self::DataEnd => "data-end",
            Self::Request => "request",
        }
    }
}

/// What stands before a frame's payload, for those who pass frames on without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// How many bytes of payload follow.
    pub payload: usize,
}

impl FrameHeader {
    /// How long it is, in bytes.
    pub const BYTES: usize = 5;

    /// How it is written.
    ///
    /// # Errors
    /// When the frame would be longer than [`MAX_PAYLOAD`] allows.
    pub fn bytes(self) -> io::Result<[u8; Self::BYTES]> {
        if self.payload > MAX_PAYLOAD {
            return Err(invalid(format!("a frame of {} bytes is too long", self.payload + 1)));
        }
        let length = u32::try_from(self.payload + 1).map_err(io::Error::other)?;
        let [a, b, c, d] = length.to_be_bytes();
        Ok([a, b, c, d, self.kind as u8])
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the codec would not take such a frame.
    pub fn read(bytes: [u8; Self::BYTES]) -> io::Result<Self> {
        let [a, b, c, d, kind] = bytes;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match length.checked_sub(1) {
            None => Err(invalid("a frame without a kind".to_owned())),
            Some(payload) if payload > MAX_PAYLOAD => {
                Err(invalid(format!("a frame of {length} bytes is too long")))
            }
            Some(payload) => Ok(Self { kind: FrameKind::of(kind, payload)?, payload }),
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
        let (kind, payload) = (frame.kind(), frame.into_payload());
        // Written by hand, because the length-delimited encoder would need kind and payload in one
        // piece: a copy of every byte that goes through a guest.
        let header = FrameHeader { kind, payload: payload.len() }.bytes()?;
        buffer.reserve(payload.len() + FrameHeader::BYTES);
        buffer.put_slice(&header);
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
        Ok(Some(match FrameKind::of(kind, body.len())? {
            FrameKind::Control => Frame::Control(body),
            FrameKind::Stdin => Frame::Stdin(body),
            FrameKind::StdinEnd => Frame::StdinEnd,
            FrameKind::Stdout => Frame::Stdout(body),
            FrameKind::Stderr => Frame::Stderr(body),
            FrameKind::Data => Frame::Data(body),
            FrameKind::DataEnd => Frame::DataEnd,
            FrameKind::Request => Frame::Request(body),
        }))
    }
}

fn json(message: &impl Serialize) -> io::Result<Bytes> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_PAYLOAD {
        return Err(invalid(format!("a message of {} bytes is too long", text.len())));
    }
    Ok(text.into())
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
        (0_u8..8, payload).prop_map(|(kind, bytes)| match kind {
            0 => Frame::Control(bytes),
            1 => Frame::Stdin(bytes),
            2 => Frame::StdinEnd,
            3 => Frame::Stdout(bytes),
            4 => Frame::Stderr(bytes),
            5 => Frame::Data(bytes),
            6 => Frame::DataEnd,
            _ => Frame::Request(bytes),
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
        fn a_header_says_what_the_frame_is(frame in any_frame()) {
            let (kind, payload) = (frame.kind(), frame.clone().into_payload());
            let mut wire = BytesMut::new();
            FrameCodec::default().encode(frame, &mut wire).expect("encodes");
            let (header, rest) = wire.split_at(FrameHeader::BYTES);
            let read = FrameHeader::read(header.try_into().expect("as long")).expect("reads");
            prop_assert_eq!((read.kind, read.payload), (kind, payload.len()));
            prop_assert_eq!(rest, &payload[..]);
        }

        #[test]
        fn a_header_is_taken_as_the_codec_takes_it(
            length in 0_u32..4, kind in 0_u8..10, payload in any::<[u8; 2]>(),
        ) {
            let [a, b, c, d] = length.to_be_bytes();
            let header = FrameHeader::read([a, b, c, d, kind]);
            let whole = [&[a, b, c, d, kind][..], &payload].concat();
            let frame = FrameCodec::default().decode(&mut BytesMut::from(&whole[..]));
            prop_assert_eq!(header.is_ok(), matches!(frame, Ok(Some(_))));
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
        FrameHeader::read([0xff; 5]).expect_err("refused");
    }

    #[test]
    fn a_request_is_no_message_for_a_program() {
        let request = Frame::request(&"power off").expect("JSON");
        let error = request.message::<String>().expect_err("refused");
        assert_eq!(error.to_string(), "a message was due, not a request frame");
    }
}
