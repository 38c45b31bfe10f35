//! A work-disk plan on the host: made by the hooks, carried to the guest agent.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

use crate::id::{Digest, hex};
use crate::wire::guest::PlanStep;

/// Bytes that are read at once for a digest.
const PIECE_BYTES: usize = 64 << 10;

/// What is to be written below the work disk's root, in order. Nothing in it has been written yet.
#[derive(Debug, Default)]
pub struct WorkDiskPlan {
    /// The steps with their contents.
    pub steps: Vec<PlannedStep>,
}

/// A step with its content.
#[derive(Debug)]
pub struct PlannedStep {
    /// The step as it goes over the wire. Where it has content, its size is the content's.
    pub step: PlanStep,
    /// The content; [`Content::None`] where the step has none.
    pub content: Content,
}

/// The content of a step.
#[derive(Debug)]
pub enum Content {
    /// The step has none.
    None,
    /// Bytes that a plugin made.
    Bytes(Vec<u8>),
    /// A file of the host, opened and checked when it was planned. Exactly `size` bytes are sent; a
    /// file that has become shorter since fails the start.
    HostFile {
        /// The open file.
        file: File,
        /// Its size when it was planned, in bytes.
        size: u64,
    },
}

impl Content {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::HostFile { size, .. } => *size,
        }
    }

    /// The digest of all of it, read piece by piece; none where there is no content.
    ///
    /// # Errors
    /// When the host's file cannot be read, or has become shorter than it was.
    pub fn digest(&self) -> io::Result<Option<Digest>> {
        if matches!(self, Self::None) {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = 0;
        loop {
            match self.read_at(offset, &mut piece)? {
                0 => break,
                read => {
                    hash.update(&piece[..read]);
                    offset += read as u64;
                }
            }
        }
        let digest = hex(&hash.finalize()).parse();
        Ok(Some(digest.expect("a sha256 in hexadecimal is a digest")))
    }

    /// Fills `buffer` with the content from `offset`, as far as it goes. Returns how many bytes, 0 at
    /// the end.
    ///
    /// # Errors
    /// When the host's file cannot be read, or has become shorter than it was.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size().saturating_sub(offset);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..wanted];
        match self {
            Self::None => Ok(0),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)
            }
            Self::HostFile { file, .. } => match file.read_at(buffer, offset)? {
                0 if wanted > 0 => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was copied",
                )),
                read => Ok(read),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_exactly_what_is_sent() {
        let long = vec![b'x'; PIECE_BYTES + 1];
        let of_host = |bytes: &[u8], size: usize| {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, bytes).expect("written");
            Content::HostFile { file, size: size as u64 }
        };
        for bytes in [&b""[..], b"hello", &long] {
            let expected = Some(Digest::of(bytes));
            let made = Content::Bytes(bytes.to_vec());
            assert_eq!(made.digest().expect("read"), expected);
            assert_eq!(of_host(bytes, bytes.len()).digest().expect("read"), expected);
            // What was added since is not sent.
            let grown = [bytes, b"more"].concat();
            assert_eq!(of_host(&grown, bytes.len()).digest().expect("read"), expected);
            of_host(bytes, bytes.len() + 1).digest().expect_err("it became shorter");
        }
        assert_eq!(Content::None.digest().expect("nothing to read"), None);
    }
}
