//! Frames that pass by as bytes, cut anywhere: where they begin and end.
//!
//! ```text
//!  client ──▶ Said: refuses what a client may not say ──▶ agent
//!  client ◀── Heard: sees the agent's last message    ◀── agent
//! ```
//!
//! Payloads are counted and not read, but for short messages of the agent. Nothing is changed, and nothing held back.
//! Knows no connection.

use std::io;

use crate::wire::frame::{FrameHeader, FrameKind};
use crate::wire::guest::Reply;

/// The longest message that is looked at, in bytes: that a program has ended, or was not started, with a reason
/// that people can read, or that a copy was made. A longer one passes by as everything else does.
const MAX_MESSAGE: usize = 16 * 1024;

/// What a client sends besides messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    /// Input of a program.
    Input,
    /// Bytes of a forwarded connection or of a copy.
    Data,
}

impl Sends {
    /// Whether a client may send such a frame. A request it may not: those are the daemon's alone.
    fn allows(self, kind: FrameKind) -> bool {
        match kind {
            FrameKind::Control => true,
            FrameKind::Stdin | FrameKind::StdinEnd => self == Self::Input,
            FrameKind::Data | FrameKind::DataEnd => self == Self::Data,
            FrameKind::Stdout | FrameKind::Stderr | FrameKind::Request => false,
        }
    }
}

/// Where in its frames a stream is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The header of the next frame.
    header: [u8; FrameHeader::BYTES],
    /// How much of that has come.
    come: usize,
    /// How much of the payload before it is still to come.
    left: usize,
}

/// A piece of a frame.
enum Piece<'a> {
    /// A part of its header, which is not whole yet.
    Begun,
    /// All of its header, or the last part of it.
    Header(FrameHeader),
    /// A part of its payload.
    Payload(&'a [u8]),
}

impl Place {
    fn is_between(self) -> bool {
        self.come == 0 && self.left == 0
    }

    /// Takes the next piece off the bytes, of which there must be some.
    ///
    /// # Errors
    /// When there is no such frame. Where the next one begins is then not known.
    fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> io::Result<Piece<'a>> {
        if self.left > 0 {
            let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
            (self.left, *bytes) = (self.left - payload.len(), rest);
            return Ok(Piece::Payload(payload));
        }
        let missing = &mut self.header[self.come..];
        let (part, rest) = bytes.split_at(missing.len().min(bytes.len()));
        missing[..part.len()].copy_from_slice(part);
        (self.come, *bytes) = (self.come + part.len(), rest);
        if self.come < FrameHeader::BYTES {
            return Ok(Piece::Begun);
        }
        let header = FrameHeader::read(self.header)?;
        (self.come, self.left) = (0, header.payload);
        Ok(Piece::Header(header))
    }
}

/// What goes from a client to the agent.
#[derive(Debug)]
pub(super) struct Said {
    sends: Sends,
    place: Place,
}

impl Said {
    /// Of a client that has said nothing yet.
    pub(super) fn by(sends: Sends) -> Self {
        Self { sends, place: Place::default() }
    }

    /// How many of these bytes may go to the agent: those before the first frame that a client may not send. Such a
    /// frame may have begun in what went before, with its length; what it is has not gone then, and does not go.
    ///
    /// # Errors
    /// When no byte may go, because they belong to such a frame.
    pub(super) fn sound(&self, bytes: &[u8]) -> io::Result<usize> {
        let (mut place, mut rest, mut whole) = (self.place, bytes, 0);
        while !rest.is_empty() {
            if place.is_between() {
                whole = bytes.len() - rest.len();
            }
            match place.step(&mut rest).and_then(|piece| self.check(&piece)) {
                Ok(()) => {}
                Err(_) if whole > 0 => return Ok(whole),
                Err(error) => return Err(error),
            }
        }
        Ok(bytes.len())
    }

    fn check(&self, piece: &Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Header(header) if !self.sends.allows(header.kind) => {
                let message = format!("a client may not send a {} frame here", header.kind.name());
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
            Piece::Begun | Piece::Header(_) | Piece::Payload(_) => Ok(()),
        }
    }

    /// Notes that these bytes have gone.
    ///
    /// # Errors
    /// When they were not [sound](Self::sound).
    pub(super) fn gone(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = self.place.step(&mut bytes)?;
            self.check(&piece)?;
        }
        Ok(())
    }

    /// Whether all frames that have begun are whole.
    pub(super) fn is_whole(&self) -> bool {
        self.place.is_between()
    }
}

