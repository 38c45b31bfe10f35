//! The workspace service: a repository of the host on its way into a guest, and what was done there on its
//! way out.
//!
//! ```text
//!  inspect ───────────► Inspection ──── pack ────► Package ──── write_tar ────► sink
//!  before anything      what would go in           .git of the guest's          files as they are
//!  is created           (also for --dry-run)       checkout, in a scratch       now, then .git
//!                                                  folder; while the guest
//!                                                  boots
//! ```
//!
//! Whoever sends the files has them written down on the way ([`Kept`]): the trees that went in, were seen last
//! and were exported, with all their contents.
//!
//! ```text
//!  Kept::look ──► records ──► agent ──► records, contents ──► Look::take ──► the tree that is there
//!                                                                            │
//!                                     patch, names, changes ◄── Comparison ◄─┤
//!                              files of the working tree ◄── Application ◄───┘
//! ```
//!
//! What went in once is renewed from the same or another state of the source ([`Renewal`]): only what differs is
//! sent.
//!
//! Three rules hold everywhere in here:
//!
//! 1. **The source repository is never written**, but for files of its working tree when the user has work
//!    applied to them ([`Application`]). Git is asked only questions that write nothing, and
//!    everything that makes something runs in a scratch folder of the daemon. (One thing git does by
//!    itself: reading a *split* index renews the time stamp of its `sharedindex.*` file.)
//! 2. **Nothing in the source repository runs.** No command that is run on it hooks, filters, diffs,
//!    connects or fetches; its objects are read by a repository of our own with a configuration of our
//!    own, so that its configuration cannot say anything about how they are read.
//! 3. **Nothing outside the working tree goes in.** Files are opened below a descriptor of its root,
//!    through no symlink; the guest's git configuration is written fresh, entry by entry.
//!
//! It must not know VMs, guests, the store or hooks: it gets a path and gives a tar stream.

mod absent;
mod apply;
mod beside;
mod configuration;
mod elsewhere;
mod error;
mod export;
mod git;
mod git_files;
mod import;
mod inspection;
mod kept;
mod left;
mod lfs;
mod listing;
mod lists;
mod metadata;
mod modules;
mod objects;
mod origin;
mod package;
mod renewal;
mod repository;
mod scratch;
mod seeing;
mod settings;
mod submodule;
mod tree;
mod unchanged;
mod unheard;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::lfs::Lfs;
use self::modules::Modules;
use crate::wire::rpc::{ApplyHow, WorkspaceMode};

pub use apply::{Application, ApplyError};
pub use error::WorkspaceError;
pub use export::{Against, Comparison};
pub use import::{Import, TreeWriter};
pub use inspection::{History, Inspection, Untracked};
pub use kept::{Kept, Limit, Look, Recording};
pub use modules::WentIn;
pub use package::{Package, PackageSummary};
pub use renewal::Renewal;
pub use scratch::ScratchFolder;
pub use seeing::{Found, Seeing};
pub use settings::{Setting, When};
pub use unchanged::Statuses;

/// How many commits of history go in when nobody says otherwise: enough for `log`, `blame` of recent
/// work and a merge base, little enough for a second.
pub const DEFAULT_DEPTH: u32 = 50;

/// Scratch folders have this prefix, so that leftovers of a killed daemon are known.
const SCRATCH_PREFIX: &str = "pack-";

/// What the service is told at start.
#[derive(Debug, Clone)]
pub struct WorkspaceSettings {
    /// A folder that belongs to this service of this daemon alone. It may lie on another file system
    /// than the repositories.
    pub scratch: PathBuf,
    /// How many commits of history go in, at least 1.
    pub depth: u32,
}

/// What a guest has already, and is not packed for it anew.
#[derive(Debug, Default)]
pub struct Already<'a> {
    /// The history that is kept, where the guest has all of it.
    pub history: Option<&'a Kept>,
    /// The submodules whose git is there as it is to be.
    pub submodules: Vec<WentIn>,
}

/// The service.
#[derive(Debug)]
pub struct Workspaces {
    settings: WorkspaceSettings,
    /// By which files that were changed a moment ago are told from others.
    clock: fn() -> SystemTime,
}

