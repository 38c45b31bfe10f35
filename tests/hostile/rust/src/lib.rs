//! A plugin that misbehaves in the way its setting `misbehaviour` says. The tests run it; nobody else
//! should.

wit_bindgen::generate!({ path: "../../../wit/0.2.0", world: "prepare-work-disk-plugin" });

use std::hint::black_box;

use cove::hooks::git_config::GitConfig;
use cove::hooks::host_files::HostFiles;
use cove::hooks::log::{Level, log};
use cove::hooks::machine::Machine;
use cove::hooks::settings::Settings;
use cove::hooks::state::State;
use cove::hooks::types::Error;
use cove::hooks::work_disk::{Place, WorkDisk};

/// The largest piece the contract allows.
const PIECE: usize = 1 << 20;

struct Plugin;
export!(Plugin);

impl exports::cove::hooks::prepare_work_disk::Guest for Plugin {
    fn run(
        _machine: &Machine,
        disk: &WorkDisk,
        files: &HostFiles,
        git: &GitConfig,
        settings: &Settings,
        _state: &State,
    ) -> Result<(), Error> {
        let path = settings.text("path")?.unwrap_or_else(|| "allowed/file".to_owned());
        match settings.text("misbehaviour")?.unwrap_or_default().as_str() {
            "loop" => loop {
                black_box(());
            },
            "wasi-flood" => loop {
                black_box(std::time::SystemTime::now());
            },
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
            "recurse" => drop(recurse(black_box(1))),
            "allocate" => allocate(),
            "panic" => panic!("the moon is full"),
            "exit" => std::process::exit(7),
            "error" => return Err(own_error("out-of-cheese", "redo from start")),
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
            "log-flood" => (0..90_000).for_each(|n| log(Level::Info, &format!("line {n}"))),
            "stderr-flood" => (0..10_000).for_each(|n| eprintln!("noise {n}")),
            "log-escape" => log(Level::Warning, "\u{1b}[2Jgone"),
            "call-flood" => loop {
                black_box(settings.text("path")?);
            },
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
            "import-again" => {
                let listed = files.entries("importable")?;
                let file = listed.iter().find(|file| file.size() > 0).expect("mapped");
                for number in 0..1000 {
                    // What is refused is not handed on: others may work again.
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
            "world" => return world(),
            other => panic!("no misbehaviour is called `{other}`"),
        }
        Ok(())
    }
}

fn own_error(code: &str, message: &str) -> Error {
    Error { code: code.to_owned(), message: message.to_owned(), retryable: false }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if frame[0] == 0 {
        return 0;
    }
    recurse(depth + 1) + frame[(depth % 64) as usize]
}

fn allocate() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; PIECE]));
    }
}

/// What an empty WASI context shows of the world, as an error, so that a test can look at it.
#[expect(clippy::disallowed_methods, reason = "it tries what a plugin must not be able to do")]
fn world() -> Result<(), Error> {
    let seed = std::collections::hash_map::RandomState::new();
    let hash = std::hash::BuildHasher::hash_one(&seed, 1);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let text = format!(
        "environment {} arguments {} passwd {} folder {} network {} time {:?} hash {hash}",
        std::env::vars().count(),
        std::env::args().count(),
        std::fs::read("/etc/passwd").is_ok(),
        std::fs::read_dir("/").is_ok(),
        std::net::TcpStream::connect("127.0.0.1:22").is_ok(),
        time.map(|time| time.as_secs()).unwrap_or(0),
    );
    Err(own_error("world", &text))
}
