//! Stdin on its way to a command, and the keys that leave a detached one where it is: Ctrl-P Ctrl-Q, as other
//! tools have it.
//!
//! Everything else goes to the command. A Ctrl-P is kept back until the next key, because it may be the
//! beginning.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::wire::frame::Frame;

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// Stdin on its way to a command.
#[derive(Debug)]
pub(super) struct Typing {
    /// Where it comes from.
    pub(super) stdin: mpsc::Receiver<Bytes>,
    open: bool,
    /// Where somebody types who may leave.
    keys: Option<DetachKeys>,
    leaving: bool,
}

impl Typing {
    /// All of stdin, unless the keys come.
    pub(super) fn new(stdin: mpsc::Receiver<Bytes>, keys: Option<DetachKeys>) -> Self {
        Self { stdin, open: true, keys, leaving: false }
    }

    /// Whether more is to be sent.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the command is left when the keys come.
    pub(super) fn leaves_by_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether they came.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// What is to be sent of a chunk of stdin, or of its end.
    pub(super) fn frame(&mut self, chunk: Option<Bytes>) -> Option<Frame> {
        let Some(chunk) = chunk else {
            self.open = false;
            return Some(Frame::StdinEnd);
        };
        let typed = match &mut self.keys {
            Some(keys) => keys.take(&chunk),
            None => Typed::Input(chunk),
        };
        let input = match typed {
            Typed::Input(input) => input,
            Typed::Leave(input) => {
                (self.open, self.leaving) = (false, true);
                input
            }
        };
        (!input.is_empty()).then_some(Frame::Stdin(input))
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    began: bool,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    /// This is for the command.
    Input(Bytes),
    /// This too, but then the keys came.
    Leave(Bytes),
}

impl DetachKeys {
    /// Takes what was typed.
    fn take(&mut self, typed: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            if self.began && key == CTRL_Q {
                return Typed::Leave(input.into());
            }
            input.extend(self.began.then_some(CTRL_P));
            self.began = key == CTRL_P;
            input.extend((!self.began).then_some(key));
        }
        Typed::Input(input.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut keys, mut all) = (DetachKeys::default(), Vec::new());
        for piece in pieces {
            match keys.take(piece) {
                Typed::Input(input) => all.extend_from_slice(&input),
                Typed::Leave(input) => {
                    all.extend_from_slice(&input);
                    return (all, true);
                }
            }
        }
        (all, false)
    }

    #[test]
    fn only_both_keys_in_a_row_leave_and_all_else_is_typed() {
        for (pieces, input, leaves) in [
            (&[&b"ls\x10\x11more"[..]][..], &b"ls"[..], true),
            (&[b"\x10", b"\x11"], b"", true),
            (&[b"\x10\x10\x11"], b"\x10", true),
            (&[b"a\x10", b"b"], b"a\x10b", false),
            (&[b"\x11\x10", b"\x03\x11"], b"\x11\x10\x03\x11", false),
            (&[b"", b"\x10"], b"", false),
        ] {
            assert_eq!(typed(pieces), (input.to_vec(), leaves), "{pieces:?}");
        }
    }
}
