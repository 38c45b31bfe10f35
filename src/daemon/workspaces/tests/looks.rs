//! What is said of the work in a VM, and of what was there when it stopped.

use super::*;
use crate::vm::ports::{Work as _, WorkSeen, WorkspaceOf};

pub(super) fn workspace(work: &Work) -> WorkspaceOf {
    WorkspaceOf {
        vm: crate::id::VmId::random(),
        guest_path: work.checkout().to_string_lossy().into_owned(),
        mode: WorkspaceMode::Shallow,
        kept: work.folder.path().join("vm/workspace"),
        disk_bytes: LIMIT.0,
    }
}

fn unexported(what: &str) -> WorkSeen {
    WorkSeen::Unexported { what: what.to_owned() }
}

#[tokio::test]
async fn work_is_safe_where_it_is_as_it_went_in_or_came_out() {
    let work = Work::begun().await;
    let (looks, workspace) = (Looks::default(), workspace(&work));
    looks.returns(&workspace).await.expect("nothing went in yet");
    assert_eq!(looks.left(&workspace).await.expect("nothing is kept"), WorkSeen::Unknown);
    work.prepare().await;
    let look = async || looks.look(&workspace, &work.agent()).await.expect("seen");
    assert_eq!(look().await, WorkSeen::Safe);

    write(&work.checkout().join("a.txt"), b"otherwise\n");
    assert_eq!(look().await, unexported("`a.txt` has changed"));
    write(&work.checkout().join("new"), b"new\n");
    assert_eq!(look().await, unexported("2 files have changed, such as `a.txt`"));
    let tree = work.look().await.expect("seen").tree;
    work.kept.exported(&tree).await.expect("written");
    assert_eq!(look().await, WorkSeen::Safe);
    // What was taken out is not what is there any more.
    fs::remove_file(work.checkout().join("new")).expect("removed");
    write(&work.checkout().join("a.txt"), b"one\n");
    assert_eq!(look().await, WorkSeen::Safe, "it is as it went in");
    git(&work.checkout(), &["init", "-q", "inside"]).await;
    let seen = look().await;
    let expected = unexported("the repository `inside/` inside it, which no export takes out");
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_was_left_is_known_until_the_guest_returns() {
    let work = Work::begun().await;
    work.prepare().await;
    let (looks, workspace) = (Looks::default(), workspace(&work));
    let left = async || looks.left(&workspace).await.expect("read");
    let last = async || looks.last_look(&workspace, &work.agent()).await.expect("seen");
    let stop = async || {
        let seen = last().await.expect("all of it can be known again");
        looks.leaves(&workspace, &seen).await.expect("written");
    };
    assert_eq!(left().await, WorkSeen::Unknown, "it has never stopped");
    last().await;
    assert_eq!(left().await, WorkSeen::Unknown, "nor has it now");
    stop().await;
    assert_eq!(left().await, WorkSeen::Safe);
    write(&work.checkout().join("run.sh"), b"#!/bin/sh\nexit 1\n");
    stop().await;
    assert_eq!(left().await, unexported("`run.sh` has changed"));
    looks.returns(&workspace).await.expect("forgotten");
    assert_eq!(left().await, WorkSeen::Unknown);
    // It cannot be known again whether a repository inside it is as it was.
    git(&work.checkout(), &["init", "-q", "inside"]).await;
    assert_eq!(last().await, None);
}

#[tokio::test]
async fn what_an_agent_says_of_what_came_is_not_kept_where_it_is_no_record() {
    let work = Work::begun().await;
    work.prepare().await;
    let tokens = work.folder.path().join("vm/workspace/tokens");
    assert!(!fs::read(&tokens).expect("read").is_empty());
    work.kept.know_again(b"anything".to_vec()).await;
    assert!(fs::read(&tokens).expect("read").is_empty());
    assert!(work.kept.is_safe(&work.look().await.expect("seen").tree).await.expect("known"));
}

#[tokio::test]
async fn a_guest_is_without_commits_until_one_is_made() {
    let work = Work::begun().await;
    work.prepare().await;
    let (guest, checkout) = (work.agent(), work.checkout());
    let base = git(&checkout, &["rev-parse", "HEAD"]).await;
    let without = format!("^{}", String::from_utf8_lossy(&base).trim());
    let folder = checkout.to_str().expect("UTF-8");
    assert!(is_without_commits(&guest, folder, Some(&without)).await);
    assert!(!is_without_commits(&guest, folder, None).await);
    assert!(!is_without_commits(&guest, folder, Some("^nothing")).await, "git cannot say");
    git(&checkout, &["checkout", "-q", "-b", "side"]).await;
    commit(&checkout, "In the guest").await;
    git(&checkout, &["checkout", "-q", "main"]).await;
    assert!(!is_without_commits(&guest, folder, Some(&without)).await);
}
