//! A plugin that misbehaves in the way its setting `misbehaviour` says, in the hook that its setting `hook`
//! names (`prepare-work-disk` where it is not set). The tests run it; nobody else should.

wit_bindgen::generate!({ path: "../../../wit/0.2.0", world: "plugin" });

mod anywhere;
mod others;
mod work_disk;

use cove::hooks::settings::Settings;
use cove::hooks::types::Error;

/// The largest piece the contract allows.
const PIECE: usize = 1 << 20;

struct Plugin;
export!(Plugin);

/// What the plugin is to do in a hook: nothing in all but one.
fn chosen(settings: &Settings, hook: &str) -> Result<Option<String>, Error> {
    let meant = settings.text("hook")?.unwrap_or_else(|| "prepare-work-disk".to_owned());
    Ok((meant == hook).then_some(settings.text("misbehaviour")?.unwrap_or_default()))
}

fn own_error(code: &str, message: &str) -> Error {
    Error { code: code.to_owned(), message: message.to_owned(), retryable: false }
}
