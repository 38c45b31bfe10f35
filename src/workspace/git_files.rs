//! Small files of git folders: those of our own are written, those of the source only read.

use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::WorkspaceError;
use super::listing::shown;
use super::repository::Repository;
use super::tree::{Kind, Root};

/// Small files that are copied out of a git folder (ignore rules, sparse patterns, the shallow list) are
/// no larger than this.
const MAX_COPIED: u64 = 16 << 20;

/// Writes a reference of a git folder of our own. Blocks.
pub(super) fn write_ref(git: &Path, name: &str, commit: &str) -> Result<(), WorkspaceError> {
    write(&git.join(name), format!("{commit}\n").as_bytes())
}

/// Copies the rules that decide how git sees the tree: the repository's own ignore rules, attributes and
/// sparse patterns. Blocks.
pub(super) fn copy_rules(repository: &Repository, to: &Path) -> Result<(), WorkspaceError> {
    let rules = [
        (&repository.common, "info/exclude"),
        (&repository.common, "info/attributes"),
        (&repository.git_folder, "info/sparse-checkout"),
    ];
    rules.iter().try_for_each(|(folder, name)| copy(folder, name, to))
}

/// Copies a small file of a git folder, if it is there. A symlink in its place may lead to anything of
/// the user's, so it counts as absent. Blocks.
pub(super) fn copy(folder: &Path, name: &str, to: &Path) -> Result<(), WorkspaceError> {
    let unreadable = |source| WorkspaceError::Read {
        path: shown(folder.join(name).as_os_str().as_bytes()),
        source,
    };
    let root = Root::open(folder).map_err(unreadable)?;
    let found = root.look(name.as_bytes()).map_err(unreadable)?;
    let Some(Kind::File(size)) = found.map(|found| found.kind) else {
        return Ok(());
    };
    if size > MAX_COPIED {
        return Err(unreadable(io::Error::other("it is too large")));
    }
    let (file, _) = root.read(name.as_bytes()).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_COPIED).read_to_end(&mut bytes).map_err(unreadable)?;
    write(&to.join(name), &bytes)
}

/// Writes a file, and the folder that it lies in. Blocks.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|source| scratch(path, source))
}

/// Writes at the end of a file. Blocks.
pub(super) fn append(path: &Path, bytes: &[u8]) -> Result<(), WorkspaceError> {
    let opened = fs::OpenOptions::new().append(true).open(path);
    opened.and_then(|mut file| file.write_all(bytes)).map_err(|source| scratch(path, source))
}

pub(super) fn scratch(path: &Path, source: io::Error) -> WorkspaceError {
    WorkspaceError::Scratch { path: path.to_owned(), source }
}
