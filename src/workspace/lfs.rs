//! Objects of git-lfs: what the pointers stand for that git has in place of large files.
//!
//! Those of the files that go in come along as far as the source has them, into the place where git-lfs looks for them,
//! so that it need not fetch them in the guest. Nothing of git-lfs runs here: which files are its own is in the
//! attributes, and a pointer is a small text.
//!
//! ```text
//! version https://git-lfs.github.com/spec/v1
//! oid sha256:OBJECT
//! size BYTES
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::git::{self, Size, in_source};
use super::inspection::Inspection;
use super::kept::Kept;
use super::listing::{self, shown};
use super::metadata::Metadata;
use super::tree::{Kind, Root};
use crate::report::counted;
use crate::task::blocking;

/// Where they are, in a git folder.
const OBJECTS: &str = "lfs/objects";

/// The repository's own rules there.
const ATTRIBUTES: &str = "info/attributes";

/// The first line of a pointer.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// No pointer is longer.
const MAX_POINTER: u64 = 1024;

/// No rules of the repository's own are longer.
const MAX_ATTRIBUTES: u64 = 16 << 20;

/// How many go in at most, and how many bytes they have: more than that is better fetched when it is needed.
const MAX_OBJECTS: usize = 10_000;
const MAX_BYTES: u64 = 4 << 30;

/// The length of the name of an object.
const NAME: usize = 64;

const READING: &str = "read the pointers of git-lfs";

/// The objects that go in.
#[derive(Debug, Default)]
pub(super) struct Lfs {
    /// Where they are in the source.
    root: Option<Root>,
    /// Their bytes, by name.
    objects: BTreeMap<String, u64>,
    /// How many are not in the source, or are too many.
    missing: usize,
}

impl Lfs {
    /// Finds those of the files that go in; `metadata` has the pointers.
    pub(super) async fn find(
        inspection: &Inspection,
        metadata: &Metadata,
    ) -> Result<Self, WorkspaceError> {
        let folder = inspection.repository.common.join(OBJECTS);
        if !tokio::fs::symlink_metadata(&folder).await.is_ok_and(|found| found.is_dir()) {
            return Ok(Self::default());
        }
        // Git would read from a link whatever it leads to, without end from some devices.
        match tokio::fs::symlink_metadata(inspection.repository.common.join(ATTRIBUTES)).await {
            Ok(found) if !found.is_file() || found.len() > MAX_ATTRIBUTES => {
                return Ok(Self::default());
            }
            Ok(_) | Err(_) => {}
        }
        let pointers = pointers(inspection, metadata).await?;
        let unreadable = |source| WorkspaceError::Read { path: format!(".git/{OBJECTS}"), source };
        blocking(move || choose(&folder, pointers)).await.map_err(unreadable)
    }

    /// Leaves out those that went in before.
    pub(super) fn without(&mut self, known: &HashSet<String>) {
        self.objects.retain(|name, _| !known.contains(name));
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.objects.keys().cloned().collect()
    }

    /// The files, each with its path in a git folder. Those that are gone by now are left out.
    pub(super) fn files(
        &self,
    ) -> impl Iterator<Item = Result<(String, File, u64), WorkspaceError>> {
        let root = self.root.iter();
        root.flat_map(|root| self.objects.iter().map(move |(name, size)| (root, name, *size)))
            .filter_map(|(root, name, size)| {
                let path = place(name);
                let whole = format!("{OBJECTS}/{path}");
                match root.read(path.as_bytes()) {
                    Ok((file, found)) if found == size => Some(Ok((whole, file, size))),
                    Ok(_) => None,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(source) => Some(Err(WorkspaceError::Read {
                        path: shown(format!(".git/{whole}").as_bytes()),
                        source,
                    })),
                }
            })
    }

    /// A line for the user.
    pub(super) fn note(&self) -> Option<String> {
        let count = |number: usize| counted(number as u64, "object");
        let goes_in = (!self.objects.is_empty()).then(|| {
            let bytes: u64 = self.objects.values().sum();
            format!("{} of git-lfs ({bytes} bytes)", count(self.objects.len()))
        });
        let missing = (self.missing > 0).then(|| count(self.missing));
        match (goes_in, missing) {
            (None, None) => None,
            (Some(goes_in), None) => Some(format!("{goes_in} put in")),
            (None, Some(missing)) => {
                Some(format!("{missing} of git-lfs left out: not here, or too large"))
            }
            (Some(goes_in), Some(missing)) => {
                Some(format!("{goes_in} put in, {missing} left out: not here, or too large"))
            }
        }
    }
}

impl Kept {
    /// Which objects of git-lfs went in. Blocks.
    pub(super) fn lfs_objects(&self) -> io::Result<HashSet<String>> {
        match fs::read_to_string(self.lfs_place()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            listing => Ok(listing?.lines().map(str::to_owned).collect()),
        }
    }

    /// Writes down that these went in, too. Blocks.
    pub(super) fn keep_lfs_objects(&self, names: Vec<String>) -> io::Result<()> {
        let mut all = self.lfs_objects()?;
        all.extend(names);
        let listing: String = all.iter().flat_map(|name| [name, "\n"]).collect();
        let (new, place) = (self.lfs_place().with_extension("new"), self.lfs_place());
        fs::write(&new, listing).and_then(|()| fs::rename(&new, &place))
    }

