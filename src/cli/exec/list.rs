//! `cove exec list`: the commands that run, or have run, detached in a VM.

use crate::cli::completion::vm_names;
use crate::cli::connect::connect;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, age, table};
use crate::wire::guest::DetachedState;
use crate::wire::rpc::{DetachedCommand, VmExecList, VmRef};

use super::meant_as_name;

/// Arguments of `cove exec list`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(required_unless_present = "command", add = vm_names())]
    vm: Option<String>,
    #[command(flatten)]
    format: Format,
    /// Not for this subcommand
    #[arg(last = true, hide = true)]
    command: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let (Some(vm), []) = (self.vm, self.command.as_slice()) else {
            return Err(meant_as_name("list").into());
        };
        let client = connect().await?;
        let list = client.call::<VmExecList>(VmRef { vm }).await?;
        let now = jiff::Timestamp::now();
        self.format.print(&list.commands, |commands| render(commands, now))?;
        Ok(0)
    }
}

/// The commands as a table. Their words may be the guest's; the table escapes them.
fn render(commands: &[DetachedCommand], now: jiff::Timestamp) -> String {
    let row = |command: &DetachedCommand| {
        [
            command.id.to_string(),
            state(command),
            command.pid.to_string(),
            age(&command.started_at, now),
            command.command.clone(),
        ]
    };
    table(["ID", "STATE", "PROCESS", "AGE", "COMMAND"], commands.iter().map(row))
}

fn state(command: &DetachedCommand) -> String {
    match (command.state, command.attached) {
        (DetachedState::Running, false) => "running".to_owned(),
        (DetachedState::Running, true) => "running (attached)".to_owned(),
        (DetachedState::Exited(status), _) => format!("exited ({status})"),
        (DetachedState::Signalled(signal), _) => format!("killed (signal {signal})"),
        (DetachedState::Lost, _) => "lost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_shown_and_words_cannot_speak_to_the_terminal() {
        let command = |number: u8, state, words: &str| DetachedCommand {
            id: format!("00000{number}").parse().expect("an id"),
            command: words.to_owned(),
            pid: 7,
            tty: false,
            started_at: "2026-11-23T15:04:00Z".to_owned(),
            attached: number == 1,
            state,
        };
        let commands = [
            command(0, DetachedState::Running, "make \u{1b}[2J\nall"),
            command(1, DetachedState::Running, "sh"),
            command(2, DetachedState::Exited(3), "false"),
            command(3, DetachedState::Signalled(9), "sleep 9"),
            command(4, DetachedState::Lost, "x"),
        ];
        let now = "2026-11-23T15:04:05Z".parse().expect("a time");
        insta::assert_snapshot!(render(&commands, now), @r"
        ID      STATE               PROCESS  AGE  COMMAND
        000000  running             7        5s   make \u{1b}[2J\nall
        000001  running (attached)  7        5s   sh
        000002  exited (3)          7        5s   false
        000003  killed (signal 9)   7        5s   sleep 9
        000004  lost                7        5s   x
        ");
    }
}
