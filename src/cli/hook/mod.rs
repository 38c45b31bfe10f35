//! `cove hook`: the plugins that decide what enters a guest. One file per command.

mod grant;
mod inspect;
mod install;
mod list;
mod plan;
mod remove;
mod revoke;
mod runs;
mod test;
#[cfg(test)]
mod tests;

use crate::report::{Kind, Report, escape_control};
use crate::wire::rpc::{HookNeed, HookState};

use super::failure::Failure;

/// The commands of `cove hook`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List plugins in the order in which they run, with what they ask for and why
    List(list::Arguments),
    /// Show all about a plugin, installed or not
    Inspect(inspect::Arguments),
    /// Install a plugin, or another version of it; it takes part once it is granted what it asks for
    Install(install::Arguments),
    /// Grant a plugin what it asks for, or parts of that; switches on one that failed too often
    Grant(grant::Arguments),
    /// Take back what a plugin was granted, or parts of that
    Revoke(revoke::Arguments),
    /// Remove an installed plugin with its grant and what it remembers
    Remove(remove::Arguments),
    /// Show what plugins would do to a VM, or to one made of a repository, and do nothing
    Plan(plan::Arguments),
    /// Show what has been written down of runs of plugins
    Runs(runs::Arguments),
    /// Test a plugin: with made-up inputs, with each need withheld, with each call of the host failing
    Test(test::Arguments),
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::List(arguments) => arguments.run().await,
            Self::Inspect(arguments) => arguments.run().await,
            Self::Install(arguments) => arguments.run().await,
            Self::Grant(arguments) => arguments.run().await,
            Self::Revoke(arguments) => arguments.run().await,
            Self::Remove(arguments) => arguments.run().await,
            Self::Plan(arguments) => arguments.run().await,
            Self::Runs(arguments) => arguments.run().await,
            Self::Test(arguments) => arguments.run().await,
        }
    }
}

/// Whether an argument that can be an id or a name is a path: there is a slash in it, or it is `.` or `..`.
fn is_path(text: &str) -> bool {
    text.contains('/') || text == "." || text == ".."
}

/// A path as the daemon can use it, whose working folder is another.
pub(super) fn absolute(path: &std::path::Path) -> Result<String, Report> {
    let absolute = std::path::absolute(path).map_err(|error| {
        let message = format!("`{}` is no path", path.display());
        Report::new(Kind::Invalid, message).with_cause(&error)
    })?;
    absolute.into_os_string().into_string().map_err(|path| {
        let message = format!("the path `{}` is not UTF-8", path.display());
        Report::new(Kind::Invalid, message).with_hint("give its folder another name")
    })
}

/// What a plugin asks for, a line for each, in the author's words, escaped.
fn needs(needs: &[HookNeed]) -> Vec<String> {
    let line = |need: &HookNeed| {
        let granted = match (need.missing.len(), need.what.len()) {
            (0, _) => "granted".to_owned(),
            (missing, all) if missing >= all => "not granted".to_owned(),
            _ => format!("not granted: {}", need.missing.join(", ")),
        };
        let ceiling = match need.above_ceiling.is_empty() {
            true => "",
            false => "; cut by hooks.ceiling",
        };
        let what = need.what.join(", ");
        let between = if what.is_empty() { "" } else { ": " };
        let need = format!("{}{between}{what} ({granted}{ceiling}): {}", need.kind, need.reason);
        escape_control(&need).replace('\n', "\\n")
    };
    needs.iter().map(line).collect()
}

/// The state of a plugin, with a version that waits.
fn state(state: HookState, pending: Option<&str>) -> String {
    match pending {
        None => state.as_str().to_owned(),
        Some(version) => format!("{}, {version} is pending-grant", state.as_str()),
    }
}
