//! Which VM a client means: by name, by id, or by an unambiguous prefix of an id.

use super::record::VmRecord;
use crate::id::VmId;
use crate::report::{Kind, Report, escape_control};

/// How many names an error lists.
const LISTED: usize = 10;

/// The VM that `wanted` means. A name wins over an id, an id over a prefix.
pub(super) fn resolve(vms: &[VmRecord], wanted: &str) -> Result<VmId, Report> {
    let exact = vms.iter().find(|vm| vm.name.as_str() == wanted);
    let exact = exact.or_else(|| vms.iter().find(|vm| vm.id.as_str() == wanted));
    if let Some(vm) = exact {
        return Ok(vm.id.clone());
    }
    let prefixed: Vec<_> = match wanted {
        "" => Vec::new(),
        prefix => vms.iter().filter(|vm| vm.id.as_str().starts_with(prefix)).collect(),
    };
    match prefixed.as_slice() {
        [vm] => Ok(vm.id.clone()),
        [] => {
            let shown: String = escape_control(wanted).chars().take(80).collect();
            Err(Report::new(Kind::NotFound, format!("there is no VM `{shown}`"))
                .with_hint("`cove list` shows the VMs there are"))
        }
        several => {
            let mut names: Vec<_> =
                several.iter().take(LISTED).map(|vm| format!("{} ({})", vm.id, vm.name)).collect();
            if several.len() > LISTED {
                names.push("…".to_owned());
            }
            let message = format!("`{wanted}` could be {}", names.join(", "));
            Err(Report::new(Kind::Conflict, message).with_hint("give more digits, or the name"))
        }
    }
}
