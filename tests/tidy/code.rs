//! Rules about the inside of one file.

use crate::source::{Source, Token};

/// Longest file, in lines, not counting a test module at its end.
pub(crate) const MAX_LINES: usize = 400;

/// Files that may be longer, with the reason.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];

/// Most methods of a trait: one with more wants to be two.
const MAX_METHODS: usize = 8;

/// Names that say nothing about what is inside.
const DRAWERS: &[&str] = &["util", "utils", "helper", "helpers", "misc", "common", "stuff"];

/// Functions of `std::env` that read or change the environment.
const ENVIRONMENT: &[&str] = &["var", "var_os", "vars", "vars_os", "set_var", "remove_var"];

/// A file opens with `//!` that says something.
pub(crate) fn purpose(file: &Source) -> Vec<String> {
    let first = file.text.lines().find(|line| !line.trim().is_empty());
    let words = first.and_then(|line| line.strip_prefix("//!"));
    if words.is_some_and(|words| words.trim().len() >= 10 && !words.contains("being written")) {
        return Vec::new();
    }
    vec![format!("{}: open with `//!` and what it is for", file.path)]
}

/// No `mod util` and the like.
pub(crate) fn named_modules(file: &Source) -> Vec<String> {
    let named = DRAWERS.iter().flat_map(|name| file.find(&["mod", name]));
    named.map(|token| file.at(token, "name the module after what is inside")).collect()
}

/// Lines of a file up to a test module at its end.
pub(crate) fn lines(file: &Source) -> usize {
    let tests = file.text.find("\n#[cfg(test)]\nmod tests {");
    file.text[..tests.unwrap_or(file.text.len())].lines().count()
}

/// Files stay short enough to be read at once.
pub(crate) fn length(file: &Source) -> Vec<String> {
    let excepted = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    let lines = lines(file);
    if lines <= MAX_LINES || excepted {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, at most {MAX_LINES}: make it two", file.path)]
}

/// Every attribute of the file: its tokens without brackets.
fn attributes(file: &Source) -> impl Iterator<Item = &[Token]> {
    let tokens = &file.tokens;
    let starts = tokens.iter().enumerate().filter(|(_, token)| token.text == "#");
    starts.filter_map(move |(position, _)| {
        let inner = tokens.get(position + 1).is_some_and(|token| token.text == "!");
        let open = position + 1 + usize::from(inner);
        tokens.get(open).filter(|token| token.text == "[")?;
        let mut level = 0;
        let length = tokens[open..].iter().position(|token| {
            match token.text.as_str() {
                "[" => level += 1,
                "]" => level -= 1,
                _ => {}
            }
            level == 0
        })?;
        Some(&tokens[open + 1..open + length])
    })
}

/// `#[expect(lint, reason = "…")]` goes away with its cause; `allow` stays for ever.
pub(crate) fn no_allow(file: &Source) -> Vec<String> {
    let allowed = attributes(file).filter_map(|tokens| {
        let head = tokens.first()?;
        let direct = head.text == "allow";
        let conditional = head.text == "cfg_attr"
            && tokens.windows(2).any(|pair| pair[0].text == "allow" && pair[1].text == "(");
        (direct || conditional).then_some(head)
    });
    allowed.map(|token| file.at(token, "use #[expect(…, reason = \"…\")]")).collect()
}

/// No macro and no remark that puts work off.
pub(crate) fn nothing_left(file: &Source) -> Vec<String> {
    let macros = ["todo", "unimplemented"];
    let macros = macros.iter().flat_map(|name| file.find(&[name, "!"]));
    let mut complaints: Vec<_> = macros.map(|token| file.at(token, "finish it")).collect();
    // Put together here, so that this file does not find itself.
    let remarks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]].map(|parts| parts.concat());
    for (number, line) in file.text.lines().enumerate() {
        if remarks.iter().any(|remark| line.contains(remark.as_str())) {
            complaints.push(format!("{}:{}: finish it", file.path, number + 1));
        }
    }
    complaints
}

