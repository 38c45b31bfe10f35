//! Making the git folders of submodules, and what is kept of those that went in.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::git::{self, Size};
use super::inspection::Inspection;
use super::kept::Kept;
use super::listing;
use super::metadata::{self, Metadata};
use super::submodule::{Submodule, alone};
use super::{WorkspaceError, Workspaces};
use crate::id::Digest;
use crate::wire::guest::UPDATE_DEEPENED;
use crate::wire::rpc::WorkspaceMode;

const CONFIGURING: &str = "write the configuration of a submodule";
const DEEPENING: &str = "find out how much history of a submodule comes";

/// The git folder of a submodule, ready to be sent.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) went_in: WentIn,
    pub(super) metadata: Metadata,
}

/// The git folders of all submodules.
#[derive(Debug, Default)]
pub(super) struct Modules {
    pub(super) made: Vec<Module>,
    /// Those that are in the guest as they are to be, and not made anew.
    pub(super) there: Vec<WentIn>,
    /// A line for the user about those that could not be read.
    pub(super) alone: Option<String>,
}

/// What is kept of a submodule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WentIn {
    /// The commit that was checked out in it.
    pub commit: String,
    /// The branch that was, as a full ref name; empty when there was none.
    pub branch: String,
    /// Of what its git folder was made.
    digest: String,
    /// Where that is, below the repository's.
    pub place: String,
    /// Its folder, relative to the root of the repository.
    pub path: String,
}

/// Makes the git folders of all submodules but those that are `there`, and writes of them into the configuration of
/// what they lie in.
pub(super) async fn make(
    workspaces: &Workspaces,
    inspection: &Inspection,
    repository: &Metadata,
    there: &[WentIn],
) -> Result<Modules, WorkspaceError> {
    let mut modules = Modules::default();
    let mut without = Vec::new();
    for submodule in &inspection.submodules {
        let went_in = WentIn::of(submodule);
        if there.contains(&went_in) {
            modules.there.push(went_in);
            continue;
        }
        let outer = modules.made.iter().find(|outer| outer.went_in.place == submodule.above);
        let outer = match (outer, submodule.above.is_empty()) {
            (Some(outer), _) => Some(&outer.metadata),
            (None, true) => Some(repository),
            (None, false) if there.iter().any(|outer| outer.place == submodule.above) => None,
            (None, false) => {
                without.push(submodule.path.clone().into_bytes());
                continue;
            }
        };
        let metadata = match metadata::make(workspaces, &submodule.inspection, None).await {
            Ok(metadata) => metadata,
            Err(error @ WorkspaceError::Scratch { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(submodule = %submodule.path, %error, "cannot read its git");
                without.push(submodule.path.clone().into_bytes());
                continue;
            }
        };
        if let Some(outer) = outer {
            for (key, value) in submodule.entries() {
                configure(outer, &key, &value).await?;
            }
        }
        modules.made.push(Module { went_in, metadata });
    }
    // Last: from then on git finds no working tree in the scratch folder.
    for Module { went_in, metadata } in &modules.made {
        let up = "../".repeat(went_in.place.split('/').count() + 1);
        configure(metadata, "core.worktree", &format!("{up}{}", went_in.path)).await?;
    }
    modules.alone = alone(&without);
    Ok(modules)
}

async fn configure(metadata: &Metadata, key: &str, value: &str) -> Result<(), WorkspaceError> {
    let set = metadata.git(Size::Question).args(["config", "--local", key, value]);
    git::run(set, CONFIGURING).await.map(drop)
}

impl Module {
    /// Writes down for the agent which of these commits, that have no parents in the guest, have them from now on.
    pub(super) async fn deepen(&self, shallow: &[&str]) -> Result<(), WorkspaceError> {
        let place = self.metadata.git_folder();
        // The working tree that its configuration names is not there.
        let check = self.metadata.git(Size::Work);
        let check = check.env("GIT_DIR", &place).env("GIT_WORK_TREE", ".");
        let check = check.args(["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
        let asked: String = shallow.iter().flat_map(|commit| [*commit, "\n"]).collect();
        let answer = git::run(check.input(asked.into_bytes()), DEEPENING).await?;
        let write = move || {
            let cut = match fs::read_to_string(place.join("shallow")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                cut => cut?,
            };
            let cut: HashSet<&str> = cut.lines().collect();
            // What comes does so with its parents, unless it is cut there.
            let come = std::str::from_utf8(&answer).unwrap_or_default().lines();
            let come = come.filter_map(|line| line.strip_suffix(" commit"));
            let come = come.filter(|commit| !cut.contains(commit));
            let deepened: String = come.flat_map(|commit| [commit, "\n"]).collect();
            fs::write(place.join(UPDATE_DEEPENED), deepened)
        };
        let written = self.metadata.folder.blocking(write).await;
        let path = self.metadata.git_folder();
        written.map_err(|source| WorkspaceError::Scratch { path, source })
    }
}

impl Inspection {
    /// The submodules whose git is to go in.
    #[must_use]
    pub fn submodules_to_go_in(&self) -> Vec<WentIn> {
        match self.mode {
            WorkspaceMode::Shallow => self.submodules.iter().map(WentIn::of).collect(),
            WorkspaceMode::Full | WorkspaceMode::Metadata => Vec::new(),
        }
    }
}

impl WentIn {
    fn of(submodule: &Submodule) -> Self {
        let inside = &submodule.inspection;
        let commit = inside.head.commit.clone().unwrap_or_default();
        let branch = inside.branch().unwrap_or_default().to_owned();
        let made_of = format!("{:?}\n", inside.history);
        let digest = Digest::of(&[made_of.as_bytes(), &inside.index].concat()).to_string();
        let (place, path) = (submodule.place.clone(), submodule.path.clone());
        Self { commit, branch, digest, place, path }
    }

    /// The file `.git` in the submodule's folder.
    pub(super) fn link(&self) -> String {
        let up = "../".repeat(self.path.split('/').count());
        format!("gitdir: {up}.git/{}\n", self.place)
    }

    fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut parts = line.split('\n').map(str::to_owned);
        let (commit, branch, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let (place, path) = (parts.next()?, parts.next()?);
        Some(Self { commit, branch, digest, place, path })
    }
}

impl Kept {
    /// The submodules whose git folders went in.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn submodules(&self) -> Result<Vec<WentIn>, WorkspaceError> {
        let read = |kept: &Self| match fs::read(kept.modules_place()) {
            // Workspaces of older coves have no such list.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listing => listing,
        };
        let listing = self.blocking(read).await?;
        Ok(listing::paths(&listing).filter_map(WentIn::read).collect())
    }

    /// Writes down which went in. Blocks.
    pub(super) fn keep_submodules(&self, submodules: Vec<WentIn>) -> io::Result<()> {
        let mut listing = String::new();
        for WentIn { commit, branch, digest, place, path } in submodules {
            listing.push_str(&format!("{commit}\n{branch}\n{digest}\n{place}\n{path}\0"));
        }
        let (new, place) = (self.modules_place().with_extension("new"), self.modules_place());
        fs::write(&new, listing).and_then(|()| fs::rename(&new, &place))
    }

    fn modules_place(&self) -> PathBuf {
        self.folder().join("modules")
    }
}
