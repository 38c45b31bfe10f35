//! Entries of a stream that only say something of the next one: a name that is too long for its header, or a
//! time.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Timespec;
use tar::{Entry, PaxExtensions};

use super::{ArchiveError, hostile, shown, time};

/// The longest of them, in bytes: a path as deep as may be.
const MAX_EXTENSION: u64 = 64 * 1024;

/// How many of them may stand in front of one entry: path, target and time.
const MAX_COUNT: u32 = 3;

/// What stands in front of an entry.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) modified: Option<Timespec>,
    /// How many have been read.
    count: u32,
}

impl Before {
    /// Takes the entry if it only says something of the next one.
    pub(super) fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, ArchiveError> {
        let kind = entry.header().entry_type();
        if !(kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions()) {
            return Ok(false);
        }
        self.count += 1;
        if self.count > MAX_COUNT {
            return Err(hostile("the stream says the name of a file again and again".to_owned()));
        }
        if entry.size() > MAX_EXTENSION {
            return Err(hostile(format!("a name of {} bytes is too long", entry.size())));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(ArchiveError::Stream)?;
        if kind.is_pax_local_extensions() {
            self.modified = Some(modified(&content)?);
            return Ok(true);
        }
        // The name ends with a zero.
        content.truncate(content.iter().position(|byte| *byte == 0).unwrap_or(content.len()));
        let name = if kind.is_gnu_longname() { &mut self.path } else { &mut self.target };
        *name = Some(content);
        Ok(true)
    }
}

/// The time of change in an extended header, which says nothing else.
fn modified(content: &[u8]) -> Result<Timespec, ArchiveError> {
    let mut found = None;
    for extension in PaxExtensions::new(content) {
        let extension = extension.map_err(ArchiveError::Stream)?;
        if extension.key_bytes() == time::KEY.as_bytes() {
            found = time::read(extension.value_bytes());
        } else {
            let key = shown(OsStr::from_bytes(extension.key_bytes()).as_ref());
            return Err(hostile(format!(
                "the stream says `{key}` of a file, which is not understood"
            )));
        }
    }
    found.ok_or_else(|| hostile("the stream says a time that is none".to_owned()))
}
