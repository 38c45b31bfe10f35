//! What the host knows of a tree in a guest, and what the agent sees of it: records in data frames, because
//! there may be hundreds of thousands and paths are any bytes.
//!
//! ```text
//! Known   TOKEN MODE OBJECT ! <tab> PATH <nul>    the host: this lay there when it was looked at last; with
//!                                                 `!`, it went in, and is looked for although git ignores it
//! Seen    = TOKEN           <tab> PATH <nul>      the agent: that lies there still
//!         * TOKEN MODE SIZE <tab> PATH <nul>      this lies there now; its content follows
//!         -                 <tab> PATH <nul>      git there leaves it out on purpose, as the host knows it
//!         u                 <tab> PATH <nul>      git there leaves it out, and has another content for it
//!         n                 <tab> PATH <nul>      a repository of its own, not looked into
//! ```
//!
//! What is known and not seen is gone. `MODE` is git's, `OBJECT` the id of the blob. `TOKEN` is the agent's
//! own word, by which it knows a file again without reading it; the host keeps it and asks nothing of it.

use std::fmt;
use std::io;
use std::str;

use serde::{Deserialize, Serialize};

/// More entries than the largest repositories people work in.
pub const MAX_ENTRIES: usize = 1_000_000;

/// The most bytes of all records together, in either direction.
pub const MAX_RECORDS: usize = 256 << 20;

/// The longest path, as for the kernel.
const MAX_PATH: usize = 4095;

/// The longest word of a record: the id of an object in the longer hash.
const MAX_WORD: usize = 64;

/// What an entry is, to git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A regular file that its owner may execute.
    Executable,
    /// A symbolic link.
    Link,
}

impl EntryKind {
    /// The mode in a git tree.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
        }
    }

    /// The kind with this mode.
    #[must_use]
    pub fn of_mode(mode: &str) -> Option<Self> {
        [Self::File, Self::Executable, Self::Link].into_iter().find(|kind| kind.mode() == mode)
    }
}

/// By what the agent finds the files of a tree that did not go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedBy {
    /// The git repository that the tree is.
    Repository,
    /// The rules of what is ignored that are files of the tree: it is no repository, or none of the host's.
    Rules,
}

/// How the agent knows a file again: digits, dots and dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token of a file that is not known again.
    #[must_use]
    pub fn unknown() -> Self {
        Self("-".to_owned())
    }

    /// A token, if it can be one.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.' || byte == b'-';
        let fits = !word.is_empty() && word.len() <= MAX_WORD && word.bytes().all(plain);
        fits.then(|| Self(word.to_owned()))
    }

    /// Whether a file with this token can be known again at all.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0 != "-"
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// How the agent knows it again.
    pub token: Token,
    /// What it was.
    pub kind: EntryKind,
    /// The id of its blob, hexadecimal.
    pub object: String,
    /// Whether it went in, and is looked for although git ignores it.
    pub went_in: bool,
    /// Relative to the tree's root.
    pub path: Vec<u8>,
}

/// An entry as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// As the host knows it.
    Same {
        /// How to know it again.
        token: Token,
        /// Relative to the tree's root.
        path: Vec<u8>,
    },
    /// New, or otherwise than the host knows it.
    Changed {
        /// How to know it again.
        token: Token,
        /// What it is.
        kind: EntryKind,
        /// Bytes of its content, which follows the records in their order: for a link, its target.
        size: u64,
        /// Relative to the tree's root.
        path: Vec<u8>,
    },
    /// Not in the working tree, by a mark in git's index there (a sparse checkout): as the host knows it all the same.
    Absent {
        /// Relative to the tree's root.
        path: Vec<u8>,
    },
    /// Not in the working tree by such a mark, and the index has something for it that the host does not know.
    Unseen {
        /// Relative to the tree's root.
        path: Vec<u8>,
    },
    /// A repository inside this one that is no part of it.
    Nested {
        /// Relative to the tree's root.
        path: Vec<u8>,
    },
}

impl Known {
    /// Appends the record.
    pub fn write(&self, to: &mut Vec<u8>) {
        let Self { token, kind, object, went_in, path } = self;
        let mark = if *went_in { " !" } else { "" };
        put(to, &format!("{token} {} {object}{mark}", kind.mode()), path);
    }

    /// Takes records apart.
    ///
    /// # Errors
    /// When one is none, or they are too many.
    pub fn read_all(records: &[u8]) -> io::Result<Vec<Self>> {
        read_all(records, |words, path| {
            let (token, mode, object, went_in) = match words {
                [token, mode, object] => (token, mode, object, false),
                [token, mode, object, "!"] => (token, mode, object, true),
                _ => return None,
            };
            let hexadecimal = object.bytes().all(|byte| byte.is_ascii_hexdigit());
            let object = Some((*object).to_owned()).filter(|_| hexadecimal)?;
            Some(Self {
                token: Token::of(token)?,
                kind: EntryKind::of_mode(mode)?,
                object,
                went_in,
                path,
            })
        })
    }
}

