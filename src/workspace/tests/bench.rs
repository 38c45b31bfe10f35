//! A large repository: that it works, and, with `--nocapture`, how long each step takes.

use std::time::Instant;

use super::fixture::{Fixture, git, write};
use crate::workspace::Untracked;

const FILES: usize = 20_000;

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a measurement is for reading")]
async fn twenty_thousand_files() {
    let fixture = Fixture::new();
    let root = fixture.repository().await;
    for number in 0..FILES {
        let name = format!("src/{:03}/{}/file-{number}.txt", number / 100, number % 7);
        write(&root, &name, &format!("{number}\n").repeat(100));
    }
    git(&root, &["add", "-A"]).await;
    git(&root, &["commit", "-q", "-m", "Many"]).await;
    git(&root, &["repack", "-q", "-a", "-d"]).await;
    let begin = Instant::now();
    let inspection = fixture.service.inspect(&root, Untracked::Leave).await.expect("inspects");
    let inspected = begin.elapsed();
    let package = fixture.service.pack(&inspection).await.expect("packs");
    let packed = begin.elapsed();
    let summary = package.write_tar(std::io::sink()).expect("writes");
    let written = begin.elapsed();
    assert_eq!(summary.files as usize, FILES + 5);
    assert_eq!(summary.bytes, inspection.bytes());
    eprintln!(
        "{FILES} files, {} bytes: inspect {inspected:?}, pack {:?}, write {:?}",
        summary.bytes,
        packed - inspected,
        written - packed
    );
}
