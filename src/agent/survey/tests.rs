//! Looking at trees that change, and at what lies in their place.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(tree.0.path().join("dir")).expect("made");
        fs::write(tree.0.path().join("dir/file"), "one\n").expect("written");
        tree
    }

    fn look(&self, known: Vec<Known>, listed: &[&str]) -> (Survey, Vec<Seen>) {
        let paths = listed.iter().map(|path| path.as_bytes().to_vec()).collect();
        let listed = Listed { paths, ..Listed::default() };
        let survey = look(self.0.path(), known, listed).expect("looks");
        let seen = Seen::read_all(&survey.records).expect("reads");
        (survey, seen)
    }

    fn contents(&self, survey: Survey) -> Result<Vec<u8>, Failure> {
        let (pieces, mut received) = mpsc::channel(1000);
        survey.send(self.0.path(), &pieces)?;
        drop(pieces);
        let mut contents = Vec::new();
        while let Some(piece) = received.blocking_recv() {
            assert!(!piece.is_empty() && piece.len() <= MAX_PAYLOAD);
            contents.extend_from_slice(&piece);
        }
        Ok(contents)
    }
}

fn known(path: &str, object: &str) -> Known {
    let (token, kind) = (Token::unknown(), EntryKind::File);
    let (object, path) = (object.to_owned(), path.as_bytes().to_vec());
    Known { token, kind, object, went_in: true, path }
}

/// What git calls `one\n`, in both hashes.
const ONE: [&str; 2] = [
    "5626abf0f72e58d7a153368ba57db4c673c0e171",
    "a4ed1f355afb02d88cd291d0e4463910c5061ece48a49aa2b1539b9af973b286",
];

#[test]
fn a_file_is_known_again_by_its_content() {
    let tree = Tree::new();
    for object in ONE {
        let (_, seen) = tree.look(vec![known("dir/file", object)], &[]);
        assert!(matches!(&seen[..], [Seen::Same { path, .. }] if path == b"dir/file"), "{seen:?}");
    }
    fs::write(tree.0.path().join("dir/file"), "two\n").expect("written");
    let (survey, seen) = tree.look(vec![known("dir/file", ONE[0])], &[]);
    assert!(matches!(&seen[..], [Seen::Changed { size: 4, .. }]), "{seen:?}");
    assert_eq!(tree.contents(survey).expect("reads"), b"two\n");
}

#[test]
fn only_files_and_links_are_seen_and_through_no_link() {
    let tree = Tree::new();
    let root = tree.0.path();
    symlink("dir", root.join("way")).expect("linked");
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("made");
    let listed = ["dir", "dir/file", "gone", "pipe", "way", "way/file"];
    let (survey, seen) = tree.look(Vec::new(), &listed);
    let paths: Vec<_> = seen
        .iter()
        .map(|seen| match seen {
            Seen::Changed { path, kind, .. } => (String::from_utf8_lossy(path).into_owned(), *kind),
            Seen::Same { .. } | Seen::Absent { .. } | Seen::Unseen { .. } | Seen::Nested { .. } => {
                panic!("{seen:?}")
            }
        })
        .collect();
    let expected = [("dir/file".to_owned(), EntryKind::File), ("way".to_owned(), EntryKind::Link)];
    assert_eq!(paths, expected);
    assert_eq!(tree.contents(survey).expect("reads"), b"one\ndir");
    let listed = Listed { paths: vec![b"../x".to_vec()], ..Listed::default() };
    assert!(look(root, Vec::new(), listed).is_err(), "nothing outside is looked at");
}

#[test]
fn many_and_large_files_come_one_after_the_other() {
    let tree = Tree::new();
    let mut expected = Vec::new();
    let names: Vec<String> = (0..300).map(|number| format!("n{number:04}")).collect();
    for (number, name) in names.iter().enumerate() {
        let content = vec![number as u8; if number == 150 { 2 << 20 } else { number * 10 }];
        fs::write(tree.0.path().join(name), &content).expect("written");
        expected.extend(content);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (survey, seen) = tree.look(Vec::new(), &names);
    assert_eq!(seen.len(), 300);
    assert!(tree.contents(survey).expect("reads") == expected);
}

#[test]
fn a_file_that_shrinks_or_goes_meanwhile_fails_the_whole() {
    let tree = Tree::new();
    let file = tree.0.path().join("dir/file");
    for change in [|file: &Path| fs::write(file, "o"), |file: &Path| fs::remove_file(file)] {
        fs::write(&file, "one\n").expect("written");
        let (survey, _) = tree.look(Vec::new(), &["dir/file"]);
        change(&file).expect("changed");
        let failure = tree.contents(survey).expect_err("it is not as it was");
        assert_eq!(failure.to_string(), "read `dir/file`");
    }
}

#[test]
fn what_went_in_is_looked_for_and_what_git_ignores_is_not() {
    let tree = Tree::new();
    let ignored = Known { went_in: false, ..known("dir/file", ONE[0]) };
    let (_, seen) = tree.look(vec![ignored], &[]);
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a_token_is_given_once_a_change_would_show() {
    let tree = Tree::new();
    let file = tree.0.path().join("dir/file");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after it");
    let stat = rustix::fs::stat(&file).expect("there");
    assert!(!token(&stat, now).is_known(), "it was written just now");
    assert!(token(&stat, now + 2 * RACY).is_known());
    assert!(!token(&stat, now - 2 * RACY).is_known(), "by a clock that was set back");
}
