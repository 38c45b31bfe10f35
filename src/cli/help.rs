//! `cove help`: help on a command, or the tree of all commands at once.

use std::fmt::Write as _;

use crate::report::{Kind, Report};

use super::failure::Failure;
use super::output::print;

/// Arguments of `cove help`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print all commands with their arguments
    #[arg(long, conflicts_with = "command")]
    tree: bool,
    /// The command
    command: Vec<String>,
}

impl Arguments {
    pub(super) fn run(self, root: &clap::Command) -> Result<u8, Failure> {
        let mut root = root.clone();
        root.build();
        if self.tree {
            print(&tree(&root))?;
            return Ok(0);
        }
        let mut command = &mut root;
        for name in &self.command {
            let unknown = || {
                let message = format!("there is no command `{}`", self.command.join(" "));
                Report::new(Kind::Invalid, message).with_hint("`cove help --tree` shows them all")
            };
            command = command.find_subcommand_mut(name).ok_or_else(unknown)?;
        }
        print(&command.render_long_help().to_string())?;
        Ok(0)
    }
}

/// The tree of all commands: names, arguments and what they do.
pub(super) fn tree(root: &clap::Command) -> String {
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{}  {about}\n", root.get_name());
    branches(root, 1, &mut text);
    text
}

fn branches(command: &clap::Command, depth: usize, text: &mut String) {
    for command in command.get_subcommands() {
        let indent = "  ".repeat(depth);
        let aliases: Vec<&str> = command.get_visible_aliases().collect();
        let aliases = match aliases.as_slice() {
            [] => String::new(),
            aliases => format!(" ({})", aliases.join(", ")),
        };
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(text, "{indent}{}{aliases}  {about}", command.get_name())
            .expect("writing to a String cannot fail");
        for argument in command.get_arguments() {
            let said_elsewhere = matches!(argument.get_id().as_str(), "help" | "json");
            if said_elsewhere || argument.is_hide_set() {
                continue;
            }
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(text, "{indent}    {argument}  {help}")
                .expect("writing to a String cannot fail");
        }
        branches(command, depth + 1, text);
    }
}
