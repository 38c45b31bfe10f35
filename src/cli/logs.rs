//! `cove logs`: the console of a VM, which is text of a guest: escaped unless `--raw`.

use crate::report::{Kind, escape_control};
use crate::rpc::client::Client;
use crate::wire::rpc::{LogQuery, LogSubscription, Logs, Vm, VmLogs, VmRef, VmShow};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, print, say};

/// Arguments of `cove logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Go on until the VM stops
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
    /// Print what the guest wrote as it is, control characters included
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let vm = client.call::<VmShow>(VmRef { vm: self.vm }).await?;
        let query = LogQuery { vm: vm.id.to_string(), from: None };
        let logs = client.call::<VmLogs>(query).await?;
        if self.format.json {
            self.format.print(&logs, |_| String::new())?;
            return Ok(0);
        }
        let text = if self.raw { Text::Raw } else { Text::escaped() };
        let until = if self.follow { Until::Stopped } else { Until::Now };
        show(&client, &vm, logs, text, until).await?;
        Ok(0)
    }
}

/// How long a console is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// What there is.
    Now,
    /// Until nothing writes to it any more.
    Stopped,
}

/// Prints a console, from a piece of it on.
///
/// # Errors
/// When the daemon cannot be asked for more, or stdout cannot be written.
pub(super) async fn show(
    client: &Client,
    vm: &Vm,
    logs: Logs,
    mut text: Text,
    until: Until,
) -> Result<(), Failure> {
    text.print(&logs)?;
    if until == Until::Stopped {
        let query = LogQuery { vm: vm.id.to_string(), from: Some(logs.next) };
        follow(client, query, &mut text).await?;
    }
    text.end()
}

/// Prints what the guest writes until its VM runs no more, or is gone.
async fn follow(client: &Client, mut query: LogQuery, text: &mut Text) -> Result<(), Failure> {
    loop {
        let mut logs = match client.subscribe::<LogSubscription>(query.clone()).await {
            Err(report) if report.kind == Kind::NotFound => return Ok(()),
            subscribed => subscribed?,
        };
        while let Some(piece) = logs.next().await {
            let piece = piece?;
            query.from = Some(piece.next);
            text.print(&piece)?;
        }
        // Whether it is over, or this client was too slow for the subscription.
        match client.call::<VmShow>(VmRef { vm: query.vm.clone() }).await {
            Ok(vm) if vm.state.is_at_rest() => return Ok(()),
            Ok(_) => {}
            Err(report) if report.kind == Kind::NotFound => return Ok(()),
            Err(report) => return Err(report.into()),
        }
    }
}

/// The console as it is printed, piece by piece.
#[derive(Debug)]
pub(super) enum Text {
    /// As it is.
    Raw,
    /// Escaped; lines end in a newline alone.
    Escaped {
        /// How many carriage returns at the end may belong to the newline of the next piece.
        carriage_returns: usize,
        /// Whether the last character was a newline.
        line_ended: bool,
    },
}

impl Text {
    /// Nothing has been printed yet.
    pub(super) fn escaped() -> Self {
        Self::Escaped { carriage_returns: 0, line_ended: true }
    }

    /// The piece as it is to be shown.
    pub(super) fn piece(&mut self, text: &str) -> String {
        match self {
            Self::Raw => text.to_owned(),
            Self::Escaped { carriage_returns, line_ended } => {
                let mut whole = "\r".repeat(*carriage_returns);
                whole.push_str(text);
                let kept = whole.trim_end_matches('\r').len();
                *carriage_returns = whole.len() - kept;
                whole.truncate(kept);
                // Serial consoles end lines in both; agetty and systemd write more than one return.
                while whole.contains("\r\r\n") {
                    whole = whole.replace("\r\r\n", "\r\n");
                }
                let shown = escape_control(&whole.replace("\r\n", "\n"));
                if let Some(last) = shown.chars().last() {
                    *line_ended = last == '\n';
                }
                shown
            }
        }
    }

    fn print(&mut self, logs: &Logs) -> Result<(), Failure> {
        if logs.lost > 0 {
            say(&format!("note: {} bytes before this are no longer kept", logs.lost));
        }
        let piece = self.piece(&logs.text);
        super::output::write(piece.as_bytes())
    }

    /// Ends the last line.
    fn end(self) -> Result<(), Failure> {
        match self {
            Self::Raw | Self::Escaped { line_ended: true, .. } => Ok(()),
            Self::Escaped { line_ended: false, .. } => print("\n"),
        }
    }
}
