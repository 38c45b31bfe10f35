//! Newtypes for every id and name, so that no two kinds of string can be mixed up.
//!
//! A value of one of these types is valid by construction: parsing is the only way in. Nothing here
//! touches the host except for the kernel's random numbers behind `random()`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not the id or name it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a valid {kind}: {reason}", shown(.value))]
pub struct InvalidId {
    /// What the string was meant to be, for people: "VM name", "operation id".
    pub kind: &'static str,
    /// The rejected string, cut to a length fit for a message.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Control characters of a rejected string must not reach a terminal.
fn shown(value: &str) -> String {
    value.chars().take(80).flat_map(char::escape_debug).collect()
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                match $check(value) {
                    Ok(()) => Ok(Self(value.to_owned())),
                    Err(reason) => Err(InvalidId { kind: $kind, value: value.to_owned(), reason }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }

        // So that maps are searched for text that may be no id at all.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        #[cfg(feature = "daemon")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let description = concat!("A valid ", $kind, ".");
                schemars::json_schema!({ "type": "string", "description": description })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident, $bytes:literal) => {
        #[cfg(feature = "guest-protocol")]
        impl $name {
            /// A fresh id from the kernel's random numbers.
            ///
            /// # Panics
            /// When the kernel has no random numbers to give, which does not happen after boot.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0_u8; $bytes];
                getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
                Self(hex(&bytes))
            }
        }
    };
}

string_id!(
    /// A VM's id: 12 hexadecimal digits, never used twice.
    VmId, "VM id", check_hex12
);
random_id!(VmId, 6);

string_id!(
    /// A VM's name: 1 to 63 of `[a-z0-9-]`, no hyphen at an edge. It is a hostname, a file name and
    /// an argument of programs, so nothing else may pass.
    VmName, "VM name", check_label
);

string_id!(
    /// An operation's id: 12 hexadecimal digits.
    OperationId, "operation id", check_hex12
);
random_id!(OperationId, 6);

string_id!(
    /// One boot of one VM: 16 hexadecimal digits, new at every start.
    BootId, "boot id", check_hex16
);
random_id!(BootId, 8);

string_id!(
    /// The id of a command that runs detached in a guest: 6 hexadecimal digits, for its boot.
    ExecId, "id of a detached command", check_hex6
);
random_id!(ExecId, 3);

string_id!(
    /// The name of an image or a kernel: 1 to 63 of `[a-z0-9-]`, no hyphen at an edge.
    ImageName, "image name", check_label
);

string_id!(
    /// A plugin's id: labels of `[a-z0-9-]` joined by dots, at most 128 bytes (`io.example.dotfiles`).
    PluginId, "plugin id", check_dotted
);

string_id!(
    /// A sha256 digest: 64 lower-case hexadecimal digits.
    Digest, "sha256 digest", check_hex64
);

#[cfg(feature = "guest-protocol")]
impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(hex(&sha2::Sha256::digest(bytes)))
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The bytes that hexadecimal digits stand for, two each; none when they do not.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let plain = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| text.as_bytes().chunks(2).map(digits).collect())?
}

fn check_label(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("it is empty");
    }
    if value.len() > 63 {
        return Err("it is longer than 63 characters");
    }
    if !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("only a-z, 0-9 and - are allowed");
    }
    if value.starts_with('-') || value.ends_with('-') {
        return Err("it must not start or end with a hyphen");
    }
    Ok(())
}

fn check_dotted(value: &str) -> Result<(), &'static str> {
    if value.len() > 128 {
        return Err("it is longer than 128 characters");
    }
    value.split('.').try_for_each(check_label)
}

fn check_hex(value: &str, digits: usize, reason: &'static str) -> Result<(), &'static str> {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if value.len() == digits && value.bytes().all(hexadecimal) { Ok(()) } else { Err(reason) }
}

fn check_hex6(value: &str) -> Result<(), &'static str> {
    check_hex(value, 6, "6 hexadecimal digits are wanted")
}

fn check_hex12(value: &str) -> Result<(), &'static str> {
    check_hex(value, 12, "12 hexadecimal digits are wanted")
}

fn check_hex16(value: &str) -> Result<(), &'static str> {
    check_hex(value, 16, "16 hexadecimal digits are wanted")
}

fn check_hex64(value: &str) -> Result<(), &'static str> {
    check_hex(value, 64, "64 hexadecimal digits are wanted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_names_are_hostname_labels() {
        let longest = "a".repeat(63);
        for good in ["a", "web-1", "0", longest.as_str()] {
            assert_eq!(good.parse::<VmName>().map(|n| n.to_string()).as_deref(), Ok(good));
        }
        let too_long = "a".repeat(64);
        for bad in
            ["", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", "a\n", "../x", "a/b", too_long.as_str()]
        {
            assert!(bad.parse::<VmName>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_rejected_name_cannot_reach_the_terminal_raw() {
        let error = "a\u{1b}[2J".parse::<VmName>().expect_err("refused");
        assert_eq!(
            error.to_string(),
            "`a\\u{1b}[2J` is not a valid VM name: only a-z, 0-9 and - are allowed"
        );
    }

    #[test]
    fn random_ids_parse_and_differ() {
        let (one, two) = (VmId::random(), VmId::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse::<VmId>().as_ref(), Ok(&one));
    }
}
