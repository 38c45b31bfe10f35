//! The log of hook runs: what is written down of each run, and how it is asked for.
//!
//! The same types are the lines of the log's files. Nothing in them is content: files are names, sizes and
//! digests, variables are names, failures are classes.

use serde::{Deserialize, Serialize};

use super::hook::HookPoint;
use crate::id::{Digest, PluginId, VmId, VmName};

/// One record. Records are a chain: each carries the digest of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookRecord {
    /// Its place in the chain, from 1.
    pub number: u64,
    /// When it was written.
    pub time: String,
    /// The digest of the record before it; 64 zeros in the very first.
    pub previous: Digest,
    /// What it says.
    pub entry: HookEntry,
    /// The digest of everything before this in its line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum HookEntry {
    /// A hook ran, or was refused to.
    Run(Box<HookRunEntry>),
    /// The digests of the host's files that a run has imported: they are taken after it, so that no start
    /// waits for them.
    Imported {
        /// The number of the run's record.
        run: u64,
        /// The files.
        files: Vec<ImportedDigest>,
        /// How many files more it imported, which stay without digests: a run has only so many, and a run
        /// that comes while too many wait for theirs has none.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: u64,
    },
    /// What these runs wanted was dropped although they ended well: a later plugin failed, or two of them
    /// wanted different things.
    Dropped {
        /// The numbers of their records.
        runs: Vec<u64>,
    },
    /// The last line had been cut off in the middle, as by a power failure, and was removed.
    Cut {
        /// How many bytes were removed.
        bytes: u64,
        /// Their digest.
        sha256: Digest,
    },
    /// The record before this one cannot be read, so the chain begins anew.
    Anew,
}

/// One run of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookRunEntry {
    /// The VM; none where the hook is not about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<VmName>,
    /// The hook point.
    pub point: HookPoint,
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Digest,
    /// `standard` for what came with cove, the digest of the grant otherwise, or `none`.
    pub grant: String,
    /// `act`, or `look` when somebody only looked at what it would do.
    pub purpose: String,
    /// How it ended: `ok`, `returned`, `panicked`, `trapped`, `exited`, `cpu`, `wall`, `memory`, `limit`,
    /// `cancelled`, `phase`, `instantiate`, or `refused` when it was not let run.
    pub outcome: String,
    /// The code of the error that it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What it used.
    pub used: HookUse,
    /// What it read of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<HookRead>,
    /// Which files of the host it had copied without seeing them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<HookImport>,
    /// What it wanted to be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<HookWrite>,
    /// What it asked the machine to be, as `set-env NAME`, `set-label NAME`, `allow-egress RULE` and
    /// `forward HOST:GUEST`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wishes: Vec<String>,
    /// What it wanted and was not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<String>,
    /// How many reads, imports, writes, wishes and denials more there were, which had no room here.
    #[serde(default)]
    pub left_out: u64,
    /// The digest of its plan.
    pub plan: Digest,
}

/// What a run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookUse {
    /// Microseconds of processor time.
    pub cpu_us: u64,
    /// How often the clock that interrupts hooks ticked meanwhile.
    pub ticks: u64,
    /// Microseconds from its beginning to its end.
    pub wall_us: u64,
    /// The most bytes of memory that the component had.
    pub memory: u64,
    /// Calls of the host.
    pub host_calls: u64,
    /// Bytes that it made for the plan.
    pub staged_bytes: u64,
    /// Bytes of host files that it had copied.
    pub imported_bytes: u64,
    /// Lines of its log that did not fit.
    pub log_dropped: u64,
}

/// One read of a host file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookRead {
    /// The logical name that it stands behind.
    pub name: String,
    /// What the file is called towards people.
    pub file: String,
    /// From where, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The digest of these bytes.
    pub sha256: Digest,
}

/// One file of the host that goes in unseen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookImport {
    /// The logical name that it stands behind.
    pub name: String,
    /// What the file is called towards people.
    pub file: String,
    /// Where it goes, relative to the guest's home.
    pub path: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookWrite {
    /// `make-directory`, `write-file`, `ensure-block`, `symlink` or `remove`.
    pub action: String,
    /// The path, relative to the guest's home.
    pub path: String,
    /// Bytes of content, where it has content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The digest of the content, where the plugin made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// The content of a host file that was imported, soon after its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct ImportedDigest {
    /// Where it goes, relative to the guest's home.
    pub path: String,
    /// Its size when it was planned.
    pub bytes: u64,
    /// The digest of its content; none when it could not be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Which records to return.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookRunQuery {
    /// Only those of this plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginId>,
    /// Only those of this VM: its name, its id, or the beginning of its id. It need not be there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// At most so many, the newest; 100 when not given, at most 1000. A page may have fewer although there
    /// are more: it has no more than 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those with smaller numbers: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Only those with larger numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A page of records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookRunPage {
    /// The records, oldest first.
    pub records: Vec<HookRecord>,
    /// `before` of the next page, which is older, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Whether the chain of records holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct HookChain {
    /// How many records were looked at.
    pub records: u64,
    /// The number of the first; more than 1 when older ones have made room for newer ones.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// How often a line that had been cut off was removed.
    pub cuts: u64,
    /// Where it breaks, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<ChainBreak>,
}

/// A place where the chain of records breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
pub struct ChainBreak {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}
