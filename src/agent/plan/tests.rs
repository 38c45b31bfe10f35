//! Plans applied to folders of the host, below which no path may lead.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::wire::guest::BlockPlace;

fn write(path: &str, content: &str) -> (PlanStep, Vec<u8>) {
    let step =
        PlanStep::WriteFile { path: path.to_owned(), mode: 0o640, size: content.len() as u64 };
    (step, content.as_bytes().to_vec())
}

fn block(path: &str, content: &str) -> (PlanStep, Vec<u8>) {
    let step = PlanStep::EnsureBlock {
        path: path.to_owned(),
        mode: 0o600,
        marker: "m".to_owned(),
        at: BlockPlace::End,
        size: content.len() as u64,
    };
    (step, content.as_bytes().to_vec())
}

fn folder(path: &str, mode: u32) -> (PlanStep, Vec<u8>) {
    (PlanStep::MakeDirectory { path: path.to_owned(), mode }, Vec::new())
}

fn link(path: &str, target: &str) -> (PlanStep, Vec<u8>) {
    let (path, target) = (path.to_owned(), target.to_owned());
    (PlanStep::Symlink { path, target }, Vec::new())
}

fn remove(path: &str) -> (PlanStep, Vec<u8>) {
    (PlanStep::Remove { path: path.to_owned() }, Vec::new())
}

fn apply(home: &Path, plan: &[(PlanStep, Vec<u8>)]) -> Result<(), Failure> {
    let home = Beneath::open(home).expect("the home");
    let mut staging = Staging::start(&home)?;
    for (step, content) in plan {
        staging.begin(step.clone())?;
        if step.content_size().is_some() {
            for piece in content.chunks(3) {
                staging.content(piece)?;
            }
            staging.end()?;
        }
    }
    staging.commit()
}

fn line(failure: &Failure) -> String {
    format!("{failure}: {}", failure.message())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

/// A home, and beside it what must never be reached.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("tempdir");
        fs::create_dir(root.path().join("home")).expect("made");
        fs::create_dir(root.path().join("etc")).expect("made");
        fs::write(root.path().join("etc/shadow"), "secret").expect("written");
        Self { root }
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.home().join(path)).expect(path)
    }

    fn untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.root.path().join("etc")).expect("there").collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let secret = fs::read_to_string(self.root.path().join("etc/shadow")).expect("there");
        assert_eq!(secret, "secret");
    }
}

#[test]
fn a_plan_is_applied_with_exact_modes_and_again_with_the_same_result() {
    let world = World::new();
    let plan = [
        folder(".ssh", 0o700),
        block(".ssh/authorized_keys", "key one\n"),
        write("deep/er/file", "content"),
        link("deep/link", "er/file"),
        write("gone", "soon"),
        remove("gone"),
        remove("never/there"),
        block("none", ""),
    ];
    for _ in 0..2 {
        apply(&world.home(), &plan).expect("applied");
        let home = world.home();
        assert_eq!(mode(&home.join(".ssh")), 0o700);
        assert_eq!(mode(&home.join(".ssh/authorized_keys")), 0o600);
        assert_eq!(mode(&home.join("deep/er")), 0o755);
        assert_eq!(mode(&home.join("deep/er/file")), 0o640);
        assert_eq!(world.text("deep/link"), "content");
        assert_eq!(world.text(".ssh/authorized_keys"), "# >>> m >>>\nkey one\n# <<< m <<<\n");
        assert!(!home.join("gone").exists() && !home.join("none").exists());
        assert!(!home.join(STAGING).exists());
        let owner = fs::metadata(home.join("deep/er/file")).expect("there").uid();
        assert_eq!(owner, rustix::process::geteuid().as_raw());
    }
}

#[test]
fn later_steps_see_what_earlier_ones_of_the_same_plan_wrote() {
    let world = World::new();
    let plan = [
        write(".gitconfig", "[core]\n"),
        block("./.gitconfig", "[user]\n"),
        write("dropped", "x"),
        remove("dropped"),
        block("dropped", "y\n"),
    ];
    apply(&world.home(), &plan).expect("applied");
    assert_eq!(world.text(".gitconfig"), "[core]\n# >>> m >>>\n[user]\n# <<< m <<<\n");
    assert_eq!(world.text("dropped"), "# >>> m >>>\ny\n# <<< m <<<\n");
}

