//! Who may connect to the socket, and what becomes of its file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Served;
use crate::report::{Explain as _, Kind};
use crate::rpc::server::Socket;
use crate::wire::rpc;

#[tokio::test]
async fn http_and_websocket_share_one_private_socket() {
    let served = Served::new();
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&served.socket), 0o600);
    assert_eq!(mode(served.socket.parent().expect("a folder")), 0o700);
    let pong = served.call("daemon.ping", json!({})).await;
    assert_eq!(pong["result"]["version"], env!("CARGO_PKG_VERSION"));
    let pong = served.client().await.call::<rpc::DaemonPing>(rpc::Nothing {}).await;
    assert_eq!(pong.expect("answers").version, env!("CARGO_PKG_VERSION"));
    assert_eq!(served.tasks.drain(Duration::from_secs(10)).await, 0, "it ends when told to");
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("coved.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists(), "nobody removed it");
    let live = Socket::listen(&path).expect("replaced");
    let taken = Socket::listen(&path).expect_err("taken");
    assert_eq!(taken.kind(), Kind::Conflict);
    assert!(path.exists(), "the loser leaves it alone");
    drop(live);
    assert!(!path.exists());
}

#[tokio::test]
async fn another_user_is_refused_even_when_the_modes_let_him() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let served = Served::new();
    let run = served.socket.parent().expect("a folder");
    for (path, mode) in [(served.folder.path(), 0o755), (run, 0o755), (&served.socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }
    let Some(own) = ping_as(0, &served.socket).await else {
        return skipped("`setpriv` or `curl` is not installed");
    };
    assert!(own.contains("version"), "the control: {own}");
    let other = ping_as(65534, &served.socket).await.expect("the programs are there");
    assert_eq!(other, "", "nothing is answered");
}

#[expect(clippy::print_stderr, reason = "tests report to people")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// What a user's ping gets. None when the programs for it are not there.
async fn ping_as(user: u32, socket: &Path) -> Option<String> {
    let user = user.to_string();
    let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "daemon.ping"}"#;
    #[expect(clippy::disallowed_methods, reason = "a test's own program")]
    let output = tokio::process::Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "curl", "--silent"])
        .args(["--max-time", "20", "--header", "Content-Type: application/json"])
        .args(["--data", ping, "http://localhost/", "--unix-socket"])
        .arg(socket)
        .output()
        .await
        .ok()?;
    (output.status.code() != Some(127))
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
