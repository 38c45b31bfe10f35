//! What the settings say: which tracked files stay at home, and where the others go.

use cove_plugin_sdk::{Context, Result};
use glob::{MatchOptions, Pattern};

/// `*` stops at `/`, and names that begin with a dot are nothing special: all of them do.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The settings, checked.
#[derive(Debug)]
pub(crate) struct Choice {
    folder: String,
    /// For a name anywhere.
    names: Vec<Pattern>,
    /// For a path from the top.
    paths: Vec<Pattern>,
}

impl Choice {
    /// # Errors
    /// When a pattern is none.
    pub(crate) fn new(folder: &str, exclude: &[String]) -> Result<Self> {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for text in exclude {
            let pattern = Pattern::new(text.trim_matches('/')).map_err(|error| error.to_string());
            let pattern = pattern.with_context(|| format!("the setting `exclude` has `{text}`"))?;
            let list = if text.contains('/') { &mut paths } else { &mut names };
            list.push(pattern);
        }
        Ok(Self { folder: folder.trim_end_matches('/').to_owned(), names, paths })
    }

    /// Whether a file stays at home, by itself or with a folder that it is in.
    pub(crate) fn excludes(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let mut paths = ends.map(|end| &path[..end]);
        let matches = |patterns: &[Pattern], text: &str| {
            patterns.iter().any(|pattern| pattern.matches_with(text, OPTIONS))
        };
        path.split('/').any(|name| matches(&self.names, name))
            || paths.any(|path| matches(&self.paths, path))
    }

    /// Where a file goes, relative to the home.
    pub(crate) fn place(&self, path: &str) -> String {
        if self.folder.is_empty() { path.to_owned() } else { format!("{}/{path}", self.folder) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_anywhere_and_paths_from_the_top() {
        let exclude = ["README*", ".github", ".config/*/cache", "/bin/", "**/*.bak"];
        let choice = Choice::new("", &exclude.map(str::to_owned)).expect("they are patterns");
        for path in [
            "README.md",
            "docs/README",
            ".github/workflows/x.yml",
            ".config/app/cache/a/b",
            "bin/tool",
            "a/b/c.bak",
            "c.bak",
        ] {
            assert!(choice.excludes(path), "{path}");
        }
        for path in [
            ".bashrc",
            "MYREADME",
            ".config/cache/file",
            ".config/a/b/cache/file",
            "local/bin/tool",
            "binary",
        ] {
            assert!(!choice.excludes(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = Choice::new("", &["[".to_owned()]).expect_err("it is open");
        assert!(error.message.contains("`exclude` has `[`"), "{}", error.message);
    }

    #[test]
    fn files_go_into_the_folder() {
        let place = |folder| Choice::new(folder, &[]).expect("it is good").place(".config/x");
        assert_eq!(place(""), ".config/x");
        assert_eq!(place("dots/mine/"), "dots/mine/.config/x");
    }
}
