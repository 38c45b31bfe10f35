//! Folders of git objects of our own.

use std::fs;
use std::io;
use std::path::Path;

/// The names of the packs in a git folder, one a line.
pub(super) fn packs_in(git_folder: &Path) -> io::Result<String> {
    let mut names = String::new();
    for entry in fs::read_dir(git_folder.join("objects/pack"))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".pack")) {
            names.push_str(name);
            names.push('\n');
        }
    }
    Ok(names)
}

/// Links everything in a folder of our own into another, or copies it where that does not go. Objects are named by
/// what is in them: those that are there stay.
pub(super) fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &place)?;
        } else if !place.exists() && fs::hard_link(entry.path(), &place).is_err() {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}
