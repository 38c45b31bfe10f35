//! `cove cp` in front of a scripted guest: which side fails, with which status, and what is left then.

use serde_json::json;

use super::fake::Fake;
use super::{run, status, stderr};

#[tokio::test]
async fn exactly_one_end_is_in_a_vm() {
    let fake = Fake::start();
    for (words, part) in [
        (["cp", "a:b", "abbbb:c"], "are in VMs"),
        (["cp", "./a:b", "c"], "is in a VM"),
        (["cp", ":b", "c"], "names no VM"),
    ] {
        let output = run(&fake, &words).await;
        assert_eq!(status(&output), 2, "{words:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    assert!(fake.script_was_not_asked());
}

#[tokio::test]
async fn what_is_wrong_here_is_said_before_the_daemon_is_asked() {
    let fake = Fake::start();
    let folder = fake.home.to_str().expect("UTF-8");
    let missing = format!("{folder}/missing");
    for (from, to) in [(missing.as_str(), "a:"), ("a:x", &format!("{missing}/x"))] {
        let output = run(&fake, &["cp", from, to]).await;
        assert_eq!(status(&output), 3, "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("this host: there is no `") && said.contains(&missing), "{said}");
        assert!(said.contains(&format!("`{to}` is as it was")), "{said}");
    }
    assert!(fake.script_was_not_asked());
}

#[tokio::test]
async fn what_comes_out_of_a_guest_is_whole_or_leaves_nothing() {
    let fake = Fake::start();
    let target = fake.home.join("target");
    let to = target.to_str().expect("UTF-8");
    // The scripted guest says that it sends a file, and then that its disk fails.
    let output = run(&fake, &["cp", "a:broken", to]).await;
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("the VM: it broke \\u{1b}[31m"), "{said}");
    assert!(said.contains(&format!("`{to}` is as it was")), "{said}");
    let output = run(&fake, &["cp", "a:missing", to]).await;
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    assert!(!target.exists());
    let asked = json!({ "vm": "a", "path": "broken", "direction": "out" });
    assert_eq!(fake.calls("vm.copy")[0], asked);
    let names = std::fs::read_dir(&fake.home).expect("readable");
    let names = names.map(|entry| entry.expect("read").file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().starts_with(".cove-cp-")));
}
