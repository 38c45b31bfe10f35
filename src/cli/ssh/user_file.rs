//! The user's `~/.ssh/config`, of which cove has one block and leaves the rest as it is.
//!
//! A file that is there is replaced by another with the same owner and mode; where it is a link, what it leads
//! to is. The block says whether cove made the file, so that it goes again with the block.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::block;
use crate::report::{Kind, Report};
use crate::wire::guest::BlockPlace;

/// The marker of the block.
const MARKER: &str = "cove";

/// The first lines in the block.
const REMARK: &str =
    "# Of `cove ssh-config --install`; `cove ssh-config --uninstall` takes it out.\n";
const MADE: &str = "# The file was not there before.\n";

/// The longest file that is taken for a configuration, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Permission bits of a new file and a new folder.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// What an uninstall has taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There was nothing.
    Nothing,
    /// The block.
    Block,
    /// The whole file, which cove had made and which had nothing else.
    File,
}

/// The file as it is.
#[derive(Debug)]
pub(super) struct UserFile {
    /// The file itself, where a link leads to it.
    path: PathBuf,
    /// What is in it; nothing where there is none.
    found: Option<Found>,
}

#[derive(Debug)]
struct Found {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

impl UserFile {
    /// Of the user with this home.
    ///
    /// # Errors
    /// When it cannot be read, is no file, or half a block is in it.
    pub(super) fn of(home: &Path) -> Result<Self, Report> {
        let named = home.join(".ssh/config");
        let unreadable = |error: &io::Error| {
            Report::new(Kind::Failed, format!("cannot read `{}`", named.display()))
                .with_cause(error)
        };
        let path = match fs::symlink_metadata(&named) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: named, found: None });
            }
            Err(error) => return Err(unreadable(&error)),
            Ok(_) => fs::canonicalize(&named).map_err(|error| unreadable(&error))?,
        };
        let found = read(&path).map_err(|error| unreadable(&error))?;
        if let Some(line) = block::half(&found.content, MARKER) {
            let message = format!(
                "line {line} of `{}` is one edge of a block, and the other is missing",
                path.display()
            );
            return Err(Report::new(Kind::Conflict, message)
                .with_hint("remove that line, and what is left of the block, by hand"));
        }
        Ok(Self { path, found: Some(found) })
    }

    /// Puts the block with this section to the start, in place of an earlier one. Returns where the file is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn install(self, section: &str) -> Result<PathBuf, Report> {
        let made = self.found.as_ref().is_none_or(Found::was_made);
        let content = format!("{REMARK}{}{section}", if made { MADE } else { "" });
        let rest = self.rest();
        let file = block::ensure(&rest, MARKER, content.as_bytes(), BlockPlace::Start);
        let file = file.map_err(|error| self.unwritten(&error))?;
        self.write(&file)?;
        Ok(self.path)
    }

    /// Takes the block out, and says where.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn uninstall(self) -> Result<(PathBuf, Taken), Report> {
        let rest = self.rest();
        let taken = match &self.found {
            None => Taken::Nothing,
            Some(found) if found.content == rest => Taken::Nothing,
            Some(found) if found.was_made() && rest.is_empty() => Taken::File,
            Some(_) => Taken::Block,
        };
        match taken {
            Taken::Nothing => {}
            Taken::File => fs::remove_file(&self.path).map_err(|error| self.unwritten(&error))?,
            Taken::Block => self.write(&rest)?,
        }
        Ok((self.path, taken))
    }

    /// What is in it besides the block.
    fn rest(&self) -> Vec<u8> {
        let content = self.found.as_ref().map_or(&[][..], |found| &found.content);
        block::ensure(content, MARKER, b"", BlockPlace::Start)
            .expect("marker and content are sound")
    }

    fn write(&self, content: &[u8]) -> Result<(), Report> {
        if self.found.as_ref().is_some_and(|found| found.content == content) {
            return Ok(());
        }
        replace(&self.path, content, self.found.as_ref()).map_err(|error| self.unwritten(&error))
    }

    fn unwritten(&self, error: &dyn std::error::Error) -> Report {
        let message = format!("cannot write `{}`; it is as it was", self.path.display());
        Report::new(Kind::Failed, message)
            .with_cause(error)
            .with_hint("`cove ssh-config` prints what belongs into it")
    }
}

impl Found {
    fn was_made(&self) -> bool {
        let mut lines = self.content.split_inclusive(|&byte| byte == b'\n');
        lines.any(|line| line == MADE.as_bytes())
    }
}

fn read(path: &Path) -> io::Result<Found> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if !fs::metadata(path)?.is_file() {
        return Err(wrong("it is not a file"));
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut content = Vec::new();
    (&mut file).take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(wrong("it is too long for a configuration"));
    }
    let owner = (metadata.uid(), metadata.gid());
    Ok(Found { content, mode: metadata.permissions().mode() & 0o7777, owner })
}

