//! `cove events`: what has happened to VMs and operations, and what happens.

use crate::report::Report;
use crate::rpc::client::Client;
use crate::wire::rpc::{
    DaemonPing, Event, EventQuery, EventSubscription, EventsList, Happening, Nothing,
};

use super::connect::connect;
use super::failure::Failure;
use super::list::state;
use super::output::{Format, failed, one_line, print, say};

/// Arguments of `cove events`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Go on with what happens; with --json, one JSON value a line
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let page = client.call::<EventsList>(EventQuery::default()).await?;
        if !self.follow {
            self.format.print(&page.events, |events| {
                events.iter().map(line).collect::<Vec<_>>().join("\n")
            })?;
            return Ok(0);
        }
        let mut seen = 0;
        for event in page.events {
            seen = event.number;
            self.show(&event)?;
        }
        loop {
            seen = self.tell(&client, seen).await?;
            // Either this client was too slow, and goes on where it was, or the daemon is gone.
            client.call::<DaemonPing>(Nothing {}).await?;
        }
    }

    /// Shows events until the subscription ends; returns the number of the last.
    async fn tell(&self, client: &Client, mut seen: u64) -> Result<u64, Failure> {
        let query = EventQuery { since: Some(seen) };
        let mut events = client.subscribe::<EventSubscription>(query).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            seen = event.number;
            if let Happening::Lagged { missed } = event.what {
                say(&format!("note: {missed} events before this are no longer remembered"));
            }
            self.show(&event)?;
        }
        Ok(seen)
    }

    fn show(&self, event: &Event) -> Result<(), Failure> {
        if !self.format.json {
            return print(&line(event));
        }
        let json = serde_json::to_string(event);
        print(&json.map_err(|error| failed("cannot write an event as JSON", &error))?)
    }
}

/// An event on one line.
fn line(event: &Event) -> String {
    let text = match &event.what {
        Happening::VmCreated { vm_name, .. } => format!("vm {vm_name} created"),
        Happening::VmState { vm_name, state: now, cause, .. } => {
            let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("vm {vm_name} {}{cause}", state(*now))
        }
        Happening::VmStalled { vm_name, reason, .. } => format!("vm {vm_name} stalled: {reason}"),
        Happening::VmWentOn { vm_name, .. } => format!("vm {vm_name} goes on"),
        Happening::HookFailed { vm_name, plugin, hook, message, .. } => {
            format!("vm {vm_name} hook {plugin} {hook} failed: {message}")
        }
        Happening::VmDeleted { vm_name, .. } => format!("vm {vm_name} deleted"),
        Happening::OperationBegan { operation, action, vm_name, .. } => {
            format!("operation {operation} began: {action} {vm_name}")
        }
        Happening::OperationEnded { operation, action, vm_name, failure, .. } => {
            let end = failure.as_ref().map_or_else(|| "done".to_owned(), Report::one_line);
            format!("operation {operation} ended: {action} {vm_name}: {end}")
        }
        Happening::Lagged { missed } => format!("{missed} events missed"),
    };
    format!("{}  {}", event.at, one_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Kind;
    use crate::wire::rpc::VmState;

    #[test]
    fn events_are_one_line_each_and_cannot_lie() {
        let at = "2026-11-23T12:00:00Z".to_owned();
        let vm = || "aaaaaaaaaaaa".parse().expect("an id");
        let name = || "web".parse().expect("a name");
        let state = Happening::VmState {
            vm: vm(),
            vm_name: name(),
            state: VmState::Stopped,
            cause: Some("its monitor\nwas \u{1b}[2Jkilled".to_owned()),
        };
        let ended = Happening::OperationEnded {
            operation: "0123456789ab".parse().expect("an id"),
            action: "start".to_owned(),
            vm: vm(),
            vm_name: name(),
            failure: Some(Report::new(Kind::TimedOut, "the guest did not answer")),
        };
        for (what, text) in [
            (Happening::VmDeleted { vm: vm(), vm_name: name() }, "vm web deleted"),
            (state, "vm web stopped: its monitor\\nwas \\u{1b}[2Jkilled"),
            (ended, "operation 0123456789ab ended: start web: the guest did not answer"),
        ] {
            let event = Event { number: 1, at: at.clone(), what };
            assert_eq!(line(&event), format!("{at}  {text}"));
        }
    }
}
