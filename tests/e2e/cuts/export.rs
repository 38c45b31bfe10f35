//! An export that is cut.

use std::fs;
use std::path::PathBuf;

use super::prepare::Source;
use super::{Bench, Cut, Operation, Outcome, VM, guest};

/// How the temporary file of an export begins.
const TEMPORARY: &str = ".cove-export-";

/// What is in the place of the patch before the first one.
const OLD: &[u8] = b"an older patch\n";

/// Work of which nothing was exported yet.
const WORK: &str = "cd /root/song && head -c 1000000 /dev/urandom >new.bin && date +%N >>README.md && \
                    git commit -qam work && date +%N >>README.md";

/// All of the guest's repository.
const LOOK: &str =
    "cd /root/song && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";

/// The operation.
pub(super) struct Export<'a> {
    source: &'a Source,
    folder: PathBuf,
    old: Option<Vec<u8>>,
    guest: String,
    /// Whether there is work that this has not exported.
    is_new: bool,
}

impl<'a> Export<'a> {
    /// One of the repository that is in the guest.
    pub(super) fn of(bench: &Bench, source: &'a Source) -> Self {
        let folder = bench.world.folder().join("patches");
        fs::create_dir(&folder).expect("made");
        Self { source, folder, old: None, guest: String::new(), is_new: false }
    }

    fn patch(&self) -> PathBuf {
        self.folder.join("patch")
    }

    fn command(&self, name: &str) -> Vec<String> {
        let file = self.folder.join(name);
        let file = file.to_str().expect("UTF-8");
        ["workspace", "export", VM, "--output", file].map(str::to_owned).to_vec()
    }
}

impl Operation for Export<'_> {
    fn name(&self) -> &'static str {
        "export"
    }

    fn cuts(&self) -> &'static [(Cut, u32)] {
        &[(Cut::Line, 10), (Cut::Client, 5), (Cut::Interrupt, 4), (Cut::Daemon, 8)]
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn ready(&mut self, bench: &mut Bench) -> Vec<String> {
        if !self.is_new {
            self.guest = guest(&bench.world, &format!("{WORK} && {LOOK}"));
            self.is_new = true;
        }
        match bench.random.below(3) {
            0 if self.patch().exists() => fs::remove_file(self.patch()).expect("removed"),
            1 => fs::write(self.patch(), OLD).expect("written"),
            _ => {}
        }
        self.old = fs::read(self.patch()).ok();
        self.command("patch")
    }

    fn settle(&mut self, bench: &mut Bench, cut: Option<Cut>) -> Outcome {
        self.source.is_as_it_was(&bench.world);
        assert_eq!(guest(&bench.world, LOOK), self.guest, "the guest has changed");
        for entry in fs::read_dir(&self.folder).expect("readable") {
            let path = entry.expect("read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            if name.starts_with(TEMPORARY) {
                assert_eq!(cut, Some(Cut::Client), "`{name}` is left");
                fs::remove_file(&path).expect("removed");
            }
        }
        let found = fs::read(self.patch()).ok();
        if found == self.old {
            let state = bench.world.json(["workspace", "status", VM, "--json"]);
            assert_eq!(state["unexported"], true, "nobody has got the work: {state}");
            return Outcome::Old;
        }
        bench.world.cove(self.command("again")).success();
        let again = fs::read(self.folder.join("again")).expect("read");
        assert!(found.is_some_and(|found| found == again), "half a patch");
        self.is_new = false;
        Outcome::New
    }
}
