//! Plugin `mise`: the tools that the repository asks for, installed by the guest's own mise.
//!
//! A wish of the user's, not a condition: what goes wrong in the guest is a warning, and the machine is up all
//! the same. What a program of the guest prints is never believed beyond the names that are looked for.

mod choice;
mod output;

use cove_plugin_sdk::{Command, Guest, PostStart, Result, debug, info, plugin, warning};

use choice::When;
use output::{asking, last_lines};

plugin! { post_start = install }

fn install(call: &PostStart) -> Result<()> {
    let when = When::of(call.settings.text("enabled")?.as_deref())?;
    let Some(workspace) = call.machine.workspace() else {
        debug!("there is no repository in this machine");
        return Ok(());
    };
    if let Err(why) = when.judge(&call.machine.network(), &call.machine.egress()) {
        info!("no tools are installed: {why}");
        return Ok(());
    }
    let listed = Command::new("ls")
        .arguments(["-1", "-d", "--"])
        .arguments(output::FILES)
        .folder(&workspace)
        .output(call.guest)?;
    let files = asking(&listed.stdout);
    if files.is_empty() {
        debug!("`{workspace}` asks for no tools");
        return Ok(());
    }
    run(call.guest, &workspace, &files.join("`, `"))
}

/// Runs mise in the repository, which asks for tools in `files`.
fn run(guest: &Guest, workspace: &str, files: &str) -> Result<()> {
    let ran = Command::new("mise")
        .arguments(["install"])
        .folder(workspace)
        // mise itself reads `~` in it.
        .variable("MISE_TRUSTED_CONFIG_PATHS", format!("~/{workspace}"))
        .variable("MISE_YES", "1")
        .variable("NO_COLOR", "1")
        .output(guest);
    let said = match ran {
        Ok(said) => said,
        // As where the guest has no mise.
        Err(error) if error.code == "io" => {
            warning!("the tools in `{files}` are not installed, `mise` does not run: {error}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let lines = last_lines(&said.stderr);
    for line in &lines {
        info!("mise: {line}");
    }
    if said.status == 0 {
        info!("installed what is in `{files}`");
    } else {
        let last = lines.last().map_or("it said nothing", String::as_str);
        let status = said.status;
        warning!("not all tools in `{files}` are installed: `mise` ended with {status}: {last}");
    }
    Ok(())
}
