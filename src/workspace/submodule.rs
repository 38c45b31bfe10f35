//! Submodules that are checked out in the source and whose git metadata goes in with their files.
//!
//! ```text
//!  vendor/lib/          files, as they are now
//!  vendor/lib/.git      says where its git folder is
//!  .git/config          submodule.NAME.active, submodule.NAME.url without secrets
//!  .git/modules/NAME/   its git folder, made as the repository's own; in `modules` there those of its submodules
//! ```
//!
//! The names are those of `.gitmodules`, as git itself finds them. Where git finds none, or one of them is not fit to
//! be a path, or the git folder is not there, is broken or lies elsewhere, the files go in alone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::WorkspaceError;
use super::configuration;
use super::git::{self, Size, in_source};
use super::inspection::{Contents, History, Inspection};
use super::listing::{self, shown};
use super::lists::{NAMED_IN_NOTES, Populated, named};
use super::origin::{Origin, sanitise};
use super::repository::{self, Repository};
use super::tree::{Kind, Root};
use crate::report::counted;
use crate::task::blocking;
use crate::wire::rpc::WorkspaceMode;

/// How many have git metadata in the guest; those of others are too many for one repository.
const MAX_SUBMODULES: usize = 100;

/// How many of them lie one in the other.
const MAX_DEPTH: usize = 5;

const NAMING: &str = "read the names of the submodules";

/// A submodule whose git metadata goes in.
#[derive(Debug)]
pub(super) struct Submodule {
    /// Its folder, relative to the root of the repository.
    pub(super) path: String,
    /// Its name in `.gitmodules`.
    pub(super) name: String,
    /// Where its git folder is, below the repository's.
    pub(super) place: String,
    /// The submodule that it is in, by its place; empty when it is in none.
    pub(super) above: String,
    /// Where it came from, after its secrets were taken out.
    pub(super) url: Origin,
    /// What would go in of it, but for its files, which go in with the repository's.
    pub(super) inspection: Inspection,
}

/// What was found of submodules.
#[derive(Debug, Default)]
pub(super) struct Submodules {
    pub(super) found: Vec<Submodule>,
    /// Those of which the files go in alone.
    without: Vec<Vec<u8>>,
    /// For each repository that was asked, the names of its submodules by their paths in it.
    names: HashMap<String, HashMap<String, String>>,
}

impl Submodule {
    /// What the configuration of the repository that it is in says of it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, String)> {
        let key = |what: &str| format!("submodule.{}.{what}", self.name);
        let url = self.url.url().map(|url| (key("url"), url.to_owned()));
        [(key("active"), "true".to_owned())].into_iter().chain(url)
    }

    /// A line for the user, where something was changed on the way.
    pub(super) fn note(&self) -> Option<String> {
        self.url.note(&format!("origin of the submodule `{}`", shown(self.path.as_bytes())))
    }
}

impl Submodules {
    /// Finds the submodules of a repository among those that are checked out, of which the outer ones come first.
    pub(super) async fn find(repository: &Repository, populated: Vec<Populated>) -> Self {
        let mut all = Self::default();
        for Populated { path, above, index } in populated {
            let found = match (text(&path), text(&above)) {
                (Some(path), Some(above)) if all.found.len() < MAX_SUBMODULES => {
                    all.one(repository, path, above, index).await
                }
                (_, _) => None,
            };
            match found {
                Some(found) => all.found.push(found),
                None => all.without.push(path),
            }
        }
        all
    }

    async fn one(
        &mut self,
        repository: &Repository,
        path: String,
        above: String,
        index: Vec<u8>,
    ) -> Option<Submodule> {
        let outer = self.found.iter().find(|outer| outer.path == above);
        let (place_above, git_above) = match (outer, above.is_empty()) {
            (Some(outer), _) => (outer.place.clone(), outer.inspection.repository.common.clone()),
            (None, true) => (String::new(), repository.common.clone()),
            // The one that it is in has no git folder in the guest.
            (None, false) => return None,
        };
        let inside = match above.is_empty() {
            true => &path[..],
            false => path.strip_prefix(&format!("{above}/")).unwrap_or_default(),
        };
        let folder = repository.root.join(&above);
        if !self.names.contains_key(&above) {
            // Conflicts may be in them, too.
            let names = names(&folder).await.unwrap_or_default();
            self.names.insert(above.clone(), names);
        }
        let name = self.names.get(&above).and_then(|names| names.get(inside)).cloned();
        let name = name.filter(|name| is_fit(name))?;
        let place = match place_above.is_empty() {
            true => format!("modules/{name}"),
            false => format!("{place_above}/modules/{name}"),
        };
        let depth = self.found.iter().filter(|outer| lies_in(&path, &outer.path)).count();
        if depth >= MAX_DEPTH || self.in_the_way(&place, &place_above) {
            return None;
        }
        let inspection = inspect(&repository.root.join(&path), &git_above, index).await;
        let inspection = inspection.ok().flatten()?;
        let key = format!("submodule.{name}.url");
        let url = in_source(&folder, Size::Question).args(["config", "--get", &key]);
        let url = git::ask(url, NAMING).await.ok()?.unwrap_or_default();
        let (above, url) = (place_above, sanitise(&url));
        Some(Submodule { path, name, place, above, url, inspection })
    }

