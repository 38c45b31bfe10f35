//! The only writer of the log.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::OLD_FILES;
use super::chain::{End, path, seal, unseal};
use crate::id::Digest;
use crate::wire::rpc::HookEntry;

/// The end of the log, to write to.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    file: File,
    /// How long the file is, up to the last whole line.
    length: u64,
    /// At how many bytes a new file begins.
    limit: u64,
    end: End,
}

/// How a file ends.
struct Tail {
    /// Its length up to its last newline.
    length: u64,
    /// What is behind that.
    cut: Vec<u8>,
    /// Its last record; none when that cannot be read.
    end: Option<End>,
}

impl Writer {
    /// Opens the log and finds its end.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = open(&path(folder, 0))?;
        let Tail { length, cut, end } = tail(&mut file)?;
        // A new file goes on where the older one ends.
        let end = match length {
            0 => older_end(folder)?,
            _ => end,
        };
        let known = end.is_some();
        let end = end.unwrap_or_else(End::genesis);
        let mut writer = Self { folder: folder.to_owned(), file, length, limit, end };
        if !cut.is_empty() {
            writer.file.set_len(length)?;
        }
        let mut entries = Vec::new();
        if !known {
            entries.push(HookEntry::Anew);
        }
        if !cut.is_empty() {
            let (bytes, sha256) = (cut.len() as u64, Digest::of(&cut));
            entries.push(HookEntry::Cut { bytes, sha256 });
        }
        if !entries.is_empty() {
            writer.append(entries)?;
        }
        Ok(writer)
    }

    /// Another file in place of its own.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    /// How the chain ends.
    pub(super) fn end(&self) -> End {
        self.end.clone()
    }

    /// Appends entries by one write, all or none; more than fit into one file by one write for each. Returns
    /// the number of the first.
    pub(super) fn append(&mut self, entries: Vec<HookEntry>) -> io::Result<u64> {
        let first = self.end.number + 1;
        let time = crate::vm::now();
        let mut lines = Vec::new();
        let mut end = self.end.clone();
        for entry in entries {
            let (line, digest) = seal(&end, time.clone(), entry);
            if !lines.is_empty() && (lines.len() + line.len()) as u64 > self.limit {
                self.write(&lines, end.clone())?;
                lines.clear();
            }
            lines.extend(line);
            end = End { number: end.number + 1, digest };
        }
        self.write(&lines, end)?;
        Ok(first)
    }

    /// Appends whole lines by one write, all or none; `end` is how the chain ends with them.
    fn write(&mut self, lines: &[u8], end: End) -> io::Result<()> {
        if self.length > 0 && self.length + lines.len() as u64 > self.limit {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // A part of it may be there. Should this fail too, the next start cuts it off.
            self.file.set_len(self.length).ok();
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.end = end;
        Ok(())
    }

    /// Makes the file an older one and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (0..OLD_FILES).rev() {
            match fs::rename(path(&self.folder, age), path(&self.folder, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.file = open(&path(&self.folder, 0))?;
        self.length = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600).open(path)
}

fn tail(file: &mut File) -> io::Result<Tail> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let cut = bytes.split_off(length);
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next_back();
    let end = line
        .and_then(|line| unseal(line).ok())
        .and_then(|record| Some(End { number: record.number, digest: record.sha256? }));
    Ok(Tail { length: length as u64, cut, end })
}

/// The end of the newest file that is not written to any more; none when it cannot be read.
fn older_end(folder: &Path) -> io::Result<Option<End>> {
    match File::open(path(folder, 1)) {
        Ok(mut file) => Ok(tail(&mut file)?.end),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(End::genesis())),
        Err(error) => Err(error),
    }
}
