//! Standard hook `file-sync`: the files of the `[[file_sync]]` entries into the guest.
//!
//! The host maps each entry to the logical name `file-sync`, with its place and its mode in the guest.
//! The bytes never come here: a file is imported by its handle. A file gets the mode that was said,
//! else 0600; in a folder files keep theirs. Links inside folders and paths that are not there are left
//! out with a warning; everything else that goes wrong stops the start.

use cove_plugin_sdk::{Error, HostFile, Kind, PrepareWorkDisk, Result, WorkDisk, plugin, warning};

/// The mode of a file that was named itself, when nothing else was said.
const PRIVATE: u32 = 0o600;

plugin! { prepare_work_disk = prepare }

fn prepare(call: &PrepareWorkDisk) -> Result<()> {
    call.files.entries("file-sync")?.iter().try_for_each(|file| sync(call.disk, file))
}

fn sync(disk: &WorkDisk, file: &HostFile) -> Result<()> {
    let path = file.guest_path().ok_or_else(|| {
        Error::new("bad-argument", format!("`{}` has no place in the guest", file.label()))
    })?;
    match file.kind() {
        Kind::File => disk.import_file(&path, file_mode(file), file),
        Kind::Folder => disk.make_directory(&path, folder_mode(file)),
        Kind::Link => left_out(file, "is a symbolic link inside a folder"),
        Kind::Other => left_out(file, "is neither a file nor a folder"),
        Kind::Missing => left_out(file, "is not there"),
    }
}

fn left_out(file: &HostFile, why: &str) -> Result<()> {
    warning!("`{}` {why} and is left out", file.label());
    Ok(())
}

fn file_mode(file: &HostFile) -> u32 {
    match file.guest_mode() {
        Some(mode) => mode,
        None if file.path().is_empty() => PRIVATE,
        None => file.mode() & 0o777,
    }
}

/// Whoever may read what is in a folder may search it; its owner always may do both.
fn folder_mode(file: &HostFile) -> u32 {
    let mode = file.guest_mode().unwrap_or(file.mode() & 0o777);
    mode | ((mode & 0o444) >> 2) | 0o700
}