impl Workspaces {
    /// Makes the scratch folder and removes what a killed daemon left in it. A git of that daemon may still
    /// be writing there for a moment: what cannot be removed stays until the next start, and is in nobody's
    /// way, since every package has a folder of its own.
    ///
    /// # Errors
    /// When the scratch folder cannot be made or read.
    pub fn new(settings: WorkspaceSettings) -> Result<Self, WorkspaceError> {
        let scratch = |source| WorkspaceError::Scratch { path: settings.scratch.clone(), source };
        fs::create_dir_all(&settings.scratch).map_err(scratch)?;
        for entry in fs::read_dir(&settings.scratch).map_err(scratch)? {
            let entry = entry.map_err(scratch)?;
            if entry.file_name().as_encoded_bytes().starts_with(SCRATCH_PREFIX.as_bytes()) {
                fs::remove_dir_all(entry.path()).unwrap_or_else(|error| {
                    let folder = entry.path();
                    tracing::warn!(folder = %folder.display(), %error, "a leftover stays for now");
                });
            }
        }
        Ok(Self { settings, clock: SystemTime::now })
    }

    /// The same by another clock.
    #[cfg(test)]
    pub(crate) fn by_clock(self, clock: fn() -> SystemTime) -> Self {
        Self { clock, ..self }
    }

    /// Finds the repository that `path` lies in and says what would go into a guest. Writes nothing
    /// anywhere.
    ///
    /// # Errors
    /// When there is no such path or no repository with a working tree, when git refuses it, or when it
    /// cannot be read.
    pub async fn inspect(
        &self,
        path: &Path,
        untracked: Untracked,
    ) -> Result<Inspection, WorkspaceError> {
        inspection::inspect(path, untracked).await
    }

    /// What was inspected, as it is at another commit, and without what is only in the working tree.
    ///
    /// # Errors
    /// When there is no such commit, or the scratch folder cannot be written.
    pub async fn inspect_at(
        &self,
        inspection: Inspection,
        commit: &str,
    ) -> Result<Inspection, WorkspaceError> {
        elsewhere::at(self, inspection, commit).await
    }

    /// Whether something else is checked out in the repository at `source` than when it was inspected.
    ///
    /// # Errors
    /// When it is not there any more, or cannot be read.
    pub async fn has_moved(
        &self,
        source: &Path,
        base_commit: Option<&str>,
    ) -> Result<bool, WorkspaceError> {
        let repository = repository::find(source).await?;
        let head = repository::head(&repository).await?;
        Ok(head.commit.as_deref() != base_commit)
    }

    /// A folder for a moment, in the scratch folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn scratch_folder(&self) -> Result<ScratchFolder, WorkspaceError> {
        let scratch = &self.settings.scratch;
        let folder = ScratchFolder::make(scratch, SCRATCH_PREFIX).await;
        folder.map_err(|source| WorkspaceError::Scratch { path: scratch.clone(), source })
    }

    /// Looks whether a bundle that a guest made, on top of what is kept, is sound. `folder` is for a moment.
    ///
    /// # Errors
    /// When it is not, or the folder cannot be written.
    pub async fn check_bundle(
        &self,
        kept: &Kept,
        folder: &Path,
        bundle: &Path,
    ) -> Result<(), WorkspaceError> {
        export::check_bundle(kept, folder, bundle).await
    }

    /// Compares the tree `to`, which was seen in the guest, with the working tree whose root was `source`, to
    /// put what was done into it.
    ///
    /// # Errors
    /// When the source is not there any more, is not as it was, or cannot be read; when something in the tree
    /// must not be written.
    pub async fn application(
        &self,
        kept: &Kept,
        source: &Path,
        to: &str,
        how: ApplyHow,
    ) -> Result<Application, ApplyError> {
        Application::of(self, kept, source, to, how).await
    }

    /// Makes the guest's git metadata. The list of files is the inspection's; their contents are read
    /// when the tar is written.
    ///
    /// # Errors
    /// When git cannot read the repository's history or the scratch folder cannot be written.
    pub async fn pack(&self, inspection: &Inspection) -> Result<Package, WorkspaceError> {
        self.pack_onto(inspection, Already::default()).await
    }

    /// The same for a guest that has some of it: of the history, only what is new.
    ///
    /// # Errors
    /// As [`Self::pack`].
    pub async fn pack_onto(
        &self,
        inspection: &Inspection,
        already: Already<'_>,
    ) -> Result<Package, WorkspaceError> {
        let known = already.history;
        let made = metadata::make(self, inspection, known).await?;
        let modules = match inspection.mode {
            WorkspaceMode::Shallow => {
                modules::make(self, inspection, &made, &already.submodules).await?
            }
            WorkspaceMode::Full | WorkspaceMode::Metadata => Modules::default(),
        };
        let mut lfs = match inspection.mode {
            WorkspaceMode::Shallow | WorkspaceMode::Metadata => {
                Lfs::find(inspection, &made).await?
            }
            WorkspaceMode::Full => Lfs::default(),
        };
        if let Some(known) = known {
            lfs.without(&known.blocking(Kept::lfs_objects).await?);
        }
        Ok(Package::new(inspection, made, modules, lfs, self.clock))
    }
}
