//! Workspaces: repositories in VMs, and what was done there.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::mode::WorkspaceMode;
use super::vm::VmWorkspace;

/// How many changes a state lists by name.
pub const MAX_CHANGES: usize = 1_000;

/// A repository to put into a VM that runs, or to bring up to date there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkspacePrepare {
    /// The VM: its name, its id, or an unambiguous prefix of that.
    pub vm: String,
    /// A folder inside a git repository of the host, absolute; the repository that went in last when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In which form it is to be there: the one that it is in, or shallow, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<WorkspaceMode>,
    /// Take untracked files too, but never ignored ones.
    #[serde(default)]
    pub include_untracked: bool,
    /// So many of the last commits; as the configuration says when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<NonZeroU32>,
    /// All of the history, whatever `depth` says.
    #[serde(default)]
    pub full_history: bool,
    /// A branch to be on, made in the guest only; the one that is checked out when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit of the source where that branch begins, without what is only in the working tree; what is checked
    /// out when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Give up work in the guest that was not exported.
    #[serde(default)]
    pub discard_work: bool,
    /// Wait for the end of the operation.
    #[serde(default)]
    pub wait: bool,
}

/// What to take out of a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceExport {
    /// The VM: its name, its id, or an unambiguous prefix of that.
    pub vm: String,
    /// The difference to this commit of the source repository, instead of to what went in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What is wanted.
    #[serde(default)]
    pub what: ExportWhat,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExportWhat {
    /// A patch for `git apply`.
    #[default]
    Patch,
    /// The names of what has changed, one a line, quoted as git does. This is no export: the work counts as
    /// unexported as before.
    Names,
    /// A git bundle of the commits since the base commit, made by the guest's git and checked by the host's. Not all
    /// of the work need be in commits, so this is no export either.
    Bundle,
}

/// An export that is ready to be read: its stream has data frames and an end-of-data frame. The client answers
/// with an end-of-data frame once it has all of it safely; only then it counts as exported.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct WorkspaceExported {
    /// The ticket that opens the stream.
    pub ticket: String,
    /// The length of what it carries, in bytes.
    pub bytes: u64,
    /// The tree that was seen in the guest: a git tree id.
    pub tree: String,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// To put the work into the source repository's working tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceApply {
    /// The VM: its name, its id, or an unambiguous prefix of that.
    pub vm: String,
    /// What to do with files that are not as they were.
    #[serde(default)]
    pub how: ApplyHow,
    /// The `change` of an answer that somebody has agreed to; without it, nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<String>,
}

/// What to do with files of the source that the work touches and that are not as they were when they went in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApplyHow {
    /// Refuse everything where there is one.
    #[default]
    AsItWas,
    /// Merge what was done in both places. What does not fit together is marked in the file.
    ThreeWay,
}

/// What is, or was, done to the source repository's working tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct WorkspaceApplied {
    /// A word for exactly this: for what the source and the guest have now. To be said as `agreed`.
    pub change: String,
    /// The root of the source's working tree.
    pub source_path: String,
    /// How many files are, or were, written or removed there. Those that are as in the guest need nothing.
    pub files: u64,
    /// Those of them that run by themselves on the host: at most [`MAX_CHANGES`].
    pub runs: Vec<RunsByItself>,
    /// How many of those there are.
    pub runs_total: u64,
    /// The files that were changed in both places in ways that do not fit together, control characters escaped:
    /// at most [`MAX_CHANGES`].
    pub conflicts: Vec<String>,
    /// How many of those there are.
    pub conflicts_total: u64,
    /// Whether it was done.
    pub applied: bool,
    /// Whether the work counts as exported now.
    pub exported: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A file that runs by itself, or makes something run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct RunsByItself {
    /// The path below the workspace, control characters escaped.
    pub path: String,
    /// Who runs or reads it.
    pub why: String,
}

/// How a workspace is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct WorkspaceState {
    /// Where it is, and where it came from.
    #[serde(flatten)]
    pub workspace: VmWorkspace,
    /// Whether there is work in the guest that went in no export.
    pub unexported: bool,
    /// What has changed since it went in, by name: at most [`MAX_CHANGES`].
    pub changes: Vec<WorkspaceChange>,
    /// How many changes there are.
    pub changes_total: u64,
    /// How many commits the guest's HEAD has that the base commit has not, as the guest's git says; unknown
    /// where it cannot say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits_ahead: Option<u64>,
    /// Whether something else is checked out in the source repository by now; unknown where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_moved: Option<bool>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// One file that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct WorkspaceChange {
    /// The path below the workspace, control characters escaped.
    pub path: String,
    /// What happened to it.
    pub change: ChangeKind,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content, mode or type is another.
    Modified,
    /// It is gone.
    Deleted,
}
