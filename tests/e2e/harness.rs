//! A world of its own for one test: a `COVE_HOME`, a user's home with keys and git identity, and the
//! programs as they were built.
//!
//! ```text
//!  World::new(who) ──▶ world.cove([...]), world.repo() … ──▶ world.finish(): asserts that nothing is left,
//!       │                                                    and that every disk of its VMs is sound
//!       └─ dropped by a failing test: removes what is left, and shows the daemon's log
//! ```
//!
//! What a test writes into the world is the user's as whom `cove` runs, from the next `cove` on.

mod command;
mod compiled;
mod disks;
mod processes;
mod repository;
mod rows;
mod small_disk;
mod who;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use command::{Cove, Ran, Running, tool};
pub(crate) use processes::Found;
pub(crate) use repository::Repository;
pub(crate) use small_disk::SmallDisk;
pub(crate) use who::{Who, as_everybody, skipped};

/// How long anything may take that boots no guest.
pub(crate) const QUICK: Duration = Duration::from_secs(60);
/// How long anything may take that boots a guest, with other guests beside it.
pub(crate) const BOOT: Duration = Duration::from_secs(240);

/// The user's public key.
pub(crate) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNvdmUtZTJlLWtleS1vZi1ub2JvZHktMDAwMDAw nobody@example";

/// What all worlds configure: small machines without a network. None is made ahead: the processes of those have
/// no VM's id, by which tests look for what is left.
const CONFIGURATION: &str =
    "[net]\nspares = SPARES\n[vm]\nvcpu = 1\nmemory = \"256M\"\nnet = \"none\"\n";

/// The folder of a world that is not its user's: programs and cache.
const SHARED: &str = "shared";
/// The folder of a world with the disks of its VMs.
const DISKS: &str = "disks";

/// One test's world.
#[derive(Debug)]
pub(crate) struct World {
    /// As whom `cove` runs.
    pub(crate) who: Who,
    /// Where `COVE_HOME` is, if that is a file system of its own. Before the folder it is in: dropped
    /// first.
    pub(crate) disk: Option<SmallDisk>,
    /// The disks of its VMs.
    disks: disks::Disks,
    folder: TempDir,
    /// `COVE_HOME`.
    pub(crate) home: PathBuf,
    /// `HOME`.
    pub(crate) user_home: PathBuf,
    /// `COVE_CACHE`.
    pub(crate) cache: PathBuf,
    /// The program `cove`, with its companions beside it.
    pub(crate) program: PathBuf,
    /// Words before every command, to run it in a namespace.
    pub(crate) prefix: Vec<String>,
    finished: bool,
}

impl World {
    /// A world with a short path.
    pub(crate) fn new(who: Who) -> Self {
        Self::at(who, "cove")
    }

    /// A world whose `COVE_HOME` has this path below the world's folder.
    pub(crate) fn at(who: Who, home: &str) -> Self {
        Self::make(who, home, |_| None)
    }

    /// A world whose `COVE_HOME` is on a disk of 40 MiB. Ask [`SmallDisk::unavailable`] first.
    pub(crate) fn on_small_disk(who: Who) -> Self {
        Self::make(who, "cove", |home| Some(SmallDisk::mount(home)))
    }

    /// A world of the caller's whose programs are its own, so that it can put plugins into their folder
    /// `plugins`: those are standard ones, then.
    pub(crate) fn with_own_programs() -> Self {
        let mut world = Self::new(Who::Caller);
        world.program = who::linked_programs(&world.program, &world.folder().join(SHARED));
        world
    }

