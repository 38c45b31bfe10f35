//! Bringing what went in up to date: what of a new package differs from what lies in the guest.
//!
//! ```text
//!  package ── hashed ──► refs/cove/next ─┐
//!                                        ├─ compared ──► Renewal ── write_tar ──► what differs ──► guest
//!  what was seen in the guest ───────────┘                  │
//!                                                           └─ done ──► base, seen and exported are the new tree
//! ```
//!
//! The tree on its way is written down before anything is sent. When nobody hears whether the guest has it, a guest
//! in which it is found has no work of its own.

mod theirs;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::WorkspaceError;
use super::git::{self, Size};
use super::import::{self, Import, TreeWriter};
use super::kept::{self, BASE, COMMIT, EXPORTED, KEEPING, Kept, NEXT, READING, SEEN};
use super::listing;
use super::objects::{link_all, link_objects, packs_in};
use super::package::{Package, PackageSummary, Part};
use super::seeing::Seeing;
use super::unchanged::{Statuses, Unchanged};
use crate::task::blocking;
use crate::wire::guest::{UPDATE_DEEPENED, UPDATE_REMOVED, UPDATE_REPLACED};
use crate::wire::survey::{EntryKind, Known, Token};

/// In a git folder, where the objects are that the guest has already.
const ALTERNATES: &str = "objects/info/alternates";

/// How deep what is sent may lie: an agent takes no more away again when a delivery is cut off.
const MAX_DEPTH: usize = 100;

const COMPARING: &str = "compare what is to go in with what is in the guest";

/// A package on its way to a guest that has an older one.
pub struct Renewal {
    kept: Kept,
    package: Package,
    /// The tree that is to be in the guest.
    tree: String,
    /// What is to be put in.
    changed: HashSet<Vec<u8>>,
    /// What lies where something is put in, as records.
    replaced: Vec<u8>,
    /// What is to be taken out, as records.
    removed: Vec<u8>,
    /// How many that are.
    pub removals: u64,
    /// What is known of the files of the tree.
    statuses: Statuses,
}

impl Kept {
    /// The commit of the source that went in last, if its history is kept.
    pub(super) async fn commit(&self) -> Result<Option<String>, WorkspaceError> {
        let commit = format!("{COMMIT}^{{commit}}");
        let ask = self.git(Size::Question).args(["rev-parse", "--verify", "--quiet", &commit]);
        let commit = git::ask(ask, READING).await?;
        Ok(commit.map(|commit| String::from_utf8_lossy(&commit).into_owned()))
    }

    /// Whether a guest with packs of these names has all the history that went in.
    pub async fn is_all_in(&self, packs: &[&str]) -> bool {
        // Workspaces of older coves have no such list.
        let sent = tokio::fs::read_to_string(self.packs()).await;
        sent.is_ok_and(|sent| sent.lines().all(|name| packs.contains(&name)))
    }

    /// Compares a package with what was seen in the guest.
    ///
    /// # Errors
    /// When a file cannot be read, git fails, or the repository's hash is another.
    pub async fn renew(
        &self,
        package: Package,
        seeing: &Seeing,
    ) -> Result<Renewal, WorkspaceError> {
        let format = self.git(Size::Question).args(["rev-parse", "--show-object-format"]);
        let was = git::line(git::run(format, READING).await?);
        if was != package.object_format.as_bytes() {
            let (is, was) = (package.object_format, String::from_utf8_lossy(&was).into_owned());
            return Err(WorkspaceError::OtherHash { is, was });
        }
        let absent = package.metadata.absent.iter().map(|known| known.path.clone());
        let absent: HashSet<Vec<u8>> = absent.collect();
        if !absent.is_empty() {
            // Their contents come from git alone.
            let from = package.metadata.git_folder();
            self.blocking(move |kept| link_objects(&from, &kept.git_folder())).await?;
        }
        let (package, statuses) = self.hash(package).await?;
        let tree = self.tree(NEXT).await?.ok_or(WorkspaceError::NothingKept)?;
        let diff = ["diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames"];
        let diff = self.git(Size::Work).args(diff).args([&seeing.tree, &tree]);
        let diff = git::run(diff, COMPARING).await?;
        let mut renewal = Renewal {
            kept: self.clone(),
            package,
            tree,
            changed: HashSet::new(),
            replaced: Vec::new(),
            removed: Vec::new(),
            removals: 0,
            statuses,
        };
        let missing = seeing.absent.iter().cloned().collect();
        renewal.take(&diff, &absent, missing)?;
        if !absent.is_empty() {
            renewal.take_out(&seeing.tree, &absent, &seeing.absent).await?;
        }
        renewal.follow_submodules().await?;
        Ok(renewal)
    }

