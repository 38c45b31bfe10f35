//! The origin's URL without its secrets.
//!
//! What is decided here:
//!
//! - `http`, `https`, `ftp` and every scheme that is not known: user name, password, query and fragment
//!   are taken out. Hosts of repositories take tokens in each of these places.
//! - `ssh` (and `git+ssh`, `ssh+git`, `user@host:path`): the password is taken out, **the user name
//!   stays**: `git@` is part of the address, without it the URL leads nowhere, and it opens nothing.
//! - A path of the host, with or without `file://`: left out. It means nothing in the guest and tells it
//!   how the host's folders are laid out.
//! - Everything that cannot be taken apart with certainty is left out: a token that is not recognised
//!   must not go in.
//!
//! The value is the raw one of `remote.origin.url`. `git remote get-url` would apply the user's
//! `url.*.insteadOf`, which is a place where people keep tokens.

use url::Url;

/// What becomes of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is none.
    Absent,
    /// It goes in as it is.
    Kept(String),
    /// It goes in without a part that may be a secret.
    Stripped(String),
    /// It does not go in.
    LeftOut(&'static str),
}

const LOCAL: &str = "it is a path on the host";
const UNCLEAR: &str = "it cannot be told whether it holds a password or token";

impl Origin {
    /// The URL that goes in, if one does.
    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::Kept(url) | Self::Stripped(url) => Some(url),
            Self::Absent | Self::LeftOut(_) => None,
        }
    }

    /// A line for the user about the origin of `what`, where something was changed. It never repeats the raw value.
    pub(super) fn note(&self, what: &str) -> Option<String> {
        match self {
            Self::Absent | Self::Kept(_) => None,
            Self::Stripped(url) => Some(format!(
                "{what}: user name, password or token taken out of the URL, now `{url}`"
            )),
            Self::LeftOut(reason) => Some(format!("{what}: left out, {reason}")),
        }
    }
}

/// Takes the secrets out of the value of `remote.origin.url`.
pub(super) fn sanitise(raw: &[u8]) -> Origin {
    let Ok(raw) = std::str::from_utf8(raw) else {
        return Origin::LeftOut(UNCLEAR);
    };
    if raw.is_empty() {
        return Origin::Absent;
    }
    // A backslash is a slash to the parser of URLs and none to git: they would see different hosts.
    if raw.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Origin::LeftOut(UNCLEAR);
    }
    match (raw.find("::"), raw.find("://"), raw.find(':'), raw.find('/')) {
        // `helper::address`, unless the colons lie in an IPv6 address or in a path.
        (Some(at), _, Some(first), _) if at == first && is_word(&raw[..at]) => helper(raw, at),
        (_, Some(at), _, _) if raw[..at].eq_ignore_ascii_case("file") => Origin::LeftOut(LOCAL),
        (_, Some(at), _, _) if is_word(&raw[..at]) => address(raw),
        // As git does: a colon before the first slash makes it `[user@]host:path`.
        (_, _, Some(colon), slash) if slash.is_none_or(|slash| colon < slash) => host_and_path(raw),
        _ => Origin::LeftOut(LOCAL),
    }
}

