//! The guest's `.git`, made in a scratch folder.
//!
//! ```text
//!   source repository          scratch/source                    scratch/tree/.git
//!   objects/  ◄── alternates ── empty repository of our own ── fetch --depth ──► the checkout's
//!   shallow   ──── copied ────► one ref: the base commit      pack-objects       metadata
//!                                                              (staged blobs) ──►
//! ```
//!
//! The repository in the middle is why nothing in the source's configuration can run or bend anything:
//! the program that reads its objects (`upload-pack`) sees the middle one's configuration, which is
//! fresh. It also makes trust a question that git was asked once, at inspection.
//!
//! Objects are only read through the alternates, never written there: writing an object that the source
//! has already would touch the source's pack to keep it alive.
//!
//! The index is the source's, entry by entry: what is staged, in conflict, left out by a sparse checkout
//! or assumed unchanged there is so in the guest. An intent to add (`add -N`) arrives as a staged empty
//! file. Only the current branch goes in, and the branch of origin that it follows when its commit is
//! among those that go in. The user-wide file of ignored paths does not go in.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::git::{self, Size, in_scratch, in_source};
use super::git_files::{append, copy, copy_rules, scratch, write, write_ref};
use super::import::alternate;
use super::inspection::{History, Inspection};
use super::kept::Kept;
use super::listing::{self, IndexEntry};
use super::scratch::ScratchFolder;
use super::{WorkspaceError, Workspaces, absent};
use crate::process::{Tool, ToolError};
use crate::wire::rpc::WorkspaceMode;
use crate::wire::survey::Known;

/// The ref in the middle repository that names the base commit.
const BASE_REF: &str = "refs/heads/base";

/// The ref in the checkout that names, for a moment, what the guest has.
const KNOWN_REF: &str = "refs/cove/known";

/// As many commits as there are, to git.
const WHOLE: u32 = 0x7fff_ffff;

/// How the objects of the source are put into a pack, which is read once or twice: what the source has packed goes in
/// as it is there, but nobody looks for more that is alike, which takes longer than to send it.
const QUICK_PACKS: &str = "[pack]\n\twindow = 0\n\tcompression = 1\n";

const COPYING: &str = "copy the last commits";
const INDEXING: &str = "make the checkout's index";
const CONFIGURING: &str = "write the checkout's configuration";

/// A finished `.git`. Its folder is removed when the value is dropped.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Where it lies, for a moment.
    pub(super) folder: ScratchFolder,
    /// What its index names and does not go in.
    pub(super) absent: Vec<Known>,
}

impl Metadata {
    /// The `.git` folder.
    pub(super) fn git_folder(&self) -> PathBuf {
        self.tree().join(".git")
    }

    /// The folder that git runs in: an empty working tree.
    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Git in it.
    pub(super) fn git(&self, size: Size) -> Tool {
        in_scratch(&self.tree(), size)
    }
}

/// Makes the metadata of a checkout of what was inspected.
pub(super) async fn make(
    workspaces: &Workspaces,
    inspection: &Inspection,
    known: Option<&Kept>,
) -> Result<Metadata, WorkspaceError> {
    let folder = workspaces.scratch_folder().await?;
    let mut metadata = Metadata { folder, absent: Vec::new() };
    initialise(&metadata, inspection).await?;
    if inspection.mode == WorkspaceMode::Full {
        return Ok(metadata);
    }
    if let Some(known) = known {
        // While nothing else is known: git writes no object that it finds elsewhere, and the guest may lack it.
        write_empty_blob(&metadata).await?;
        begin_with(&metadata, known).await?;
    }
    if let Some(commit) = &inspection.head.commit {
        let depth = match inspection.history {
            History::Usual => workspaces.settings.depth.max(1),
            History::Last(commits) => commits.get(),
            History::Whole => WHOLE,
        };
        fetch(&metadata, commit, depth)
            .await
            .map_err(|error| explain_missing(error, inspection))?;
    }
    if known.is_some() {
        let known = metadata.git(Size::Question).args(["update-ref", "-d", KNOWN_REF]);
        git::run(known, COPYING).await?;
    }
    set_head(&metadata, inspection).await?;
    configure(&metadata, inspection).await?;
    let (repository, to) = (inspection.repository.clone(), metadata.git_folder());
    metadata.folder.blocking(move || copy_rules(&repository, &to)).await?;
    metadata.absent = match (inspection.mode, &inspection.head.commit) {
        (WorkspaceMode::Metadata, None) => Vec::new(),
        (WorkspaceMode::Metadata, Some(commit)) => absent::all_of(&metadata, commit).await?,
        (WorkspaceMode::Shallow | WorkspaceMode::Full, _) => {
            let staged = staged(&metadata, inspection).await;
            staged.map_err(|error| explain_missing(error, inspection))?;
            index(&metadata, inspection).await?;
            absent::of_index(&inspection.index, &inspection.contents.entries)?
        }
    };
    Ok(metadata)
}

