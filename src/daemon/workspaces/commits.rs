//! Commits that were made in a guest, and what becomes of them when its repository is brought up to date: its git keeps
//! them by refs of their own, in submodules, too.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::prepare::Place;
use super::program::{QUESTION, ask};
use super::report;
use crate::daemon::course::Course;
use crate::report::Report;
use crate::vm::ports::Guest;
use crate::workspace::{Inspection, Kept, Package, Renewal, WentIn};

/// Has the guest's git keep the commits of its own that its branch leaves.
pub(super) async fn keep(
    place: &Place<'_>,
    inspection: &Inspection,
    renewal: &Renewal,
    course: &Course,
) -> Result<(), Report> {
    let asked = ["HEAD"].into_iter().chain(inspection.branch()).map(|reference| async move {
        let commit = format!("{reference}^{{commit}}");
        let question = ["git", "rev-parse", "--verify", "--quiet", &commit];
        ask(place.guest, place.folder, &question).await
    });
    for commit in try_join_all(asked).await?.into_iter().flatten() {
        let commit = commit.trim().to_owned();
        let known = [place.base_commit, inspection.base_commit()];
        if !is_id(&commit) || known.contains(&Some(&commit)) {
            continue;
        }
        let name = format!("before-{}", &commit[..12]);
        renewal.keep_in_guest(&name, &commit).await.map_err(report)?;
        course.note(format!("commits of the guest stay there as `refs/cove/{name}`"));
    }
    Ok(())
}

/// A submodule whose git went in, or may be there, and what the guest has checked out in it.
pub(super) struct InGuest {
    submodule: WentIn,
    /// None where its git is not there any more.
    commit: Option<String>,
}

impl InGuest {
    /// The commit, where it is not the one that went in.
    fn own(&self) -> Option<&str> {
        self.commit.as_deref().filter(|commit| *commit != self.submodule.commit)
    }
}

/// What the guest has checked out in the submodules whose git went in, and in those that are to go in whose git it may
/// have all the same: that stays there when the source has a submodule no more, and may have it again.
///
/// # Errors
/// When the guest cannot be asked, or what went in cannot be read.
pub(super) async fn before(place: &Place<'_>, next: &[WentIn]) -> Result<Vec<InGuest>, Report> {
    let mut all = place.kept.submodules().await.map_err(report)?;
    for next in next {
        if !all.iter().any(|known| known.place == next.place) {
            let mut unknown = next.clone();
            // Whatever the guest has there did not go in last.
            unknown.commit.clear();
            all.push(unknown);
        }
    }
    in_submodules(place.guest, place.folder, all).await
}

/// What the guest has checked out in these submodules.
async fn in_submodules(
    guest: &dyn Guest,
    folder: &str,
    submodules: Vec<WentIn>,
) -> Result<Vec<InGuest>, Report> {
    let mut found = Vec::new();
    for submodule in submodules {
        let head = format!(".git/{}/HEAD", submodule.place);
        let commit = match ask(guest, folder, &["test", "-e", &head]).await? {
            None => None,
            Some(_) => in_submodule(guest, folder, &submodule.place, "HEAD").await?,
        };
        found.push(InGuest { submodule, commit });
    }
    Ok(found)
}

/// The commit that a reference of a submodule's git has.
async fn in_submodule(
    guest: &dyn Guest,
    folder: &str,
    place: &str,
    reference: &str,
) -> Result<Option<String>, Report> {
    let (git_folder, commit) = (format!(".git/{place}"), format!("{reference}^{{commit}}"));
    // The working tree that its configuration names may be gone.
    let git = ["git", "--git-dir", &git_folder, "--work-tree", "."];
    let question = ["rev-parse", "--verify", "--quiet", &commit];
    let commit = ask(guest, folder, &[&git[..], &question].concat()).await?;
    Ok(commit.map(|commit| commit.trim().to_owned()).filter(|commit| is_id(commit)))
}

