//! Other repositories inside the source, of which its git does not tell.

use super::applying::refused;
use super::*;
use crate::wire::rpc::ApplyHow;

#[tokio::test]
async fn nothing_is_written_into_a_repository_that_the_source_ignores() {
    let work = Work::begun().await;
    let source = work.source();
    write(&source.join(".gitignore"), b"*.ignored\nvendor/\n");
    commit(&source, "Ignore what others have made").await;
    git(&source, &["init", "-q", "vendor/lib"]).await;
    write(&source.join("vendor/lib/own.txt"), b"theirs\n");
    work.prepare().await;
    // The guest has no such repository, and makes files where it would be.
    let guest = work.checkout();
    write(&guest.join("vendor/lib/new.txt"), b"from the guest\n");
    git(&guest, &["add", "-f", "vendor/lib/new.txt"]).await;
    write(&guest.join("a.txt"), b"otherwise\n");
    for how in [ApplyHow::AsItWas, ApplyHow::ThreeWay] {
        refused(&work, how, &["vendor/lib/new.txt"]).await;
    }
}
