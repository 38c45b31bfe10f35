//! What it does with the work disk and with files of the host.

use std::hint::black_box;

use crate::cove::hooks::git_config::GitConfig;
use crate::cove::hooks::host_files::HostFiles;
use crate::cove::hooks::machine::Machine;
use crate::cove::hooks::settings::Settings;
use crate::cove::hooks::state::State;
use crate::cove::hooks::types::Error;
use crate::cove::hooks::work_disk::{Place, WorkDisk};
use crate::exports::cove::hooks::prepare_work_disk::Guest;
use crate::{PIECE, Plugin, anywhere, chosen, own_error};

impl Guest for Plugin {
    fn run(
        _machine: &Machine,
        disk: &WorkDisk,
        files: &HostFiles,
        git: &GitConfig,
        settings: &Settings,
        state: &State,
    ) -> Result<(), Error> {
        let Some(misbehaviour) = chosen(settings, "prepare-work-disk")? else { return Ok(()) };
        let path = settings.text("path")?.unwrap_or_else(|| "allowed/file".to_owned());
        match misbehaviour.as_str() {
            "write" => return disk.write_file(&path, 0o644, b"x"),
            "write-and-loop" => {
                disk.write_file("allowed/file", 0o644, b"x")?;
                loop {
                    black_box(());
                }
            }
            "write-and-error" => {
                disk.write_file("allowed/file", 0o644, b"x")?;
                return Err(own_error("changed-my-mind", "no"));
            }
            "refusal-flood" => {
                for n in 0..1000 {
                    drop(disk.write_file(&format!("other-{n}"), 0o644, b""));
                }
            }
            "large-refusals" => {
                let mut name = "x".repeat(PIECE);
                for n in 0..250 {
                    name.replace_range(..3, &format!("{n:03}"));
                    drop(files.entries(&name));
                }
            }
            "directory" => return disk.make_directory(&path, 0o755),
            "remove" => return disk.remove(&path),
            "link" => return disk.symlink("allowed/link", &path),
            "marker" => return disk.ensure_block("allowed/file", 0o644, &path, "x\n", Place::End),
            "mode" => return disk.write_file("allowed/file", 0o4755, b"x"),
            "twice" => {
                disk.write_file("allowed/file", 0o644, b"x")?;
                return disk.write_file("allowed/file", 0o644, b"y");
            }
            "through-link" => {
                disk.symlink("allowed/link", "other")?;
                return disk.write_file("allowed/link/file", 0o644, b"x");
            }
            "many-files" => {
                for n in 0..100_000 {
                    disk.write_file(&format!("allowed/{n}"), 0o644, b"")?;
                }
            }
            "many-bytes" => {
                for n in 0..100_000 {
                    disk.write_file(&format!("allowed/{n}"), 0o644, &vec![7; PIECE])?;
                }
            }
            "long-file" => {
                let writer = disk.create("allowed/file", 0o644)?;
                loop {
                    writer.write(&vec![7; PIECE])?;
                }
            }
            "large-piece" => return disk.write_file("allowed/file", 0o644, &vec![7; PIECE + 1]),
            "many-writers" => {
                let mut writers = Vec::new();
                loop {
                    writers.push(disk.create(&format!("allowed/{}", writers.len()), 0o644)?);
                }
            }
            "abandon-writer" => {
                let writer = disk.create("allowed/file", 0o644)?;
                writer.write(b"never finished")?;
            }
            "read-forever" => loop {
                for file in files.entries("readable")? {
                    black_box(file.read(0, PIECE as u32)?);
                }
            },
            "read-imports" => {
                for file in files.entries("importable")? {
                    file.read(0, 1)?;
                }
            }
            "import" => {
                for (number, file) in files.entries("importable")?.iter().enumerate() {
                    disk.import_file(&format!("allowed/{number}"), 0o600, file)?;
                }
            }
            "import-all" => {
                // What is refused is not handed on: others may work.
                for (number, file) in files.entries("importable")?.iter().enumerate() {
                    drop(disk.import_file(&format!("allowed/{number}"), 0o600, file));
                }
            }
            "import-again" => {
                let listed = files.entries("importable")?;
                for (number, file) in listed.iter().cycle().take(1500).enumerate() {
                    drop(disk.import_file(&format!("allowed/{number}"), 0o600, file));
                }
            }
            "import-reads" => {
                for file in files.entries("readable")? {
                    disk.import_file("allowed/copy", 0o600, &file)?;
                }
            }
            "hoard" => {
                let mut all = Vec::new();
                loop {
                    all.push(files.entries("importable")?);
                }
            }
            "other-files" => drop(files.entries("ssh-private-keys")?),
            "other-git" => drop(git.get("credential.helper")?),
            "random" => {
                let now = std::time::SystemTime::now();
                return disk.write_file("allowed/file", 0o644, format!("{now:?}").as_bytes());
            }
            other => return anywhere::misbehave(other, settings, state),
        }
        Ok(())
    }
}
