//! Files of the host that are none, that change while they are looked at, and too many of them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cove::hooks::limits;
use cove::vm::plan::PlannedStep;
use cove::wire::rpc::HookPoint;
use futures_util::future::join_all;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::Mode;

use crate::corpus::Hostile;
use crate::world::World;

/// What must never get into a plan.
const SECRET: &str = "SECRET-OF-THE-HOST";

/// The program in `rust/` that does this with the files behind `readable` and `importable`.
fn does(name: &'static str, said: &'static str) -> Hostile {
    Hostile::compiled(HookPoint::PrepareWorkDisk, name, None, said)
}

/// The content of a step, as text.
fn content(step: &PlannedStep) -> String {
    let mut bytes = vec![0; 4096];
    let read = step.content.read_at(0, &mut bytes).expect("readable");
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn what_is_no_file_is_never_opened() {
    let mut world = World::new().await;
    let odd = world.home().join("odd");
    fs::create_dir(&odd).expect("made");
    let secret = world.home().join("secret");
    fs::write(&secret, SECRET).expect("written");
    // A read of this pipe would wait for ever: nobody writes to it.
    nix::unistd::mkfifo(&odd.join("a-pipe"), Mode::S_IRWXU).expect("made");
    let _listener = UnixListener::bind(odd.join("a-socket")).expect("made");
    symlink(&secret, odd.join("a-link")).expect("made");
    symlink("/dev/zero", odd.join("a-link-to-a-device")).expect("made");
    // A name more for a file is a file, whoever made it: it is inside what was mapped.
    fs::write(odd.join("file"), "a file\n").expect("written");
    fs::hard_link(odd.join("file"), odd.join("hard-link")).expect("made");

    world.put(&does("import-all", ""));
    world.map("importable", "~/odd");
    let run = world.run().await.expect("the files among them are imported");
    let contents: Vec<_> = run.plan.steps.iter().map(content).collect();
    assert_eq!(contents, ["a file\n", "a file\n"]);

    for (mapped, kind) in [("~/odd/a-pipe", "pipe"), ("/dev/zero", "device"), ("/dev/tty", "tty")] {
        world.map("importable", mapped);
        world.put(&does("import-all", ""));
        let run = world.run().await.expect("nothing among it is imported");
        assert!(run.plan.steps.is_empty(), "{kind}");
        world.put(&does("import", ""));
        let error = world.run().await.expect_err(kind).to_string();
        assert!(error.contains(mapped) && error.contains("is no file"), "{error}");
    }
}

/// Swaps a name between a file and what else it may be, until it is told to stop.
fn swap(path: PathBuf, stop: Arc<AtomicBool>, turn: impl Fn(&Path, bool) + Send + 'static) {
    let other = path.with_extension("other");
    let swaps = move || {
        let mut file = false;
        while !stop.load(Ordering::Relaxed) {
            turn(&other, file);
            fs::rename(&other, &path).expect("renamed over it");
            file = !file;
        }
    };
    std::thread::Builder::new().name("swaps".into()).spawn(swaps).expect("spawned");
}

#[tokio::test]
async fn a_file_that_becomes_a_link_between_two_calls_leads_nowhere() {
    let mut world = World::new().await;
    let mapped = world.home().join("mapped");
    fs::create_dir(&mapped).expect("made");
    let secret = world.home().join("secret");
    fs::write(&secret, SECRET).expect("written");
    fs::write(mapped.join("file"), "a file\n").expect("written");
    world.map("importable", "~/mapped");
    world.put(&does("import-again", ""));
    let stop = Arc::new(AtomicBool::new(false));
    swap(mapped.join("file"), Arc::clone(&stop), move |path, file| {
        let made = if file { fs::write(path, "a file\n") } else { symlink(&secret, path) };
        made.expect("made");
    });

    let (mut opened, mut refused) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while (opened == 0 || refused == 0) && Instant::now() < deadline {
        let Ok(run) = world.run().await else { continue };
        for step in &run.plan.steps {
            let content = content(step);
            assert!(!content.contains(SECRET), "the link was followed");
        }
        opened += run.plan.steps.len();
        // A run in which it was a link first has no file in its list; in others, every second entry is it.
        refused += if run.plan.steps.is_empty() { 0 } else { 750 - run.plan.steps.len().min(750) };
    }
    stop.store(true, Ordering::Relaxed);
    assert!(opened > 0 && refused > 0, "the race took place: {opened} opened, {refused} refused");
}

#[tokio::test]
async fn files_are_read_and_imported_only_as_granted() {
    let mut world = World::new().await;
    fs::create_dir(world.home().join("many")).expect("made");
    for number in 0..100 {
        let file = world.home().join(format!("many/{number}"));
        fs::write(file, "x".repeat(4000)).expect("written");
    }
    world.map("readable", "~/many/*");
    world.map("importable", "~/many/*");
    for (misbehaviour, expected) in [
        ("read-imports", "`host-files.read:importable` is not granted"),
        ("import-reads", "`host-files.import:readable` is not granted"),
        ("read-forever", "a plugin reads at most 4 MiB"),
        ("hoard", "holds at most 2048 mapped files and folders open (too-many)"),
    ] {
        world.put(&does(misbehaviour, expected));
        let text = world.run().await.expect_err(misbehaviour).to_string();
        assert!(text.contains(expected), "{misbehaviour}: {text}");
    }
    // In a mapped folder nothing but the folder is open.
    world.map("importable", "~/many");
    let text = world.run().await.expect_err("it hoards").to_string();
    assert!(text.contains("it crashed: resource table has no free keys"), "{text}");
}

#[tokio::test]
async fn host_files_are_bounded_in_number_depth_and_bytes() {
    let mut world = World::new().await;
    world.put(&does("import", ""));
    world.map("importable", "~/tree");
    let tree = world.home().join("tree");
    let deep = tree.join(vec!["d"; 17].join("/"));
    fs::create_dir_all(deep).expect("made");
    let text = world.run().await.expect_err("too deep").to_string();
    assert!(text.contains("is too deep"), "{text}");

    fs::remove_dir_all(&tree).expect("removed");
    fs::create_dir(&tree).expect("made");
    for number in 0..=2048 {
        fs::write(tree.join(number.to_string()), "").expect("written");
    }
    let text = world.run().await.expect_err("too many").to_string();
    assert!(text.contains("more than 2048 files"), "{text}");

    let file = fs::File::create(world.home().join("large")).expect("made");
    file.set_len((256 << 20) + 1).expect("sparse");
    world.map("importable", "~/large");
    let text = world.run().await.expect_err("too large").to_string();
    assert!(text.contains("more than 256 MiB of imported files"), "{text}");
    file.set_len(256 << 20).expect("sparse");
    let run = world.run().await.expect("just as much as there may be");
    assert_eq!(run.hooks[0].steps[0].bytes, Some(256 << 20));
    let grown = run.hooks[0].used.memory;
    assert!(grown < 8 << 20, "its bytes do not enter the component: {grown}");
}

/// A file system that never answers, as one on a network may be.
struct Silent {
    at: PathBuf,
    _requests: fs::File,
}

impl Silent {
    fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir(at).expect("made");
        let opened = fs::File::options().read(true).write(true).open("/dev/fuse");
        let requests = opened.map_err(|error| format!("/dev/fuse: {error}"))?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", requests.as_raw_fd());
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(Some("silent"), at, Some("fuse"), flags, Some(options.as_str()))
            .map_err(|error| format!("mounting a file system: {error}"))?;
        Ok(Self { at: at.to_owned(), _requests: requests })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Whoever waits for an answer gets an error now.
        let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
        nix::mount::umount2(&self.at, flags).expect("unmounted");
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
async fn a_run_that_hangs_in_a_host_function_is_left_behind() {
    let mut world = World::new().await;
    let silent = match Silent::mount(&world.home().join("silent")) {
        Ok(silent) => silent,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    world.map("importable", "~/silent/file");
    world.put(&Hostile { hook: "timeout = '200ms'", ..does("import", "") });
    // Far more than its wall time and the grace after it, and far less than the whole test may take.
    let left = tokio::time::timeout(Duration::from_secs(60), world.run()).await;
    let text = left.expect("it is left behind").expect_err("it hangs").to_string();
    assert!(text.contains("it took longer than 200 ms"), "{text}");
    // It has its place until it is really over: others do not get more than the engine's pool has.
    let more = (1..limits::CONCURRENT).map(|_| world.run());
    let more = tokio::time::timeout(Duration::from_secs(60), join_all(more)).await;
    assert!(more.expect("they are left behind").iter().all(Result::is_err));
    let told = world.run_at(HookPoint::Cleanup, &Arc::default()).await.expect("told");
    let failure = told[0].failure.as_deref().unwrap_or_default();
    assert!(failure.contains("nothing was left of the 10 s"), "{failure}");
    drop(silent);
    world.map("importable", "~/shown");
    world.run().await.expect("the host goes on");
}
