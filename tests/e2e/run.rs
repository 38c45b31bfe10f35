//! `cove run` and `cove exec`: what comes out, and the exit status.

use crate::harness::World;

#[test]
fn a_commits_subject_comes_out_and_nothing_else() {
    let world = World::new();
    let repository = world.repo();
    let ran =
        world.cove(["run", repository.arg(), "--rm", "--", "git", "log", "-1", "--format=%s"]);
    ran.success().prints(&format!("{}\n", repository.subject()));
    world.finish();
}
