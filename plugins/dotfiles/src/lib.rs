//! Plugin `dotfiles`: the tracked files of a dotfiles repository into the home.
//!
//! Which files are tracked is said by git's index, which the operator maps to `dotfiles-index` and which
//! is read here. The files themselves are behind `dotfiles` and are imported by their handles. What is
//! tracked and cannot be copied (links, submodules, conflicts, files that are gone) is left out with a
//! warning; the rest stays right.

mod choice;
mod index;

use std::collections::{BTreeMap, HashMap};

use cove_plugin_sdk::{
    Context, Doctor, Error, Finding, HostFile, HostFiles, Kind, PrepareWorkDisk, Result, Verdict,
    plugin, warning,
};

use choice::Choice;
use index::{Tracked, What};

/// The logical name of the repository's index.
const INDEX: &str = "dotfiles-index";
/// The logical name of the repository's folder.
const FOLDER: &str = "dotfiles";
/// Bytes of an index: one entry takes about a hundred, and no more than 2048 files can be copied.
const MAX_INDEX: u64 = 2 << 20;
/// Names in one warning.
const NAMED: usize = 5;
/// How the operator maps what is needed.
const ADVICE: &str = "map both with `cove hook grant dotfiles --map dotfiles=~/dotfiles --map \
                      dotfiles-index=~/dotfiles/.git/index`";

plugin! { prepare_work_disk = prepare, doctor = look }

fn prepare(call: &PrepareWorkDisk) -> Result<()> {
    let choice = Choice::new(
        &call.settings.text("folder")?.unwrap_or_default(),
        &call.settings.texts("exclude")?.unwrap_or_default(),
    )?;
    let tracked = tracked(call.files)?;
    let files = files(call.files)?;
    let mut omitted = Omitted::default();
    let mut copied = 0;
    for tracked in tracked.iter().filter(|tracked| !choice.excludes(&tracked.path)) {
        match importable(tracked, files.get(&tracked.path)) {
            Ok(file) => {
                call.disk.import_file(&choice.place(&tracked.path), file.mode() & 0o777, file)?;
                copied += 1;
            }
            Err(why) => omitted.add(why, &tracked.path),
        }
    }
    if copied == 0 && omitted.all_gone() {
        let message = format!(
            "no file of `{INDEX}` is in `{FOLDER}`: is it the index of another repository?"
        );
        return Err(Error::new("not-found", message));
    }
    omitted.warn();
    Ok(())
}

fn look(call: &Doctor) -> Result<Vec<Finding>> {
    Ok(vec![match tracked(call.files) {
        Ok(tracked) => Finding {
            verdict: Verdict::Pass,
            found: format!("{} files of your dotfiles are tracked", tracked.len()),
            advice: None,
        },
        Err(error) => Finding {
            verdict: Verdict::Fail,
            found: error.message,
            advice: Some(ADVICE.to_owned()),
        },
    }])
}

/// What the mapped index has.
fn tracked(files: &HostFiles) -> Result<Vec<Tracked>> {
    let index = files.single(INDEX)?.ok_or_else(|| {
        Error::new("not-found", format!("the index of your dotfiles is not there: {ADVICE}"))
    })?;
    index::tracked(&index.bytes(MAX_INDEX)?).with_context(|| format!("`{}`", index.label()))
}

/// What is in the mapped folder, by path.
fn files(files: &HostFiles) -> Result<HashMap<String, HostFile>> {
    let entries = files.entries(FOLDER)?;
    if entries.first().is_none_or(|root| root.kind() != Kind::Folder) {
        let message = format!("the folder of your dotfiles is not there: {ADVICE}");
        return Err(Error::new("not-found", message));
    }
    Ok(entries.into_iter().map(|file| (file.path(), file)).collect())
}

/// The file to copy, or why there is none.
fn importable<'a>(tracked: &Tracked, file: Option<&'a HostFile>) -> Result<&'a HostFile, Omission> {
    match tracked.what {
        What::Submodule => return Err(Omission::Submodule),
        What::Unmerged => return Err(Omission::Unmerged),
        What::Folder => return Err(Omission::Gone),
        What::File => {}
    }
    let file = file.ok_or(Omission::Gone)?;
    match file.kind() {
        Kind::File => Ok(file),
        Kind::Link => Err(Omission::Link),
        Kind::Folder | Kind::Other => Err(Omission::NoFile),
        Kind::Missing => Err(Omission::Gone),
    }
}

/// Why something tracked is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Omission {
    Gone,
    Link,
    NoFile,
    Submodule,
    Unmerged,
}

/// What is not copied. One warning for each reason, however many there are.
#[derive(Debug, Default)]
struct Omitted(BTreeMap<Omission, Vec<String>>);

impl Omitted {
    fn add(&mut self, why: Omission, path: &str) {
        self.0.entry(why).or_default().push(path.to_owned());
    }

    /// Whether something is missing, and everything that is missing is simply not there.
    fn all_gone(&self) -> bool {
        !self.0.is_empty() && self.0.keys().all(|why| *why == Omission::Gone)
    }

    fn warn(&self) {
        for (why, paths) in &self.0 {
            let why = match why {
                Omission::Gone => "not in your working tree",
                Omission::Link => "symbolic links",
                Omission::NoFile => "neither files nor links any more",
                Omission::Submodule => "submodules",
                Omission::Unmerged => "files with merge conflicts",
            };
            warning!("left out of your dotfiles, because they are {why}: {}", named(paths));
        }
    }
}

/// The first few, and how many more.
fn named(paths: &[String]) -> String {
    let shown: Vec<_> = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_become_few() {
        let paths: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).into();
        assert_eq!(named(&paths[..2]), "`a`, `b`");
        assert_eq!(named(&paths[..5]), "`a`, `b`, `c`, `d`, `e`");
        assert_eq!(named(&paths), "`a`, `b`, `c`, `d`, `e` and 2 more");
    }
}
