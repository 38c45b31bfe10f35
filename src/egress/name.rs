//! Names of hosts, as DNS has them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name without its last dot (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// The longest label (the same section).
const MAX_LABEL: usize = 63;

/// A full host name: lower case, two labels or more of `a-z`, `0-9`, `-` and `_`, no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name lies below `parent`, at any depth. No name lies below itself.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// A text that is no full host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing, or more than DNS carries.
    #[error("a name has 1 to {MAX_NAME} characters")]
    Length,
    /// A label is empty, too long, or has an edge hyphen.
    #[error(
        "the part `{label}` of a name has 1 to {MAX_LABEL} characters and no hyphen at its edges"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// A character that host names do not have.
    #[error(
        "`{found}` cannot be in a name; a name of other letters is written as DNS has it (`xn--…`)"
    )]
    Character {
        /// The character.
        found: char,
    },
    /// A wildcard in the middle.
    #[error("`*` stands only for whole parts at the beginning, as in `*.example.org`")]
    Wildcard,
    /// One label.
    #[error("`{name}` is not a full name: it has no dot")]
    NotFull {
        /// The name.
        name: String,
    },
    /// The last label is a number, so programs would take the name for an address.
    #[error("`{name}` looks like an address and is none")]
    LooksLikeAddress {
        /// The name.
        name: String,
    },
}

impl FromStr for DnsName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(BadName::Length);
        }
        if name.contains('*') {
            return Err(BadName::Wildcard);
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(found) = name.chars().find(|c| !allowed(c)) {
            return Err(BadName::Character { found });
        }
        for label in name.split('.') {
            let edge = label.starts_with('-') || label.ends_with('-');
            if label.is_empty() || label.len() > MAX_LABEL || edge {
                return Err(BadName::Label { label: label.to_owned() });
            }
        }
        match name.rsplit_once('.') {
            None => Err(BadName::NotFull { name }),
            Some((_, last)) if last.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(BadName::LooksLikeAddress { name })
            }
            Some(_) => Ok(Self(name)),
        }
    }
}

impl TryFrom<String> for DnsName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_dns_has_them() {
        for (text, name) in [
            ("example.org", "example.org"),
            ("Example.ORG.", "example.org"),
            ("_dmarc.a-b.example.org", "_dmarc.a-b.example.org"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        ] {
            assert_eq!(text.parse::<DnsName>().expect(text).as_str(), name);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.org", "a".repeat(64));
        let endless = format!("{}org", "ab.".repeat(90));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a.b",
            "-a.b",
            "a-.b",
            "localhost",
            "1.2.3",
            "a.1",
            "bücher.de",
            "a b.c",
            "a.b/c",
            "*.org",
            "a.*.org",
            "a.b\n",
            "a.b\0",
            &long,
            &endless,
        ] {
            assert!(text.parse::<DnsName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn below_is_whole_labels() {
        let name = |text: &str| text.parse::<DnsName>().expect("a name");
        assert!(name("a.example.org").is_below(&name("example.org")));
        assert!(name("b.a.example.org").is_below(&name("example.org")));
        assert!(!name("example.org").is_below(&name("example.org")));
        assert!(!name("notexample.org").is_below(&name("example.org")));
    }
}