impl Seen {
    /// Appends the record.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Same { token, path } => put(to, &format!("= {token}"), path),
            Self::Changed { token, kind, size, path } => {
                put(to, &format!("* {token} {} {size}", kind.mode()), path);
            }
            Self::Absent { path } => put(to, "-", path),
            Self::Unseen { path } => put(to, "u", path),
            Self::Nested { path } => put(to, "n", path),
        }
    }

    /// Takes records apart.
    ///
    /// # Errors
    /// When one is none, or they are too many.
    pub fn read_all(records: &[u8]) -> io::Result<Vec<Self>> {
        read_all(records, |words, path| match words {
            ["=", token] => Some(Self::Same { token: Token::of(token)?, path }),
            ["*", token, mode, size] => Some(Self::Changed {
                token: Token::of(token)?,
                kind: EntryKind::of_mode(mode)?,
                size: size.parse().ok()?,
                path,
            }),
            ["-"] => Some(Self::Absent { path }),
            ["u"] => Some(Self::Unseen { path }),
            ["n"] => Some(Self::Nested { path }),
            _ => None,
        })
    }
}

fn put(to: &mut Vec<u8>, words: &str, path: &[u8]) {
    to.extend_from_slice(words.as_bytes());
    to.push(b'\t');
    to.extend_from_slice(path);
    to.push(0);
}

fn read_all<T>(records: &[u8], read: impl Fn(&[&str], Vec<u8>) -> Option<T>) -> io::Result<Vec<T>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let Some(records) = records.strip_suffix(b"\0") else {
        return if records.is_empty() { Ok(Vec::new()) } else { Err(wrong("a record is cut off")) };
    };
    let mut all = Vec::new();
    for record in records.split(|byte| *byte == 0) {
        if all.len() == MAX_ENTRIES {
            return Err(wrong("there are more than a million records"));
        }
        let parsed = record.iter().position(|byte| *byte == b'\t').and_then(|tab| {
            let (words, path) = (str::from_utf8(&record[..tab]).ok()?, &record[tab + 1..]);
            let words: Vec<&str> = words.split(' ').collect();
            let short = words.len() <= 4 && words.iter().all(|word| word.len() <= MAX_WORD);
            let fits = short && !path.is_empty() && path.len() <= MAX_PATH;
            if fits { read(&words, path.to_vec()) } else { None }
        });
        all.push(parsed.ok_or_else(|| wrong("a record of a tree cannot be read"))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> impl Strategy<Value = Token> {
        "[0-9.]{1,40}".prop_map(|word| Token::of(&word).expect("a token"))
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1_u8..=255, 1..60)
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        prop_oneof![Just(EntryKind::File), Just(EntryKind::Executable), Just(EntryKind::Link)]
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(
            known in proptest::collection::vec((token(), kind(), "[0-9a-f]{40}", any::<bool>(), path()), 0..20),
            seen in proptest::collection::vec((0_u8..5, token(), kind(), any::<u64>(), path()), 0..20),
        ) {
            let known = known.into_iter();
            let known = known.map(|(token, kind, object, went_in, path)| {
                Known { token, kind, object, went_in, path }
            });
            let known: Vec<_> = known.collect();
            let seen = seen.into_iter().map(|(which, token, kind, size, path)| match which {
                0 => Seen::Same { token, path },
                1 => Seen::Changed { token, kind, size, path },
                2 => Seen::Absent { path },
                3 => Seen::Unseen { path },
                _ => Seen::Nested { path },
            });
            let seen: Vec<_> = seen.collect();
            let (mut one, mut other) = (Vec::new(), Vec::new());
            known.iter().for_each(|entry| entry.write(&mut one));
            seen.iter().for_each(|entry| entry.write(&mut other));
            prop_assert_eq!(Known::read_all(&one).expect("reads"), known);
            prop_assert_eq!(Seen::read_all(&other).expect("reads"), seen);
        }

        #[test]
        fn hostile_records_are_an_error_and_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            Known::read_all(&bytes).ok();
            Seen::read_all(&bytes).ok();
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"= 1\tx"[..],
            b"\0",
            b"= 1\t\0",
            b"= a\tx\0",
            b"* 1 100600 5\tx\0",
            b"* 1 100644 -5\tx\0",
            b"n 1\tx\0",
            b"=\tx\0",
        ] {
            assert!(Seen::read_all(bad).is_err(), "{bad:?}");
        }
        let long = [b"n\t", &[b'x'; MAX_PATH + 1][..], b"\0"].concat();
        assert!(Seen::read_all(&long).is_err());
        assert!(Known::read_all(b"- 100644 xyz\tx\0").is_err());
        assert!(Known::read_all(b"- 100644 ab ?\tx\0").is_err());
        assert!(Seen::read_all(b"").expect("reads").is_empty());
    }
}
