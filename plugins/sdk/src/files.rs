//! Host files as a whole, within a bound.

use crate::{Error, HostFile, HostFiles, Kind, Result};

/// Bytes that one call reads at most, as the contract says.
const PIECE: u64 = 1 << 20;

impl HostFiles {
    /// The one file behind a logical name; none when the operator mapped nothing to it, or a path that is
    /// not there.
    ///
    /// # Errors
    /// `wrong-type` when it is something else than one file, and those of [`HostFiles::entries`].
    pub fn single(&self, name: &str) -> Result<Option<HostFile>> {
        let mut entries = self.entries(name)?;
        let file = match entries.len() {
            0 => return Ok(None),
            1 => entries.remove(0),
            _ => {
                let message = format!("more than one file is mapped to `{name}`: map one");
                return Err(Error::new("wrong-type", message));
            }
        };
        match file.kind() {
            Kind::Missing => Ok(None),
            Kind::File => Ok(Some(file)),
            Kind::Folder | Kind::Link | Kind::Other => {
                let message = format!("`{}`, mapped to `{name}`, is no file", file.label());
                Err(Error::new("wrong-type", message))
            }
        }
    }
}

impl HostFile {
    /// All bytes of the file. Needs `host-files.read`.
    ///
    /// # Errors
    /// `too-large` when there are more than `limit`, and those of [`HostFile::read`].
    pub fn bytes(&self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let read = bytes.len() as u64;
            // One byte more than the limit shows that there is more.
            let wanted = (limit + 1 - read).min(PIECE);
            let piece = self.read(read, u32::try_from(wanted).unwrap_or(u32::MAX))?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                let message = format!("`{}` has more than {limit} bytes", self.label());
                return Err(Error::new("too-large", message));
            }
        }
    }

    /// The whole file as a text. Needs `host-files.read`.
    ///
    /// # Errors
    /// `wrong-type` when it is not UTF-8, and those of [`HostFile::bytes`].
    pub fn text(&self, limit: u64) -> Result<String> {
        String::from_utf8(self.bytes(limit)?)
            .map_err(|_| Error::new("wrong-type", format!("`{}` is not UTF-8", self.label())))
    }
}
