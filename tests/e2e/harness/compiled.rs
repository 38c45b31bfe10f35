//! Compiled plugins, handed from world to world: a compiler that was built for tests takes seconds, and
//! every world has a folder of its own. The first world compiles.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::World;

/// Where they are kept: by the daemon that compiled them, because they fit no other.
fn kept(world: &World) -> PathBuf {
    let daemon = fs::metadata(world.program.with_file_name("coved")).expect("metadata");
    let name = format!("e2e-compiled-{}-{}", daemon.mtime(), daemon.mtime_nsec());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Gives a new world what there is.
pub(super) fn take(world: &World) {
    let kept = kept(world);
    if kept.is_dir() {
        copy(&kept, &world.home.join("compiled"));
    }
}

/// Keeps what a world has, if nobody was first. Renamed into place: others look meanwhile.
pub(super) fn give(world: &World) {
    let (kept, compiled) = (kept(world), world.home.join("compiled"));
    if kept.exists() || !compiled.is_dir() {
        return;
    }
    let folder = kept.parent().expect("a folder");
    let draft = tempfile::Builder::new().prefix("e2e-").tempdir_in(folder).expect("made");
    let inside = draft.path().join("compiled");
    copy(&compiled, &inside);
    // Another test was faster, with the same content.
    fs::rename(inside, kept).unwrap_or_default();
}

fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).expect("made");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
