//! `cove hook`: the plugins that decide what enters a guest.

use crate::report::escape_control;
use crate::wire::rpc::{Hook, HookList, Nothing};

use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, table};

/// The commands of `cove hook`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List hooks in the order in which they run, with what they ask for and why
    List {
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::List { format } => {
                let hooks = connect().await?.call::<HookList>(Nothing {}).await?;
                format.print(&hooks, |hooks| render(hooks))?;
                Ok(0)
            }
        }
    }
}

/// A row for each hook, and below it what it asks for. The author's words are escaped.
pub(super) fn render(hooks: &[Hook]) -> String {
    let row = |hook: &Hook| {
        [
            hook.plugin.to_string(),
            hook.version.clone(),
            hook.hooks.iter().map(|point| point.as_str()).collect::<Vec<_>>().join(", "),
            if hook.standard { "cove" } else { "user" }.to_owned(),
            hook.digest.as_str()[..12].to_owned(),
        ]
    };
    let rows = table(["PLUGIN", "VERSION", "HOOKS", "FROM", "DIGEST"], hooks.iter().map(row));
    let mut lines = rows.lines();
    let mut text: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, hook) in lines.zip(hooks) {
        text.push(line.to_owned());
        for need in &hook.needs {
            let granted = if need.granted { "granted" } else { "not granted" };
            let what = need.what.join(", ");
            let between = if what.is_empty() { "" } else { ": " };
            let need = format!("{}{between}{what} ({granted}): {}", need.kind, need.reason);
            text.push(format!("  needs {}", escape_control(&need).replace('\n', "\\n")));
        }
        if let Some(problem) = &hook.problem {
            text.push(format!("  problem: {}", escape_control(problem).replace('\n', "\\n")));
        }
    }
    text.join("\n")
}