/// Makes both scratch repositories, and lets the middle one read the source's objects.
async fn initialise(metadata: &Metadata, inspection: &Inspection) -> Result<(), WorkspaceError> {
    let doing = "make a scratch repository";
    let format = format!("--object-format={}", inspection.repository.object_format);
    for folder in [metadata.tree(), metadata.source()] {
        tokio::fs::create_dir(&folder).await.map_err(|source| scratch(&folder, source))?;
    }
    let init = |folder: &Path| {
        in_scratch(folder, Size::Question)
            .args(["init", "--quiet", "--template=", "--initial-branch=main"])
            .arg(&format)
    };
    tokio::try_join!(
        git::run(init(&metadata.tree()), doing),
        git::run(init(&metadata.source()).arg("--bare"), doing),
    )?;
    let (source, common) = (metadata.source(), inspection.repository.common.clone());
    let commit = inspection.head.commit.clone();
    let fill = move || {
        append(&source.join("config"), QUICK_PACKS.as_bytes())?;
        let objects = common.join("objects");
        write(&source.join("objects/info/alternates"), &alternate(&objects))?;
        copy(&common, "shallow", &source)?;
        commit.map_or(Ok(()), |commit| write_ref(&source, BASE_REF, &commit))
    };
    metadata.folder.blocking(fill).await
}

/// Every git knows the empty blob, and often it is stored nowhere.
async fn write_empty_blob(metadata: &Metadata) -> Result<(), WorkspaceError> {
    let write = metadata.git(Size::Question).args(["hash-object", "-w", "-t", "blob", "--stdin"]);
    git::run(write, INDEXING).await.map(drop)
}

/// Lets the checkout begin with the history that is kept, of which only what is new is copied then.
async fn begin_with(metadata: &Metadata, known: &Kept) -> Result<(), WorkspaceError> {
    let (git, kept) = (metadata.git_folder(), known.git_folder());
    let commit = known.commit().await?;
    let begin = move || {
        write(&git.join("objects/info/alternates"), &alternate(&kept.join("objects")))?;
        copy(&kept, "shallow", &git)?;
        commit.map_or(Ok(()), |commit| write_ref(&git, KNOWN_REF, &commit))
    };
    metadata.folder.blocking(begin).await
}

/// Brings the last `depth` commits over.
async fn fetch(metadata: &Metadata, commit: &str, depth: u32) -> Result<(), WorkspaceError> {
    let fetch = metadata.git(Size::Work).args([
        "-c",
        "fetch.unpackLimit=1", // one pack, however few objects: fewer files to send
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
    ]);
    let fetch = fetch.arg(format!("--depth={depth}")).args(["../source", BASE_REF]);
    git::run(fetch, COPYING).await?;
    let update = metadata.git(Size::Question).args(["update-ref", "--no-deref", "HEAD", commit]);
    git::run(update, COPYING).await.map(drop)
}

/// Puts HEAD on the source's branch, and the branch of origin that it follows where it was.
async fn set_head(metadata: &Metadata, inspection: &Inspection) -> Result<(), WorkspaceError> {
    let head = &inspection.head;
    if let Some(branch) = &head.branch {
        let point = metadata.git(Size::Question).args(["symbolic-ref", "HEAD"]).arg(branch);
        git::run(point, COPYING).await?;
        if let Some(commit) = &head.commit {
            let update = metadata.git(Size::Question).arg("update-ref").arg(branch).arg(commit);
            git::run(update, COPYING).await?;
        }
    }
    let Some(followed) = followed(inspection) else {
        return Ok(());
    };
    let source = &inspection.repository.root;
    let question = in_source(source, Size::Question).args(["rev-parse", "--verify", "--quiet"]);
    let Some(commit) = git::ask(question.arg(&followed), COPYING).await? else {
        return Ok(());
    };
    let commit = OsStr::from_bytes(&commit).to_owned();
    // It may lie further back than the history that goes in, or be ahead: then it stays out.
    let there = metadata.git(Size::Question).args(["cat-file", "-e"]).arg(&commit).run().await;
    if there.is_ok() {
        let update = metadata.git(Size::Question).arg("update-ref").arg(&followed).arg(&commit);
        git::run(update, COPYING).await?;
    }
    Ok(())
}

/// The remote-tracking ref of the current branch, when origin goes in.
fn followed(inspection: &Inspection) -> Option<String> {
    let configuration = &inspection.configuration;
    configuration.origin.url()?;
    let name = configuration.upstream.as_deref()?.strip_prefix("refs/heads/")?;
    Some(format!("refs/remotes/origin/{name}"))
}

