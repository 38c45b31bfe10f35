//! Standard hook `file-sync`: the files of the `[[file_sync]]` entries into the guest.
//!
//! The host maps each entry to the logical name `file-sync`, with its place and its mode in the guest.
//! The bytes never come here: a file is imported by its handle. A file gets the mode that was said,
//! else 0600; in a folder files keep theirs. Links inside folders and paths that are not there are left
//! out with a warning; everything else that goes wrong stops the start.

wit_bindgen::generate!({ path: "../../wit/0.1.0", world: "work-disk-plugin" });

use cove::hooks::git_config::GitConfig;
use cove::hooks::host_files::{HostFile, HostFiles, Kind};
use cove::hooks::log::{Level, log};
use cove::hooks::settings::Settings;
use cove::hooks::types::Error;
use cove::hooks::work_disk::WorkDisk;

/// The mode of a file that was named itself, when nothing else was said.
const PRIVATE: u32 = 0o600;

struct Plugin;
export!(Plugin);

impl exports::cove::hooks::prepare_work_disk::Guest for Plugin {
    fn run(
        disk: &WorkDisk,
        files: &HostFiles,
        _git: &GitConfig,
        _settings: &Settings,
    ) -> Result<(), Error> {
        files.entries("file-sync")?.iter().try_for_each(|file| sync(disk, file))
    }
}

fn sync(disk: &WorkDisk, file: &HostFile) -> Result<(), Error> {
    let path = file.guest_path().ok_or_else(|| Error {
        code: "bad-argument".to_owned(),
        message: format!("`{}` has no place in the guest", file.label()),
        retryable: false,
    })?;
    match file.kind() {
        Kind::File => disk.import_file(&path, file_mode(file), file),
        Kind::Folder => disk.make_directory(&path, folder_mode(file)),
        Kind::Link => left_out(file, "is a symbolic link inside a folder"),
        Kind::Other => left_out(file, "is neither a file nor a folder"),
        Kind::Missing => left_out(file, "is not there"),
    }
}

fn left_out(file: &HostFile, why: &str) -> Result<(), Error> {
    log(Level::Warning, &format!("`{}` {why} and is left out", file.label()));
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
