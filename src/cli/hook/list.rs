//! `cove hook list`: the plugins, what they ask for, and whether they take part.

use crate::report::escape_control;
use crate::wire::rpc::{Hook, HookList, Nothing};

use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, table};
use super::{needs, state};

/// Arguments of `cove hook list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let hooks = connect().await?.call::<HookList>(Nothing {}).await?;
        self.format.print(&hooks, |hooks| render(hooks))?;
        Ok(0)
    }
}

/// A row for each plugin, and below it what it asks for.
pub(crate) fn render(hooks: &[Hook]) -> String {
    let row = |hook: &Hook| {
        [
            hook.plugin.to_string(),
            hook.version.clone(),
            state(hook.state, hook.pending.as_deref()),
            hook.hooks.iter().map(|point| point.as_str()).collect::<Vec<_>>().join(", "),
            if hook.standard { "cove" } else { "user" }.to_owned(),
            hook.digest.as_str()[..12].to_owned(),
        ]
    };
    let header = ["PLUGIN", "VERSION", "STATE", "HOOKS", "FROM", "DIGEST"];
    let rows = table(header, hooks.iter().map(row));
    let mut lines = rows.lines();
    let mut text: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, hook) in lines.zip(hooks) {
        text.push(line.to_owned());
        text.extend(needs(&hook.needs).into_iter().map(|need| format!("  needs {need}")));
        if let Some(problem) = &hook.problem {
            text.push(format!("  problem: {}", escape_control(problem).replace('\n', "\\n")));
        }
    }
    text.join("\n")
}
