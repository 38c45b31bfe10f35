//! Components that are harmless to run and costly to compile, a compiler that hangs, and code that somebody
//! else has compiled.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use cove::hooks::HookError;
use cove::process::Tool;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::corpus::{self, Hostile, assembled};
use crate::world::World;

/// A component with one core module that is never instantiated.
fn compiled_only(fields: &str) -> Hostile {
    let text = format!("(core module {fields})");
    corpus::harmless("bomb", assembled::plugin(&[("component", &text)]))
}

/// One function of 2.7 MB: a nest of loops, over which all locals are carried.
fn slow() -> Hostile {
    const LOOPS: usize = 250_000;
    const LOCALS: usize = 60;
    let mut text = format!("(func (param i32) (local {})", "i32 ".repeat(LOCALS));
    for number in 0..LOOPS {
        let (from, to) = (number % LOCALS, (number + 7) % LOCALS);
        write!(text, "loop local.get {from} local.set {to} ").expect("a String");
    }
    text.push_str(&"local.get 0 br_if 0 end ".repeat(LOOPS));
    compiled_only(&format!("{text})"))
}

/// One function of 1.5 MB: branches to one place, each with values for two thousand locals.
fn large() -> Hostile {
    const LOCALS: usize = 2000;
    let mut text = format!("(func (param i32) (local {}) block ", "i32 ".repeat(LOCALS));
    for number in 0..170_000 {
        let local = number % LOCALS + 1;
        write!(text, "local.get 0 local.set {local} local.get 0 br_if 0 ").expect("a String");
    }
    text.push_str("end ");
    for local in 0..LOCALS {
        write!(text, "local.get {local} drop ").expect("a String");
    }
    compiled_only(&format!("{text})"))
}

/// A quarter of a million functions of nothing: each compiles to far more than it is.
fn growing() -> Hostile {
    compiled_only(&"(func)".repeat(250_000))
}

async fn assert_bomb(bomb: Hostile, expected: &str) {
    let mut world = World::new().await;
    // With a cache of its own: none of this may have been compiled before.
    world.reopen_with_compiler(env!("CARGO_BIN_EXE_coved").into()).await;
    world.put(&bomb);
    let error = world.run().await.expect_err("it cannot be compiled");
    let text = error.to_string();
    assert!(matches!(error, HookError::Broken { .. }), "{text}");
    assert!(text.contains("cannot be compiled") && text.contains(expected), "{text}");
    world.put(&corpus::honest());
    world.run().await.expect("the host goes on");
}

#[tokio::test]
async fn a_bomb_of_time_ends_with_its_compilers_processor_time() {
    assert_bomb(slow(), "compiling it takes more than 30 s of processor time").await;
}

#[tokio::test]
async fn a_bomb_of_memory_ends_with_its_compilers_memory() {
    assert_bomb(large(), "compiling it takes more than 2048 MiB of memory").await;
}

#[tokio::test]
async fn a_bomb_of_code_ends_with_what_may_be_kept_of_it() {
    assert_bomb(growing(), "it compiles to more than 64 MiB").await;
}

#[tokio::test]
async fn a_component_that_is_too_large_is_not_even_compiled() {
    let mut world = World::new().await;
    for (limits, most) in [("", 8 << 20), ("class = 'large'", 48 << 20)] {
        let mut bytes = assembled::plugin(&[]);
        bytes.resize(most + 1, 0);
        world.put(&corpus::harmless("large", bytes).with(limits));
        let text = world.run().await.expect_err("too large").to_string();
        assert!(text.contains(&format!("plugin.wasm` is larger than {most} bytes")), "{text}");
    }
}

