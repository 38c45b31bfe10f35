//! What it does in the hooks beside that of the work disk.

use crate::cove::hooks::git_config::GitConfig;
use crate::cove::hooks::guest::GuestSystem;
use crate::cove::hooks::host_files::HostFiles;
use crate::cove::hooks::machine::Machine;
use crate::cove::hooks::machine_request::MachineRequest;
use crate::cove::hooks::settings::Settings;
use crate::cove::hooks::state::State;
use crate::cove::hooks::types::Error;
use crate::exports::cove::hooks::{
    cleanup, configure_machine, doctor, post_start, pre_stop, preflight,
};
use crate::{PIECE, Plugin, anywhere, chosen};

impl preflight::Guest for Plugin {
    fn run(
        _: &Machine,
        _: &HostFiles,
        _: &GitConfig,
        settings: &Settings,
    ) -> Result<Vec<String>, Error> {
        match chosen(settings, "preflight")?.as_deref() {
            None => Ok(Vec::new()),
            Some("many-answers") => Ok(vec!["x".repeat(9999); 100]),
            Some("lines-of-an-answer") => Ok(vec!["one\nhint: two".to_owned()]),
            Some(other) => anywhere::without_a_store(other, settings).map(|()| Vec::new()),
        }
    }
}

impl configure_machine::Guest for Plugin {
    fn run(
        _: &Machine,
        request: &MachineRequest,
        _: &HostFiles,
        _: &GitConfig,
        settings: &Settings,
        state: &State,
    ) -> Result<(), Error> {
        let path = settings.text("path")?.unwrap_or_default();
        match chosen(settings, "configure-machine")?.as_deref() {
            None => Ok(()),
            Some("env") => request.set_env(&path, "x"),
            Some("label") => request.set_label(&path, "x"),
            Some("forward") => request.forward(2222, 22),
            Some("egress") => request.allow_egress("example.org"),
            Some("many-wishes") => {
                (0..1000).try_for_each(|number| request.set_env(&format!("HOSTILE_{number}"), "x"))
            }
            Some("large-wish") => request.set_env("HOSTILE", &"x".repeat(64 << 10)),
            Some("env-and-loop") => {
                request.set_env("HOSTILE", "x")?;
                anywhere::misbehave("loop", settings, state)
            }
            Some(other) => anywhere::misbehave(other, settings, state),
        }
    }
}

impl post_start::Guest for Plugin {
    fn run(
        _: &Machine,
        guest: &GuestSystem,
        settings: &Settings,
        state: &State,
    ) -> Result<(), Error> {
        let run = |program: &str, folder: Option<&str>, argument: String, input: &[u8]| {
            guest.run(program, &[argument], folder, &[], input).map(drop)
        };
        let path = settings.text("path")?;
        match chosen(settings, "post-start")?.as_deref() {
            None => Ok(()),
            Some("program") => run(&path.unwrap_or_default(), None, String::new(), b""),
            Some("folder") => run("true", path.as_deref(), String::new(), b""),
            Some("many-programs") => {
                (0..1000).try_for_each(|_| run("true", None, String::new(), b""))
            }
            Some("large-argument") => run("true", None, "x".repeat((64 << 10) + 1), b""),
            Some("large-input") => run("true", None, String::new(), &vec![7; PIECE + 1]),
            Some("variable") => {
                let variable = (path.unwrap_or_default(), "x".to_owned());
                guest.run("true", &[], None, &[variable], b"").map(drop)
            }
            Some("argument-with-nul") => run("true", None, "\0".to_owned(), b""),
            Some(other) => anywhere::misbehave(other, settings, state),
        }
    }
}

impl pre_stop::Guest for Plugin {
    fn run(_: &Machine, settings: &Settings, state: &State) -> Result<(), Error> {
        let chosen = chosen(settings, "pre-stop")?;
        chosen.map_or(Ok(()), |what| anywhere::misbehave(&what, settings, state))
    }
}

impl cleanup::Guest for Plugin {
    fn run(_: &Machine, settings: &Settings, state: &State) -> Result<(), Error> {
        let chosen = chosen(settings, "cleanup")?;
        chosen.map_or(Ok(()), |what| anywhere::misbehave(&what, settings, state))
    }
}

impl doctor::Guest for Plugin {
    fn run(
        _: &HostFiles,
        _: &GitConfig,
        settings: &Settings,
    ) -> Result<Vec<doctor::Finding>, Error> {
        let finding = || doctor::Finding {
            verdict: doctor::Verdict::Warn,
            found: format!("\u{1b}[2J{}", "x".repeat(9999)),
            advice: None,
        };
        match chosen(settings, "doctor")?.as_deref() {
            None => Ok(Vec::new()),
            Some("many-answers") => Ok((0..20).map(|_| finding()).collect()),
            Some(other) => anywhere::without_a_store(other, settings).map(|()| Vec::new()),
        }
    }
}
