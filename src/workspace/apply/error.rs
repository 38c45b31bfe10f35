//! What can go wrong between a guest's work and the working tree that it came from.

use std::io;
use std::path::PathBuf;

use super::super::WorkspaceError;
use crate::report::{Explain, Kind};

/// Work that is not applied. But for [`ApplyError::HalfApplied`], nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What is kept, or the source, cannot be read, or git failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// There is no such repository any more.
    #[error("the repository that went in is not at `{}` any more", path.display())]
    NoSource {
        /// Where it was.
        path: PathBuf,
        /// What is there.
        #[source]
        source: Box<WorkspaceError>,
    },
    /// Files of the source are neither as they went in nor as they were exported.
    #[error(
        "nothing was changed: these files of the repository are not as they were when it went in: {paths}"
    )]
    NotAsItWas {
        /// Some of them, fit for a terminal.
        paths: String,
    },
    /// Files of the source are not as they were, and cannot be merged.
    #[error(
        "nothing was changed: these files have no place in the repository, or cannot be merged: {paths}"
    )]
    Unmergeable {
        /// Some of them, fit for a terminal.
        paths: String,
    },
    /// The guest has a file that no repository may have.
    #[error("nothing was changed: the guest has the file `{path}`, which git would not write")]
    UnfitPath {
        /// Its path, fit for a terminal.
        path: String,
    },
    /// The new files cannot be written beside the old ones.
    #[error("nothing was changed: cannot write new files in `{}`", path.display())]
    Stage {
        /// The working tree, or the folder in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be put into its place, or taken from it.
    #[error(
        "cannot change `{path}` in the repository; what was changed before it is as it was again"
    )]
    Place {
        /// Its path, fit for a terminal.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was written to between the comparison and the moment in which it was replaced.
    #[error(
        "`{path}` in the repository was changed at the same moment; everything is as it was again"
    )]
    ChangedMeanwhile {
        /// Its path, fit for a terminal.
        path: String,
    },
    /// It failed, and so did undoing it.
    #[error("the work is applied in part: what was replaced is in `{}`", folder.display())]
    HalfApplied {
        /// Where that is.
        folder: PathBuf,
        /// Why it failed.
        #[source]
        source: Box<Self>,
    },
}

impl Explain for ApplyError {
    fn kind(&self) -> Kind {
        match self {
            Self::Workspace(error) => error.kind(),
            Self::NoSource { source, .. } => source.kind(),
            Self::NotAsItWas { .. } | Self::Unmergeable { .. } | Self::ChangedMeanwhile { .. } => {
                Kind::Conflict
            }
            Self::UnfitPath { .. } => Kind::Refused,
            Self::Stage { .. } | Self::Place { .. } | Self::HalfApplied { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Workspace(error) => return error.hint(),
            Self::NoSource { .. } => {
                "`--output FILE` writes a patch, which `git apply` applies where the repository is now"
            }
            Self::NotAsItWas { .. } => {
                "`--3way` merges what was done in both places; `--output FILE` writes a patch"
            }
            Self::Unmergeable { .. } => {
                "`--output FILE` writes a patch; apply what you want of it by hand"
            }
            Self::UnfitPath { .. } => {
                "programs in the guest may want to have it run here; look at it with `cove exec`"
            }
            Self::Stage { .. } | Self::Place { .. } => {
                "`--output FILE` writes a patch, to be applied by hand"
            }
            Self::ChangedMeanwhile { .. } => "try again when nothing writes to the repository",
            Self::HalfApplied { .. } => {
                "apply it again with `--3way` when the cause is gone; look into that folder before you remove it"
            }
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    #[test]
    fn every_error_as_it_is_read() {
        let (path, file) = (|| PathBuf::from("/src/web"), || "src/main.rs".to_owned());
        let denied = || io::ErrorKind::PermissionDenied.into();
        let gone =
            WorkspaceError::NoSuchPath { path: path(), source: io::ErrorKind::NotFound.into() };
        let place = || ApplyError::Place { path: file(), source: denied() };
        let errors = [
            ApplyError::Workspace(WorkspaceError::NothingKept),
            ApplyError::NoSource { path: path(), source: Box::new(gone) },
            ApplyError::NotAsItWas { paths: "`a`, `b`, and 3 more".to_owned() },
            ApplyError::Unmergeable { paths: "`a`".to_owned() },
            ApplyError::UnfitPath { path: ".GIT/config".to_owned() },
            ApplyError::Stage { path: path(), source: denied() },
            ApplyError::Stage { path: path(), source: io::ErrorKind::StorageFull.into() },
            place(),
            ApplyError::ChangedMeanwhile { path: file() },
            ApplyError::HalfApplied { folder: path(), source: Box::new(place()) },
        ];
        let lines = errors.iter().map(|error| {
            let report = Report::of(error);
            let hint = report.hint.clone().unwrap_or_default();
            format!("{} ({})\n  hint: {hint}", report.one_line(), report.kind.as_str())
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        cove kept nothing of what went into this workspace (conflict)
          hint: an older cove put it in; take the work out with `cove exec VM -- git diff BASE_COMMIT`
        the repository that went in is not at `/src/web` any more: there is no folder `/src/web`: entity not found (not_found)
          hint: `--output FILE` writes a patch, which `git apply` applies where the repository is now
        nothing was changed: these files of the repository are not as they were when it went in: `a`, `b`, and 3 more (conflict)
          hint: `--3way` merges what was done in both places; `--output FILE` writes a patch
        nothing was changed: these files have no place in the repository, or cannot be merged: `a` (conflict)
          hint: `--output FILE` writes a patch; apply what you want of it by hand
        nothing was changed: the guest has the file `.GIT/config`, which git would not write (refused)
          hint: programs in the guest may want to have it run here; look at it with `cove exec`
        nothing was changed: cannot write new files in `/src/web`: permission denied (failed)
          hint: `--output FILE` writes a patch, to be applied by hand
        nothing was changed: cannot write new files in `/src/web`: no storage space (failed)
          hint: make room on that file system, and try again
        cannot change `src/main.rs` in the repository; what was changed before it is as it was again: permission denied (failed)
          hint: `--output FILE` writes a patch, to be applied by hand
        `src/main.rs` in the repository was changed at the same moment; everything is as it was again (conflict)
          hint: try again when nothing writes to the repository
        the work is applied in part: what was replaced is in `/src/web`: cannot change `src/main.rs` in the repository; what was changed before it is as it was again: permission denied (failed)
          hint: apply it again with `--3way` when the cause is gone; look into that folder before you remove it
        ");
    }
}