    fn lfs_place(&self) -> PathBuf {
        self.folder().join("lfs")
    }
}

/// Where an object is, below all of them.
fn place(name: &str) -> String {
    format!("{}/{}/{name}", &name[..2], &name[2..4])
}

/// What the pointers stand for that the source's index has: bytes by name.
async fn pointers(
    inspection: &Inspection,
    metadata: &Metadata,
) -> Result<BTreeMap<String, u64>, WorkspaceError> {
    let (mut paths, mut blobs) = (Vec::new(), Vec::new());
    for entry in listing::index(&inspection.index) {
        let entry = entry?;
        if !entry.is_submodule() && !entry.is_conflict() {
            paths.extend_from_slice(entry.path);
            paths.push(0);
            blobs.push(entry.object);
        }
    }
    let attributes = in_source(&inspection.repository.root, Size::Work);
    // What its configuration names may be any file of the host.
    let attributes = attributes.args(["-c", "core.attributesFile=/dev/null"]);
    let attributes = attributes.args(["check-attr", "-z", "--stdin", "filter"]).input(paths);
    let attributes = git::run(attributes, READING).await?;
    // `PATH<nul>filter<nul>VALUE<nul>`, in the order of the paths, none of which is empty.
    let values = attributes.split(|byte| *byte == 0).skip(2).step_by(3);
    let wanted = blobs.into_iter().zip(values).filter(|(_, value)| *value == b"lfs");
    let wanted: HashSet<&[u8]> = wanted.map(|(blob, _)| blob).collect();
    let ask = |how: &str, blobs: Vec<u8>| {
        let format = format!("--{how}=%(objectname) %(objectsize)");
        metadata.git(Size::Work).args(["cat-file", &format]).input(blobs)
    };
    let blobs: Vec<u8> = wanted.into_iter().flat_map(|blob| [blob, b"\n"].concat()).collect();
    let sizes = git::run(ask("batch-check", blobs), READING).await?;
    let small = String::from_utf8_lossy(&sizes);
    let small = small.lines().filter_map(|line| line.split_once(' '));
    let small = small.filter(|(_, size)| size.parse().is_ok_and(|size: u64| size <= MAX_POINTER));
    let small: String = small.flat_map(|(blob, _)| [blob, "\n"]).collect();
    let contents = git::run(ask("batch", small.into_bytes()), READING).await?;
    Ok(read_all(&contents))
}

/// Reads the pointers among small contents, each of which follows a line with its length.
fn read_all(mut contents: &[u8]) -> BTreeMap<String, u64> {
    let mut pointers = BTreeMap::new();
    while let Some(end) = contents.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&contents[..end]);
        let size = head.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
        let rest = &contents[end + 1..];
        let Some((content, rest)) = size.and_then(|size| rest.split_at_checked(size)) else {
            break;
        };
        pointers.extend(pointer(content));
        contents = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    pointers
}

/// The name and the bytes of what a pointer stands for.
fn pointer(content: &[u8]) -> Option<(String, u64)> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines();
    lines.next().filter(|line| *line == VERSION)?;
    let (mut name, mut size) = (None, None);
    for line in lines {
        match line.split_once(' ')? {
            ("oid", value) => name = value.strip_prefix("sha256:"),
            ("size", value) => size = value.parse().ok(),
            // Extensions.
            (_, _) => {}
        }
    }
    let hexadecimal = |name: &&str| {
        let digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        name.len() == NAME && name.bytes().all(digit)
    };
    Some((name.filter(hexadecimal)?.to_owned(), size?))
}

/// Chooses those that are there, as many as may go in. Blocks.
fn choose(folder: &Path, pointers: BTreeMap<String, u64>) -> io::Result<Lfs> {
    let root = Root::open(folder)?;
    let mut lfs = Lfs::default();
    let mut bytes = 0_u64;
    for (name, size) in pointers {
        let found = root.look(place(&name).as_bytes())?.map(|found| found.kind);
        let fits = bytes.saturating_add(size) <= MAX_BYTES && lfs.objects.len() < MAX_OBJECTS;
        match found == Some(Kind::File(size)) && fits {
            true => {
                bytes += size;
                lfs.objects.insert(name, size);
            }
            false => lfs.missing += 1,
        }
    }
    lfs.root = Some(root);
    Ok(lfs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_small_files() {
        let name = "ab".repeat(32);
        let good = format!("{VERSION}\noid sha256:{name}\nsize 12\n");
        let extended = format!("{VERSION}\next-0-x sha256:00\noid sha256:{name}\nsize 13\n");
        let bad = [
            format!("{VERSION}\noid sha256:{}\nsize 12\n", "../".repeat(21) + "x"),
            format!("{VERSION}\noid sha256:{name}\n"),
            format!("oid sha256:{name}\nsize 12\n"),
            String::new(),
        ];
        assert_eq!(pointer(good.as_bytes()), Some((name.clone(), 12)));
        assert_eq!(pointer(extended.as_bytes()), Some((name.clone(), 13)));
        assert!(bad.iter().all(|bad| pointer(bad.as_bytes()).is_none()));
        let listed = |content: &str| format!("aa {}\n{content}\n", content.len());
        let all = [&bad[0], &good, "no pointer"].map(listed).concat();
        assert_eq!(read_all(all.as_bytes()), BTreeMap::from([(name, 12)]));
        assert!(read_all(b"aa 100\ncut off").is_empty());
    }
}
