//! A prepare that is cut: of a repository that is in the guest already, and of one whose folder is gone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::harness::{QUICK, Repository, World, tool, wait_until};
use crate::watch;

use super::{Bench, Cut, Operation, Outcome, SETTLED, VM, guest, inside};

/// How many small files differ from one state of the source to the other.
const SMALL: usize = 60;

/// How large the large file is that does.
const LARGE: usize = 512 << 10;

/// What all of that comes to at least, with git's own.
const BYTES: u64 = 900 << 10;

/// The states of the source: branches that have everything otherwise.
const STATES: [&str; 2] = ["main", "other"];

/// One prepare in so many finds no folder in the guest.
const ANEW: u64 = 4;

/// Says of a checkout where it is, what git thinks of it, and what is in its files. Nothing is written.
const LOOK: &str = "export GIT_OPTIONAL_LOCKS=0; git rev-parse HEAD && git symbolic-ref HEAD && \
                    git status --porcelain UNTRACKED && \
                    git ls-files -z | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum";

/// What [`LOOK`] says of no checkout.
const NOTHING: &str = "nothing\n";

/// A source whose state can be compared with what it was.
pub(super) struct Source {
    pub(super) repository: Repository,
    before: BTreeMap<PathBuf, String>,
}

impl Source {
    fn take(world: &World, repository: Repository) -> Self {
        let before = world.fingerprint(&repository.path);
        Self { repository, before }
    }

    /// Nothing of it has changed.
    pub(super) fn is_as_it_was(&self, world: &World) {
        assert!(world.fingerprint(&self.repository.path) == self.before, "the source has changed");
    }
}

/// The operation.
pub(super) struct Prepare {
    /// The repository.
    pub(super) source: Source,
    /// What [`LOOK`] says of the source.
    wanted: String,
    /// What it says of the guest's.
    there: String,
    state: usize,
}

impl Prepare {
    /// One of a repository with two states, of which nothing is in the guest.
    pub(super) fn of(bench: &Bench) -> Self {
        let repository = bench.world.repo();
        repository.git(&["branch", STATES[1]]);
        for state in STATES {
            repository.git(&["checkout", "--quiet", "--force", state]);
            let line = format!("{state} ").repeat(100);
            for number in 0..SMALL {
                repository.write(&format!("verses/{}/{number}", number % 10), &line);
            }
            let mut noise = vec![0; LARGE];
            getrandom::fill(&mut noise).expect("random bytes");
            std::fs::write(repository.path.join("noise"), noise).expect("written");
            repository.git(&["add", "."]);
            repository.git(&["commit", "--quiet", "-m", state]);
        }
        let source = Source::take(&bench.world, repository);
        let mut prepare =
            Self { source, wanted: String::new(), there: NOTHING.to_owned(), state: 0 };
        prepare.turn(bench);
        prepare
    }

    /// Whatever the last cut has left, the source is in the guest.
    pub(super) fn end(&self, world: &World) {
        let source = self.source.repository.arg();
        world.cove(["workspace", "prepare", VM, source, "--discard-work"]).success();
    }

    /// The daemon is killed between the end of a first prepare and the row that says so, as if it were: the next try
    /// finds out, and takes somebody's folder for nothing that went in.
    pub(super) fn nobody_hears_of_the_first(&self, world: &World) {
        // Without work, which would be in the way.
        self.end(world);
        let source = self.source.repository.arg();
        let unheard = |words: &[&str]| {
            watch::kill_daemon(world);
            let unsaid = format!("UPDATE vm SET workspace = NULL WHERE name = '{VM}'");
            world.rewrite_rows(&[unsaid]);
            world.cove(words)
        };
        let again = |status| unheard(&["workspace", "prepare", VM, source]).status(status);
        again(0).prints("/root/song\n");
        let state = world.json(["workspace", "status", VM, "--json"]);
        assert_eq!(state["unexported"], false, "{state}");
        let full = ["workspace", "prepare", VM, source, "--mode", "full"];
        unheard(&full).status(4).says("in the mode `shallow`");
        unheard(&["delete", VM]).status(4).says("--discard-work");
        guest(world, "echo mine >>/root/song/README.md");
        // The first refusal leaves what the second one goes by.
        for _ in 0..2 {
            again(4).says("something is there already");
            assert_eq!(guest(world, "tail -n 1 /root/song/README.md"), "mine\n");
        }
        guest(world, "sed -i '$d' /root/song/README.md");
        again(0).prints("/root/song\n");
        guest(world, "rm -r /root/song");
        again(0).prints("/root/song\n");
        self.source.is_as_it_was(world);
    }

    /// Brings the source into its other state.
    fn turn(&mut self, bench: &Bench) {
        self.state = 1 - self.state;
        let state = STATES[self.state];
        let repository = &self.source.repository;
        repository.git(&["checkout", "--quiet", "--force", state]);
        repository.write("README.md", &format!("# {state}, and not committed\n"));
        let script = format!("cd '{}' && {}", repository.arg(), LOOK.replace("UNTRACKED", "-uno"));
        let home = bench.world.user_home.to_str().expect("UTF-8");
        self.wanted = tool("sh", &["-c", &script], &[("HOME", home)]).success().stdout;
        self.source.before = bench.world.fingerprint(&self.source.repository.path);
    }
}

impl Operation for Prepare {
    fn name(&self) -> &'static str {
        "prepare"
    }

    fn cuts(&self) -> &'static [(Cut, u32)] {
        &[(Cut::Line, 10), (Cut::Client, 6), (Cut::Interrupt, 5), (Cut::Daemon, 8), (Cut::Disk, 12)]
    }

    fn bytes(&self) -> u64 {
        BYTES
    }

    fn ready(&mut self, bench: &mut Bench) -> Vec<String> {
        if self.there == self.wanted {
            self.turn(bench);
        }
        let mut words = vec!["workspace".to_owned(), "prepare".to_owned(), VM.to_owned()];
        if self.there != NOTHING && bench.random.below(ANEW) == 0 {
            guest(&bench.world, "rm -r /root/song");
            NOTHING.clone_into(&mut self.there);
        }
        if self.there == NOTHING {
            words.extend(["--discard-work".to_owned(), self.source.repository.arg().to_owned()]);
        }
        words
    }

    fn settle(&mut self, bench: &mut Bench, _: Option<Cut>) -> Outcome {
        self.source.is_as_it_was(&bench.world);
        // The daemon goes on without its client, and the guest with what it had got whole when the cut came.
        watch::until("the daemon has ended it", QUICK, || {
            let operations = bench.world.json(["op", "list", "--json"]);
            let operations = operations.as_array().expect("operations");
            operations.iter().all(|operation| !operation["end"].is_null()).then_some(())
        });
        let look = LOOK.replace("UNTRACKED", "");
        let script = format!(
            "if cd /root/song 2>/dev/null; then {look}; else echo nothing; fi; ls -A /root | grep '^.cove' || true"
        );
        let mut seen = String::new();
        let whole = wait_until(SETTLED, || {
            let ran = inside(&bench.world, &script);
            seen = ran.stdout;
            let outcomes = [(&self.wanted, Outcome::New), (&self.there, Outcome::Old)];
            let found = outcomes.into_iter().find(|(look, _)| **look == seen);
            found.map(|(_, outcome)| outcome).ok_or(())
        });
        let Ok(whole) = whole else {
            panic!("half a checkout:\n{seen}\nold:\n{}\nnew:\n{}", self.there, self.wanted);
        };
        self.there = seen;
        whole
    }
}