/// What a client gets from the agent, of a program or of a copy.
#[derive(Debug, Default)]
pub(super) struct Heard {
    place: Place,
    /// The message at hand, as far as it has come; none in other frames.
    message: Option<Vec<u8>>,
    ended: bool,
}

impl Heard {
    /// Takes what the client is about to get.
    ///
    /// # Errors
    /// When there is no such frame, or when something comes after the end. Nothing more can be said of the rest.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.ended {
                let message = "the agent goes on after the end";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            match self.place.step(&mut bytes)? {
                Piece::Begun => {}
                Piece::Header(FrameHeader { kind, payload }) => {
                    let short = kind == FrameKind::Control && payload <= MAX_MESSAGE;
                    self.message = short.then(Vec::new);
                }
                Piece::Payload(part) => {
                    if let Some(message) = &mut self.message {
                        message.extend_from_slice(part);
                    }
                }
            }
            if self.place.is_between() {
                self.ended = self.message.take().is_some_and(|message| is_last(&message));
            }
        }
        Ok(())
    }

    /// Whether the last thing that was heard is the end, all of it.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

/// Whether the agent says nothing after this message.
fn is_last(message: &[u8]) -> bool {
    let reply: serde_json::Result<Reply> = serde_json::from_slice(message);
    matches!(reply, Ok(Reply::ExecEnded(_) | Reply::ExecFailed { .. } | Reply::Copied(_)))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;
    use tokio_util::codec::{Decoder, Encoder};

    use super::*;
    use crate::wire::frame::{Frame, FrameCodec};
    use crate::wire::guest::{ExecFailure, ExecStatus};

    fn wire(frames: &[Frame]) -> Vec<u8> {
        let mut wire = BytesMut::new();
        for frame in frames {
            FrameCodec::default().encode(frame.clone(), &mut wire).expect("encodes");
        }
        wire.to_vec()
    }

    fn frames(bytes: &[u8]) -> Vec<Frame> {
        let (mut codec, mut bytes) = (FrameCodec::default(), BytesMut::from(bytes));
        std::iter::from_fn(|| codec.decode(&mut bytes).expect("sound frames")).collect()
    }

    fn payload() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
    }

    /// What a program's client may send.
    fn input() -> impl Strategy<Value = Frame> {
        prop_oneof![
            payload().prop_map(Frame::Control),
            payload().prop_map(Frame::Stdin),
            Just(Frame::StdinEnd),
        ]
    }

    /// What it may not.
    fn foreign() -> impl Strategy<Value = Frame> {
        prop_oneof![
            payload().prop_map(Frame::Request),
            payload().prop_map(Frame::Stdout),
            payload().prop_map(Frame::Stderr),
            payload().prop_map(Frame::Data),
            Just(Frame::DataEnd),
        ]
    }

    fn said(reply: &Reply) -> Frame {
        Frame::control(reply).expect("JSON")
    }

    fn started() -> Frame {
        said(&Reply::ExecStarted { pid: 7 })
    }

    fn ended() -> Frame {
        said(&Reply::ExecEnded(ExecStatus::Exited(0)))
    }

    /// What an agent says before a program's end.
    fn output() -> impl Strategy<Value = Frame> {
        prop_oneof![
            payload().prop_map(Frame::Stdout),
            payload().prop_map(Frame::Stderr),
            // No message, and one that only looks like the end.
            payload().prop_map(Frame::Control),
            Just(Frame::Stdout(Bytes::from_static(br#"{"reply":"exec_ended","exited":0}"#))),
            Just(said(&Reply::StdinTaken { bytes: 5 })),
        ]
    }

    /// Sends bytes to an agent that takes so many at a time. What it got, and whether they were refused.
    fn send(said: &mut Said, bytes: &[u8], cut: usize, taken: usize) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        for mut piece in bytes.chunks(cut) {
            while !piece.is_empty() {
                let Ok(sound) = said.sound(piece) else { return (got, true) };
                assert!(sound > 0, "a write of nothing would never end");
                let (going, _) = piece.split_at(sound.min(taken));
                said.gone(going).expect("it was sound");
                got.extend_from_slice(going);
                piece = &piece[going.len()..];
            }
        }
        (got, false)
    }

    proptest! {
        #[test]
        fn what_a_client_may_send_goes_through_however_it_is_cut(
            sent in proptest::collection::vec(input(), 0..8), cut in 1_usize..700, taken in 1_usize..700,
        ) {
            let (mut said, bytes) = (Said::by(Sends::Input), wire(&sent));
            let (got, refused) = send(&mut said, &bytes, cut, taken);
            prop_assert!(!refused && said.is_whole());
            prop_assert_eq!(got, bytes);
        }

        #[test]
        fn nothing_goes_through_from_a_foreign_frame_on(
            sent in proptest::collection::vec(input(), 0..8), foreign in foreign(),
            after in proptest::collection::vec(input(), 0..3), cut in 1_usize..700, taken in 1_usize..700,
        ) {
            let mut said = Said::by(Sends::Input);
            let bytes = wire(&[&sent[..], &[foreign][..], &after[..]].concat());
            let (got, refused) = send(&mut said, &bytes, cut, taken);
            prop_assert!(refused);
            prop_assert_eq!(frames(&got), sent.clone());
            // At most its length, which says nothing of what it is.
            prop_assert!(got.len() < wire(&sent).len() + FrameHeader::BYTES);
            said.sound(&bytes[got.len()..]).expect_err("it stays refused");
        }

        #[test]
        fn of_hostile_bytes_only_allowed_frames_go_through(
            parts in proptest::collection::vec((0_u8..4, 0_u8..9, any::<[u8; 2]>()), 0..30), cut in 1_usize..20,
        ) {
            let header = |length, kind| [0, 0, 0, length, kind];
            let bytes = parts.iter().flat_map(|(length, kind, more)| {
                [&header(*length, *kind)[..], &more[..]].concat()
            });
            let bytes: Vec<u8> = bytes.collect();
            let (got, _) = send(&mut Said::by(Sends::Data), &bytes, cut, usize::MAX);
            let (mut codec, mut got) = (FrameCodec::default(), BytesMut::from(&got[..]));
            while let Ok(Some(frame)) = codec.decode(&mut got) {
                prop_assert!(matches!(frame, Frame::Control(_) | Frame::Data(_) | Frame::DataEnd));
            }
        }

        #[test]
        fn an_end_is_seen_with_its_last_byte(
            before in proptest::collection::vec(output(), 0..8), cut in 1_usize..700,
        ) {
            let bytes = wire(&[&[started()][..], &before[..], &[ended()][..]].concat());
            let (mut heard, last) = (Heard::default(), bytes.len() - 1);
            for piece in bytes[..last].chunks(cut) {
                heard.hear(piece).expect("frames");
                prop_assert!(!heard.ended());
            }
            heard.hear(&bytes[last..]).expect("frames");
            prop_assert!(heard.ended());
            heard.hear(&[0]).expect_err("nothing comes after it");
        }

        #[test]
        fn a_hostile_agent_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            Heard::default().hear(&bytes).ok();
        }
    }

    #[test]
    fn a_program_that_was_not_started_has_ended_and_a_novel_about_it_passes_by() {
        for (message, ended) in [("no such program".to_owned(), true), ("x".repeat(20_000), false)]
        {
            let reason = ExecFailure::NotFound;
            let mut heard = Heard::default();
            heard.hear(&wire(&[said(&Reply::ExecFailed { reason, message })])).expect("frames");
            assert_eq!(heard.ended(), ended);
        }
    }

    #[test]
    fn an_end_with_something_behind_it_is_none() {
        let bytes = wire(&[started(), ended(), ended()]);
        Heard::default().hear(&bytes).expect_err("it goes on");
    }

    #[test]
    fn frames_that_no_agent_takes_are_refused() {
        for bytes in [
            &[0, 0, 0, 0, 0][..],
            &[0, 0, 0, 2, 2, 0],
            &[0, 0, 0, 1, 8],
            &[0xff, 0xff, 0xff, 0xff, 1],
        ] {
            let error = Said::by(Sends::Input).sound(bytes).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let error = Said::by(Sends::Data).sound(&wire(&[Frame::StdinEnd])).expect_err("refused");
        assert_eq!(error.to_string(), "a client may not send a stdin-end frame here");
    }
}