/// Brings the blobs over that the index names and the base commit does not: exactly what is staged, as
/// objects, so that no clean filter has to run.
async fn staged(metadata: &Metadata, inspection: &Inspection) -> Result<(), WorkspaceError> {
    let tree = match &inspection.head.commit {
        Some(commit) => {
            let list = ["ls-tree", "-r", "-z", "--full-tree", "--format=%(objectname)"];
            git::run(metadata.git(Size::Work).args(list).arg(commit), INDEXING).await?
        }
        None => Vec::new(),
    };
    let known: HashSet<&[u8]> = listing::paths(&tree).collect();
    let mut wanted = HashSet::new();
    for entry in entries(inspection)? {
        if !entry.is_submodule() && !known.contains(entry.object) {
            wanted.insert(entry.object);
        }
    }
    // The empty blob is known to every git, and often stored nowhere.
    let hash = metadata.git(Size::Question).args(["hash-object", "-t", "blob", "--stdin"]);
    if !wanted.is_empty() && wanted.remove(&*git::line(git::run(hash, INDEXING).await?)) {
        write_empty_blob(metadata).await?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut wanted: Vec<&[u8]> = wanted.into_iter().collect();
    wanted.sort_unstable();
    let mut input = wanted.join(&b'\n');
    input.push(b'\n');
    let pack = in_scratch(&metadata.source(), Size::Work).args(["pack-objects", "--quiet"]);
    let folder = metadata.git_folder().join("objects/pack");
    tokio::fs::create_dir_all(&folder).await.map_err(|source| scratch(&folder, source))?;
    git::run(pack.arg(folder.join("pack")).input(input), COPYING).await.map(drop)
}

/// Writes the index: the source's entries with their stages and marks.
async fn index(metadata: &Metadata, inspection: &Inspection) -> Result<(), WorkspaceError> {
    let entries = entries(inspection)?;
    let mut input = Vec::with_capacity(inspection.index.len());
    for entry in &entries {
        for part in [entry.info, b"\t", entry.path, b"\0"] {
            input.extend_from_slice(part);
        }
    }
    update_index(metadata, &["--index-info"], input).await?;
    let marked = |is_marked: fn(&IndexEntry<'_>) -> bool| {
        let paths = entries.iter().filter(|entry| is_marked(entry) && !entry.is_conflict());
        paths.flat_map(|entry| [entry.path, b"\0"]).flatten().copied().collect::<Vec<u8>>()
    };
    let sparse = marked(|entry| entry.is_sparse());
    update_index(metadata, &["--skip-worktree", "--stdin"], sparse).await?;
    let assumed = marked(|entry| entry.is_assumed_unchanged());
    update_index(metadata, &["--assume-unchanged", "--stdin"], assumed).await
}

pub(super) async fn update_index(
    metadata: &Metadata,
    how: &[&str],
    input: Vec<u8>,
) -> Result<(), WorkspaceError> {
    if input.is_empty() {
        return Ok(());
    }
    let update = metadata.git(Size::Work).args(["update-index", "-z"]).args(how);
    git::run(update.input(input), INDEXING).await.map(drop)
}

fn entries(inspection: &Inspection) -> Result<Vec<IndexEntry<'_>>, WorkspaceError> {
    listing::index(&inspection.index).collect()
}

/// Writes identity, origin and what decides how git sees the tree.
async fn configure(metadata: &Metadata, inspection: &Inspection) -> Result<(), WorkspaceError> {
    let configuration = &inspection.configuration;
    let mut values: Vec<(Vec<u8>, Vec<u8>)> = configuration
        .carried
        .iter()
        .map(|(key, value)| (key.clone().into_bytes(), value.clone()))
        .collect();
    if let Some(url) = configuration.origin.url() {
        let fetch = "+refs/heads/*:refs/remotes/origin/*";
        values.push((b"remote.origin.url".to_vec(), url.into()));
        values.push((b"remote.origin.fetch".to_vec(), fetch.into()));
        let upstream = configuration.upstream.as_deref().zip(inspection.head.branch_name());
        if let Some((merge, branch)) = upstream {
            values.push(([b"branch.", branch, b".remote"].concat(), b"origin".to_vec()));
            values.push(([b"branch.", branch, b".merge"].concat(), merge.into()));
        }
    }
    for (key, value) in values {
        let set = metadata.git(Size::Question).args(["config", "--local"]);
        let set = set.arg(OsStr::from_bytes(&key)).arg(OsStr::from_bytes(&value));
        git::run(set, CONFIGURING).await?;
    }
    Ok(())
}

fn explain_missing(error: WorkspaceError, inspection: &Inspection) -> WorkspaceError {
    match error {
        WorkspaceError::Git { doing: COPYING, source: source @ ToolError::Failed { .. } }
            if inspection.configuration.is_partial_clone =>
        {
            WorkspaceError::PartialClone { source }
        }
        other => other,
    }
}
