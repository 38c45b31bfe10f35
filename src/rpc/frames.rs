//! WebSocket messages of a client, checked as `ids` does before jsonrpsee reads them (RFC 6455, section 5).
//!
//! jsonrpsee reads its WebSockets itself, so this sits below it, in the bytes of the connection. A message
//! that is changed keeps its length, so that frames only have to be found, not made.
//!
//! ```text
//!  bytes ──▶ frame: under way ──▶ control frame ─────────────────────────▶ out
//!                 │    └────────▶ data ──▶ message: until its last frame ──▶ checked ──▶ out
//!                 └─▶ larger than any request: passes, jsonrpsee refuses it
//! ```

use std::ops::Range;

use super::ids;

/// Frames of fragments may be as short as their heads: bytes of heads that one message may have.
const MAX_HEADS: usize = 1 << 20;

/// The bytes of one client, from the upgrade on.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of payload that a message may have; jsonrpsee refuses more.
    max_message: usize,
    /// The frame under way.
    frame: Vec<u8>,
    /// The data frames so far of the message under way, and where their payloads lie in them.
    message: Vec<u8>,
    payloads: Vec<Payload>,
    /// The message under way is not checked: it is too large for a request.
    unchecked: bool,
    /// Bytes that pass until the next frame begins.
    passing: u64,
}

/// Where in `message` a payload lies, and its mask.
#[derive(Debug)]
struct Payload {
    place: Range<usize>,
    mask: [u8; 4],
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    payload: u64,
    mask: [u8; 4],
    is_control: bool,
    is_last: bool,
}

/// The head that these bytes begin with; none when there are too few of them.
fn head(bytes: &[u8]) -> Option<Head> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let (payload, extended) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        short => (u64::from(short), 0),
    };
    let (mask, masking) = match second & 0x80 {
        // Clients must mask; jsonrpsee ends the connection of one that does not.
        0 => ([0; 4], 0),
        _ => (*rest[extended..].first_chunk()?, 4),
    };
    Some(Head {
        length: 2 + extended + masking,
        payload,
        mask,
        is_control: first & 0x08 != 0,
        is_last: first & 0x80 != 0,
    })
}

impl Frames {
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            max_message,
            frame: Vec::new(),
            message: Vec::new(),
            payloads: Vec::new(),
            unchecked: false,
            passing: 0,
        }
    }

    /// Takes bytes of the client and puts those that jsonrpsee may read into `out`.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let length = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..length]);
                self.passing -= length as u64;
                bytes = &bytes[length..];
                continue;
            }
            // A head is at most 14 bytes: once it is known, so is how much belongs to the frame.
            let wanted = head(&self.frame).map_or(self.frame.len() + 1, |head| {
                head.length + usize::try_from(head.payload).unwrap_or(usize::MAX)
            });
            let length = (wanted - self.frame.len()).min(bytes.len());
            self.frame.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            if let Some(head) = head(&self.frame) {
                self.advance(head, out);
            }
        }
    }

    /// The connection ended: what is incomplete is handed on as it is.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.message);
        out.append(&mut self.frame);
        self.payloads.clear();
    }

    fn advance(&mut self, head: Head, out: &mut Vec<u8>) {
        let held = self.message.len() as u64;
        let room = (self.max_message + MAX_HEADS) as u64;
        if self.unchecked && !head.is_control || head.payload.saturating_add(held) > room {
            self.passing = head.payload - (self.frame.len() - head.length) as u64;
            self.unchecked = !head.is_last || head.is_control && self.unchecked;
            self.end(out);
            return;
        }
        if self.frame.len() as u64 != head.length as u64 + head.payload {
            return;
        }
        if head.is_control {
            out.append(&mut self.frame);
            return;
        }
        let start = self.message.len() + head.length;
        self.message.append(&mut self.frame);
        self.payloads.push(Payload { place: start..self.message.len(), mask: head.mask });
        if head.is_last {
            self.check();
            self.end(out);
        }
    }

    /// Checks the message, whose frames are all there.
    fn check(&mut self) {
        let mut text = Vec::with_capacity(self.message.len());
        for Payload { place, mask } in &self.payloads {
            text.extend(masked(&self.message[place.clone()], mask));
        }
        if !ids::blank_unknown(&mut text) {
            return;
        }
        let mut rest = text.as_slice();
        for Payload { place, mask } in &self.payloads {
            let (piece, after) = rest.split_at(place.len());
            let masked: Vec<u8> = masked(piece, mask).collect();
            self.message[place.clone()].copy_from_slice(&masked);
            rest = after;
        }
    }
}

/// Bytes masked or unmasked: both are the same.
fn masked<'a>(bytes: &'a [u8], mask: &'a [u8; 4]) -> impl Iterator<Item = u8> + 'a {
    bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [7, 0, 255, 42];

    /// A frame: its first byte, and its payload.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
            longer => {
                bytes.push(0x80 | 127);
                bytes.extend((longer as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(masked(payload, &MASK));
        bytes
    }

    fn passed(frames: &mut Frames, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        bytes.chunks(piece).for_each(|piece| frames.take(piece, &mut out));
        out
    }

    #[test]
    fn a_message_in_fragments_is_checked_as_one_and_pings_pass_between() {
        let text = br#"{"id": -10}"#;
        let ping = frame(0x89, b"x");
        let bytes = [frame(0x01, &text[..8]), ping.clone(), frame(0x80, &text[8..])].concat();
        for piece in 1..bytes.len() {
            let out = passed(&mut Frames::new(100), &bytes, piece);
            let wanted = [ping.clone(), frame(0x01, br#"{"id":nu"#), frame(0x80, b"ll}")].concat();
            assert_eq!(out, wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_too_large_passes_unchecked_and_the_next_message_does_not() {
        let mut large = br#"{"id": -10}"#.to_vec();
        large.resize(MAX_HEADS + 200, b' ');
        let small = frame(0x81, br#"{"id": -10}"#);
        let checked = frame(0x81, br#"{"id":null}"#);
        let fragments = [frame(0x01, b" "), frame(0x00, &large), frame(0x80, b"x")].concat();
        for first in [frame(0x81, &large), fragments] {
            let bytes = [first.clone(), small.clone()].concat();
            let out = passed(&mut Frames::new(100), &bytes, 4096);
            assert!(out == [first, checked.clone()].concat());
        }
    }

    #[test]
    fn nothing_is_kept_back_at_the_end() {
        let mut frames = Frames::new(100);
        let bytes = [frame(0x01, b"{"), vec![0x80]].concat();
        let mut out = passed(&mut frames, &bytes, 1);
        assert!(out.is_empty());
        frames.end(&mut out);
        assert_eq!(out, bytes);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_added(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            piece in 1_usize..50,
        ) {
            let mut frames = Frames::new(100);
            let mut out = passed(&mut frames, &bytes, piece);
            frames.end(&mut out);
            prop_assert_eq!(out.len(), bytes.len());
        }
    }
}
