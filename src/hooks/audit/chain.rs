//! Lines of the log, and the chain they make.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::id::Digest;
use crate::wire::rpc::{ChainBreak, HookChain, HookEntry, HookRecord};

/// What stands between a line's content and its own digest.
const SEAL: &str = ",\"sha256\":\"";
/// What a line ends with.
const CLOSING: &str = "\"}";
/// Bytes of a digest as text.
const DIGEST: usize = 64;

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The number of the last record; 0 of an empty chain.
    pub(super) number: u64,
    /// Its digest.
    pub(super) digest: Digest,
}

impl End {
    /// Before the very first record.
    pub(super) fn genesis() -> Self {
        Self { number: 0, digest: "0".repeat(DIGEST).parse().expect("64 zeros are a digest") }
    }
}

/// The path of a file: 0 is the one that is written to, larger numbers are older.
pub(super) fn path(folder: &Path, age: u32) -> PathBuf {
    match age {
        0 => folder.join("hooks.jsonl"),
        age => folder.join(format!("hooks.{age}.jsonl")),
    }
}

/// A file of the log, opened.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) name: String,
    pub(super) file: File,
    /// How long it was then.
    length: u64,
}

impl LogFile {
    /// Its lines, each with the newline that ends it.
    pub(super) fn lines(self) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        let mut reader = BufReader::new(self.file.take(self.length));
        std::iter::from_fn(move || {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => None,
                Ok(_) => Some(Ok(line)),
                Err(error) => Some(Err(error)),
            }
        })
    }
}

/// All files, oldest first.
pub(super) fn open_all(folder: &Path) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for age in (0..=super::OLD_FILES).rev() {
        let path = path(folder, age);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match File::open(&path) {
            Ok(file) => files.push(LogFile { name, length: file.metadata()?.len(), file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// The line of a record, newline included, and its digest.
pub(super) fn seal(end: &End, time: String, entry: HookEntry) -> (Vec<u8>, Digest) {
    let record = HookRecord {
        number: end.number + 1,
        time,
        previous: end.digest.clone(),
        entry,
        sha256: None,
    };
    let mut line = serde_json::to_vec(&record).expect("a record is plain data");
    line.pop();
    let digest = Digest::of(&line);
    line.extend_from_slice(format!("{SEAL}{digest}{CLOSING}\n").as_bytes());
    (line, digest)
}

/// The record of a line, whose digest must be its own. The error is the rest of a sentence about it.
pub(super) fn unseal(line: &[u8]) -> Result<HookRecord, &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("is cut off")?;
    let content = line.len().checked_sub(SEAL.len() + DIGEST + CLOSING.len());
    let (content, seal) = line.split_at(content.ok_or("is no record")?);
    let digest = Digest::of(content);
    if seal != format!("{SEAL}{digest}{CLOSING}").as_bytes() {
        return Err("is not as it was written: its digest is another one");
    }
    serde_json::from_slice(line).map_err(|_| "is no record")
}

/// Looks at every line of the files. `expected` is how the chain ended when they were opened, where that is
/// known.
pub(super) fn verify(files: Vec<LogFile>, expected: Option<End>) -> io::Result<HookChain> {
    let mut chain = HookChain { records: 0, first: 0, last: 0, cuts: 0, broken: None };
    let mut end: Option<End> = None;
    let mut place = (String::from("hooks.jsonl"), 0);
    for file in files {
        let name = file.name.clone();
        for (index, line) in file.lines().enumerate() {
            place = (name.clone(), index as u64 + 1);
            match link(&line?, end.as_ref()) {
                Ok((record, digest)) => {
                    chain.records += 1;
                    chain.first = if chain.first == 0 { record.number } else { chain.first };
                    chain.last = record.number;
                    chain.cuts += u64::from(matches!(record.entry, HookEntry::Cut { .. }));
                    end = Some(End { number: record.number, digest });
                }
                Err(reason) => return Ok(broken(chain, place, reason)),
            }
        }
    }
    let end = end.unwrap_or_else(End::genesis);
    if expected.is_some_and(|expected| expected != end) {
        return Ok(broken(chain, place, "is not the last one that was written"));
    }
    Ok(chain)
}

/// The record of a line that must follow `end`.
fn link(line: &[u8], end: Option<&End>) -> Result<(HookRecord, Digest), &'static str> {
    let record = unseal(line)?;
    let digest = record.sha256.clone().ok_or("is no record")?;
    match end {
        _ if record.entry == HookEntry::Anew => {
            return Err("says that the record before it could not be read");
        }
        None if record.number == 1 && record.previous != End::genesis().digest => {
            return Err("is the first one and says that another was before it");
        }
        // Older files have made room for newer ones.
        None => {}
        Some(end) if record.number != end.number + 1 => {
            return Err("does not follow the record before it: one is missing");
        }
        Some(end) if record.previous != end.digest => {
            return Err("follows another record than the one before it");
        }
        Some(_) => {}
    }
    Ok((record, digest))
}

fn broken(chain: HookChain, (file, line): (String, u64), reason: &str) -> HookChain {
    let reason = format!("line {line} of `{file}` {reason}");
    HookChain { broken: Some(ChainBreak { file, line, reason }), ..chain }
}