/// Traits have few methods.
pub(crate) fn small_traits(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (position, token) in file.tokens.iter().enumerate() {
        if token.text != "trait" {
            continue;
        }
        let Some(open) = file.tokens[position..].iter().position(|t| t.text == "{") else {
            continue;
        };
        let methods = methods(&file.tokens[position + open..]);
        if methods > MAX_METHODS {
            let name = file.tokens.get(position + 1).map_or("", |name| &name.text);
            let complaint = format!("`{name}` has {methods} methods, at most {MAX_METHODS}");
            complaints.push(file.at(token, complaint));
        }
    }
    complaints
}

/// How many functions the block has that `tokens` begin with.
fn methods(tokens: &[Token]) -> usize {
    let (mut level, mut count) = (0, 0);
    for token in tokens {
        match token.text.as_str() {
            "{" | "(" | "[" => level += 1,
            "}" | ")" | "]" => level -= 1,
            "fn" if level == 1 => count += 1,
            _ => {}
        }
        if level == 0 {
            break;
        }
    }
    count
}

/// The environment is an input like a file: one module reads it.
pub(crate) fn environment(file: &Source) -> Vec<String> {
    if file.module().first() == Some(&"config") {
        return Vec::new();
    }
    let calls = ENVIRONMENT.iter().flat_map(|call| file.find(&["env", ":", ":", call]));
    calls.map(|token| file.at(token, "only config reads the environment")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: fn(&Source) -> Vec<String>, text: &str) -> usize {
        rule(&Source::new("src/vm/x.rs", text)).len()
    }

    #[test]
    fn a_missing_purpose_is_found() {
        assert_eq!(count(purpose, "use a::b;"), 1);
        assert_eq!(count(purpose, "//!\nfn f() {}"), 1);
        assert_eq!(count(purpose, "/// An item.\nfn f() {}"), 1);
        assert_eq!(count(purpose, "//! What it is for.\n"), 0);
    }

    #[test]
    fn a_drawer_is_found() {
        assert_eq!(count(named_modules, "mod util;"), 1);
        assert_eq!(count(named_modules, "pub(crate) mod helpers { }"), 1);
        assert_eq!(count(named_modules, "mod utility_bills; // mod util;"), 0);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let line = "const A: u8 = 0;\n";
        let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(100));
        assert_eq!(count(length, &line.repeat(MAX_LINES + 1)), 1);
        assert_eq!(count(length, &(line.repeat(MAX_LINES - 1) + &tests)), 0);
    }

    #[test]
    fn an_allow_is_found() {
        assert_eq!(count(no_allow, "#[allow(dead_code)] fn f() {}"), 1);
        assert_eq!(count(no_allow, "#![allow(dead_code)]"), 1);
        assert_eq!(count(no_allow, "#[cfg_attr(test, allow(dead_code))] fn f() {}"), 1);
        assert_eq!(count(no_allow, "#[expect(dead_code)] fn allow() { allow(1) }"), 0);
        assert_eq!(count(no_allow, "/// #[allow(dead_code)]\nfn f() {}"), 0);
    }

    #[test]
    fn work_put_off_is_found() {
        assert_eq!(count(nothing_left, "fn f() { todo!() }"), 1);
        assert_eq!(count(nothing_left, "fn f() { unimplemented!(\"later\") }"), 1);
        let remark = ["// TO", "DO: more\n"].concat();
        assert_eq!(count(nothing_left, &remark), 1);
        assert_eq!(count(nothing_left, "fn todo() {} // a todo list"), 0);
    }

    #[test]
    fn a_large_trait_is_found() {
        let methods = "fn f(&self, g: fn()) { fn inner() {} }".repeat(MAX_METHODS);
        assert_eq!(count(small_traits, &format!("trait T: A {{ {methods} }}")), 0);
        assert_eq!(count(small_traits, &format!("trait T: A {{ {methods} fn g(); }}")), 1);
    }

    #[test]
    fn reading_the_environment_is_found() {
        assert_eq!(count(environment, "fn f() { std::env::var(\"A\"); }"), 1);
        assert_eq!(count(environment, "fn f() { env::vars_os(); }"), 1);
        assert_eq!(count(environment, "const A: &str = env!(\"A\"); use std::env::args;"), 0);
        let config = Source::new("src/config.rs", "fn f() { env::var(\"A\"); }");
        assert_eq!(environment(&config).len(), 0);
    }
}
