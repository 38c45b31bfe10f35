//! Installing: signatures that are too large, too many plugins, and one that does not come to its start.

use std::fs;
use std::path::PathBuf;

use crate::corpus::{self, Hostile, assembled};
use crate::world::{World, target};

/// A folder of a plugin that somebody installs, under an id.
fn package(world: &World, hostile: &Hostile, id: &str) -> PathBuf {
    let folder = world.home().join("packages").join(id);
    fs::create_dir_all(&folder).expect("made");
    let manifest = hostile.manifest().replace("id = \"hostile\"", &format!("id = \"{id}\""));
    fs::write(folder.join("plugin.toml"), manifest).expect("written");
    fs::write(folder.join("plugin.wasm"), hostile.bytes(&target())).expect("written");
    folder
}

#[tokio::test]
async fn a_signature_that_is_too_large_is_not_read() {
    let world = World::new().await;
    let folder = package(&world, &corpus::honest(), "signed");
    fs::write(folder.join("plugin.wasm.minisig"), "x".repeat((4 << 10) + 1)).expect("written");
    let text = world.install(&folder).await.expect_err("too large").to_string();
    assert!(text.contains("plugin.wasm.minisig` is larger than 4096 bytes"), "{text}");
}

#[tokio::test]
async fn no_more_plugins_are_installed_than_there_may_be() {
    let world = World::new().await;
    for number in 0..64 {
        let folder = package(&world, &corpus::honest(), &format!("p{number}"));
        world.install(&folder).await.expect("there is room");
    }
    let text = world.install(&package(&world, &corpus::honest(), "more")).await.expect_err("full");
    assert!(text.to_string().contains("64"), "{text}");
    let again = package(&world, &corpus::honest(), "p0");
    world.install(&again).await.expect("it is one of them");
}

/// It sleeps for an hour before anything of it is called. That takes no processor time.
#[tokio::test]
async fn a_plugin_that_does_not_come_to_its_start_is_not_installed() {
    let sleep = "
      (import \"wasi:io/poll@0.2.0\" (instance $wasi-poll
        (export \"pollable\" (type $p (sub resource)))
        (export \"[method]pollable.block\" (func (param \"self\" (borrow $p))))))
      (alias export $wasi-poll \"pollable\" (type $pollable))
      (import \"wasi:clocks/monotonic-clock@0.2.0\" (instance $wasi-clock
        (export \"pollable\" (type $p (eq $pollable)))
        (export \"subscribe-duration\" (func (param \"when\" u64) (result (own $p))))))
      (core func $subscribe (canon lower (func $wasi-clock \"subscribe-duration\")))
      (core func $block (canon lower (func $wasi-poll \"[method]pollable.block\")))
      (core module $sleeps
        (import \"\" \"subscribe\" (func $subscribe (param i64) (result i32)))
        (import \"\" \"block\" (func $block (param i32)))
        (func $hour (call $block (call $subscribe (i64.const 3600000000000))))
        (start $hour))
      (core instance (instantiate $sleeps (with \"\" (instance
        (export \"subscribe\" (func $subscribe)) (export \"block\" (func $block))))))";
    let hostile = corpus::harmless("sleeps", assembled::plugin(&[("component", sleep)]));
    let world = World::new().await;
    let folder = package(&world, &hostile, "sleeps");
    let text = world.install(&folder).await.expect_err("it sleeps").to_string();
    assert!(text.contains("it took longer than 10000 ms"), "{text}");
}
