//! As whom `cove` runs in a world: all of it works for an ordinary user as well as for root, so that
//! every test runs as both.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tool;

/// The user id of somebody who is nobody in particular: no account, no group, no rights.
const ORDINARY: u32 = 54_321;

/// What a user needs of the programs' folder.
const PROGRAMS: [&str; 4] = ["cove", "coved", "cove-agent", "plugins"];

/// What a user needs of the cache.
const CACHED: [&str; 4] = ["default.json", "images", "kernels", "tools"];

/// As whom `cove` runs in a world, and to whom belongs what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Caller,
    /// An ordinary user, who owns nothing of the cache and the programs.
    Ordinary,
}

/// Makes two tests of a function that takes a [`Who`]. They are in a module of the function's name.
macro_rules! as_everybody {
    ($test:ident) => {
        mod $test {
            use crate::harness::Who;

            #[test]
            fn as_caller() {
                Who::Caller.test(super::$test);
            }

            #[test]
            fn as_ordinary_user() {
                Who::Ordinary.test(super::$test);
            }
        }
    };
}
pub(crate) use as_everybody;

/// Says that a test is skipped, and why.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

impl Who {
    /// Runs a test as them, or says why that cannot be.
    pub(crate) fn test(self, test: impl FnOnce(Self)) {
        match self {
            Self::Ordinary if !nix::unistd::geteuid().is_root() => {
                skipped("only root can become another user");
            }
            Self::Caller | Self::Ordinary => test(self),
        }
    }

    /// Their user id.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::Caller => nix::unistd::geteuid().as_raw(),
            Self::Ordinary => ORDINARY,
        }
    }

    /// The words before a command that make it run as them.
    pub(super) fn prefix(self) -> Vec<String> {
        match self {
            Self::Caller => Vec::new(),
            Self::Ordinary => {
                let user = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
                let rest = ["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned);
                ["setpriv".to_owned()].into_iter().chain(user).chain(rest).collect()
            }
        }
    }

    /// A new folder that is theirs.
    pub(super) fn folder(self, cache: &Path) -> TempDir {
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("e2e");
            builder
        };
        match self {
            Self::Caller => builder().tempdir().expect("a folder"),
            Self::Ordinary => {
                // Where the cache can be linked, if there is such a place.
                let device = |path: &str| fs::metadata(path).expect("metadata").dev();
                let of_cache = fs::metadata(cache).expect("metadata").dev();
                let place = ["/tmp", "/var/tmp"].into_iter().find(|path| device(path) == of_cache);
                let folder = builder().tempdir_in(place.unwrap_or("/tmp")).expect("a folder");
                let everybody = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.path(), everybody).expect("set");
                lchown(folder.path(), Some(ORDINARY), Some(ORDINARY)).expect("set");
                folder
            }
        }
    }

    /// The program `cove` and a cache that they can read but not write: both may lie where only root
    /// can go, so that an ordinary user gets them in the folder `place`.
    pub(super) fn readable(
        self,
        program: PathBuf,
        cache: PathBuf,
        place: &Path,
    ) -> (PathBuf, PathBuf) {
        match self {
            Self::Caller => (program, cache),
            Self::Ordinary => {
                let cached = place.join("cache");
                fs::create_dir_all(&cached).expect("made");
                for name in CACHED.into_iter().filter(|name| cache.join(name).exists()) {
                    link_or_copy(&cache.join(name), &cached.join(name));
                }
                (linked_programs(&program, place), cached)
            }
        }
    }

    /// Makes everything below a path theirs.
    pub(super) fn own(self, path: &Path) {
        match self {
            // It is.
            Self::Caller => {}
            Self::Ordinary => give_away(path),
        }
    }
}

/// The program `cove` and those beside it in a folder of a world's own, in which it may put others.
pub(super) fn linked_programs(program: &Path, place: &Path) -> PathBuf {
    let programs = place.join("programs");
    fs::create_dir_all(&programs).expect("made");
    let built = program.parent().expect("a folder");
    for name in PROGRAMS {
        link_or_copy(&built.join(name), &programs.join(name));
    }
    programs.join("cove")
}

/// Gives everything below a path to the ordinary user. What is theirs already is left alone, and what
/// a daemon removes meanwhile is nobody's.
fn give_away(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    if metadata.uid() != ORDINARY
        && let Err(error) = lchown(path, Some(ORDINARY), Some(ORDINARY))
    {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", path.display());
    }
    if metadata.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        entries.flatten().for_each(|entry| give_away(&entry.path()));
    }
}

/// A copy, without cost where there can be one.
fn link_or_copy(source: &Path, target: &Path) {
    let words = [source, target].map(|path| path.to_str().expect("UTF-8").to_owned());
    let linked = tool("cp", &["-aL", "--link", &words[0], &words[1]], &[]);
    if linked.status != 0 {
        fs::remove_dir_all(target).unwrap_or_default();
        tool("cp", &["-aL", &words[0], &words[1]], &[]).success();
    }
}
