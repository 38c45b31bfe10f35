//! A copy that is cut: of files and trees, into the guest and out of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{tool, wait_until};

use super::{Bench, Cut, Operation, Outcome, SETTLED, VM, guest};

/// How large what is copied is.
const BYTES: u64 = 3 << 20;

/// What the folder around the destination is called, on either side.
const FOLDER: &str = "copies";

/// Says what is in a folder, with modes, targets and contents. It may be changing.
const LOOK: &str = "find . -printf '%y %m %l %p\\n' 2>/dev/null | LC_ALL=C sort; \
                    find . -type f -print0 2>/dev/null | LC_ALL=C sort -z | \
                    xargs -r0 sha256sum 2>/dev/null; true";

/// From where to where, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A file, in the place of another, into the home.
    FileIn,
    /// A tree, into a folder of the root's disk.
    TreeIn,
    /// A file, in the place of another, out of the guest.
    FileOut,
    /// A tree, out of the guest.
    TreeOut,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::FileIn, Self::TreeIn, Self::FileOut, Self::TreeOut];

    fn is_in(self) -> bool {
        matches!(self, Self::FileIn | Self::TreeIn)
    }

    fn is_tree(self) -> bool {
        matches!(self, Self::TreeIn | Self::TreeOut)
    }

    /// The folder around the destination, in the guest.
    fn guest_folder(self) -> &'static str {
        match self {
            Self::TreeIn => "/opt/copies",
            Self::FileIn | Self::FileOut | Self::TreeOut => "/root/copies",
        }
    }
}

/// The operation.
pub(super) struct Copying {
    way: Way,
    /// The folder of this host.
    here: PathBuf,
    /// What [`LOOK`] says of the destination's folder before, and when all has come.
    looks: [String; 2],
    /// Which of the two sources is copied.
    number: usize,
}

impl Copying {
    /// One this way, with two sources.
    pub(super) fn of(bench: &Bench, way: Way) -> Self {
        let here = bench.world.folder().join(format!("{FOLDER}-{way:?}"));
        fs::create_dir_all(here.join(FOLDER)).expect("made");
        for number in 0..2 {
            let source = here.join(format!("source-{number}"));
            let (file, size) = match way.is_tree() {
                true => {
                    fs::create_dir(&source).expect("made");
                    (0..40).for_each(|part| noise(&source.join(part.to_string()), 20 << 10));
                    (source.join("large"), BYTES - 40 * (20 << 10))
                }
                false => (source, BYTES),
            };
            noise(&file, size);
        }
        let folder = way.guest_folder();
        guest(&bench.world, &format!("mkdir -p {folder}"));
        if !way.is_in() {
            for number in 0..2 {
                let source = here.join(format!("source-{number}"));
                let (from, to) =
                    (source.to_str().expect("UTF-8"), format!("{VM}:/root/{way:?}-{number}"));
                bench.world.cove(["cp", from, &to]).success();
            }
        }
        Self { way, here, looks: Default::default(), number: 0 }
    }

    fn look(&self, bench: &Bench) -> String {
        match self.way.is_in() {
            true => guest(&bench.world, &format!("cd {} && {LOOK}", self.way.guest_folder())),
            false => look_here(&self.here.join(FOLDER)),
        }
    }

    /// What is expected when all has come: the source under the destination's name.
    fn expected(&self) -> String {
        let made = self.here.join("expected");
        let [from, to] = [self.here.join(format!("source-{}", self.number)), made.join("copy")];
        let script = format!(
            "rm -rf '{0}' && mkdir '{0}' && cp -a '{1}' '{2}'",
            made.display(),
            from.display(),
            to.display()
        );
        tool("sh", &["-c", &script], &[]).success();
        look_here(&made)
    }
}

fn look_here(folder: &Path) -> String {
    tool("sh", &["-c", &format!("cd '{}' && {LOOK}", folder.display())], &[]).success().stdout
}

fn noise(file: &Path, size: u64) {
    let mut bytes = vec![0; usize::try_from(size).expect("fits")];
    getrandom::fill(&mut bytes).expect("random bytes");
    fs::write(file, bytes).expect("written");
}

impl Operation for Copying {
    fn name(&self) -> &'static str {
        match self.way {
            Way::FileIn => "copy of a file into it",
            Way::TreeIn => "copy of a tree into it",
            Way::FileOut => "copy of a file out of it",
            Way::TreeOut => "copy of a tree out of it",
        }
    }

    fn cuts(&self) -> &'static [(Cut, u32)] {
        match self.way {
            Way::FileIn => &[
                (Cut::Line, 4),
                (Cut::Client, 2),
                (Cut::Interrupt, 2),
                (Cut::Daemon, 2),
                (Cut::Disk, 12),
            ],
            Way::TreeIn => {
                &[(Cut::Line, 4), (Cut::Client, 2), (Cut::Interrupt, 2), (Cut::Daemon, 2)]
            }
            Way::FileOut | Way::TreeOut => {
                &[(Cut::Line, 3), (Cut::Client, 2), (Cut::Interrupt, 2), (Cut::Daemon, 2)]
            }
        }
    }

    fn bytes(&self) -> u64 {
        BYTES
    }

    fn ready(&mut self, bench: &mut Bench) -> Vec<String> {
        self.looks[0] = self.look(bench);
        if self.looks[0] == self.looks[1] {
            self.number = 1 - self.number;
            if self.way.is_tree() {
                match self.way.is_in() {
                    true => drop(guest(&bench.world, "rm -r /opt/copies/copy")),
                    false => {
                        fs::remove_dir_all(self.here.join(FOLDER).join("copy")).expect("removed")
                    }
                }
                self.looks[0] = self.look(bench);
            }
        }
        self.looks[1] = self.expected();
        let (here, number) = (self.here.to_str().expect("UTF-8"), self.number);
        let words = match self.way.is_in() {
            true => [
                format!("{here}/source-{number}"),
                format!("{VM}:{}/copy", self.way.guest_folder()),
            ],
            false => {
                [format!("{VM}:/root/{:?}-{number}", self.way), format!("{here}/{FOLDER}/copy")]
            }
        };
        [&["cp".to_owned()], &words[..]].concat()
    }

    fn settle(&mut self, bench: &mut Bench, cut: Option<Cut>) -> Outcome {
        let mut seen = String::new();
        if !self.way.is_in() && cut == Some(Cut::Client) {
            // Nobody is there to clear away.
            let script = format!("rm -rf '{}'/{FOLDER}/.cove-cp-*", self.here.display());
            tool("sh", &["-c", &script], &[]).success();
        }
        // The guest clears away when it sees that its connection is gone.
        let outcome = wait_until(SETTLED, || {
            seen = self.look(bench);
            let staging = guest(&bench.world, "ls -A /root | grep '^.cove' || true");
            seen.push_str(&staging);
            let outcomes = [(&self.looks[1], Outcome::New), (&self.looks[0], Outcome::Old)];
            let found = outcomes.into_iter().find(|(look, _)| **look == seen);
            found.map(|(_, outcome)| outcome).ok_or(())
        });
        outcome.unwrap_or_else(|()| {
            panic!("half a copy:\n{seen}\nold:\n{}\nnew:\n{}", self.looks[0], self.looks[1])
        })
    }
}
