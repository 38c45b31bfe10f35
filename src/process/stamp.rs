//! Whether a file is still the one that was looked at, without reading it again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which file it is, and when it last changed. The time is that of the inode's last change: programs
/// cannot set it, so a file with an older modification time that takes a place shows as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl FileStamp {
    /// Of the file at `path`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// The file that is run for `program`: a path, or a name to be found in `search_path`.
#[must_use]
pub fn find_program(program: &Path, search_path: &OsStr) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    let mut places = std::env::split_paths(search_path).map(|folder| folder.join(program));
    places.find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_another_shows() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("program");
        std::fs::write(&path, "one").expect("written");
        let one = FileStamp::of(&path).expect("there");
        assert_eq!(FileStamp::of(&path).expect("there"), one);
        let draft = folder.path().join("draft");
        std::fs::write(&draft, "two").expect("written");
        std::fs::rename(&draft, &path).expect("renamed");
        assert_ne!(FileStamp::of(&path).expect("there"), one);
    }

    #[test]
    fn a_name_is_looked_for_and_a_path_is_not() {
        let folder = tempfile::tempdir().expect("tempdir");
        let program = folder.path().join("tool");
        std::fs::write(&program, "").expect("written");
        let search = std::env::join_paths([Path::new("/nowhere"), folder.path()]).expect("joins");
        assert_eq!(find_program(Path::new("tool"), &search), Some(program));
        assert_eq!(find_program(Path::new("other"), &search), None);
        assert_eq!(find_program(Path::new("/x/tool"), &search), Some("/x/tool".into()));
    }
}
