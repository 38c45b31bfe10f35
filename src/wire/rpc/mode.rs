//! What of a repository goes into a VM.

use serde::{Deserialize, Serialize};

use super::CreateWorkspace;

/// In which form a repository is in a VM. It has been put in in one form, and stays in it.
///
/// | | files | `.git` |
/// |---|---|---|
/// | shallow | as they are in the working tree | of our own: the index, the last commits or all |
/// | full | the same ones | none |
/// | metadata | none | the same; git there says that nothing has changed |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// The files, and git metadata with as much history as is asked for.
    #[default]
    Shallow,
    /// The files alone, in a folder that is no repository.
    Full,
    /// Git metadata alone: all objects of the commit that is checked out are there, and none of its files.
    Metadata,
}

impl WorkspaceMode {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shallow => "shallow",
            Self::Full => "full",
            Self::Metadata => "metadata",
        }
    }

    /// What is wanted although the mode has none of it, and why; each by its name here.
    #[must_use]
    pub fn contradiction(self, wanted: &CreateWorkspace) -> Option<(&'static str, &'static str)> {
        let (history, branch) = ("no history goes in", "no git is there for it");
        let given = match self {
            Self::Shallow => Vec::new(),
            Self::Full => vec![
                (wanted.depth.is_some(), "depth", history),
                (wanted.full_history, "full_history", history),
                (wanted.branch.is_some(), "branch", branch),
            ],
            Self::Metadata => {
                vec![(wanted.include_untracked, "include_untracked", "no files go in")]
            }
        };
        given.into_iter().find(|(given, ..)| *given).map(|(_, what, why)| (what, why))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_a_mode_has_none_of_cannot_be_wanted_with_it() {
        let plain = CreateWorkspace::default;
        let wanted = [
            ("depth", CreateWorkspace { depth: NonZeroU32::new(3), ..plain() }),
            ("full_history", CreateWorkspace { full_history: true, ..plain() }),
            ("branch", CreateWorkspace { branch: Some("b".to_owned()), ..plain() }),
            ("include_untracked", CreateWorkspace { include_untracked: true, ..plain() }),
            ("", plain()),
        ];
        for (what, wanted) in wanted {
            let refused = |mode: WorkspaceMode| mode.contradiction(&wanted).map(|(what, _)| what);
            assert_eq!(refused(WorkspaceMode::Shallow), None);
            let full = ["depth", "full_history", "branch"].contains(&what).then_some(what);
            assert_eq!(refused(WorkspaceMode::Full), full);
            let metadata = (what == "include_untracked").then_some(what);
            assert_eq!(refused(WorkspaceMode::Metadata), metadata);
        }
    }
}