/// Those of the submodules that are to go in whose git is in the guest as it is to be there.
pub(super) fn unchanged(there: &[InGuest], next: Vec<WentIn>) -> Vec<WentIn> {
    let is_there = |next: &WentIn| {
        let same = |there: &&InGuest| there.commit.is_some() && there.submodule == *next;
        there.iter().find(same).is_some_and(|there| there.own().is_none())
    };
    next.into_iter().filter(is_there).collect()
}

/// The submodules whose git is sent and is there: as they went in, and as they are to be. What the guest has of one
/// that is no submodule of the source any more stays.
pub(super) fn sent(there: Vec<InGuest>, package: &Package) -> Vec<(InGuest, WentIn)> {
    let there = there.into_iter().filter(|there| there.commit.is_some());
    let sent = there.filter_map(|there| {
        let mut sent = package.sent_submodules();
        let next = sent.find(|next| next.place == there.submodule.place)?.clone();
        Some((there, next))
    });
    sent.collect()
}

/// Has the guest see as much of the history of submodules as is sent.
pub(super) async fn deepen(
    place: &Place<'_>,
    sent: &[(InGuest, WentIn)],
    renewal: &Renewal,
) -> Result<(), Report> {
    for (_, next) in sent {
        let list = format!(".git/{}/shallow", next.place);
        // Where it cannot be read, the history there goes on to end where it did.
        let Ok(Some(list)) = ask(place.guest, place.folder, &["cat", &list]).await else {
            continue;
        };
        let shallow: Vec<&str> = list.lines().filter(|commit| is_id(commit)).collect();
        renewal.deepen_submodule(&next.path, &shallow).await.map_err(report)?;
    }
    Ok(())
}

/// Has the guest's git keep the commits of its own that the branches of submodules leave.
pub(super) async fn keep_in_submodules(
    place: &Place<'_>,
    sent: &[(InGuest, WentIn)],
    renewal: &Renewal,
    course: &Course,
) -> Result<(), Report> {
    for (there, next) in sent {
        let in_guest =
            async |reference| in_submodule(place.guest, place.folder, &next.place, reference).await;
        // Somebody may have committed there since it was looked at.
        let head = in_guest("HEAD").await?;
        let branch = match &next.branch[..] {
            "" => None,
            branch => in_guest(branch).await?,
        };
        let commits: BTreeSet<&String> = there.commit.iter().chain(&head).chain(&branch).collect();
        for commit in commits {
            if *commit == there.submodule.commit || *commit == next.commit {
                continue;
            }
            let (path, name) = (&next.path, format!("before-{}", &commit[..12]));
            renewal.keep_in_submodule(path, &name, commit).await.map_err(report)?;
            course.note(format!(
                "commits of the guest in the submodule `{path}` stay there as `refs/cove/{name}`"
            ));
        }
    }
    Ok(())
}

/// Lines about commits that an export does not carry. Nothing is said where the guest cannot be asked.
pub(super) async fn notes(guest: &dyn Guest, folder: &str, name: &str, kept: &Kept) -> Vec<String> {
    let Ok(submodules) = kept.submodules().await else { return Vec::new() };
    // Whoever waits for these lines keeps others from the workspace.
    let asked = timeout(QUESTION.deadline, in_submodules(guest, folder, submodules)).await;
    let there = asked.ok().and_then(Result::ok).unwrap_or_default();
    let own = there.iter().filter_map(|there| Some((there, there.own()?)));
    let notes = own.map(|(there, commit)| {
        let path = &there.submodule.path;
        format!(
            "the submodule `{path}` has another commit checked out than went in ({}): its files are exported, its \
             commits are not; take them out with `cove exec {name} -- git -C '{path}' bundle create - HEAD`",
            &commit[..12]
        )
    });
    notes.collect()
}

fn is_id(commit: &str) -> bool {
    matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}
