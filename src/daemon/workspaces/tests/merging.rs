//! Work that is merged with what was done in the source meanwhile.

use super::*;
use crate::wire::rpc::ApplyHow;

/// Lines, with some in another way.
fn lines(changed: &[(usize, &str)]) -> Vec<u8> {
    let mut lines: Vec<_> = (0..20).map(|number| format!("line {number}")).collect();
    changed.iter().for_each(|(number, line)| lines[*number] = (*line).to_owned());
    (lines.join("\n") + "\n").into_bytes()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

#[tokio::test]
async fn what_fits_together_is_merged() {
    let work = Work::begun().await;
    let (source, guest) = (work.source(), work.checkout());
    write(&source.join("both.txt"), &lines(&[]));
    write(&source.join("theirs.txt"), &lines(&[]));
    // A merge driver that the source has is not asked.
    write(&source.join(".gitattributes"), b"both.txt merge=evil\n");
    commit(&source, "More").await;
    git(&source, &["config", "merge.evil.driver", "false"]).await;
    write(&source.join("both.txt"), &lines(&[(10, "edited, not committed")]));
    work.prepare().await;
    write(&guest.join("both.txt"), &lines(&[(0, "guest"), (10, "edited, not committed")]));
    write(&guest.join("theirs.txt"), &lines(&[(0, "guest")]));
    write(&guest.join("new.txt"), b"guest\n");
    write(&source.join("both.txt"), &lines(&[(10, "edited, not committed"), (19, "source")]));
    write(&source.join("mine.txt"), b"source\n");
    let repository = applying::fingerprint(&source.join(".git"));
    let applied = work.apply(ApplyHow::ThreeWay).await.expect("merged");
    assert_eq!((applied.files, applied.conflicts_total, applied.exported), (3, 0, true));
    let merged = lines(&[(0, "guest"), (10, "edited, not committed"), (19, "source")]);
    assert_eq!(fs::read(source.join("both.txt")).expect("read"), merged);
    assert_eq!(fs::read(source.join("theirs.txt")).expect("read"), lines(&[(0, "guest")]));
    assert_eq!(
        (read(&source.join("new.txt")), read(&source.join("mine.txt"))),
        ("guest\n".into(), "source\n".into())
    );
    assert_eq!(applying::fingerprint(&source.join(".git")), repository);
    // Work after that is merged with the same, which is in both by now.
    write(
        &guest.join("both.txt"),
        &lines(&[(0, "guest"), (5, "more"), (10, "edited, not committed")]),
    );
    assert_eq!(
        work.apply(ApplyHow::AsItWas).await.expect_err("merged before").kind,
        Kind::Conflict
    );
    assert!(work.apply(ApplyHow::ThreeWay).await.expect("merged").exported);
    let merged = lines(&[(0, "guest"), (5, "more"), (10, "edited, not committed"), (19, "source")]);
    assert_eq!(fs::read(source.join("both.txt")).expect("read"), merged);
}

#[tokio::test]
async fn what_does_not_fit_together_is_marked_and_counts_as_unexported() {
    let work = Work::begun().await;
    let (source, guest) = (work.source(), work.checkout());
    write(&source.join("text.txt"), &lines(&[]));
    write(&source.join("binary"), &[0; 100]);
    write(&source.join("deleted.txt"), &lines(&[]));
    commit(&source, "More").await;
    work.prepare().await;
    write(&guest.join("text.txt"), &lines(&[(3, "guest")]));
    write(&guest.join("binary"), &[1; 100]);
    fs::remove_file(guest.join("deleted.txt")).expect("removed");
    write(&guest.join("fine.txt"), b"guest\n");
    write(&source.join("text.txt"), &lines(&[(3, "source")]));
    write(&source.join("binary"), &[2; 100]);
    write(&source.join("deleted.txt"), &lines(&[(0, "source")]));
    let planned = work.plan(ApplyHow::ThreeWay).await.expect("planned");
    let named = ["binary", "deleted.txt", "text.txt"];
    assert_eq!(
        (&planned.conflicts[..], planned.conflicts_total),
        (&named.map(str::to_owned)[..], 3)
    );
    let applied = work.apply(ApplyHow::ThreeWay).await.expect("applied");
    assert_eq!((applied.files, applied.applied, applied.exported), (2, true, false));
    let text = read(&source.join("text.txt"));
    assert!(
        text.contains("line 2\n<<<<<<< source\nsource\n=======\nguest\n>>>>>>> guest\nline 4\n"),
        "{text}"
    );
    assert_eq!(fs::read(source.join("binary")).expect("read"), [2; 100]);
    assert_eq!(fs::read(source.join("deleted.txt")).expect("read"), lines(&[(0, "source")]));
    assert_eq!(read(&source.join("fine.txt")), "guest\n");
    assert!(!work.is_exported().await);
}

#[tokio::test]
async fn a_file_here_and_a_folder_there_are_no_merge() {
    let work = Work::begun().await;
    work.prepare().await;
    let (source, guest) = (work.source(), work.checkout());
    fs::remove_dir_all(guest.join("dir")).expect("removed");
    write(&guest.join("dir"), b"a file by now\n");
    write(&source.join("dir/b.txt"), b"source\n");
    let before = picture(&source);
    let error = work.apply(ApplyHow::ThreeWay).await.expect_err("refused");
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    assert!(error.message.contains("`dir"), "{error:?}");
    assert_eq!(picture(&source), before);
}
