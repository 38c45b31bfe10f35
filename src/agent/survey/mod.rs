//! Looking at a tree for the host: which of its files are as the host knows them, and what the others hold.
//!
//! ```text
//!  what the host knows ──┐
//!                        ├─► paths ── look ──► records ──► contents of what is new or otherwise
//!  what git lists here ──┘
//! ```
//!
//! Nothing is written, neither in the working tree nor in `.git`. A file is known again by its inode, size and
//! time of change; where these differ, by the hash of its content, so that only what is really otherwise
//! is sent. Somebody may be changing the tree meanwhile: a file whose content does not come to the size that
//! was announced fails the whole, and the host asks again.

mod arrival;
mod git;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use rustix::io::Errno;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

pub use self::arrival::arrived;
pub use self::git::paths;
use super::beneath;
use super::failure::{During, Failure};
use crate::wire::frame::MAX_PAYLOAD;
use crate::wire::survey::{EntryKind, Known, Seen, Token};

/// How many pieces of content may wait for the connection.
pub const QUEUE: usize = 4;

/// A file that was changed so recently may be changed again without its time telling.
const RACY: Duration = Duration::from_secs(2);

/// Length of the id of an object in the shorter hash, hexadecimal.
const SHA1_HEX: usize = 40;

/// What git lists in a tree.
#[derive(Debug, Default)]
pub struct Listed {
    /// Files, links, and whatever else it lists, relative to the root.
    pub paths: Vec<Vec<u8>>,
    /// Repositories inside that are no submodules, relative to the root.
    pub nested: Vec<Vec<u8>>,
    /// Files that git leaves out of the working tree on purpose, relative to the root, and the objects that its
    /// index has for them.
    pub left_out: BTreeMap<Vec<u8>, String>,
}

/// What was seen of a tree.
#[derive(Debug, Default)]
pub struct Survey {
    /// The records for the host.
    pub records: Vec<u8>,
    /// Whose content follows, in this order.
    contents: Vec<Content>,
}

#[derive(Debug)]
struct Content {
    path: Vec<u8>,
    kind: EntryKind,
    size: u64,
}

/// Looks at everything that went in or git lists. Blocks.
///
/// # Errors
/// When the folder is not there, or one of its files cannot be looked at.
pub fn look(folder: &Path, known: Vec<Known>, listed: Listed) -> Result<Survey, Failure> {
    let mut root = Root::open(folder).during(format!("look at `{}`", folder.display()))?;
    let mut wanted: BTreeMap<Vec<u8>, Option<Known>> =
        listed.paths.into_iter().map(|path| (path, None)).collect();
    for entry in known {
        let listed = wanted.contains_key(&entry.path);
        if listed || entry.went_in {
            wanted.insert(entry.path.clone(), Some(entry));
        }
    }
    let mut survey = Survey::default();
    for (path, known) in wanted {
        let seen = root.see(&path, known.as_ref()).during(format!("look at `{}`", shown(&path)))?;
        let Some(seen) = seen.or_else(|| absent(path, known, &listed.left_out)) else { continue };
        seen.write(&mut survey.records);
        if let Seen::Changed { kind, size, path, .. } = seen {
            survey.contents.push(Content { path, kind, size });
        }
    }
    for path in listed.nested {
        Seen::Nested { path }.write(&mut survey.records);
    }
    Ok(survey)
}

/// What is said of a path where nothing lies: something when that is so on purpose.
fn absent(
    path: Vec<u8>,
    known: Option<Known>,
    left_out: &BTreeMap<Vec<u8>, String>,
) -> Option<Seen> {
    let object = left_out.get(&path)?;
    match known {
        Some(known) if known.object == *object => Some(Seen::Absent { path }),
        // Git can bring commits together without the files: then what is new in them is only there.
        Some(_) | None => Some(Seen::Unseen { path }),
    }
}

impl Survey {
    /// Hands over the contents in pieces. Blocks.
    ///
    /// # Errors
    /// When a file is not as it was when it was looked at, or nobody takes the pieces.
    pub fn send(&self, folder: &Path, pieces: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
        let root = Root::open(folder).during(format!("read `{}`", folder.display()))?;
        let mut buffer = BytesMut::new();
        for content in &self.contents {
            let step = || format!("read `{}`", shown(&content.path));
            let mut reader = root.read(content).during(step())?;
            let mut left = content.size;
            while left > 0 {
                let room = (MAX_PAYLOAD - buffer.len()) as u64;
                let start = buffer.len();
                let wanted = usize::try_from(left.min(room)).unwrap_or(MAX_PAYLOAD);
                buffer.resize(start + wanted, 0);
                let read = reader.read(&mut buffer[start..]).during(step())?;
                buffer.truncate(start + read);
                if read == 0 {
                    return Err(Failure::new(step(), "it changed while it was being read"));
                }
                left -= read as u64;
                if buffer.len() == MAX_PAYLOAD {
                    give(pieces, &mut buffer)?;
                }
            }
        }
        if buffer.is_empty() { Ok(()) } else { give(pieces, &mut buffer) }
    }
}

fn give(pieces: &mpsc::Sender<Bytes>, buffer: &mut BytesMut) -> Result<(), Failure> {
    let piece = buffer.split().freeze();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    pieces.blocking_send(piece).map_err(gone).during("send what has changed")
}

