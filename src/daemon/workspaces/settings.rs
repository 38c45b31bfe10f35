//! Telling git in a guest what belongs to an update that has taken effect. Should it be cut off here, the next update
//! tells it again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::prepare::Place;
use super::program::ask;
use crate::daemon::course::Course;
use crate::report::{Kind, Report};
use crate::workspace::Setting;

/// The entries that are told.
const ASKED: &str = r"^(core\.sparsecheckout(cone)?|submodule\..*\.(active|url))$";

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes what is missing into the configurations of the guest's git. When that fails, the user is told: what is in
/// the guest is up to date all the same.
pub(super) async fn follow(place: &Place<'_>, settings: &[Setting], course: &Course) {
    let why = match timeout(PATIENCE, write_all(place, settings, course)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.one_line(),
        Err(_) => format!("git there took longer than {} s", PATIENCE.as_secs()),
    };
    course.note(format!(
        "the configuration of git in the guest is not up to date: {why}; look there with `cove exec {}`",
        place.name
    ));
}

/// Writes as many as can be, and returns the first failure.
async fn write_all(place: &Place<'_>, settings: &[Setting], course: &Course) -> Result<(), Report> {
    let git_folders: BTreeSet<&str> = settings.iter().map(|setting| &setting.place[..]).collect();
    let mut done = Ok(());
    for git_folder in git_folders {
        let own = settings.iter().filter(|setting| setting.place == git_folder);
        let written = write(place, git_folder, &own.collect::<Vec<_>>(), course).await;
        done = done.and(written);
    }
    done
}

/// Writes into the configuration of one git folder.
async fn write(
    place: &Place<'_>,
    git_folder: &str,
    settings: &[&Setting],
    course: &Course,
) -> Result<(), Report> {
    let folder = format!(".git/{git_folder}");
    let git = match git_folder {
        "" => vec!["git"],
        // The working tree that its configuration names may be gone.
        _ => vec!["git", "--git-dir", &folder, "--work-tree", "."],
    };
    let words = ["config", "--null", "--get-regexp", ASKED];
    let listing = ask(place.guest, place.folder, &[&git[..], &words].concat()).await?;
    let there = values(listing.as_deref().unwrap_or_default());
    let mut done = Ok(());
    for setting in settings {
        let said = there.get(&canonical(&setting.key)).copied();
        if !setting.is_wanted(said) {
            continue;
        }
        let set = set(place, &git, setting).await;
        if let (Ok(()), Some(said)) = (&set, said) {
            let (key, value) = (&setting.key, &setting.value);
            let said = said.escape_debug();
            course.note(format!(
                "git in the guest had `{key}={said}`, and has `{key}={value}` as the source"
            ));
        }
        done = done.and(set);
    }
    done
}

/// Writes one entry.
async fn set(place: &Place<'_>, git: &[&str], setting: &Setting) -> Result<(), Report> {
    // Those of a sparse checkout are the working tree's where each has a configuration of its own, which git has to be
    // told to do.
    let whose: &[&str] = match setting.key.starts_with("core.") {
        true => &["--worktree", "--local"],
        false => &["--local"],
    };
    let mut failure = None;
    for whose in whose {
        let words = ["config", whose, "--replace-all", &setting.key, &setting.value];
        match ask(place.guest, place.folder, &[git, &words].concat()).await {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let message = format!("cannot set `{}`", setting.key);
        Report::new(Kind::Failed, message).with_cause(&io::Error::other("git there refuses it"))
    }))
}

/// Takes apart `KEY<newline>VALUE<nul>`: of several values, git goes by the last one.
fn values(listing: &str) -> HashMap<String, &str> {
    let entries = listing.split('\0').filter(|entry| !entry.is_empty());
    // A key without a value says yes.
    let entries = entries.map(|entry| entry.split_once('\n').unwrap_or((entry, "true")));
    entries.map(|(key, value)| (canonical(key), value)).collect()
}

/// A key as git compares it: of `SECTION.NAME.KEY`, only the name has upper and lower case.
fn canonical(key: &str) -> String {
    match (key.split_once('.'), key.rsplit_once('.')) {
        (Some((section, _)), Some((above, last))) if section.len() < above.len() => {
            let name = &above[section.len()..];
            format!("{}{name}.{}", section.to_ascii_lowercase(), last.to_ascii_lowercase())
        }
        (_, _) => key.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys_and_the_last_one_counts() {
        let there = values(
            "core.sparsecheckout\nfalse\0submodule.A.b.active\0core.sparsecheckout\ntrue\0\
             submodule.lib.url\nhttps://h/a\nb\0",
        );
        let value = |key: &str| there.get(&canonical(key)).copied();
        assert_eq!(value("core.sparseCheckout"), Some("true"));
        assert_eq!(value("submodule.A.b.active"), Some("true"));
        assert_eq!(value("submodule.a.b.active"), None, "another submodule");
        assert_eq!(value("submodule.lib.url"), Some("https://h/a\nb"));
        assert!(values("").is_empty());
    }
}
