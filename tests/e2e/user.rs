//! The main job by an ordinary user, who owns nothing of the cache and may do nothing that root may.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::harness::{World, fingerprint, tool};
use crate::watch;

/// The user id of somebody who is nobody in particular.
pub(crate) const ORDINARY: u32 = 54_321;

/// Why nobody can become another user here, if so: a test prints it and ends.
pub(crate) fn unavailable() -> Option<String> {
    let root = nix::unistd::geteuid().is_root();
    (!root).then(|| "only root can become another user".to_owned())
}

/// Says that a test is skipped, and why.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skipped(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

/// The words before a command that make it run as the ordinary user.
pub(crate) fn prefix() -> Vec<String> {
    let user = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
    let words = ["setpriv"].into_iter().map(str::to_owned).chain(user);
    words.chain(["--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned)).collect()
}

/// Gives the world's folder to the ordinary user, with programs and a cache that this user can read but
/// not write: both may lie where only root can go.
pub(crate) fn give_away(world: &mut World) {
    let programs = world.folder().join("programs");
    fs::create_dir_all(&programs).expect("made");
    let built = world.program.parent().expect("a folder").to_owned();
    for name in ["cove", "coved", "cove-agent", "plugins"] {
        place(&built.join(name), &programs.join(name));
    }
    let cache = world.folder().join("cache");
    place(&world.cache, &cache);
    (world.program, world.cache) = (programs.join("cove"), cache);
    let owner = format!("{ORDINARY}:{ORDINARY}");
    let folder = world.folder();
    fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("set");
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("read").path();
        if path != world.cache && path != programs {
            tool("chown", &["-R", &owner, path.to_str().expect("UTF-8")], &[]).success();
        }
    }
}

/// A copy without cost where there can be one.
fn place(source: &Path, target: &Path) {
    let words = [source, target].map(|path| path.to_str().expect("UTF-8").to_owned());
    let copied = tool("cp", &["-aL", "--link", &words[0], &words[1]], &[]);
    if copied.status != 0 {
        fs::remove_dir_all(target).unwrap_or_default();
        tool("cp", &["-aL", &words[0], &words[1]], &[]).success();
    }
}

#[test]
fn the_main_job_works_without_root() {
    if let Some(reason) = unavailable() {
        return skipped(&reason);
    }
    let mut world = World::new();
    let repository = world.repo();
    world.configure("[[file_sync]]\nhost = \"~/token\"\nguest = \"~/token\"\nmode = \"0640\"\n");
    fs::write(world.user_home.join("token"), "synced\n").expect("written");
    give_away(&mut world);
    world.prefix = prefix();
    let before = fingerprint(&repository.path);

    let ran =
        world.cove(["run", repository.arg(), "--rm", "--", "git", "log", "-1", "--format=%s"]);
    ran.success().prints(&format!("{}\n", repository.subject()));
    assert_eq!(fingerprint(&repository.path), before, "the source repository is unchanged");
    world.assert_no_vm(&[]);

    let vm = world.start("mine", &[repository.arg()]);
    let monitor = watch::monitor(&world, &vm);
    let owner = fs::metadata(format!("/proc/{monitor}")).expect("it runs").uid();
    assert_eq!(owner, ORDINARY, "no part of it runs as root");
    let look = "id -u; git config user.email; stat -c '%a %U' ~/token ~/.ssh ~/.ssh/authorized_keys; \
                cat ~/token; tail -n 1 README.md; ls -A .env debug.log 2>/dev/null; true";
    let seen = world.guest("mine", look);
    assert_eq!(
        seen,
        "0\nada@example.org\n640 root\n700 root\n600 root\nsynced\n# A song, edited and not committed\n"
    );
    world.cove(["stop", "mine"]).success();
    world.cove(["start", "mine"]).success();
    world.cove(["exec", "mine", "--", "cat", ".env"]).status(1);
    world.cove(["stop", "mine"]).success();
    world.finish();
}
