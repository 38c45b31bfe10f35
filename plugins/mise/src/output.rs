//! What programs of the guest print: it may be anything, and little of it is taken.

/// The files that ask for tools.
pub(crate) const FILES: [&str; 3] = ["mise.toml", ".mise.toml", ".tool-versions"];

/// Lines of mise's output in the log: the last ones say what went wrong.
const LINES: usize = 16;

/// Characters of one of them.
const LINE: usize = 200;

/// Those of [`FILES`] that `ls` has printed.
pub(crate) fn asking(printed: &[u8]) -> Vec<&'static str> {
    let printed = String::from_utf8_lossy(printed);
    FILES.into_iter().filter(|file| printed.lines().any(|line| line == *file)).collect()
}

/// The last lines that are not empty, none of them long.
pub(crate) fn last_lines(printed: &[u8]) -> Vec<String> {
    let printed = String::from_utf8_lossy(printed);
    let lines: Vec<_> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    last.map(|line| line.trim().chars().take(LINE).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_files_are_found() {
        assert_eq!(asking(b".tool-versions\nmise.toml\n"), ["mise.toml", ".tool-versions"]);
        assert_eq!(asking(b"x/mise.toml\n mise.toml\n\xff\nmise.tomlx"), [""; 0]);
        assert_eq!(asking(b""), [""; 0]);
    }

    #[test]
    fn the_end_of_what_is_printed_is_kept_in_short_lines() {
        let long = "x".repeat(1000);
        let printed: String = (0..100).map(|number| format!("  {number} {long}\n\n")).collect();
        let lines = last_lines(printed.as_bytes());
        assert_eq!(lines.len(), LINES);
        assert!(lines[LINES - 1].starts_with("99 x"), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() == LINE), "{lines:?}");
        assert_eq!(last_lines(b"\n \n"), [""; 0]);
    }
}