    /// Whether a git folder at this place would be the same as another's, or lie in one without being of a submodule
    /// of it.
    fn in_the_way(&self, place: &str, above: &str) -> bool {
        self.found.iter().any(|other| {
            let beside = other.above == above;
            let nested = lies_in(place, &other.place) || lies_in(&other.place, place);
            other.place == place || (beside && nested)
        })
    }

    /// Lines for the user.
    pub(super) fn notes(&self) -> Vec<String> {
        alone(&self.without).into_iter().collect()
    }
}

/// A line for the user about submodules of which the files go in alone, where there are any.
pub(super) fn alone(paths: &[Vec<u8>]) -> Option<String> {
    let count = counted(paths.len() as u64, "submodule");
    let named = named(paths, NAMED_IN_NOTES);
    let note = format!("{count}: content goes in, without git metadata of its own: {named}");
    (!paths.is_empty()).then_some(note)
}

/// A path without the slash at its end, where it is text that fits in one line.
fn text(path: &[u8]) -> Option<String> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let path = String::from_utf8(path.to_vec()).ok()?;
    (!path.contains(char::is_control)).then_some(path)
}

/// Whether a name can be a path: git has refused others for long, as they led out of the git folder.
fn is_fit(name: &str) -> bool {
    !name.starts_with('-')
        && !name.contains(|c: char| c.is_control() || c == '\\')
        && listing::check(name.as_bytes()).is_ok()
}

fn lies_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The names of the submodules of a repository, by their paths in it.
async fn names(folder: &Path) -> Result<HashMap<String, String>, WorkspaceError> {
    let read = |source| WorkspaceError::Read { path: ".gitmodules".to_owned(), source };
    let here = folder.to_owned();
    let found = blocking(move || Root::open(&here)?.look(b".gitmodules")).await.map_err(read)?;
    let Some(Kind::File(_)) = found.map(|found| found.kind) else {
        return Ok(HashMap::new());
    };
    let list =
        ["config", "--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.path$"];
    let list = in_source(folder, Size::Question).args(list);
    let listing = git::ask(list, NAMING).await?.unwrap_or_default();
    Ok(parse(&listing))
}

/// Takes apart `submodule.NAME.path<newline>PATH<nul>`.
fn parse(listing: &[u8]) -> HashMap<String, String> {
    let entries = listing::paths(listing).filter_map(|entry| {
        let (key, path) = std::str::from_utf8(entry).ok()?.split_once(".path\n")?;
        let name = key.strip_prefix("submodule.")?;
        Some((path.trim_end_matches('/').to_owned(), name.to_owned()))
    });
    entries.collect()
}

/// Whether the git folder of a submodule lies in that of the repository that it is in, or in its own folder. One that a
/// file or a link leads to may be anybody's, and its history is none of the source's. Blocks.
fn is_its_own(submodule: &Repository, git_above: &Path) -> bool {
    let inside = submodule.root.join(".git");
    let is_folder = fs::symlink_metadata(&inside).is_ok_and(|inside| inside.is_dir());
    let places = [Some(git_above), is_folder.then_some(&*inside)];
    let places: Vec<_> = places.into_iter().flatten().flat_map(fs::canonicalize).collect();
    let Repository { git_folder, common, .. } = submodule;
    let parts = [git_folder.clone(), common.clone(), common.join("objects"), common.join("refs")];
    parts.into_iter().all(|part| {
        let part = fs::canonicalize(part);
        part.is_ok_and(|part| places.iter().any(|place| part.starts_with(place)))
    })
}

/// What would go in of a submodule's git; nothing where it is not all there, or not its own.
async fn inspect(
    folder: &Path,
    git_above: &Path,
    index: Vec<u8>,
) -> Result<Option<Inspection>, WorkspaceError> {
    let repository = repository::find(folder).await?;
    let (found, above) = (repository.clone(), git_above.to_owned());
    if !blocking(move || is_its_own(&found, &above)).await {
        return Ok(None);
    }
    let head = repository::head(&repository).await?;
    let root = Root::opened(folder).await.map_err(|source| WorkspaceError::Read {
        path: shown(folder.as_os_str().as_bytes()),
        source,
    })?;
    let root = Arc::new(root);
    let configuration = configuration::read(&repository, &head).await?;
    if head.commit.is_none() || configuration.is_partial_clone {
        return Ok(None);
    }
    Ok(Some(Inspection {
        repository,
        head,
        configuration,
        index,
        contents: Arc::new(Contents { root, entries: Vec::new(), folder: None }),
        mode: WorkspaceMode::Shallow,
        history: History::Usual,
        submodules: Vec::new(),
        untracked_left_out: 0,
        notes: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_path_and_only_those_that_can_be_paths_are_fit() {
        let names =
            parse(b"submodule.a.b.path\nvendor/a/\0submodule.ui.path\nui\0submodule.path\nx\0");
        assert_eq!(names.get("vendor/a").map(String::as_str), Some("a.b"));
        assert_eq!((names.get("ui").map(String::as_str), names.len()), (Some("ui"), 2));
        for fit in ["lib", "vendor/lib", "a.b", "..a"] {
            assert!(is_fit(fit), "{fit}");
        }
        for unfit in ["", "../x", "a/../b", "-x", "a/.git", "a//b", "/a", "a\nb", "a\\..\\b"] {
            assert!(!is_fit(unfit), "{unfit:?}");
        }
    }
}
