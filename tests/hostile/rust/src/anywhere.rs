//! What it does in any hook.

use std::hint::black_box;

use crate::cove::hooks::log::{Level, log};
use crate::cove::hooks::settings::Settings;
use crate::cove::hooks::state::State;
use crate::cove::hooks::types::Error;
use crate::{PIECE, own_error};

/// What needs a store, and everything else.
pub(crate) fn misbehave(what: &str, settings: &Settings, state: &State) -> Result<(), Error> {
    match what {
        "many-keys" => (0..1000).try_for_each(|number| state.set(&format!("{number}"), b"x")),
        "long-key" => state.set(&"k".repeat(129), b"x"),
        "large-value" => state.set("k", &vec![7; 64 << 10]),
        "remember" => state.set("k", b"remembered"),
        "remember-and-loop" => {
            state.set("k", b"remembered")?;
            endless()
        }
        "recall" => match state.get("k")? {
            Some(value) => Err(own_error("recalled", &String::from_utf8_lossy(&value))),
            None => Err(own_error("forgotten", "nothing is remembered")),
        },
        other => without_a_store(other, settings),
    }
}

/// What needs nothing but what every hook has.
pub(crate) fn without_a_store(what: &str, settings: &Settings) -> Result<(), Error> {
    match what {
        "loop" => endless(),
        "wasi-flood" => loop {
            black_box(std::time::SystemTime::now());
        },
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "recurse" => drop(recurse(black_box(1))),
        "allocate" => allocate(),
        "lines" => log(Level::Warning, "one\nhint: two\r\nerror: three"),
        "lines-of-an-error" => {
            log(Level::Info, "one\nhint: two");
            return Err(own_error("c\nhint: three", "m\nhint: four"));
        }
        "lines-of-a-panic" => panic!("one\nhint: two"),
        "panic" => panic!("the moon is full"),
        "exit" => std::process::exit(7),
        "error" => return Err(own_error("out-of-cheese", "redo from start")),
        "long-error" => return Err(own_error(&"c".repeat(9999), &"m".repeat(99_999))),
        "log-flood" => (0..90_000).for_each(|n| log(Level::Info, &format!("line {n}"))),
        "long-line" => log(Level::Info, &"x".repeat(PIECE)),
        "stderr-flood" => (0..1000).for_each(|n| eprintln!("noise {n} {}", "x".repeat(1000))),
        "log-escape" => log(Level::Warning, "\u{1b}[2Jgone"),
        "call-flood" => loop {
            black_box(settings.text("path")?);
        },
        "world" => return world(),
        other => panic!("no misbehaviour is called `{other}`"),
    }
    Ok(())
}

fn endless() -> ! {
    loop {
        black_box(());
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if frame[0] == 0 {
        return 0;
    }
    recurse(depth + 1) + frame[(depth % 64) as usize]
}

fn allocate() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; PIECE]));
    }
}

/// What an empty WASI context shows of the world, as an error, so that a test can look at it.
#[expect(clippy::disallowed_methods, reason = "it tries what a plugin must not be able to do")]
fn world() -> Result<(), Error> {
    let seed = std::collections::hash_map::RandomState::new();
    let hash = std::hash::BuildHasher::hash_one(&seed, 1);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let text = format!(
        "environment {} arguments {} passwd {} folder {} network {} time {:?} hash {hash}",
        std::env::vars().count(),
        std::env::args().count(),
        std::fs::read("/etc/passwd").is_ok(),
        std::fs::read_dir("/").is_ok(),
        std::net::TcpStream::connect("127.0.0.1:22").is_ok(),
        time.map(|time| time.as_secs()).unwrap_or(0),
    );
    Err(own_error("world", &text))
}
