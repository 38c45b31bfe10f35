//! Updates that were decided and not finished, and what is in their way.

use std::fs;
use std::os::unix::fs::symlink;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::wire::guest::TreeFailure;
use crate::wire::survey::{EntryKind, Token};

/// What git calls `one\n`.
const ONE: &str = "5626abf0f72e58d7a153368ba57db4c673c0e171";

/// A home with a tree, and an update of it that is decided.
struct Home(tempfile::TempDir);

impl Home {
    /// The tree has these files, with `one\n` in each.
    fn with(files: &[&str]) -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(home.path("repo/.git")).expect("made");
        files.iter().for_each(|file| home.write(&format!("repo/{file}"), "one\n"));
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// Decides an update that takes some files out, and puts others in with `two\n` in each.
    fn decide(&self, removed: &[&str], replaced: &[&str], put_in: &[&str]) {
        let records = |paths: &[&str]| {
            let mut records = Vec::new();
            for path in paths {
                let (token, kind) = (Token::unknown(), EntryKind::File);
                let (object, path) = (ONE.to_owned(), path.as_bytes().to_vec());
                Known { token, kind, object, went_in: true, path }.write(&mut records);
            }
            String::from_utf8(records).expect("UTF-8")
        };
        self.write(".cove-update/place", "repo");
        self.write(".cove-update/removed", &records(removed));
        self.write(".cove-update/replaced", &records(replaced));
        fs::create_dir_all(self.path(".cove-update/tree")).expect("made");
        put_in.iter().for_each(|path| self.write(&format!(".cove-update/tree/{path}"), "two\n"));
    }

    fn finish(&self) -> Result<(), String> {
        let home = Beneath::open(self.0.path()).expect("opened");
        finish(&home).map_err(|failure| failure.message())
    }

    /// Asserts that it is refused because of this path, and still to be done.
    fn refuses(&self, path: &str) {
        let error = self.finish().expect_err("refused");
        assert!(error.contains(&format!("`{path}`")), "{error}");
        assert!(self.path(".cove-update/place").exists(), "it waits");
    }
}

/// Which files are in the tree, with their contents.
fn tree(home: &Home) -> Vec<(String, String)> {
    let root = home.path("repo");
    let opened = rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let listing = Listing::of(&opened.expect("opened")).expect("listed");
    let files = listing.files.into_iter().map(|file| {
        let file = String::from_utf8(file).expect("UTF-8");
        let text = fs::read_to_string(root.join(&file)).expect("read");
        (file, text)
    });
    files.collect()
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn what_was_cut_off_is_finished_wherever_that_was() {
    let expected = files(&[("a", "two\n"), ("b/c", "two\n"), ("d", "two\n"), ("own", "mine\n")]);
    let (removed, replaced, put_in) = (["gone/x", "b", "d/y"], ["a"], ["a", "b/c", "d"]);
    // What had been done before the cut, one deed more each time.
    for done in 0..=6 {
        let home = Home::with(&["a", "gone/x", "b", "d/y"]);
        home.write("repo/own", "mine\n");
        home.decide(&removed, &replaced, &put_in);
        let remove = |path: &str| fs::remove_file(home.path(path)).expect("removed");
        let place = |path: &str| {
            let to = home.path(&format!("repo/{path}"));
            fs::create_dir_all(to.parent().expect("a parent")).expect("made");
            fs::rename(home.path(&format!(".cove-update/tree/{path}")), to).expect("renamed");
        };
        let deeds: [&dyn Fn(); 6] = [
            &|| remove("repo/gone/x"),
            &|| remove("repo/b"),
            &|| {
                remove("repo/d/y");
                fs::remove_dir(home.path("repo/d")).expect("removed");
            },
            &|| place("a"),
            &|| place("b/c"),
            &|| place("d"),
        ];
        deeds[..done].iter().for_each(|deed| deed());
        finish_at_boot(home.0.path());
        assert_eq!(tree(&home), expected, "after {done} deeds");
        assert!(!home.path(UPDATE).exists() && !home.path("repo/gone").exists());
        assert_eq!(home.finish(), Ok(()), "there is nothing more to do");
    }
}

#[test]
fn what_is_somebodys_stays_and_refuses_the_update() {
    let home = Home::with(&["a"]);
    home.decide(&[], &["a"], &["a", "new"]);
    home.write("repo/a", "changed meanwhile\n");
    home.refuses("a");
    home.write("repo/a", "one\n");
    home.write("repo/new", "ignored by git\n");
    home.refuses("new");
    assert_eq!(tree(&home), files(&[("a", "one\n"), ("new", "ignored by git\n")]));
    fs::rename(home.path("repo/new"), home.path("elsewhere")).expect("moved away");
    assert_eq!(home.finish(), Ok(()));
    assert_eq!(tree(&home), files(&[("a", "two\n"), ("new", "two\n")]));
}

#[test]
fn a_submodules_link_is_replaced_where_the_host_knows_it() {
    let home = Home::with(&["lib/.git"]);
    home.decide(&[], &[], &["lib/.git"]);
    home.refuses("lib/.git");
    home.decide(&[], &["lib/.git"], &["lib/.git"]);
    assert_eq!(home.finish(), Ok(()));
    assert_eq!(tree(&home), files(&[("lib/.git", "two\n")]));
}

#[test]
fn a_submodule_forgets_that_commits_have_no_parents_whose_parents_come() {
    let home = Home::with(&[]);
    for tree in ["repo", "coming"] {
        home.write(&format!("{tree}/.git/modules/lib/HEAD"), "");
        home.write(&format!("{tree}/.git/modules/lib/objects/pack/one.pack"), "");
    }
    home.write("repo/.git/modules/lib/shallow", "deeper\nown\n");
    home.write("coming/.git/modules/lib/shallow", "last\n");
    home.write("coming/.git/modules/lib/deepened", "deeper\n");
    let open = |tree: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        rustix::fs::open(home.path(tree), flags, Mode::empty()).expect("opened")
    };
    modules::keep_what_is_theirs(&open("repo"), &open("coming")).expect("kept");
    let shallow = home.read("coming/.git/modules/lib/shallow");
    assert_eq!(shallow.as_deref(), Some("last\nown\n"));
    assert!(!home.path("coming/.git/modules/lib/deepened").exists(), "it goes no further");
}

