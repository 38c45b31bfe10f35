//! Random histories: whatever was done in a guest, its patch makes the same tree elsewhere, and so does applying it.

use super::*;
use crate::wire::rpc::ApplyHow;

/// Histories that are tried.
const HISTORIES: u64 = 12;
/// What is done in each.
const DEEDS: usize = 25;

/// Numbers that look random and are the same in every run (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn content(&mut self) -> Vec<u8> {
        let length = [0, 1, 40, 3000, 90_000][self.throw(5)];
        match self.throw(3) {
            // With zeros in it, without an end of line, and lines.
            0 => (0..length).map(|_| self.throw(256) as u8).collect(),
            1 => vec![b'x'; length],
            _ => (0..length / 8 + 1)
                .flat_map(|_| format!("l {}\n", self.throw(9)).into_bytes())
                .collect(),
        }
    }

    fn name(&mut self) -> String {
        let names = [
            "a.txt",
            "dir/b.txt",
            "dir/c d.txt",
            "dir",
            "e/f/g",
            "e",
            "ü\n'\"\\.txt",
            "link",
            "run.sh",
            "x.ignored",
            "-n",
            "e/f/.gitignore",
            "🦀",
        ];
        names[self.throw(names.len())].to_owned()
    }
}

/// Takes away whatever is in the way of a file.
fn clear(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    let mut above = root.to_owned();
    for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
        above.push(part);
        if fs::symlink_metadata(&above).is_ok_and(|found| !found.is_dir()) {
            fs::remove_file(&above).expect("removed");
        }
    }
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&path).expect("removed"),
        Ok(_) => fs::remove_file(&path).expect("removed"),
        Err(_) => {}
    }
    path
}

async fn do_something(root: &Path, dice: &mut Dice) {
    let name = dice.name();
    match dice.throw(12) {
        0..4 => write_something(root, &name, dice),
        4 => drop(clear(root, &name)),
        5 => {
            let target = ["a.txt", "/etc/passwd", "../up", "no//where"][dice.throw(4)];
            symlink(target, clear(root, &name)).expect("linked");
        }
        6 => {
            let path = root.join(&name);
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
                let mode = [0o644, 0o755, 0o600, 0o700][dice.throw(4)];
                fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
            }
        }
        7 => {
            let (from, to) = (root.join(&name), dice.name());
            if fs::symlink_metadata(&from).is_ok_and(|found| !found.is_dir()) {
                let held = root.join(".git/held");
                fs::rename(&from, &held).expect("renamed");
                fs::rename(&held, clear(root, &to)).expect("renamed");
            }
        }
        8 | 9 => commit(root, "A commit").await,
        10 => {
            commit(root, "Before a branch").await;
            git(root, &["checkout", "-q", "-B", "side"]).await;
            write_something(root, "side", dice);
            commit(root, "Aside").await;
            git(root, &["checkout", "-q", "main"]).await;
            git(root, &["commit", "-q", "--allow-empty", "-m", "Main"]).await;
            git(root, &["merge", "-q", "--no-edit", "side"]).await;
        }
        _ => drop(git(root, &["add", "-A"]).await),
    }
}

fn write_something(root: &Path, name: &str, dice: &mut Dice) {
    let content = dice.content();
    // Rules of what is ignored are words, not any bytes.
    let rules = name.ends_with(".gitignore");
    let content = if rules { b"g\n*.tmp\n".to_vec() } else { content };
    fs::write(clear(root, name), content).expect("written");
}

async fn history(number: u64) {
    let mut dice = Dice(number * 0x9e37_79b9 + 1);
    let work = Work::begun().await;
    for _ in 0..dice.throw(6) {
        let name = dice.name().replace("ignored", "txt");
        write_something(&work.source(), &name, &mut dice);
    }
    let source = picture(&work.source());
    work.prepare().await;
    let guest = work.checkout();
    let went_in: Vec<_> = picture(&guest).into_keys().collect();
    let (before, applied) = (work.folder.path().join("before"), work.folder.path().join("applied"));
    for copy in [&before, &applied] {
        let copy = Tool::new("cp").arg("-a").arg(&guest).arg(copy);
        copy.run().await.expect("copied");
    }
    for _ in 0..DEEDS {
        do_something(&guest, &mut dice).await;
        if dice.throw(8) == 0 {
            work.look().await.expect("seen on the way");
        }
    }
    let mut expected = kept_by_git(&guest).await;
    // What went in is looked for even where the guest's git has come to ignore it.
    let now = picture(&guest);
    expected.extend(went_in.iter().filter_map(|path| Some((path.clone(), now.get(path)?.clone()))));
    let patch = work.patch(Against::Base).await;
    apply(&before, &patch).await;
    assert_eq!(picture(&before), expected, "history {number}: as it was, and the patch");
    work.apply_to(&applied, ApplyHow::AsItWas).await.expect("applied");
    assert_eq!(picture(&applied), expected, "history {number}: as it was, and applied");
    let clone = work.folder.path().join("clone");
    let (from, to) = (work.source(), clone.to_str().expect("UTF-8").to_owned());
    git(&from, &["clone", "-q", "--no-local", ".", &to]).await;
    let against = Against::Commit { source: &from, commit: "HEAD" };
    let patch = work.patch(against).await;
    apply(&clone, &patch).await;
    assert_eq!(picture(&clone), expected, "history {number}: a fresh clone, and the patch");
    assert_eq!(picture(&from), source, "history {number}: the source is as it was");
}

async fn apply(root: &Path, patch: &Path) {
    if fs::metadata(patch).expect("there").len() > 0 {
        let patch = patch.to_str().expect("UTF-8");
        git(root, &["apply", "--whitespace=nowarn", patch]).await;
    }
}

#[tokio::test]
async fn a_patch_makes_the_same_tree() {
    for number in 0..HISTORIES {
        history(number).await;
    }
}