    /// Makes the tree that a package has. What has not changed since it went in is not read.
    async fn hash(&self, package: Package) -> Result<(Package, Statuses), WorkspaceError> {
        let unchanged = self.unchanged().await;
        let knows_some = !unchanged.is_empty();
        match self.hash_but(unchanged, package).await? {
            (package, Ok(statuses)) => Ok((package, statuses)),
            // An object that should be here is not, perhaps, as after a power cut: it comes again by reading all.
            (package, Err(_)) if knows_some => {
                self.forget_statuses().await?;
                let (package, statuses) = self.hash_but(Unchanged::default(), package).await?;
                Ok((package, statuses?))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// The same, with what is known of unchanged files. Beside the package is what has come of git's part.
    async fn hash_but(
        &self,
        unchanged: Unchanged,
        package: Package,
    ) -> Result<(Package, Result<Statuses, WorkspaceError>), WorkspaceError> {
        let begun = import::begin(&self.git_folder(), NEXT, None);
        let (writer, import) =
            begun.map_err(|source| WorkspaceError::Scratch { path: self.git_folder(), source })?;
        let hash = move || {
            let hashed = package.write(io::sink(), writer, &Part::Files(&unchanged));
            (package, hashed)
        };
        let ((package, hashed), imported) = tokio::join!(blocking(hash), import.done());
        nothing_gone(&hashed?)?;
        Ok((package, imported))
    }
}

impl Kept {
    /// Keeps a tree safe that was on its way in last and has arrived without anybody hearing of it, before another
    /// takes its place: it came from the source.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn keep_arrived(&self, tree: &str) -> Result<(), WorkspaceError> {
        let (next, base) = tokio::try_join!(self.tree(NEXT), self.base())?;
        match next {
            Some(next) if next == tree && base != tree => self.exported(tree).await,
            Some(_) | None => Ok(()),
        }
    }
}

impl Renewal {
    /// Takes what git says that differs: `:MODE MODE OBJECT OBJECT LETTER<nul>PATH<nul>`. What is `absent` from now on
    /// is not put in; what is `missing` in the guest is, also when it does not differ.
    fn take(
        &mut self,
        diff: &[u8],
        absent: &HashSet<Vec<u8>>,
        mut missing: HashSet<Vec<u8>>,
    ) -> Result<(), WorkspaceError> {
        let unexpected = || WorkspaceError::Unexpected { doing: COMPARING };
        let mut parts = listing::paths(diff);
        while let Some(info) = parts.next() {
            let path = parts.next().ok_or_else(unexpected)?.to_vec();
            if path.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
                let why = format!("more than {MAX_DEPTH} folders lie one in the other there");
                let source = io::Error::other(why);
                return Err(WorkspaceError::Read { path: listing::shown(&path), source });
            }
            missing.remove(&path);
            if absent.contains(&path) {
                continue;
            }
            let info = std::str::from_utf8(info).map_err(|_| unexpected())?;
            let words: Vec<&str> = info.split(' ').collect();
            let [was, _, object, _, letter] = words[..] else {
                return Err(unexpected());
            };
            let was = was.strip_prefix(':').and_then(EntryKind::of_mode);
            let known = was.map(|kind| Known {
                token: Token::unknown(),
                kind,
                object: object.to_owned(),
                went_in: true,
                path: path.clone(),
            });
            match (letter, known) {
                ("A", None) => {
                    self.changed.insert(path);
                }
                ("M" | "T", Some(known)) => {
                    known.write(&mut self.replaced);
                    self.changed.insert(path);
                }
                ("D", Some(known)) => {
                    known.write(&mut self.removed);
                    self.removals += 1;
                }
                _ => return Err(unexpected()),
            }
        }
        self.changed.extend(missing.into_iter().filter(|path| !absent.contains(path)));
        Ok(())
    }

    /// Takes out of the guest what is `absent` from now on and lies there: of the tree `seen` everything but what is
    /// `missing`.
    async fn take_out(
        &mut self,
        seen: &str,
        absent: &HashSet<Vec<u8>>,
        missing: &[Vec<u8>],
    ) -> Result<(), WorkspaceError> {
        let list = self.kept.git(Size::Work).args(["ls-tree", "-r", "-z", "--full-tree", seen]);
        let listing = git::run(list, COMPARING).await?;
        let missing: HashSet<&[u8]> = missing.iter().map(|path| &path[..]).collect();
        for line in listing::paths(&listing) {
            let known = kept::entry(line).ok_or(WorkspaceError::Unexpected { doing: COMPARING })?;
            if absent.contains(&known.path) && !missing.contains(&known.path[..]) {
                known.write(&mut self.removed);
                self.removals += 1;
            }
        }
        Ok(())
    }

    /// Has the files that say where a submodule's git folder is go with the submodule, or change with it.
    async fn follow_submodules(&mut self) -> Result<(), WorkspaceError> {
        for was in self.kept.submodules().await? {
            let next = self.package.submodules().find(|next| next.path == was.path);
            let records = match next {
                Some(next) if next.link() != was.link() => &mut self.replaced,
                None if !self.package.has_submodule(&was.path) => &mut self.removed,
                Some(_) | None => continue,
            };
            let hash = self.kept.git(Size::Question).args(["hash-object", "--stdin"]);
            let hash = git::run(hash.input(was.link().into_bytes()), COMPARING).await?;
            let object = String::from_utf8_lossy(&git::line(hash)).into_owned();
            let (token, kind) = (Token::unknown(), EntryKind::File);
            let path = format!("{}/.git", was.path).into_bytes();
            Known { token, kind, object, went_in: true, path }.write(records);
        }
        Ok(())
    }

    /// The writer for [`Self::write_tar`], which must have finished before [`Import::done`] comes back.
    ///
    /// # Errors
    /// When no pipe can be made.
    pub fn record(&self) -> Result<(TreeWriter, Import), WorkspaceError> {
        let path = self.kept.git_folder();
        import::begin(&path, NEXT, Some(&self.tree))
            .map_err(|source| WorkspaceError::Scratch { path, source })
    }

    /// The commits that were the first ones of the history in the guest, and are not any more.
    fn deepened(&self) -> String {
        let shallow =
            |folder: &Path| fs::read_to_string(folder.join("shallow")).unwrap_or_default();
        let git_folder = self.package.metadata.git_folder();
        let (before, now) = (shallow(&self.kept.git_folder()), shallow(&git_folder));
        // Where everything is sent, git was not told what the guest has: then only a whole history is known to go
        // behind them.
        if !now.is_empty() && !git_folder.join(ALTERNATES).exists() {
            return String::new();
        }
        let now: HashSet<&str> = now.lines().collect();
        let deepened = before.lines().filter(|line| !now.contains(line));
        deepened.flat_map(|line| [line, "\n"]).collect()
    }

    /// Writes the whole tar stream of an update. Blocks. After an error the sink has had the beginning of a stream
    /// that must not be taken for a whole one.
    ///
    /// # Errors
    /// When a file cannot be read, is gone by now or shrinks meanwhile, or when the sink fails.
    pub fn write_tar(
        &self,
        sink: impl Write,
        record: TreeWriter,
    ) -> Result<PackageSummary, WorkspaceError> {
        let deepened = self.deepened();
        let front = [
            (UPDATE_REPLACED, &self.replaced[..]),
            (UPDATE_REMOVED, &self.removed[..]),
            (UPDATE_DEEPENED, deepened.as_bytes()),
        ];
        let part = Part::Update { front, changed: &self.changed };
        let summary = self.package.write(sink, record, &part)?;
        nothing_gone(&summary)?;
        Ok(summary)
    }

    /// Writes down that the guest has it; `sent` is what is known of what was put in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn done(self, sent: Statuses) -> Result<(), WorkspaceError> {
        let Self { kept, package, changed, mut statuses, .. } = self;
        let commit = package.commit.clone();
        kept.blocking(move |kept| keep(kept, &package)).await?;
        let next = kept.git(Size::Question).args(["rev-parse", "--verify", NEXT]);
        let next = git::line(git::run(next, KEEPING).await?);
        let next = String::from_utf8_lossy(&next).into_owned();
        let mut updates = String::new();
        let refs = [(BASE, Some(&next)), (SEEN, Some(&next)), (EXPORTED, Some(&next))];
        for (name, object) in refs.into_iter().chain([(COMMIT, commit.as_ref())]) {
            if let Some(object) = object {
                updates.push_str(&format!("update {name} {object}\n"));
            }
        }
        let update = kept.git(Size::Question).args(["update-ref", "--stdin"]);
        git::run(update.input(updates.into_bytes()), KEEPING).await?;
        // What was sent was read once more, and may have been another file by then.
        statuses.replace(&changed, sent);
        kept.keep_statuses(statuses).await;
        Ok(())
    }
}

/// Keeps the history of a package. Blocks.
fn keep(kept: &Kept, package: &Package) -> io::Result<()> {
    let (from, to) = (package.metadata.git_folder(), kept.git_folder());
    let alternates = from.join(ALTERNATES);
    // Without it everything was sent.
    let sent = match fs::remove_file(alternates) {
        Ok(()) => fs::read_to_string(kept.packs())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    link_all(&from.join("objects"), &to.join("objects"))?;
    match fs::copy(from.join("shallow"), to.join("shallow")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::remove_file(to.join("shallow")).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
        copied => drop(copied?),
    }
    fs::write(kept.packs(), sent + &packs_in(&from)?)?;
    kept.keep_lfs_objects(package.lfs.names())?;
    kept.keep_submodules(package.submodules().cloned().collect())
}

/// A file that is away for a moment, as while an editor saves it, must not be taken for one that was deleted.
fn nothing_gone(summary: &PackageSummary) -> Result<(), WorkspaceError> {
    match summary.gone.first() {
        None => Ok(()),
        Some(path) => {
            let source = io::Error::other("it went away while it was to be read: try again");
            Err(WorkspaceError::Read { path: path.clone(), source })
        }
    }
}
