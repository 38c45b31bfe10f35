//! Paths of the home, checked by their letters alone. Inside the guest they are resolved again below
//! the home's root, so nothing here depends on what is on the disk.

use super::limits;

/// Why a path is refused. The text names the path, escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is refused: {reason}", .path.chars().take(200).flat_map(char::escape_debug).collect::<String>())]
pub(super) struct BadPath {
    path: String,
    reason: &'static str,
}

/// A path must be relative, without `.`, `..`, NUL and empty components, and not too long or too deep.
pub(super) fn check(path: &str) -> Result<(), BadPath> {
    let refuse = |reason| Err(BadPath { path: path.to_owned(), reason });
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.len() > limits::PATH_BYTES {
        return refuse("it is too long");
    }
    if path.starts_with('/') {
        return refuse("it must be relative to the home");
    }
    if path.contains('\0') {
        return refuse("it has a NUL in it");
    }
    let mut depth = 0;
    for name in path.split('/') {
        depth += 1;
        match name {
            "" => return refuse("it has an empty component"),
            "." | ".." => return refuse("it must not contain `.` or `..`"),
            name if name.len() > limits::NAME_BYTES => return refuse("a component is too long"),
            _ if depth > limits::PATH_DEPTH => return refuse("it is too deep"),
            _ => {}
        }
    }
    Ok(())
}

/// The target of a link at `path` must be relative and, followed from there, stay in the home. Returns
/// where it leads, relative to the home.
pub(super) fn check_target(path: &str, target: &str) -> Result<String, BadPath> {
    let refuse = |reason| Err(BadPath { path: target.to_owned(), reason });
    if target.is_empty() || target.len() > limits::PATH_BYTES || target.contains('\0') {
        return refuse("it is no target for a link");
    }
    if target.starts_with('/') {
        return refuse("a link must be relative");
    }
    let mut reached: Vec<_> = path.split('/').collect();
    reached.pop();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." if reached.pop().is_none() => return refuse("the link would leave the home"),
            ".." => {}
            name => reached.push(name),
        }
    }
    let reached = reached.join("/");
    match check(&reached) {
        Ok(()) => Ok(reached),
        Err(error) => refuse(error.reason),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_leave_the_home_are_refused() {
        let long_name = "a".repeat(limits::NAME_BYTES + 1);
        let deep = vec!["a"; limits::PATH_DEPTH + 1].join("/");
        let long = vec!["a".repeat(250); 17].join("/");
        for bad in [
            "",
            "/",
            "/etc/shadow",
            "../../etc/shadow",
            "a/../b",
            "a/..",
            "..",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            long_name.as_str(),
            deep.as_str(),
            long.as_str(),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        let widest = "a".repeat(limits::NAME_BYTES);
        for good in ["a", ".ssh/authorized_keys", "a b/c\nd", "..a", "a..", "ä/ö", widest.as_str()]
        {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn links_stay_in_the_home() {
        for (path, target, good) in [
            ("a/b", "c", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("a", "..", false),
            ("a/b", "..", false),
            ("a", "b/../c", true),
            ("a", "b/../../c", false),
            ("a", "/etc/passwd", false),
            ("a", "", false),
            ("a", "x\0", false),
        ] {
            assert_eq!(check_target(path, target).is_ok(), good, "{path} -> {target:?}");
        }
    }

    #[test]
    fn a_refused_path_is_shown_escaped_and_cut() {
        let error = check(&format!("\u{1b}[2J/../{}", "x".repeat(9999))).expect_err("refused");
        let text = error.to_string();
        assert!(text.starts_with("`\\u{1b}[2J/../xx") && text.len() < 300, "{text}");
    }

    proptest! {
        #[test]
        fn an_accepted_path_only_goes_down(path in "[a./\\x00]{0,12}") {
            if check(&path).is_ok() {
                let parts: Vec<_> = std::path::Path::new(&path).components().collect();
                prop_assert!(parts.iter().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert_eq!(parts.len(), path.split('/').count());
            }
        }
    }
}