/// The root of the tree. It stays the same folder, whatever happens to its path.
struct Root {
    folder: File,
    /// When it was opened: what is as new as that may be changed again without its time telling.
    opened: Duration,
    /// The folder of the path that was looked at last, if it is one. In a sorted list the next one mostly lies there, too,
    /// and to resolve each from the root takes three system calls instead of one.
    last: Option<(Vec<u8>, Option<OwnedFd>)>,
}

/// What lies at a path.
struct Found {
    kind: EntryKind,
    size: u64,
    token: Token,
}

impl Root {
    fn open(folder: &Path) -> io::Result<Self> {
        let folder = File::open(folder)?;
        if !folder.metadata()?.is_dir() {
            return Err(Errno::NOTDIR.into());
        }
        let opened = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { folder, opened, last: None })
    }

    fn open_in(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        beneath::resolve(&self.folder, path, flags | OFlags::NOFOLLOW, beneath::NO_LINKS)
    }

    /// The folder of a path, and the name in it; none where there is no such folder, or a link leads there.
    fn folder_of<'a>(&mut self, path: &'a [u8]) -> io::Result<Option<(&OwnedFd, &'a [u8])>> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let handle = match self.open_in(folder, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(handle) => Some(handle),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => return Err(error.into()),
            };
            self.last = Some((folder.to_vec(), handle));
        }
        let handle = self.last.as_ref().and_then(|(_, handle)| handle.as_ref());
        Ok(handle.map(|handle| (handle, name)))
    }

    /// What lies at a path; nothing where it is a folder, a pipe or a device, or leads through a link.
    fn find(&mut self, path: &[u8]) -> io::Result<Option<Found>> {
        let opened = self.opened;
        let Some((folder, name)) = self.folder_of(path)? else { return Ok(None) };
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => EntryKind::Link,
            FileType::RegularFile if stat.st_mode & 0o100 != 0 => EntryKind::Executable,
            FileType::RegularFile => EntryKind::File,
            _ => return Ok(None),
        };
        let (size, token) = (u64::try_from(stat.st_size).unwrap_or_default(), token(&stat, opened));
        Ok(Some(Found { kind, size, token }))
    }

    fn see(&mut self, path: &[u8], known: Option<&Known>) -> io::Result<Option<Seen>> {
        let Some(found) = self.find(path)? else { return Ok(None) };
        let path = path.to_vec();
        if let Some(known) = known.filter(|known| known.kind == found.kind) {
            let again = known.token.is_known() && known.token == found.token;
            if again || self.hash(&path, &found, &known.object)? {
                return Ok(Some(Seen::Same { token: found.token, path }));
            }
        }
        let Found { kind, size, token } = found;
        let size = match kind {
            EntryKind::Link => self.target(&path)?.len() as u64,
            EntryKind::File | EntryKind::Executable => size,
        };
        Ok(Some(Seen::Changed { token, kind, size, path }))
    }

    /// Whether the content is that of the object.
    fn hash(&self, path: &[u8], found: &Found, object: &str) -> io::Result<bool> {
        let content = Content { path: path.to_vec(), kind: found.kind, size: found.size };
        // Where it is another by now, what it holds will be seen when it is read.
        let Ok(mut reader) = self.read(&content) else { return Ok(false) };
        let hash = match object.len() {
            SHA1_HEX => blob::<Sha1>(&mut reader, found.size)?,
            _ => blob::<Sha256>(&mut reader, found.size)?,
        };
        Ok(hash == object)
    }

    fn target(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let link = self.open_in(path, OFlags::PATH)?;
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    fn regular(&self, path: &[u8]) -> io::Result<File> {
        // A pipe that came in its place must not block.
        let file = File::from(self.open_in(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let regular = file.metadata()?.is_file();
        regular.then_some(file).ok_or_else(|| io::Error::other("it is not a regular file any more"))
    }

    fn read(&self, content: &Content) -> io::Result<Box<dyn Read>> {
        match content.kind {
            EntryKind::File | EntryKind::Executable => Ok(Box::new(self.regular(&content.path)?)),
            EntryKind::Link => Ok(Box::new(io::Cursor::new(self.target(&content.path)?))),
        }
    }
}

/// The id of the blob with this content, of which so many bytes are read. One that is shorter has an id of no
/// blob.
fn blob<H: Digest>(content: &mut dyn Read, size: u64) -> io::Result<String> {
    let mut hash = H::new();
    hash.update(format!("blob {size}\0"));
    let mut buffer = vec![0; 128 * 1024];
    let mut content = content.take(size);
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token of a file that is looked at, at this time at the earliest.
fn token(stat: &Stat, now: Duration) -> Token {
    let since = u64::try_from(stat.st_ctime).map_or(Duration::ZERO, Duration::from_secs);
    // Also when the clock was set back: then nothing can be said.
    if now.checked_sub(since).is_none_or(|age| age < RACY) {
        return Token::unknown();
    }
    let Ok(nanoseconds) = i64::try_from(stat.st_ctime_nsec) else { return Token::unknown() };
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    lasting_token(stat.st_ino, (stat.st_ctime, nanoseconds), size)
}

/// The token of a file that nobody can change anew at the time of its last change, which is in seconds and nanoseconds.
fn lasting_token(inode: u64, (seconds, nanoseconds): (i64, i64), size: u64) -> Token {
    Token::of(&format!("{inode}.{seconds}.{nanoseconds}.{size}")).unwrap_or(Token::unknown())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

#[cfg(test)]
mod tests;
