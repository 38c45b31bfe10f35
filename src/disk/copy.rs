//! Copying a file with its holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};

/// Copies `from` to the new file `to` (0600), as a clone where the file system has clones, else data
/// by data, leaving holes.
///
/// # Errors
/// When `to` exists already, or reading or writing fails; then there is no `to`.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = copy(&source, &target);
    if copied.is_err() {
        std::fs::remove_file(to)?;
    }
    copied
}

fn copy(source: &File, target: &File) -> io::Result<()> {
    if ioctl_ficlone(target.as_fd(), source.as_fd()).is_ok() {
        return Ok(());
    }
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut end = 0;
    // The seek fails with ENXIO when there is no data behind `end` any more.
    while let Ok(start) = seek(source, SeekFrom::Data(end)) {
        end = seek(source, SeekFrom::Hole(start))?;
        copy_range(source, target, start, end)?;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let wanted = usize::try_from(end - read).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut read), target, Some(&mut written), wanted) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Across file systems of different kinds the kernel may not copy for us.
            Err(
                rustix::io::Errno::XDEV | rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP,
            ) => {
                return copy_by_hand(source, target, read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &File, target: &File, mut start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 256 * 1024];
    while start < end {
        let wanted = buffer.len().min(usize::try_from(end - start).unwrap_or(usize::MAX));
        source.read_exact_at(&mut buffer[..wanted], start)?;
        target.write_all_at(&buffer[..wanted], start)?;
        start += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn data_and_holes_survive() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = File::create(&from).expect("made");
        file.set_len(64 << 20).expect("grown");
        for at in [0, 10 << 20, (64 << 20) - 5] {
            file.write_all_at(b"hello", at).expect("written");
        }
        copy_sparse(&from, &to).expect("copied");
        assert_eq!(std::fs::read(&from).expect("read"), std::fs::read(&to).expect("read"));
        assert!(std::fs::metadata(&to).expect("there").blocks() * 512 < 1 << 20);
        copy_sparse(&from, &to).expect_err("never over an existing file");
    }
}
