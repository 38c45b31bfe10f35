//! Blocks of text in files that people edit too, between two marker lines.
//!
//! Pure text: bytes in, bytes out. Everything outside the block is kept byte for byte, whatever its
//! encoding.

use crate::wire::guest::BlockPlace;

/// A block that cannot be kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The marker would not be one line.
    #[error("the marker is not one line of text")]
    Marker,
    /// The content would end the block early.
    #[error("the content contains the block's own marker line")]
    Content,
}

/// The file with this block in it: in the place of the one it has, or where `place` says. Without
/// content the block is taken out. When a file has the block more than once, one is left.
///
/// # Errors
/// When marker or content cannot be told from the block's edges.
pub fn ensure(
    file: &[u8],
    marker: &str,
    content: &[u8],
    place: BlockPlace,
) -> Result<Vec<u8>, BlockError> {
    if marker.trim().is_empty() || marker.chars().any(char::is_control) {
        return Err(BlockError::Marker);
    }
    let (begin, end) = edges(marker);
    if lines(content).any(|line| is(line, &begin) || is(line, &end)) {
        return Err(BlockError::Content);
    }
    let block = if content.is_empty() {
        Vec::new()
    } else {
        let gap: &[u8] = if content.ends_with(b"\n") { b"" } else { b"\n" };
        [begin.as_bytes(), b"\n", content, gap, end.as_bytes(), b"\n"].concat()
    };

    let mut kept = Vec::with_capacity(file.len() + block.len());
    let mut opened = None; // where in `kept` the last begin line stands
    let mut first = None; // where in `kept` the first whole block stood
    for line in lines(file) {
        if is(line, &begin) {
            opened = Some(kept.len());
        }
        match opened {
            Some(start) if is(line, &end) => {
                kept.truncate(start);
                first.get_or_insert(start);
                opened = None;
            }
            _ => kept.extend_from_slice(line),
        }
    }
    let at = match (first, place) {
        (Some(at), _) => at,
        (None, BlockPlace::Start) => 0,
        (None, BlockPlace::End) => {
            if !block.is_empty() && !kept.is_empty() && !kept.ends_with(b"\n") {
                kept.push(b'\n');
            }
            kept.len()
        }
    };
    kept.splice(at..at, block);
    Ok(kept)
}

/// The number, from 1, of a line that is an edge of such a block without the other edge: what is left of one
/// that somebody has cut.
#[must_use]
pub fn half(file: &[u8], marker: &str) -> Option<usize> {
    let (begin, end) = edges(marker);
    let mut opened = None;
    for (number, line) in (1..).zip(lines(file)) {
        match (is(line, &begin), is(line, &end), opened) {
            (true, _, Some(before)) => return Some(before),
            (true, _, None) => opened = Some(number),
            (_, true, None) => return Some(number),
            (_, true, Some(_)) => opened = None,
            (false, false, _) => {}
        }
    }
    opened
}

fn edges(marker: &str) -> (String, String) {
    (format!("# >>> {marker} >>>"), format!("# <<< {marker} <<<"))
}

fn is(line: &[u8], edge: &str) -> bool {
    line.trim_ascii_end() == edge.trim_end().as_bytes()
}

/// The lines of a text with their newlines.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use BlockPlace::{End, Start};
    use proptest::prelude::*;

    #[test]
    fn the_rest_of_the_file_is_kept() {
        let cases: [(&str, &str, BlockPlace, &str); 10] = [
            ("", "x\n", End, "# >>> m >>>\nx\n# <<< m <<<\n"),
            ("", "", End, ""),
            ("a", "x", End, "a\n# >>> m >>>\nx\n# <<< m <<<\n"),
            ("a", "", End, "a"),
            ("a\n", "x", Start, "# >>> m >>>\nx\n# <<< m <<<\na\n"),
            (
                "a\n# >>> m >>>\nold\n# <<< m <<<\nb",
                "new",
                Start,
                "a\n# >>> m >>>\nnew\n# <<< m <<<\nb",
            ),
            ("a\n# >>> m >>>\nold\n# <<< m <<<\nb", "", End, "a\nb"),
            // An edge without its partner is the user's text.
            ("# >>> m >>>\nmine\n", "x", End, "# >>> m >>>\nmine\n# >>> m >>>\nx\n# <<< m <<<\n"),
            (
                "# >>> m >>>\nmine\n# >>> m >>>\nold\n# <<< m <<<\n",
                "x",
                End,
                "# >>> m >>>\nmine\n# >>> m >>>\nx\n# <<< m <<<\n",
            ),
            (
                "# >>> m >>>\r\n1\r\n# <<< m <<<\r\na\n# >>> m >>>\n2\n# <<< m <<<\n",
                "x",
                End,
                "# >>> m >>>\nx\n# <<< m <<<\na\n",
            ),
        ];
        for (file, content, place, expected) in cases {
            let made = ensure(file.as_bytes(), "m", content.as_bytes(), place).expect("made");
            assert_eq!(String::from_utf8_lossy(&made), expected, "{file:?} {content:?}");
        }
    }

    #[test]
    fn what_would_break_the_block_is_refused() {
        assert_eq!(ensure(b"", "a\nb", b"x", End), Err(BlockError::Marker));
        assert_eq!(ensure(b"", " ", b"x", End), Err(BlockError::Marker));
        let inside = ensure(b"", "m", b"a\n# <<< m <<<\nb", End);
        assert_eq!(inside, Err(BlockError::Content));
    }

    #[test]
    fn half_a_block_is_found() {
        for (file, line) in [
            ("", None),
            ("a\n# >>> m >>>\nb\n# <<< m <<<\n", None),
            ("# >>> m >>>\n# <<< m <<<\n# >>> other >>>\n", None),
            ("a\n# >>> m >>>\nb", Some(2)),
            ("a\n\n# <<< m <<<\r\n", Some(3)),
            ("# >>> m >>>\n# >>> m >>>\n# <<< m <<<\n", Some(1)),
            ("# >>> m >>>\n# <<< m <<<\n# <<< m <<<", Some(3)),
        ] {
            assert_eq!(half(file.as_bytes(), "m"), line, "{file:?}");
        }
    }

    proptest! {
        #[test]
        fn ensuring_again_changes_nothing_and_removing_gives_the_file_back(
            file in proptest::collection::vec(any::<u8>(), 0..200),
            content in "[a-z\n]{1,40}",
        ) {
            let with = ensure(&file, "m", content.as_bytes(), Start).expect("made");
            prop_assert_eq!(&ensure(&with, "m", content.as_bytes(), End).expect("made"), &with);
            prop_assert_eq!(ensure(&with, "m", b"", Start).expect("made"), file);
        }
    }
}
