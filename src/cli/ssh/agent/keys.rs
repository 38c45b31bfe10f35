//! Which keys of the user's agent a guest gets to use: those that the user names, and no others.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::keys::{fingerprint, public_blob};
use crate::report::{Kind, Report};

use super::super::super::output::one_line;

/// The longest file that is taken for a public key, in bytes.
const MAX_FILE: u64 = 16 * 1024;

/// Keys that are named where none fits.
const MAX_NAMED: usize = 16;

/// How a fingerprint begins.
const FINGERPRINT: &str = "SHA256:";

/// A key of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its public half, in its binary form.
    pub(super) blob: Vec<u8>,
    /// What the user calls it.
    pub(super) comment: Vec<u8>,
}

impl Key {
    /// Its fingerprint, as OpenSSH writes it.
    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    /// What the user calls it, as text.
    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&self.comment).into_owned()
    }

    /// Both, for people.
    pub(super) fn shown(&self) -> String {
        format!("`{}` ({})", one_line(&self.name()), self.fingerprint())
    }
}

/// The keys that are named, each once.
///
/// # Errors
/// When one is not there, or more than one is meant.
pub(super) fn chosen(wanted: &[String], offered: &[Key]) -> Result<Vec<Key>, Report> {
    let mut chosen: Vec<Key> = Vec::new();
    for name in wanted {
        let key = one(name, offered)?;
        if !chosen.contains(key) {
            chosen.push(key.clone());
        }
    }
    Ok(chosen)
}

fn one<'a>(wanted: &str, offered: &'a [Key]) -> Result<&'a Key, Report> {
    let by_comment = |key: &&Key| key.comment == wanted.as_bytes();
    let mut found: Vec<_> = if wanted.starts_with(FINGERPRINT) {
        offered.iter().filter(|key| key.fingerprint() == wanted).collect()
    } else {
        offered.iter().filter(by_comment).collect()
    };
    // The comment of a key is often the path of its file.
    if found.is_empty() && Path::new(wanted).is_file() {
        let blob = read(Path::new(wanted))?;
        found = offered.iter().filter(|key| key.blob == blob).collect();
    }
    match found.as_slice() {
        [key] => Ok(key),
        [] => Err(Report::new(Kind::NotFound, format!("your ssh agent has no key `{wanted}`"))
            .with_hint(there_are(offered))),
        several => {
            let message = format!("several keys of your ssh agent are called `{wanted}`");
            Err(Report::new(Kind::Conflict, message).with_hint(there_are(several.iter().copied())))
        }
    }
}

/// The public key in a file.
fn read(path: &Path) -> Result<Vec<u8>, Report> {
    let shown = path.display();
    let text = || {
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
        Ok(text)
    };
    let no_key = |error: &dyn std::error::Error| {
        Report::new(Kind::Invalid, format!("`{shown}` is not the file of a public ssh key"))
            .with_cause(error)
            .with_hint(
                "name the file that ends with `.pub`, or the key's fingerprint (`ssh-add -l`)",
            )
    };
    let text = text().map_err(|error: io::Error| no_key(&error))?;
    public_blob(&text).map_err(|error| no_key(&error))
}

/// What can be named instead.
fn there_are<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let all: Vec<_> = keys.into_iter().map(Key::shown).collect();
    if all.is_empty() {
        return "it has no keys: add one with `ssh-add`".to_owned();
    }
    let more = match all.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = all[..all.len().min(MAX_NAMED)].join(", ");
    format!("name one by its comment or its fingerprint; there are {named}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPair;

    /// A key, and the line of its public half.
    fn key(comment: &str) -> (Key, String) {
        let line = KeyPair::new(comment).expect("made").public;
        let blob = public_blob(&line).expect("a key");
        (Key { blob, comment: comment.into() }, line)
    }

    #[test]
    fn a_key_is_named_by_fingerprint_comment_or_file() {
        let ((work, line), (home, _)) = (key("work"), key("home"));
        let offered = [work.clone(), home.clone()];
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("id_work.pub");
        std::fs::write(&file, format!("{line}\n")).expect("written");
        let file = file.display().to_string();
        for name in [&work.fingerprint(), "work", &file] {
            let chosen = chosen(&[name.to_owned()], &offered).expect("there");
            assert_eq!(chosen, std::slice::from_ref(&work), "{name}");
        }
        let twice = [file, "work".to_owned(), "home".to_owned()];
        assert_eq!(chosen(&twice, &offered).expect("there"), [work, home]);
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let ((work, _), (other, line)) = (key("work"), key("other\u{1b}"));
        let report = chosen(&["SHA256:x".to_owned()], &[work.clone(), other.clone()]);
        let report = report.expect_err("not there");
        assert_eq!(report.kind, Kind::NotFound);
        let hint = report.hint.expect("a hint");
        assert!(hint.contains(&work.fingerprint()) && hint.contains("other\\u{1b}"), "{hint}");
        let hint = chosen(&["work".to_owned()], &[]).expect_err("not there").hint;
        assert!(hint.is_some_and(|hint| hint.contains("ssh-add")));
        let twice = [work.clone(), Key { comment: work.comment.clone(), ..other }];
        let report = chosen(&["work".to_owned()], &twice).expect_err("which of them");
        assert_eq!(report.kind, Kind::Conflict);
        let many: Vec<_> = (0..40).map(|_| work.clone()).collect();
        assert!(there_are(&many).ends_with("and 24 more"));

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("id_work");
        for text in ["-----BEGIN OPENSSH PRIVATE KEY-----\n", "", &line[..20]] {
            std::fs::write(&file, text).expect("written");
            let report = chosen(&[file.display().to_string()], &twice).expect_err("no key");
            assert!(report.kind == Kind::Invalid && report.hint.is_some(), "{report:?}");
        }
    }
}
