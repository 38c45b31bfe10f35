//! Plugin `env-file`: named variables from a file of the user's into the guest's environment.
//!
//! The file is behind the logical name `env-file`. Only what the setting `variables` names is taken from
//! it. Values are secrets: they go to the host's `set-env` and nowhere else, not into messages either.

mod variables;

use cove_plugin_sdk::{ConfigureMachine, Context, Error, Result, plugin, warning};

/// Bytes of the file: it is written by hand.
const MAX_FILE: u64 = 64 * 1024;

plugin! { configure_machine = configure }

fn configure(call: &ConfigureMachine) -> Result<()> {
    let names = call.settings.texts("variables")?.unwrap_or_default();
    if names.is_empty() {
        warning!("no variable is named: list them in `variables` of `[hooks.settings.env-file]`");
        return Ok(());
    }
    let file = call.files.single("env-file")?.ok_or_else(|| {
        let advice = "the file with your variables is not there: map it with \
                      `cove hook grant env-file --map env-file=PATH`";
        Error::new("not-found", advice)
    })?;
    let text = file.text(MAX_FILE)?;
    let label = file.label();
    let mut values = variables::parse(&text).with_context(|| format!("`{label}`"))?;
    for name in names {
        match values.remove(&name) {
            Some(value) => {
                call.request.set_env(&name, &value).with_context(|| format!("`{name}`"))?
            }
            None => warning!("`{name}` is not in `{label}`"),
        }
    }
    Ok(())
}
