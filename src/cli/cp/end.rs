//! One end of a copy, as people write it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::report::{Kind, Report};

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A path here.
    Here(PathBuf),
    /// A path in a VM.
    Guest {
        /// The VM: its name, its id, or the beginning of its id.
        vm: String,
        /// The path there; empty for the home.
        path: String,
    },
}

impl End {
    /// Reads one as `scp` does: what has a colon before its first slash is in a VM.
    ///
    /// # Errors
    /// When no VM is named, or the path there is not UTF-8.
    pub(super) fn read(word: &OsStr) -> Result<Self, Report> {
        let bytes = word.as_bytes();
        let invalid = |why: &str| {
            let message = format!("`{}` {why}", word.to_string_lossy());
            Report::new(Kind::Invalid, message)
        };
        let colon = match bytes.iter().position(|byte| matches!(byte, b':' | b'/')) {
            Some(at) if bytes[at] == b':' => at,
            Some(_) | None if bytes.is_empty() => return Err(invalid("is no path")),
            Some(_) | None => return Ok(Self::Here(PathBuf::from(word))),
        };
        let here = "a path here with a colon in its name is written `./a:b`";
        if colon == 0 {
            return Err(invalid("names no VM before the colon").with_hint(here));
        }
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        match (text(&bytes[..colon]), text(&bytes[colon + 1..])) {
            (Ok(vm), Ok(path)) => Ok(Self::Guest { vm, path }),
            (Err(_), _) | (_, Err(_)) => {
                Err(invalid("is not UTF-8, as the path of a copy in a VM must be").with_hint(here))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(path: &str) -> End {
        End::Here(PathBuf::from(path))
    }

    fn guest(vm: &str, path: &str) -> End {
        End::Guest { vm: vm.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn a_colon_before_the_first_slash_names_a_vm() {
        for (word, end) in [
            ("notes.txt", here("notes.txt")),
            ("/tmp/a:b", here("/tmp/a:b")),
            ("./a:b", here("./a:b")),
            (".", here(".")),
            ("-", here("-")),
            ("folder/", here("folder/")),
            ("web:notes.txt", guest("web", "notes.txt")),
            ("web:", guest("web", "")),
            ("web:/etc/hosts", guest("web", "/etc/hosts")),
            ("web:~/a:b", guest("web", "~/a:b")),
            ("web:folder/", guest("web", "folder/")),
        ] {
            assert_eq!(End::read(OsStr::new(word)), Ok(end), "{word}");
        }
        let odd = OsStr::from_bytes(b"\xff/a:b");
        assert_eq!(End::read(odd), Ok(End::Here(PathBuf::from(odd))));
    }

    #[test]
    fn what_names_no_vm_and_no_path_is_refused() {
        for (word, part) in [
            (&b""[..], "is no path"),
            (b":notes", "names no VM"),
            (b"web:\xff", "is not UTF-8"),
            (b"\xff:notes", "is not UTF-8"),
        ] {
            let report = End::read(OsStr::from_bytes(word)).expect_err("refused");
            assert_eq!(report.kind, Kind::Invalid);
            assert!(report.message.contains(part), "{report:?}");
        }
    }
}
