//! A Rust file as text and as tokens.
//!
//! Tokens do not know their lines: that would be a feature of proc-macro2 (`span-locations`) which
//! makes every crate of the build compile anew. A complaint names the file and the word.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token. Groups are flattened: their delimiters are tokens of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The identifier, punctuation character, delimiter or literal.
    pub(crate) text: String,
    /// How many inline modules (`mod tests { … }`) it lies in.
    pub(crate) inline_modules: usize,
}

/// A file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the root of the package, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its tokens. Comments are none; documentation is an attribute with a literal.
    pub(crate) tokens: Vec<Token>,
}

impl Source {
    /// A file with this content, as if it lay at `path`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let stream: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let mut tokens = Vec::new();
        flatten(stream, 0, &mut tokens);
        Self { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    /// The file at `path` from the root of the package.
    pub(crate) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path));
        Self::new(path, &text.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Its path as a module: `["vm", "plan"]` for `src/vm/plan.rs`, `["vm"]` for `src/vm/mod.rs`,
    /// nothing for `src/lib.rs`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<_> = inner.split('/').collect();
        if matches!(parts.last(), Some(&"mod" | &"lib")) {
            parts.pop();
        }
        parts
    }

    /// The places where these tokens follow each other.
    pub(crate) fn find(&self, texts: &[&str]) -> Vec<&Token> {
        let windows = self.tokens.windows(texts.len());
        let matching = windows.filter(|window| window.iter().map(|t| &t.text).eq(texts));
        matching.map(|window| &window[0]).collect()
    }

    /// A complaint about a place in it.
    pub(crate) fn at(&self, token: &Token, complaint: impl std::fmt::Display) -> String {
        format!("{}: at `{}`: {complaint}", self.path, token.text)
    }
}

fn flatten(stream: TokenStream, inline_modules: usize, tokens: &mut Vec<Token>) {
    for tree in stream {
        let token = |text: String| Token { text, inline_modules };
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let opens_module =
                    open == "{" && tokens.len() >= 2 && tokens[tokens.len() - 2].text == "mod";
                tokens.push(token(open.to_owned()));
                flatten(group.stream(), inline_modules + usize::from(opens_module), tokens);
                tokens.push(token(close.to_owned()));
            }
            TokenTree::Ident(ident) => tokens.push(token(ident.to_string())),
            TokenTree::Punct(punct) => tokens.push(token(punct.as_char().to_string())),
            TokenTree::Literal(literal) => tokens.push(token(literal.to_string())),
        }
    }
}

/// The root of the package.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below these folders, in order.
pub(crate) fn below(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(Path::new(folder), &mut paths);
    }
    paths.sort();
    paths.iter().filter(|path| path.ends_with(".rs")).map(|path| Source::read(path)).collect()
}

/// All files below a folder, as paths from the root.
pub(crate) fn walk(folder: &Path, paths: &mut Vec<String>) {
    let entries = std::fs::read_dir(root().join(folder));
    for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a readable folder");
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != "node_modules" {
            walk(&path, paths);
        } else if kind.is_file() {
            paths.push(path.to_str().expect("UTF-8 names").to_owned());
        }
    }
}

#[test]
fn comments_and_strings_are_no_code() {
    let source =
        Source::new("src/a.rs", "//! use x::y\nconst A: &str = \"x::y\"; // x::y\nx::y();");
    let found = source.find(&["x", ":", ":", "y"]);
    assert_eq!(found.len(), 1);
}

#[test]
fn modules_follow_from_paths() {
    let module = |path| Source::new(path, "").module().join("::");
    assert_eq!(module("src/vm/plan.rs"), "vm::plan");
    assert_eq!(module("src/vm/mod.rs"), "vm");
    assert_eq!(module("src/id.rs"), "id");
    assert_eq!(module("src/lib.rs"), "");
}
