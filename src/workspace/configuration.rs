//! What the guest's checkout takes over from the source's configuration, key by key. Everything else,
//! credentials and extra headers among it, stays on the host because nobody copies it.

use super::WorkspaceError;
use super::git::{self, Size, in_source};
use super::origin::{Origin, sanitise};
use super::repository::{Head, Repository};

/// Keys that decide how git sees the files that go in. Without them a clean tree would look changed in
/// the guest, or a changed one clean:
///
/// - `core.fileMode`, `core.symlinks`: false where the source lies on a file system without them, so that
///   modes and links in the tree say nothing;
/// - `core.autocrlf`, `core.eol`, `core.safecrlf`: how line ends in the tree relate to the ones in blobs;
/// - `core.sparseCheckout`, `core.sparseCheckoutCone`: which tracked files are not there on purpose.
///
/// `core.ignoreCase` is not among them: the guest's file system knows case, whatever the source's does.
const CARRIED: &[&str] = &[
    "core.filemode",
    "core.symlinks",
    "core.autocrlf",
    "core.eol",
    "core.safecrlf",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
];

/// The configuration of a source repository as far as it matters here.
#[derive(Debug)]
pub(super) struct Configuration {
    /// The origin after its secrets were taken out.
    pub(super) origin: Origin,
    /// Keys and values for the checkout: identity and [`CARRIED`].
    pub(super) carried: Vec<(String, Vec<u8>)>,
    /// The branch of origin that the current one follows, as a full ref name there.
    pub(super) upstream: Option<String>,
    /// Whether objects may be missing.
    pub(super) is_partial_clone: bool,
    /// Whether some filter (git-lfs and the like) is configured.
    pub(super) has_filters: bool,
}

/// Reads it: system, user, repository and worktree together, as git itself would use it.
pub(super) async fn read(
    repository: &Repository,
    head: &Head,
) -> Result<Configuration, WorkspaceError> {
    let tool = in_source(&repository.root, Size::Question).args(["config", "--null", "--list"]);
    let listing = git::run(tool, "read the repository's configuration").await?;
    Ok(parse(&listing, head.branch_name()))
}

fn parse(listing: &[u8], branch: Option<&[u8]>) -> Configuration {
    let entries: Vec<(&[u8], &[u8])> = listing
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| match entry.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&entry[..end], &entry[end + 1..]),
            None => (entry, &b"true"[..]), // a key without `=` is true
        })
        .collect();
    let last = |key: &[u8]| entries.iter().rev().find(|(name, _)| *name == key).map(|(_, v)| *v);
    // Git fetches from the first URL of a remote.
    let origin =
        entries.iter().find(|(name, value)| *name == b"remote.origin.url" && !value.is_empty());
    let carried = ["user.name", "user.email"].iter().chain(CARRIED);
    let carried = carried
        .filter_map(|key| Some(((*key).to_owned(), last(key.as_bytes())?.to_vec())))
        .collect();
    let of_branch = |what: &[u8]| last(&[b"branch.", branch?, what].concat());
    let upstream = of_branch(b".remote").filter(|remote| *remote == b"origin");
    let upstream = upstream.and_then(|_| String::from_utf8(of_branch(b".merge")?.to_vec()).ok());
    Configuration {
        origin: origin.map_or(Origin::Absent, |(_, url)| sanitise(url)),
        carried,
        upstream: upstream.filter(|merge| merge.starts_with("refs/heads/")),
        is_partial_clone: last(b"extensions.partialclone").is_some()
            || entries.iter().any(|(name, value)| {
                name.starts_with(b"remote.") && name.ends_with(b".promisor") && *value == b"true"
            }),
        has_filters: entries
            .iter()
            .any(|(name, _)| name.starts_with(b"filter.") && !name.ends_with(b".required")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_taken() {
        let listing =
            b"user.name\nOld\0user.name\nNew\nLine\0user.email\na@b\0core.filemode\nfalse\0\
            core.symlinks\0http.extraheader\nAuthorization: SECRET\0remote.origin.url\n\0\
            remote.origin.url\nhttps://u:SECRET@h/r\0remote.origin.url\nhttps://other/r\0\
            remote.origin.pushurl\nhttps://SECRET@h/push\0url.https://SECRET@h/.insteadof\nh:\0\
            branch.ma.in.remote\norigin\0branch.ma.in.merge\nrefs/heads/up\0";
        let read = parse(listing, Some(b"ma.in"));
        assert_eq!(read.origin, Origin::Stripped("https://h/r".to_owned()));
        assert_eq!(read.upstream.as_deref(), Some("refs/heads/up"));
        assert!(!read.is_partial_clone && !read.has_filters);
        let carried: Vec<_> =
            read.carried.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        let expected: [(&str, &[u8]); 4] = [
            ("user.name", b"New\nLine"),
            ("user.email", b"a@b"),
            ("core.filemode", b"false"),
            ("core.symlinks", b"true"),
        ];
        assert_eq!(carried, expected);
        assert!(!format!("{read:?}").contains("SECRET"));
    }

    #[test]
    fn partial_clones_and_filters_are_noticed() {
        assert!(parse(b"remote.up.promisor\ntrue\0", None).is_partial_clone);
        assert!(parse(b"extensions.partialclone\norigin\0", None).is_partial_clone);
        assert!(parse(b"filter.lfs.clean\ngit-lfs clean -- %f\0", None).has_filters);
        assert_eq!(parse(b"", Some(b"main")).upstream, None);
    }
}