/// Puts the file there as a whole.
fn replace(path: &Path, content: &[u8], before: Option<&Found>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(content)?;
    if let Some(Found { owner: (user, group), .. }) = before {
        let made = draft.as_file().metadata()?;
        if (made.uid(), made.gid()) != (*user, *group) {
            fchown(draft.as_file(), Some(*user), Some(*group))?;
        }
    }
    let mode = before.map_or(FILE_MODE, |found| found.mode);
    draft.as_file().set_permissions(Permissions::from_mode(mode))?;
    draft.as_file().sync_all()?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const SECTION: &str = "Host *.cove\n    User root\nMatch all\n";

    /// A home, and the path of the file in it.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(".ssh/config");
        (home, path)
    }

    fn home_with(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let (home, path) = home();
        fs::create_dir(home.path().join(".ssh")).expect("made");
        fs::write(&path, content).expect("written");
        (home, path)
    }

    fn install(home: &Path, section: &str) -> PathBuf {
        UserFile::of(home).expect("readable").install(section).expect("installed")
    }

    fn uninstall(home: &Path) -> Taken {
        UserFile::of(home).expect("readable").uninstall().expect("taken out").1
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("there")
    }

    #[test]
    fn a_file_that_was_not_there_comes_and_goes() {
        let (home, path) = home();
        assert_eq!(install(home.path(), SECTION), path);
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        let expected = format!("# >>> cove >>>\n{REMARK}{MADE}{SECTION}# <<< cove <<<\n");
        assert_eq!(text(&path), expected);
        install(home.path(), SECTION);
        assert_eq!(text(&path), expected, "once more is no more");
        assert_eq!(uninstall(home.path()), Taken::File);
        assert!(!path.exists());
        assert_eq!(uninstall(home.path()), Taken::Nothing);
        assert_eq!(fs::read_dir(home.path().join(".ssh")).expect("readable").count(), 0);
    }

    #[test]
    fn what_the_user_wrote_is_kept_byte_for_byte() {
        for before in [
            &b""[..],
            b"Host a\n  User b\n",
            b"Host a\r\n  User b\r\n\r\n",
            b"no newline at the end",
            b"\xff\xfe not UTF-8\n# <<< others <<<\n",
        ] {
            let (home, path) = home_with(before);
            fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
            for section in ["Host old.cove\nMatch all\n", SECTION] {
                install(home.path(), section);
                let after = fs::read(&path).expect("there");
                let start = format!("# >>> cove >>>\n{REMARK}{section}# <<< cove <<<\n");
                assert_eq!(after, [start.as_bytes(), before].concat());
                assert_eq!(mode(&path), 0o640);
            }
            assert_eq!(uninstall(home.path()), Taken::Block);
            assert_eq!(fs::read(&path).expect("there"), before);
            assert_eq!(mode(&path), 0o640);
        }
    }

    #[test]
    fn a_file_of_coves_that_the_user_has_written_into_stays() {
        let (home, path) = home();
        install(home.path(), SECTION);
        fs::write(&path, text(&path) + "Host mine\n").expect("written");
        install(home.path(), SECTION);
        assert!(
            text(&path).starts_with("# >>> cove >>>\n") && text(&path).ends_with("Host mine\n")
        );
        assert_eq!(uninstall(home.path()), Taken::Block);
        assert_eq!(text(&path), "Host mine\n");
    }

    #[test]
    fn a_block_that_was_moved_comes_back_to_the_start() {
        let (home, path) = home();
        install(home.path(), SECTION);
        let block = text(&path);
        fs::write(&path, format!("Host mine\n{block}Host other\n")).expect("written");
        install(home.path(), SECTION);
        assert_eq!(text(&path), format!("{block}Host mine\nHost other\n"));
    }

    #[test]
    fn a_link_stays_one_and_its_target_is_written() {
        let (home, path) = home();
        let elsewhere = home.path().join("dotfiles");
        fs::create_dir_all(&elsewhere).expect("made");
        fs::create_dir(home.path().join(".ssh")).expect("made");
        fs::write(elsewhere.join("ssh"), "Host a\n").expect("written");
        symlink("../dotfiles/ssh", &path).expect("linked");
        let written = install(home.path(), SECTION);
        assert!(written.ends_with("dotfiles/ssh"), "{}", written.display());
        assert!(fs::symlink_metadata(&path).expect("there").is_symlink());
        assert!(text(&elsewhere.join("ssh")).ends_with("# <<< cove <<<\nHost a\n"));
        assert_eq!(uninstall(home.path()), Taken::Block);
        assert_eq!(text(&path), "Host a\n");
        assert_eq!(fs::read_dir(&elsewhere).expect("readable").count(), 1, "no draft is left");
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_left_as_it_is() {
        for half in ["# >>> cove >>>\nHost a\n", "Host a\n# <<< cove <<<\n"] {
            let (home, path) = home_with(half.as_bytes());
            let report = UserFile::of(home.path()).expect_err("refused");
            assert!(report.kind == Kind::Conflict && report.hint.is_some(), "{report:?}");
            assert_eq!(text(&path), half);
        }
        let (home, path) = home();
        fs::create_dir_all(&path).expect("made");
        assert!(UserFile::of(home.path()).expect_err("a folder").cause[0].contains("not a file"));
        fs::remove_dir(&path).expect("removed");
        symlink("nowhere", &path).expect("linked");
        UserFile::of(home.path()).expect_err("a link to nothing");
    }
}
