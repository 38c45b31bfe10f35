//! Which files are tracked, from the bytes of git's index (gitformat-index(5)).

use cove_plugin_sdk::{Error, Result};
use gix_index::entry::{Flags, Mode, Stage};
use gix_index::hash::{Kind, hasher};
use gix_index::{State, decode};

/// A path that git tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// Relative to the top of the working tree.
    pub(crate) path: String,
    /// What the index says that it is.
    pub(crate) what: What,
}

/// What a tracked path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A file, or a symbolic link: the working tree knows which.
    File,
    /// Another repository.
    Submodule,
    /// A folder of a sparse index, nothing of which is in the working tree.
    Folder,
    /// Something that a merge has left in conflict.
    Unmerged,
}

/// All tracked paths, each once. What a sparse checkout keeps out of the working tree is not among them,
/// and neither are names that are not UTF-8.
///
/// # Errors
/// When the bytes are no whole index, or one that has a second part elsewhere.
pub(crate) fn tracked(bytes: &[u8]) -> Result<Vec<Tracked>> {
    let options = decode::Options { thread_limit: Some(1), ..decode::Options::default() };
    let hash = hash_of(bytes)?;
    let (state, _) = State::from_bytes(bytes, std::time::UNIX_EPOCH.into(), hash, options)
        .map_err(|error| Error::new("wrong-type", format!("it is no index of git: {error}")))?;
    if state.link().is_some() {
        let advice = "it is a split index, whose other part is not here: end that with \
                      `git update-index --no-split-index`";
        return Err(Error::new("wrong-type", advice));
    }
    let mut tracked: Vec<Tracked> = Vec::new();
    for entry in state.entries() {
        let Ok(path) = std::str::from_utf8(entry.path(&state)) else { continue };
        let repeated = tracked.last().is_some_and(|last| last.path == path);
        if entry.flags.contains(Flags::SKIP_WORKTREE) || repeated {
            continue;
        }
        let what = if entry.stage() != Stage::Unconflicted {
            What::Unmerged
        } else if entry.mode == Mode::COMMIT {
            What::Submodule
        } else if entry.mode == Mode::DIR {
            What::Folder
        } else {
            What::File
        };
        tracked.push(Tracked { path: path.to_owned(), what });
    }
    Ok(tracked)
}

/// Which hash a repository uses is not in its index, but the index ends with one of what is before it, or
/// with zeros (`index.skipHash`, where SHA-1 is what nearly everybody has).
fn hash_of(bytes: &[u8]) -> Result<Kind> {
    for kind in [Kind::Sha1, Kind::Sha256] {
        let Some((content, sum)) = split_end(bytes, kind.len_in_bytes()) else { continue };
        let mut hasher = hasher(kind);
        hasher.update(content);
        if hasher.try_finalize().is_ok_and(|found| found.as_slice() == sum) {
            return Ok(kind);
        }
    }
    match split_end(bytes, Kind::Sha1.len_in_bytes()) {
        Some((_, sum)) if sum.iter().all(|byte| *byte == 0) => Ok(Kind::Sha1),
        Some(_) | None => {
            let message = "it is no index of git, or only a part of one: its checksum is wrong";
            Err(Error::new("wrong-type", message))
        }
    }
}

/// What is before the last bytes, and these.
fn split_end(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
