//! Trees on their way into a guest, as tar streams.

use serde::{Deserialize, Serialize};

/// A tree to unpack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReceiveTree {
    /// The folder, relative to the home.
    pub path: String,
    /// What becomes of it.
    pub how: TreeChange,
}

/// What a tree that comes in does to its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeChange {
    /// It makes it. The folder appears whole, by rename, or not at all; that it exists already is an error.
    Make,
    /// It brings one up to date: what comes is put into it, and what has gone is taken out of it, all or
    /// nothing. The stream has the files [`UPDATE_REPLACED`], [`UPDATE_REMOVED`] and [`UPDATE_DEEPENED`], and
    /// the folder [`UPDATE_TREE`] with what is to be put in.
    Update,
}

/// What is known of a tree that was not taken, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeFailure {
    /// Nothing of it is in its place, and nothing comes there later.
    Untouched,
    /// The same, because something is where it was to be made.
    ThereAlready,
    /// It may be in its place, or come there later. Words of which this program knows nothing say no more.
    #[serde(other)]
    Unknown,
}

/// In an update: what lies at the paths that are to be replaced, as records of
/// [`Known`](crate::wire::survey::Known). What lies there otherwise is somebody's, and fails the whole.
pub const UPDATE_REPLACED: &str = "replaced";

/// In an update: what is to be taken out, in the same form.
pub const UPDATE_REMOVED: &str = "removed";

/// In an update: the commits of the guest's git whose parents come by now, one a line. In the git folder of a submodule
/// that comes, a file of this name says the same of that one.
pub const UPDATE_DEEPENED: &str = "deepened";

/// In an update: the folder of what is to be put in.
pub const UPDATE_TREE: &str = "tree";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_nobody_knows_says_nothing() {
        for (word, failure) in [
            ("untouched", TreeFailure::Untouched),
            ("there_already", TreeFailure::ThereAlready),
            ("unknown", TreeFailure::Unknown),
            ("swapped", TreeFailure::Unknown),
            ("", TreeFailure::Unknown),
        ] {
            let read: TreeFailure = serde_json::from_value(word.into()).expect("it is tolerated");
            assert_eq!(read, failure, "{word}");
        }
    }
}
