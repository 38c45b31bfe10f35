//! Bringing a folder of files into the home: by hard link, or by copy where a link is not possible,
//! and into its place by one rename.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use nix::unistd::{Whence, lseek};

use super::error::ImageError;

/// Names of folders that are being made. Whoever holds the lock may remove them: their maker died.
const UNFINISHED: &str = ".new-";

/// A failure of the file system at `path`.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { action, path, source }
}

/// Makes the folder `shelf/name` by calling `make` with an empty folder and renaming that. When
/// another thread or process makes the same entry, this waits for it and takes its result.
pub(super) fn publish(
    shelf: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    fs::create_dir_all(shelf).map_err(failed("create", shelf))?;
    let lock_path = shelf.join(".lock");
    let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
    // Held until `lock` is dropped, by the kernel also when this process dies.
    lock.lock().map_err(failed("lock", &lock_path))?;
    let place = shelf.join(name);
    if place.exists() {
        return Ok(());
    }
    sweep(shelf)?;
    let made = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(shelf)
        .map_err(failed("create a folder in", shelf))?;
    // One level down: the temporary folder is private to this user's eyes, the entry need not be.
    let entry = made.path().join("entry");
    fs::create_dir(&entry).map_err(failed("create", &entry))?;
    make(&entry)?;
    fs::rename(&entry, &place).map_err(failed("publish", &place))?;
    File::open(shelf).and_then(|folder| folder.sync_all()).map_err(failed("sync", shelf))
}

/// Removes what makers that died have left.
fn sweep(shelf: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(shelf).map_err(failed("read", shelf))? {
        let entry = entry.map_err(failed("read", shelf))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Writes a small file in one step.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        io::Write::write_all(&mut file, content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(failed("write", path))
}

/// Brings all files and folders below `source` into the existing folder `target`. Anything else than
/// files and folders does not belong into an entry and is refused.
pub(super) fn bring_tree(source: &Path, target: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(source).map_err(failed("read", source))? {
        let entry = entry.map_err(failed("read", source))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed("read", &from))?;
        if kind.is_dir() {
            fs::create_dir(&to).map_err(failed("create", &to))?;
            bring_tree(&from, &to)?;
        } else if kind.is_file() {
            let brought = bring_file(&from, &to);
            brought.map_err(|source| ImageError::Bring { from, to, source })?;
        } else {
            return Err(ImageError::Damaged {
                path: from,
                reason: "only files and folders belong here".to_owned(),
            });
        }
    }
    Ok(())
}

fn bring_file(source: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(source, target) {
        // Another file system; a cache of another user (protected_hardlinks); too many links.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::TooManyLinks
                    | io::ErrorKind::Unsupported
            ) =>
        {
            copy_sparse(source, target)
        }
        linked => linked,
    }
}

/// Copies a file without writing its holes.
fn copy_sparse(source: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut to = File::create_new(target)?;
    let metadata = from.metadata()?;
    to.set_len(metadata.len())?;
    let mut position = 0;
    while let Some(start) = seek(&from, position, Whence::SeekData)? {
        let end = seek(&from, start, Whence::SeekHole)?.unwrap_or(metadata.len());
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&from).take(end - start), &mut to)?;
        position = end;
    }
    to.set_permissions(metadata.permissions())?;
    to.sync_all()
}

/// The next data or hole at or after `position`; `None` at the end of the file.
fn seek(file: &File, position: u64, whence: Whence) -> io::Result<Option<u64>> {
    match lseek(file, position.cast_signed(), whence) {
        Ok(found) => Ok(Some(found.cast_unsigned())),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_keeps_content_mode_and_holes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        let file = File::create(&source).expect("created");
        file.set_len(8 << 20).expect("sized");
        std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 4 << 20).expect("written");
        fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o444))
            .expect("chmod");
        copy_sparse(&source, &target).expect("copied");
        assert!(fs::read(&source).expect("source") == fs::read(&target).expect("target"));
        let metadata = fs::metadata(&target).expect("metadata");
        assert_eq!(metadata.mode() & 0o777, 0o444);
        assert!(metadata.blocks() * 512 < 1 << 20, "holes were written out");
    }

    #[test]
    fn an_empty_file_is_copied() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        File::create(&source).expect("created");
        copy_sparse(&source, &target).expect("copied");
        assert_eq!(fs::metadata(&target).expect("metadata").len(), 0);
    }

    #[test]
    fn a_failed_entry_leaves_nothing_and_leftovers_are_swept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join(".new-dead")).expect("a leftover");
        let result = publish(folder.path(), "x", |entry| {
            fs::write(entry.join("half"), b"..").expect("written");
            Err(ImageError::Damaged { path: entry.to_owned(), reason: "made up".to_owned() })
        });
        assert!(matches!(result, Err(ImageError::Damaged { .. })));
        let left: Vec<_> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        assert_eq!(left, [".lock"]);
    }

    #[test]
    fn an_entry_that_many_want_at_once_is_made_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (made, all) = (std::sync::atomic::AtomicU32::new(0), std::sync::Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    let published = publish(folder.path(), "x", |entry| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        write_file(&entry.join("content"), b"whole")
                    });
                    published.expect("published");
                    // Whoever did not make it finds it whole.
                    let content = fs::read(folder.path().join("x/content")).expect("readable");
                    assert_eq!(content, b"whole");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_symlink_in_an_entry_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&source).expect("created");
        fs::create_dir(&target).expect("created");
        std::os::unix::fs::symlink("/etc/passwd", source.join("link")).expect("linked");
        let error = bring_tree(&source, &target).expect_err("refused");
        assert!(error.to_string().contains("only files and folders"), "{error}");
    }
}
