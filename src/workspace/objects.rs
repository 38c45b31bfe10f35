//! Folders of git repositories of our own, where git has no command for it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

/// No git of ours holds a lock of a reference for so long.
const STALE: Duration = Duration::from_secs(60);

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
/// what is in them: those that are there stay, and each appears whole. What the other lies in is not made anew where
/// somebody has removed it meanwhile.
pub(super) fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    unless_there(fs::create_dir(to))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_all(&entry.path(), &place)?;
        } else if !place.exists() && unless_there(fs::hard_link(entry.path(), &place)).is_err() {
            let mut whole = NamedTempFile::new_in(to)?;
            io::copy(&mut File::open(entry.path())?, &mut whole)?;
            whole.persist(&place).map_err(|error| error.error)?;
        }
    }
    Ok(())
}

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies the list of commits without parents from one git folder into another, where there is one.
pub(super) fn copy_shallow(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from.join("shallow"), to.join("shallow")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Links the objects of a git folder of our own into another's, but nothing of where it finds more.
pub(super) fn link_objects(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from.join("objects"))? {
        let name = entry?.file_name();
        if name != "info" {
            link_all(&from.join("objects").join(&name), &to.join("objects").join(&name))?;
        }
    }
    Ok(())
}

/// Removes the locks that a git has left which was killed: nothing else would ever remove them.
pub(super) fn remove_stale_locks(git_folder: &Path) {
    let refs = fs::read_dir(git_folder.join("refs/cove")).into_iter().flatten().flatten();
    let locks =
        refs.map(|entry| entry.path()).filter(|path| path.extension() == Some("lock".as_ref()));
    for lock in locks.chain([git_folder.join("packed-refs.lock")]) {
        let age = fs::metadata(&lock).and_then(|lock| lock.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > STALE)
            && let Err(error) = fs::remove_file(&lock)
        {
            tracing::warn!(lock = %lock.display(), %error, "cannot remove a lock that is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_old_locks_are_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let refs = folder.path().join("refs/cove");
        fs::create_dir_all(&refs).expect("made");
        let old = SystemTime::now() - STALE - Duration::from_secs(1);
        for (name, time) in [("left.lock", old), ("seen.lock", SystemTime::now()), ("base", old)] {
            let file = File::create(refs.join(name)).expect("made");
            file.set_modified(time).expect("set");
        }
        remove_stale_locks(folder.path());
        let there = |name: &str| refs.join(name).exists();
        assert!(!there("left.lock") && there("seen.lock") && there("base"));
    }
}
