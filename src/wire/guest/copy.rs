//! Copies of files and trees, out of a guest and into it.
//!
//! The tar stream has one thing in it, with what is below it, under the name `copy`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFiles {
    /// The path in the guest: relative to the home, absolute, or beginning with `~/`. An empty one is the home.
    pub path: String,
    /// Where it goes.
    pub direction: CopyDirection,
}

/// Where a copy goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CopyDirection {
    /// Out of the guest.
    Out,
    /// Into the guest.
    In(Incoming),
}

/// What is to come into a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// Its own name, for when the path is that of a folder: then it goes into that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is, so that a path where it cannot be is refused before it is sent.
    pub kind: CopyKind,
}

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// A file.
    File,
    /// A folder, with all that is below it.
    Folder,
    /// A symbolic link, as it is.
    Link,
}

/// What was left out of a copy, because it is neither file, folder nor link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many there are.
    pub count: u64,
    /// The path of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

/// Why nothing was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyFailure {
    /// The source, or the folder of the destination, is not there.
    NotFound,
    /// What is at the destination cannot be replaced.
    InTheWay,
    /// The source is nothing that can be copied, or a name is missing.
    Invalid,
    /// It does not fit on the disk.
    NoRoom,
    /// The VM is not in the state for it any more, or the disk not free. The daemon says so, no agent.
    NotNow,
    /// Anything else.
    Other,
}

/// The path of a copy as one in the guest.
#[must_use]
pub fn place_of(home: &Path, path: &str) -> PathBuf {
    match path {
        "" | "~" => home.to_owned(),
        // Slashes that follow are not to make it absolute.
        path => {
            home.join(path.strip_prefix("~/").map_or(path, |rest| rest.trim_start_matches('/')))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_is_one_of_the_home_unless_it_is_absolute() {
        for (path, place) in [
            ("", "/root"),
            ("~", "/root"),
            ("~/", "/root/"),
            ("~/notes/a", "/root/notes/a"),
            ("~//etc", "/root/etc"),
            ("notes/", "/root/notes/"),
            ("../etc", "/root/../etc"),
            ("~ada", "/root/~ada"),
            ("/etc/hosts", "/etc/hosts"),
        ] {
            let found = place_of(Path::new("/root"), path);
            assert_eq!(found.as_os_str(), OsStr::new(place), "{path}");
        }
    }
}
