//! From a path in the guest to what is there on the work disk.
//!
//! The guest sees the work disk at its home, and another disk everywhere else. Links are followed as it would
//! follow them, on this disk alone; a way that leaves the home ends there.

use std::collections::VecDeque;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::ReadError;
use super::ext4::{Ext4, Inode, Kind, ROOT};
use crate::archive::ArchiveError;

/// How many links a way may have: the kernel follows no more.
const MAX_LINKS: u32 = 40;

/// How many names a way may have in all, links followed: more than fit a path, 40 times.
const MAX_STEPS: usize = 100_000;

/// What is at `path`, an absolute one in a guest whose home is at `home`. The last name is not followed, unless
/// a slash comes after it.
pub(super) fn find(system: &Ext4, home: &Path, path: &Path) -> Result<Inode, ReadError> {
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        let names = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec);
        names.filter(|name| !matches!(name.as_slice(), b"" | b".")).collect()
    };
    let bytes = path.as_os_str().as_bytes();
    let mut walk = Walk {
        system,
        path,
        home: names(home.as_os_str().as_bytes()),
        follows_last: bytes.ends_with(b"/") || bytes.ends_with(b"/."),
        above: Vec::new(),
        inside: Vec::new(),
        links: 0,
    };
    let mut ahead = VecDeque::from(names(bytes));
    walk.arrive()?;
    for _ in 0..MAX_STEPS {
        let Some(name) = ahead.pop_front() else {
            return walk.end();
        };
        if let Some(target) = walk.step(name, ahead.is_empty())? {
            if target.first() == Some(&b'/') {
                walk.leave();
                walk.arrive()?;
            }
            for name in names(&target).into_iter().rev() {
                ahead.push_front(name);
            }
        }
    }
    Err(walk.failed(io::Error::other("it leads through too many links")))
}

struct Walk<'a> {
    system: &'a Ext4,
    /// What is looked for.
    path: &'a Path,
    /// The names down to the home.
    home: Vec<Vec<u8>>,
    follows_last: bool,
    /// The names walked towards the home, until it is reached.
    above: Vec<Vec<u8>>,
    /// What has been walked through on the disk: its root first.
    inside: Vec<Inode>,
    links: u32,
}

impl Walk<'_> {
    /// Goes one name further. A link that is to be followed is returned instead.
    fn step(&mut self, name: Vec<u8>, is_last: bool) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(here) = self.inside.last() else {
            match name.as_slice() {
                b".." => drop(self.above.pop()),
                _ => self.above.push(name),
            }
            return self.arrive().map(|()| None);
        };
        if here.kind != Kind::Folder {
            return Err(self.failed(io::ErrorKind::NotADirectory.into()));
        }
        if name == b".." {
            self.inside.pop();
            if self.inside.is_empty() {
                self.above.pop();
            }
            return Ok(None);
        }
        let Some(found) = self.system.look_up(here, &name)? else {
            return Err(ArchiveError::Missing { path: self.path.to_owned() }.into());
        };
        if found.kind == Kind::Link && (!is_last || self.follows_last) {
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(self.failed(io::Error::other("it leads through too many links")));
            }
            return Ok(Some(self.system.target(&found)?));
        }
        self.inside.push(found);
        Ok(None)
    }

    /// Enters the disk if this is the home; fails where the way does not lead to it.
    fn arrive(&mut self) -> Result<(), ReadError> {
        if !self.home.starts_with(&self.above) {
            return Err(self.elsewhere());
        }
        if self.above == self.home {
            self.inside.push(self.system.inode(ROOT)?);
        }
        Ok(())
    }

    /// Goes back to the root of what the guest sees.
    fn leave(&mut self) {
        self.above.clear();
        self.inside.clear();
    }

    fn end(mut self) -> Result<Inode, ReadError> {
        let Some(found) = self.inside.pop() else {
            return Err(self.elsewhere());
        };
        if self.follows_last && found.kind != Kind::Folder {
            return Err(self.failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(found)
    }

    fn elsewhere(&self) -> ReadError {
        ReadError::Elsewhere { path: self.path.to_owned() }
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ArchiveError::Read { path: self.path.to_owned(), source }.into()
    }
}
