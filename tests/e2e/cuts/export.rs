//! An export that is cut, or that nobody reads.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::prepare::Source;
use super::{Bench, Cut, Operation, Outcome, VM, guest};
use crate::harness::{QUICK, World};
use crate::watch;

/// How the temporary file of an export begins.
const TEMPORARY: &str = ".cove-export-";

/// What is in the place of the patch before the first one.
const OLD: &[u8] = b"an older patch\n";

/// Work of which nothing was exported yet.
const WORK: &str = "cd /root/song && head -c 1000000 /dev/urandom >new.bin && date +%N >>README.md && \
                    git commit -qam work && date +%N >>README.md";

/// The exit status of a command whose stdout was closed: that of tools which a signal ends then.
const STDOUT_CLOSED: i32 = 141;

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

    /// Whoever is to read the patch reads its beginning, stands still, and goes: the command ends as Unix tools do,
    /// nothing is left anywhere, and the work counts as unexported.
    pub(super) fn nobody_reads(&mut self, bench: &mut Bench) {
        self.ready(bench);
        let before = scratch(&bench.world);
        let mut command = bench.world.command(["workspace", "export", VM]).into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut patch = child.stdout.take().expect("piped");
        let read = patch.read(&mut [0]).expect("readable");
        let early = child.try_wait().expect("it can be asked");
        if (read, early) != (1, None) {
            // No pipe has room for that patch.
            panic!("it ended early: {read} bytes, {early:?}: {}", complaints(&mut child));
        }
        drop(patch);
        let wait = || child.try_wait().expect("it can be asked");
        let status = watch::until("the export that nobody reads ends", QUICK, wait);
        let said = complaints(&mut child);
        assert_eq!((status.code(), &said[..]), (Some(STDOUT_CLOSED), ""), "{status}");
        assert_eq!(scratch(&bench.world), before, "left in the daemon's scratch folder");
        assert_eq!(self.settle(bench, None), Outcome::Old, "the work counts as unexported");
    }
}

/// What a command that ends has said on stderr.
fn complaints(child: &mut Child) -> String {
    let mut said = String::new();
    let read = child.stderr.take().expect("piped").read_to_string(&mut said);
    read.expect("UTF-8");
    said
}

/// What lies in the daemon's scratch folder of workspaces.
fn scratch(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.home.join("scratch/workspaces")).expect("readable");
    let names = entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

impl Operation for Export<'_> {
    fn name(&self) -> &'static str {
        "export"
    }

    fn cuts(&self) -> &'static [(Cut, u32)] {
        &[(Cut::Line, 10), (Cut::Client, 5), (Cut::Interrupt, 4), (Cut::Daemon, 8), (Cut::Full, 5)]
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
        let is_old = found == self.old;
        // Where the disk is full, that works, too.
        if is_old || cut == Some(Cut::Full) {
            let state = bench.world.json(["workspace", "status", VM, "--json"]);
            assert_eq!(state["unexported"], is_old, "{cut:?}: who has got the work? {state}");
        }
        if is_old {
            return Outcome::Old;
        }
        bench.world.cove(self.command("again")).success();
        let again = fs::read(self.folder.join("again")).expect("read");
        assert!(found.is_some_and(|found| found == again), "half a patch");
        self.is_new = false;
        Outcome::New
    }
}
