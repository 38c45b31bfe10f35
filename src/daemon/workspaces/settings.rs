//! Telling git in a guest what belongs to an update that has taken effect. Should it be cut off here, the next update
//! tells it again.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::prepare::Place;
use super::program::ask;
use crate::daemon::course::Course;
use crate::report::{Kind, Report};
use crate::workspace::Setting;

/// The entries that are told.
const ASKED: &str = r"^(core\.sparsecheckout(cone)?|submodule\..*\.(active|url))$";

/// Writes what is missing into the configurations of the guest's git. When that fails, the user is told: what is in
/// the guest is up to date all the same.
pub(super) async fn follow(place: &Place<'_>, settings: &[Setting], course: &Course) {
    let git_folders: BTreeSet<&str> = settings.iter().map(|setting| &setting.place[..]).collect();
    for git_folder in git_folders {
        let own = settings.iter().filter(|setting| setting.place == git_folder);
        if let Err(error) = write(place, git_folder, &own.collect::<Vec<_>>()).await {
            course.note(format!(
                "the configuration of git in the guest is not up to date: {}; prepare it again",
                error.one_line()
            ));
        }
    }
}

/// Writes into the configuration of one git folder.
async fn write(place: &Place<'_>, git_folder: &str, settings: &[&Setting]) -> Result<(), Report> {
    let folder = format!(".git/{git_folder}");
    let git = match git_folder {
        "" => vec!["git"],
        // The working tree that its configuration names may be gone.
        _ => vec!["git", "--git-dir", &folder, "--work-tree", "."],
    };
    let words = ["config", "--null", "--get-regexp", ASKED];
    let listing = ask(place.guest, place.folder, &[&git[..], &words].concat()).await?;
    let there = values(listing.as_deref().unwrap_or_default());
    for setting in settings {
        let said = there.get(&canonical(&setting.key)).copied();
        if !setting.is_wanted(said) {
            continue;
        }
        // Those of a sparse checkout are the working tree's, where each has its own configuration.
        let whose = match setting.key.starts_with("core.") {
            true => "--worktree",
            false => "--local",
        };
        let words = ["config", whose, &setting.key, &setting.value];
        if ask(place.guest, place.folder, &[&git[..], &words].concat()).await?.is_none() {
            let why = io::Error::other("git there refuses it");
            let message = format!("cannot set `{}`", setting.key);
            return Err(Report::new(Kind::Failed, message).with_cause(&why));
        }
    }
    Ok(())
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