fn is_word(scheme: &str) -> bool {
    !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// `helper::address`: an address that is a URL is cleaned; any other may be a command line.
fn helper(raw: &str, at: usize) -> Origin {
    let (name, inner) = (&raw[..at], &raw[at + 2..]);
    if !inner.split_once("://").is_some_and(|(scheme, _)| is_word(scheme)) {
        return Origin::LeftOut(UNCLEAR);
    }
    match address(inner) {
        Origin::Kept(url) => Origin::Kept(format!("{name}::{url}")),
        Origin::Stripped(url) => Origin::Stripped(format!("{name}::{url}")),
        other @ (Origin::Absent | Origin::LeftOut(_)) => other,
    }
}

fn address(raw: &str) -> Origin {
    let Ok(mut url) = Url::parse(raw) else {
        return Origin::LeftOut(UNCLEAR);
    };
    if url.scheme() == "file" || !url.has_host() {
        return Origin::LeftOut(UNCLEAR);
    }
    let ssh = matches!(url.scheme(), "ssh" | "git+ssh" | "ssh+git");
    // Git decodes the user name before it hands it to ssh; an encoded colon would be a password's.
    let plain_user = !url.username().contains(['%', ';']);
    let mut stripped = url.password().is_some();
    let mut failed = url.set_password(None).is_err();
    let keeps_user = ssh && plain_user;
    if !keeps_user && !url.username().is_empty() {
        stripped = true;
        failed |= url.set_username("").is_err();
    }
    stripped |= url.query().is_some() || url.fragment().is_some();
    url.set_query(None);
    url.set_fragment(None);
    if failed {
        return Origin::LeftOut(UNCLEAR);
    }
    match stripped {
        true => Origin::Stripped(url.into()),
        false => Origin::Kept(url.into()),
    }
}

/// `[user@]host:path`. There is no place for a password in it; `user:password@host:path` is a common
/// mistake, and git takes `user` for the host.
fn host_and_path(raw: &str) -> Origin {
    // The colon of the path comes after the bracket that may hold an IPv6 address or a port.
    let bracket = raw.find(']').unwrap_or(0);
    let Some(colon) = raw[bracket..].find(':').map(|colon| bracket + colon) else {
        return Origin::LeftOut(UNCLEAR);
    };
    let (host, path) = (&raw[..colon], &raw[colon + 1..]);
    let user = host.rsplit_once('@').map_or("", |(user, _)| user);
    if path.contains('@') || user.contains([':', '%', '@', '[', '?']) {
        return Origin::LeftOut(UNCLEAR);
    }
    // `https:/user:token@host` and the like were caught by the `@`; `C:/x` and `word:path` are fine.
    Origin::Kept(raw.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Raw values, and what becomes of them. Every secret begins with `SEC`.
    const SHAPES: &[(&str, &str)] = &[
        ("https://github.com/o/r.git", "kept https://github.com/o/r.git"),
        ("http://h/r", "kept http://h/r"),
        ("https://h:8443/r", "kept https://h:8443/r"),
        ("https://u:SECRET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https://SECRET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https://:SECRET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https://x-access-token:SECRET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https://u:SEC@RET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https://u:SEC%40RET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("HTTPS://u:SECRET@GitHub.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https:///u:SECRET@github.com/o/r.git", "stripped https://github.com/o/r.git"),
        ("https:\\\\u:SECRET@github.com/o/r.git", "unclear"),
        ("https://h\\SECRET@github.com/o/r.git", "unclear"),
        ("https:/u:SECRET@github.com/o/r.git", "unclear"),
        ("https:u:SECRET@github.com/o/r.git", "unclear"),
        ("https://h/r.git?private_token=SECRET", "stripped https://h/r.git"),
        ("https://h/r.git#SECRET", "stripped https://h/r.git"),
        ("https://u:SECRET@[::1]:8443/r", "stripped https://[::1]:8443/r"),
        ("ftp://u:SECRET@h/r", "stripped ftp://h/r"),
        ("git://u:SECRET@h/r", "stripped git://h/r"),
        ("ssh://git@github.com/o/r.git", "kept ssh://git@github.com/o/r.git"),
        ("ssh://git:SECRET@h:22/r", "stripped ssh://git@h:22/r"),
        ("ssh://git%3ASECRET@h/r", "stripped ssh://h/r"),
        ("git+ssh://git:SECRET@h/~u/r", "stripped git+ssh://git@h/~u/r"),
        ("ssh://git@h:o/r", "unclear"),
        ("git@github.com:o/r.git", "kept git@github.com:o/r.git"),
        ("github.com:o/r.git", "kept github.com:o/r.git"),
        ("git@[::1]:o/r.git", "kept git@[::1]:o/r.git"),
        ("[git@h:22]:o/r.git", "unclear"),
        ("u:SECRET@h:o/r.git", "unclear"),
        ("h:~u/SECRET@x", "unclear"),
        ("s3://KEY:SECRET@bucket/r", "stripped s3://bucket/r"),
        ("codecommit::eu-west-1://SECRET@r", "stripped codecommit::eu-west-1://r"),
        ("hg::https://u:SECRET@h/r", "stripped hg::https://h/r"),
        ("ext::sh -c SECRET", "unclear"),
        ("ext::SECRET", "unclear"),
        ("/home/me/SECRET.git", "local"),
        ("../SECRET.git", "local"),
        ("./SECRET:b", "local"),
        ("file:///home/me/SECRET.git", "local"),
        ("file://u:SECRET@h/r.git", "local"),
        (" https://u:SECRET@h/r", "unclear"),
        ("https://u:SEC\nRET@h/r", "unclear"),
        ("", "absent"),
    ];

    #[test]
    fn origins_of_many_shapes() {
        for (raw, expected) in SHAPES {
            let got = sanitise(raw.as_bytes());
            let shown = match &got {
                Origin::Absent => "absent".to_owned(),
                Origin::Kept(url) => format!("kept {url}"),
                Origin::Stripped(url) => format!("stripped {url}"),
                Origin::LeftOut(reason) if *reason == LOCAL => "local".to_owned(),
                Origin::LeftOut(_) => "unclear".to_owned(),
            };
            assert_eq!(shown, *expected, "{raw:?}");
            let said = format!("{got:?} {:?}", got.note("origin"));
            assert!(!said.contains("SEC"), "{raw:?}: {said}");
        }
        assert_eq!(sanitise(b"https://h/\xff"), Origin::LeftOut(UNCLEAR));
    }

    proptest! {
        #[test]
        fn a_token_before_a_host_never_survives(
            scheme in "(https|http|HTTPS|ftp|git|s3|hg::https)",
            slashes in "/{1,4}",
            before in "[a-z@:%?#;.\\[\\]\\\\-]{0,8}",
            after in "[a-z@:%;.-]{0,8}",
        ) {
            let raw = format!("{scheme}:{slashes}{before}SECRET{after}@host.example/o/r.git");
            let got = sanitise(raw.as_bytes());
            // Git would take what follows a `/`, `?` or `#` for a path, so nothing is kept there either.
            prop_assert!(!got.url().is_some_and(|url| url.contains("SECRET")), "{raw} became {got:?}");
        }
    }
}
