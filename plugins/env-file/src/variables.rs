//! The text of a .env file as names and values.

use std::collections::HashMap;

use cove_plugin_sdk::{Error, Result};

/// All variables of a text; the last one of two lines for one name wins.
///
/// # Errors
/// When a line is malformed. The message says after which variable and nothing of the line, in which there
/// may be a secret.
pub(crate) fn parse(text: &str) -> Result<HashMap<String, String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = HashMap::new();
    let mut last = None;
    for variable in dotenvy::Iter::new(text.as_bytes()) {
        let Ok((name, value)) = variable else {
            let place = match last {
                Some(name) => format!("after the line of `{name}`"),
                None => "before the first variable".to_owned(),
            };
            return Err(Error::new("bad-argument", format!("a line {place} is malformed")));
        };
        last = Some(name.clone());
        values.insert(name, value);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_of_dotenv_is_read() {
        let text = "\u{feff}# mine\nA=1\nexport B = two\r\nC='$A # no'\nD=\"x\\ny\" # a remark\n\
                    E=\"two\nlines\"\nF=${A}-${B}\n\nG=\nA=3\n";
        let values = parse(text).expect("it is good");
        for (name, value) in [
            ("A", "3"),
            ("B", "two"),
            ("C", "$A # no"),
            ("D", "x\ny"),
            ("E", "two\nlines"),
            ("F", "1-two"),
            ("G", ""),
        ] {
            assert_eq!(values.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(values.len(), 7);
    }

    #[test]
    fn an_error_says_where_and_keeps_the_secret() {
        for (text, place) in [
            ("A=1\nTOKEN = s3cret s3cret\n", "after the line of `A`"),
            ("s3cret\n", "before the first variable"),
            ("A=1\nB='s3cret\n", "after the line of `A`"),
        ] {
            let message = parse(text).expect_err(text).message;
            assert!(message.contains(place), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