/// What the compiler is started with it does not have any more when it reads the first byte of a component.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the process is looked at while it runs")]
async fn the_compiler_closes_what_it_inherits_and_gets_no_environment() {
    let mut world = World::new().await;
    let inherited = fs::File::open("/dev/null").expect("there");
    fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).expect("inheritable");
    let mut compiler = Command::new(&world.settings.compiler)
        .arg(cove::hooks::compiler::ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // More than a pipe holds: this returns when it reads.
    let mut component = compiler.stdin.take().expect("it has one");
    component.write_all(&vec![0; 1 << 20]).expect("it reads");
    let folder = format!("/proc/{}/fd", compiler.id());
    let mut open: Vec<_> = fs::read_dir(folder)
        .expect("it runs")
        .map(|entry| entry.expect("read").file_name().into_string().expect("a number"))
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    drop(component);
    assert!(!compiler.wait_with_output().expect("it ends").status.success(), "no component");

    let (script, told) = (world.home().join("compiler"), world.home().join("environment"));
    let text = format!(
        "#!/bin/sh\ncat /proc/$$/environ > '{}'\nexec '{}' \"$@\"\n",
        told.display(),
        world.settings.compiler.display()
    );
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    world.reopen_with_compiler(script).await;
    world.put(&corpus::honest());
    world.run().await.expect("it is compiled");
    assert_eq!(fs::read_to_string(told).expect("told"), "");
}

/// Time stands still until everybody waits, and then goes on to the next deadline.
#[tokio::test(start_paused = true)]
async fn a_compiler_that_hangs_is_ended() {
    let mut world = World::new().await;
    let compiler = world.home().join("hangs");
    fs::write(&compiler, "#!/bin/sh\nexec sleep 3600\n").expect("written");
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).expect("set");
    world.reopen_with_compiler(compiler).await;
    world.put(&compiled_only("(func (param i64))"));
    let text = world.run().await.expect_err("it hangs").to_string();
    assert!(text.contains("compiling it took longer than 120 s"), "{text}");
}

#[tokio::test]
async fn compiled_code_from_outside_is_refused() {
    let mut world = World::new().await;
    let compile = Tool::new(&world.settings.compiler).args([cove::hooks::compiler::ARGUMENT]);
    let compile = compile.input(assembled::plugin(&[])).max_output(64 << 20);
    let code = compile.run().await.expect("it compiles");
    assert!(code.len() > 1000);
    world.put(&corpus::harmless("compiled", code));
    let text = world.run().await.expect_err("machine code").to_string();
    assert!(text.contains("is not a WebAssembly component: it is machine code"), "{text}");
    // Nor where the host keeps its own, under the name that it would look for.
    let loose = world.settings.standard_folder.join("plugin.cwasm");
    fs::write(&loose, "code").expect("written");
    world.put(&corpus::honest());
    let text = world.run().await.expect_err("it lies loose").to_string();
    assert!(text.contains("plugin.cwasm` lies loose in the folder of plugins"), "{text}");
}

#[tokio::test]
async fn manifests_and_folders_are_bounded() {
    let mut world = World::new().await;
    world.put(&corpus::honest());
    let folder = world.settings.standard_folder.clone();
    let manifest = folder.join("hostile/plugin.toml");
    let spaces = " ".repeat(64 << 10);
    fs::write(&manifest, corpus::honest().manifest() + &spaces).expect("written");
    let text = world.run().await.expect_err("too large").to_string();
    assert!(text.contains("plugin.toml` is larger than 65536 bytes"), "{text}");

    world.put(&corpus::honest());
    for number in 1..=64 {
        fs::create_dir(folder.join(format!("p{number}"))).expect("made");
    }
    let error = world.run().await.expect_err("too many");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("there are too many plugins in it"));
}

#[tokio::test]
async fn a_plugin_for_a_newer_contract_says_so_in_its_manifest() {
    let mut world = World::new().await;
    world.put(&corpus::honest());
    let manifest = world.settings.standard_folder.join("hostile/plugin.toml");
    let newer = corpus::honest().manifest().replace("cove:hooks@0.2", "cove:hooks@0.9");
    fs::write(manifest, newer).expect("written");
    let text = world.run().await.expect_err("too new").to_string();
    assert!(text.starts_with("plugin `hostile` cannot be used"), "{text}");
    assert!(text.contains("made for `cove:hooks@0.9`, and this cove has 0.2.0"), "{text}");
}
