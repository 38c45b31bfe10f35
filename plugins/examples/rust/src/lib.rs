//! Example plugin `greeting`: a line at every login, from a block in `.profile`.

use cove_plugin_sdk::{Place, PrepareWorkDisk, Result, info, plugin};

plugin! { prepare_work_disk = greet }

fn greet(call: &PrepareWorkDisk) -> Result<()> {
    let text = call.settings.text("text")?;
    let text = text.unwrap_or_else(|| format!("This is {}.", call.machine.name()));
    if text.contains(char::is_control) {
        return Err("the setting `text` is more than one line of text".into());
    }
    // Single quotes keep everything from the shell, except themselves.
    let line = format!("echo '{}'\n", text.replace('\'', r"'\''"));
    info!("logins are greeted with {text:?}");
    call.disk.ensure_block(".profile", 0o644, "cove greeting", &line, Place::End)
}
