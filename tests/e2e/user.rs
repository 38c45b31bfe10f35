//! The main job, and as whom its parts run: as the user who asked for it, who may own nothing of the cache
//! and may do nothing that root may.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{Who, World, as_everybody};
use crate::watch;

as_everybody!(the_main_job_is_done_by_its_user);

fn the_main_job_is_done_by_its_user(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    world.configure("[[file_sync]]\nhost = \"~/token\"\nguest = \"~/token\"\nmode = \"0640\"\n");
    fs::write(world.user_home.join("token"), "synced\n").expect("written");
    let before = world.fingerprint(&repository.path);

    let ran =
        world.cove(["run", repository.arg(), "--rm", "--", "git", "log", "-1", "--format=%s"]);
    ran.success().prints(&format!("{}\n", repository.subject()));
    assert_eq!(world.fingerprint(&repository.path), before, "the source repository is unchanged");
    world.assert_no_vm(&[]);

    let vm = world.start("mine", &[repository.arg()]);
    let parts = world.processes(&[watch::id(&vm)]);
    assert!(parts.iter().any(|part| part.pid == watch::monitor(&world, &vm)), "{parts:?}");
    for part in parts {
        let owner = fs::metadata(format!("/proc/{}", part.pid)).expect("it runs").uid();
        assert_eq!(owner, who.id(), "no part of it runs as anybody else: {part:?}");
    }
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