#[test]
fn hostile_links_lead_nowhere() {
    let world = World::new();
    let (home, etc) = (world.home(), world.root.path().join("etc"));
    symlink(&etc, home.join(".ssh")).expect("linked");
    symlink("../etc/shadow", home.join(".gitconfig")).expect("linked");
    symlink("/proc/self/root", home.join("magic")).expect("linked");
    symlink(STAGING, home.join("loop")).expect("linked");
    symlink(&etc, home.join(STAGING)).expect("linked");

    let failure = apply(&home, &[write(".ssh/authorized_keys", "k")]).expect_err("refused");
    assert_eq!(
        line(&failure),
        "write `~/.ssh/authorized_keys`: `.ssh` is a link that leads to no folder inside"
    );
    apply(&home, &[write("magic/etc/x", "k")]).expect_err("refused");

    apply(&home, &[block(".gitconfig", "b"), write("loop2", "x")]).expect("applied");
    assert_eq!(world.text(".gitconfig"), "# >>> m >>>\nb\n# <<< m <<<\n");
    assert!(!fs::symlink_metadata(home.join(".gitconfig")).expect("there").is_symlink());
    world.untouched();
}

#[test]
fn links_inside_the_home_are_followed_on_the_way_and_replaced_at_the_end() {
    let world = World::new();
    let home = world.home();
    fs::create_dir(home.join("dotfiles")).expect("made");
    fs::write(home.join("dotfiles/rc"), "mine\n").expect("written");
    symlink("dotfiles", home.join(".config")).expect("linked");
    symlink("/dotfiles/rc", home.join(".rc")).expect("linked");
    apply(&home, &[write(".config/new", "x"), block(".rc", "b")]).expect("applied");
    assert_eq!(world.text("dotfiles/new"), "x");
    assert_eq!(world.text(".rc"), "mine\n# >>> m >>>\nb\n# <<< m <<<\n");
    assert_eq!(world.text("dotfiles/rc"), "mine\n", "the file behind the link is kept");
}

#[test]
fn a_step_that_is_wrong_in_itself_is_named() {
    let world = World::new();
    let mut short = write("short", "abc");
    short.1.truncate(2);
    let long = PlanStep::EnsureBlock {
        path: "x".to_owned(),
        mode: 0o600,
        marker: "m".to_owned(),
        at: BlockPlace::End,
        size: MAX_BLOCK_FILE + 1,
    };
    let cases = [
        (write("../x", ""), "write `~/../x`: `../x` is not a path below the home"),
        (write("/x", ""), "write `~//x`: `/x` is not a path below the home"),
        (write("", ""), "write `~/`: `` is not a path below the home"),
        (link("a/b", "../../x"), "make the link `~/a/b`: the link would lead out of the home"),
        (link("a", "/x"), "make the link `~/a`: the link would lead out of the home"),
        (folder("a", 0o10000), "make the folder `~/a`: its mode has more than permission bits"),
        (short, "write `~/short`: the content is shorter than announced"),
        (write(STAGING, "x"), "write `~/.cove-staging`: that folder is cove's own"),
        ((long, Vec::new()), "keep a block in `~/x`: the block is longer than 1 MiB"),
    ];
    refused(&world, cases);
}

#[test]
fn what_is_in_the_way_of_a_step_is_named() {
    let world = World::new();
    let home = world.home();
    fs::create_dir_all(home.join("folder/x")).expect("made");
    fs::write(home.join("file"), "x").expect("written");
    fs::write(home.join("big"), vec![b'x'; (MAX_BLOCK_FILE + 1) as usize]).expect("written");
    nix::unistd::mkfifo(&home.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let cases = [
        (write("folder", "x"), "write `~/folder`: a folder is in the way"),
        (remove("folder"), "remove `~/folder`: it is a folder"),
        (write("file/x", "x"), "write `~/file/x`: Not a directory (os error 20)"),
        (block("pipe", "x"), "keep a block in `~/pipe`: it is not a regular file"),
        (block("big", "x"), "keep a block in `~/big`: it is longer than 1048576 bytes"),
        (block("folder", "x"), "keep a block in `~/folder`: it is not a regular file"),
    ];
    refused(&world, cases);
}

fn refused<const N: usize>(world: &World, cases: [((PlanStep, Vec<u8>), &str); N]) {
    for (step, expected) in cases {
        let failure = apply(&world.home(), &[step]).expect_err(expected);
        assert_eq!(line(&failure), expected);
    }
    world.untouched();
}

#[test]
fn what_a_cut_off_plan_left_is_cleared() {
    let world = World::new();
    let home = world.home();
    fs::create_dir_all(home.join(STAGING).join("a/b/c")).expect("made");
    fs::write(home.join(STAGING).join("0"), "old").expect("written");
    let opened = Beneath::open(&home).expect("opens");
    let mut staging = Staging::start(&opened).expect("starts");
    staging.begin(write("new", "abc").0).expect("begins");
    staging.content(b"ab").expect("taken");
    drop(staging);
    assert!(!home.join("new").exists(), "nothing appears before the commit");
    apply(&home, &[write("new", "abc")]).expect("applied");
    assert_eq!(world.text("new"), "abc");
    assert!(!home.join(STAGING).exists());
}
