//! Standard hook `git-identity`: the user's name and address into the guest's git configuration.
//!
//! They go into a block at the start of `.gitconfig`, so that what is set in the guest later wins. The
//! host hands over granted keys only: `user.name`, `user.email` and those of the setting `keys`.

use cove_plugin_sdk::{Error, Place, PrepareWorkDisk, Result, plugin, warning};

plugin! { prepare_work_disk = prepare }

fn prepare(call: &PrepareWorkDisk) -> Result<()> {
    let mut block = String::new();
    for key in call.git.keys() {
        match call.git.get(&key)? {
            Some(value) => block.push_str(&entry(&key, &value)?),
            None if key == "user.name" || key == "user.email" => {
                warning!(
                    "`{key}` is not set on the host: set it with `git config --global {key} …`"
                );
            }
            None => {}
        }
    }
    call.disk.ensure_block(".gitconfig", 0o644, "cove git-identity", &block, Place::Start)
}

/// One key as a section of its own (git-config(1), "Syntax").
fn entry(key: &str, value: &str) -> Result<String> {
    let malformed = || {
        let message = format!("`{}` is not a key of a git configuration", key.escape_debug());
        Error::new("bad-argument", message)
    };
    let (section, rest) = key.split_once('.').ok_or_else(malformed)?;
    let (subsection, name) = match rest.rsplit_once('.') {
        Some((subsection, name)) => (Some(subsection), name),
        None => (None, rest),
    };
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if section.is_empty() || !word(section) || !word(name) {
        return Err(malformed());
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(malformed());
    }
    let header = match subsection {
        Some(subsection) if subsection.contains(['\n', '\0']) => return Err(malformed()),
        Some(subsection) => {
            let escaped = subsection.replace('\\', "\\\\").replace('"', "\\\"");
            format!("[{section} \"{escaped}\"]")
        }
        None => format!("[{section}]"),
    };
    Ok(format!("{header}\n\t{name} = {}\n", quoted(value)))
}

/// A value in quotes, with git's five escapes; other control characters stand for themselves.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\0' => {}
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