    fn make(who: Who, home: &str, disk: impl FnOnce(&Path) -> Option<SmallDisk>) -> Self {
        let (program, cache) = (PathBuf::from(env!("CARGO_BIN_EXE_cove")), cache());
        require_companions(&program);
        let folder = who.folder(&cache);
        let (program, cache) = who.readable(program, cache, &folder.path().join(SHARED));
        let user_home = folder.path().join("user");
        let home = folder.path().join(home);
        fs::create_dir_all(user_home.join(".ssh")).expect("made");
        fs::create_dir_all(&home).expect("made");
        let disk = disk(&home);
        for private in [&home, &user_home.join(".ssh")] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700)).expect("set");
        }
        let disks = disks::Disks::watch(home.join("vms"), folder.path().join(DISKS));
        let (prefix, finished) = (Vec::new(), false);
        let world =
            Self { who, disk, disks, folder, home, user_home, cache, program, prefix, finished };
        world.write_user_home();
        world.configure("");
        compiled::take(&world);
        world
    }

    fn write_user_home(&self) {
        let private = self.user_home.join(".ssh/id_ed25519");
        fs::write(&private, "a private key that must never leave this folder\n").expect("written");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("set");
        let public = format!("{PUBLIC_KEY}\n");
        fs::write(self.user_home.join(".ssh/id_ed25519.pub"), public).expect("written");
        let identity = "[user]\n\tname = Ada Lövelace\n\temail = ada@example.org\n";
        fs::write(self.user_home.join(".gitconfig"), identity).expect("written");
    }

    /// The folder of everything: homes, repositories, scratch of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes `config.toml`: what all worlds configure, and `more` after it. A daemon reads it when it
    /// starts.
    pub(crate) fn configure(&self, more: &str) {
        self.write_configuration(0, more);
    }

    /// The same of a world whose daemon makes so many networks ahead.
    pub(crate) fn configure_spares(&self, spares: u8) {
        self.write_configuration(spares, "");
    }

    fn write_configuration(&self, spares: u8, more: &str) {
        let text = CONFIGURATION.replace("SPARES", &spares.to_string()) + more;
        fs::write(self.home.join("config.toml"), text).expect("written");
    }

    /// A repository with commits, an uncommitted edit, an untracked `.env`, an ignored file, an
    /// executable file and a symlink.
    pub(crate) fn repo(&self) -> Repository {
        Repository::make(&self.folder().join("work/song"), &self.user_home, self.who)
    }

    /// The same in another folder than the world's.
    pub(crate) fn repo_in(&self, folder: &Path) -> Repository {
        Repository::make(&folder.join("song"), &self.user_home, self.who)
    }

    /// Everything below a folder of the world, as [`repository::fingerprint`] has it.
    pub(crate) fn fingerprint(&self, folder: &Path) -> BTreeMap<PathBuf, String> {
        self.settle();
        repository::fingerprint(folder)
    }

    /// Makes what the test has put into the world its user's.
    fn settle(&self) {
        for entry in fs::read_dir(self.folder()).expect("readable") {
            let entry = entry.expect("read");
            if entry.file_name() != SHARED && entry.file_name() != DISKS {
                self.who.own(&entry.path());
            }
        }
    }

    /// `cove` with these arguments, not started yet.
    pub(crate) fn command<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Cove {
        self.companion("cove", arguments)
    }

    /// `cove` or a program beside it, in the same environment, not started yet.
    pub(crate) fn companion<A: AsRef<str>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Cove {
        self.settle();
        Cove::new(self, name, arguments)
    }

    /// Runs `cove` with these arguments to its end.
    pub(crate) fn cove<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.command(arguments).run()
    }

    /// Runs `cove`, which must succeed, and returns its stdout as JSON.
    pub(crate) fn json<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        self.cove(arguments).success().json()
    }

    /// Starts a VM that stays: `cove run -d --name NAME MORE…`. Returns it as `cove show` has it.
    pub(crate) fn start(&self, name: &str, more: &[&str]) -> Value {
        self.json([&["run", "-d", "--json", "--name", name], more].concat())
    }

    /// Runs a shell script in a VM, which must succeed, and returns its stdout.
    pub(crate) fn guest(&self, vm: &str, script: &str) -> String {
        self.cove(["exec", vm, "--", "sh", "-c", script]).success().stdout
    }

    /// Whether a guest gets an answer from a web server.
    pub(crate) fn reaches(&self, vm: &str, host: &str) -> bool {
        let ask = format!(
            "exec 3<>/dev/tcp/{host}/80 && printf 'GET / HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3 && \
             head -n 1 <&3"
        );
        let ran = self.cove(["exec", vm, "--", "timeout", "10", "bash", "-c", &ask]);
        let answered = ran.status == 0 && ran.stdout.starts_with("HTTP/1.");
        if !answered {
            show(&format!("`{vm}` gets nothing from {host}"), &ran.told());
        }
        answered
    }

    /// The folder of a VM.
    pub(crate) fn vm_folder(&self, vm: &Value) -> PathBuf {
        self.home.join("vms").join(vm["id"].as_str().expect("an id"))
    }

    /// What lies in the folder of the VMs.
    pub(crate) fn vm_folders(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.join("vms")) else { return Vec::new() };
        entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into()).collect()
    }

    /// Processes of the host that have to do with this world, besides the daemon: found by its folder
    /// in their arguments and working folder, and by the ids of VMs in their arguments.
    pub(crate) fn processes(&self, ids: &[String]) -> Vec<Found> {
        processes::of(self.folder.path(), ids)
    }

    /// Asserts that nothing is left of VMs: no row, no file, and no process with these ids.
    pub(crate) fn assert_no_vm(&self, ids: &[String]) {
        assert_eq!(self.json(["list", "--json"]), Value::Array(Vec::new()));
        assert_eq!(self.vm_folders(), [""; 0], "left in {}", self.home.join("vms").display());
        self.wait_for_no(|found| !found.is_daemon(), ids);
    }

    /// Ends the world: deletes all VMs, and asserts that nothing is left of them; ends the daemon, and
    /// asserts that it is gone; checks the disks of all VMs that there have been.
    pub(crate) fn finish(mut self) {
        let list = self.json(["list", "--json"]);
        let vms = list.as_array().expect("a list");
        let ids: Vec<String> =
            vms.iter().map(|vm| vm["id"].as_str().expect("an id").to_owned()).collect();
        let at_rest = ["created", "stopped", "error"];
        for vm in vms.iter().filter(|vm| at_rest.iter().any(|state| vm["state"] == *state)) {
            self.disks.at_rest(&self.vm_folder(vm));
        }
        if !ids.is_empty() {
            let words = ["delete", "--discard-work"].into_iter();
            self.cove(words.chain(ids.iter().map(String::as_str))).success();
        }
        self.assert_no_vm(&ids);
        self.cove(["daemon", "stop"]).success();
        compiled::give(&self);
        self.assert_no_process(&ids);
        self.disks.check();
        self.finished = true;
    }

    /// Asserts that no process of this world lives, the daemon included.
    pub(crate) fn assert_no_process(&self, ids: &[String]) {
        self.wait_for_no(|_| true, ids);
    }

    /// A process that was told to end, or is ending, may take a moment.
    pub(crate) fn wait_for_no(&self, which: impl Fn(&Found) -> bool, ids: &[String]) {
        let left = wait_until(Duration::from_secs(5), || {
            let left: Vec<_> = self.processes(ids).into_iter().filter(&which).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        assert!(left.is_ok(), "processes of this test are left: {left:#?}");
    }

    /// The file systems of a VM that was stopped in order, or never started, have nothing to be put right.
    pub(crate) fn check_disks(&self, vm: &Value) {
        for disk in ["work.ext4", "root.ext4"] {
            let path = self.vm_folder(vm).join(disk);
            let path = path.to_str().expect("UTF-8");
            let checked = tool("e2fsck", &["-fn", path], &[]);
            assert_eq!(checked.status, 0, "{path}: {}{}", checked.stdout, checked.stderr);
        }
    }

    /// The daemon's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("coved.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.finished {
            show("the daemon's log ended", &last_lines(&self.log(), 40));
            processes::end(self.folder.path(), &self.vm_folders());
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a failing test leaves for its reader")]
fn show(what: &str, text: &str) {
    eprintln!("--- {what}:\n{text}\n---");
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Asks again and again, since nothing tells of the event, until the answer is good or time is over.
pub(crate) fn wait_until<T, E>(
    deadline: Duration,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + deadline;
    loop {
        match ask() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            settled => return settled,
        }
    }
}

/// The cache that set-up filled.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where it lies")]
fn cache() -> PathBuf {
    let given = std::env::var_os("COVE_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/cove"));
    let cache = given.or(home).expect("COVE_CACHE or HOME says where the cache is");
    let manifest = cache.join("default.json");
    assert!(
        manifest.exists(),
        "`{}` is not there: run scripts/setup.sh, which prepares the default kernel and image",
        manifest.display()
    );
    cache
}

/// Agent and plugins lie beside the programs that a user runs, and so they must here.
fn require_companions(program: &Path) {
    let folder = program.parent().expect("a folder");
    for companion in ["coved", "cove-agent", "plugins/ssh-key/plugin.wasm"] {
        let path = folder.join(companion);
        assert!(
            path.exists(),
            "`{}` is not there: run scripts/setup.sh, which builds the programs and the plugins",
            path.display()
        );
    }
}