#[test]
fn a_folder_with_somebodys_file_is_not_replaced_nor_a_file_by_a_folder() {
    let home = Home::with(&["d/known", "d/deep/own"]);
    home.decide(&["d/known"], &[], &["d"]);
    home.refuses("d/deep/own");
    assert_eq!(home.read("repo/d/known").as_deref(), Some("one\n"), "nothing was begun");
    fs::remove_file(home.path("repo/d/deep/own")).expect("removed");
    assert_eq!(home.finish(), Ok(()), "folders without files are in nobody's way");
    assert_eq!(tree(&home), files(&[("d", "two\n")]));

    let home = Home::with(&["d"]);
    home.decide(&[], &[], &["d/file"]);
    home.refuses("d");
}

#[test]
fn nothing_goes_through_a_link_nor_out_of_the_tree() {
    let home = Home::with(&[]);
    fs::create_dir(home.path("outside")).expect("made");
    home.write("outside/file", "one\n");
    symlink("../outside", home.path("repo/way")).expect("linked");
    home.decide(&[], &[], &["way/new"]);
    home.refuses("way");
    fs::remove_dir_all(home.path(UPDATE)).expect("removed");
    home.decide(&["way/file", "../outside/file"], &[], &[]);
    home.finish().expect_err("no path of a tree");
    assert_eq!(home.read("outside/file").as_deref(), Some("one\n"));
    assert!(!home.path("outside/new").exists());
    for place in ["../repo", "/repo", ""] {
        home.write(".cove-update/place", place);
        home.finish().expect_err("no tree below the home");
    }
    fs::remove_dir_all(home.path(UPDATE)).expect("removed");
    symlink("/", home.path(UPDATE)).expect("linked");
    home.finish().expect_err("nothing of it can be read");
}

/// The stream of an update that puts in these files, with `two\n` in each.
fn stream(put_in: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let lists = [UPDATE_REPLACED, UPDATE_REMOVED, UPDATE_DEEPENED];
    let lists = lists.into_iter().map(|list| (list.to_owned(), ""));
    let files = put_in.iter().map(|path| (format!("{UPDATE_TREE}/{path}"), "two\n"));
    for (path, text) in lists.chain(files) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, path, text.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("written")
}

/// A stream that is cut off.
struct CutOff;

impl Read for CutOff {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Receives an update of the tree `repo`.
fn receive_all(home: &Home, stream: impl Read) -> Result<(), NotTaken> {
    receive(home.0.path(), "repo", stream)
}

#[test]
fn an_update_that_is_refused_says_that_nothing_of_it_comes() {
    let whole = |put_in: &[&str]| io::Cursor::new(stream(put_in));
    let untouched = |home: &Home, stream: &mut dyn Read| {
        let before = tree(home);
        let refused = receive_all(home, stream).expect_err("refused");
        assert_eq!(refused.reason, TreeFailure::Untouched);
        assert_eq!(tree(home), before);
        refused.failure
    };
    let home = Home::with(&["a"]);
    untouched(&home, &mut whole(&["new"]).chain(CutOff));
    let theirs = untouched(&home, &mut whole(&["a"])).message();
    assert!(theirs.contains("`a`"), "{theirs}");
    // An earlier one that waits is not this one.
    home.decide(&[], &[], &["a"]);
    let waits = untouched(&home, &mut whole(&["new"]));
    assert_eq!(waits.step, unfinished());
    fs::remove_dir_all(home.path(UPDATE)).expect("removed");
    receive_all(&home, whole(&["new"])).expect("taken");
    assert_eq!(tree(&home), files(&[("a", "one\n"), ("new", "two\n")]));
    fs::remove_dir_all(home.path("repo")).expect("removed");
    let gone = receive_all(&home, whole(&["new"])).expect_err("there is none");
    assert_eq!(gone.reason, TreeFailure::Untouched);
}

#[test]
fn what_fails_behind_the_decision_says_nothing() {
    let failure = Failure::new(unfinished(), "no room");
    assert_eq!(NotTaken::from(failure).reason, TreeFailure::Unknown);
}
