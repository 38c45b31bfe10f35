//! Which VM a client means: by name, by id, or by an unambiguous prefix of an id.

use super::roster::Roster;
use crate::report::{Kind, Report, escape_control};

/// How many names an error lists.
const LISTED: usize = 10;

/// The VM that `wanted` means. A name wins over an id, an id over a prefix.
pub(super) fn resolve<T: Clone>(vms: &Roster<T>, wanted: &str) -> Result<T, Report> {
    if let Some(vm) = vms.named(wanted).or_else(|| vms.with_id(wanted)) {
        return Ok(vm.clone());
    }
    let prefixed: Vec<_> = match wanted {
        "" => Vec::new(),
        prefix => vms.with_prefix(prefix).take(LISTED + 1).collect(),
    };
    match prefixed.as_slice() {
        [(_, vm)] => Ok(vm.value.clone()),
        [] => {
            let shown: String = escape_control(wanted).chars().take(80).collect();
            Err(Report::new(Kind::NotFound, format!("there is no VM `{shown}`"))
                .with_hint("`cove list` shows the VMs there are"))
        }
        several => {
            let listed = several.iter().take(LISTED);
            let mut names: Vec<_> = listed.map(|(id, vm)| format!("{id} ({})", vm.name)).collect();
            if several.len() > LISTED {
                names.push("…".to_owned());
            }
            let message = format!("`{wanted}` could be {}", names.join(", "));
            Err(Report::new(Kind::Conflict, message).with_hint("give more digits, or the name"))
        }
    }
}
