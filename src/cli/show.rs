//! `cove show`: one VM.

use crate::wire::rpc::{Vm, VmRef, VmShow};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::list::state;
use super::output::{Format, pairs, size};
use super::set::{auto_stop, name};

/// Arguments of `cove show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let vm = client.call::<VmShow>(VmRef { vm: self.vm }).await?;
        self.format.print(&vm, render)?;
        Ok(0)
    }
}

/// What holds after a restart only.
fn restart(vm: &Vm) -> Option<String> {
    let pending: Vec<_> = vm.restart_needed.iter().map(|setting| name(*setting)).collect();
    (!pending.is_empty()).then(|| pending.join(", "))
}

/// Names and values of what is known of a VM.
pub(super) fn render(vm: &Vm) -> String {
    let optional = [
        ("cause", vm.cause.clone()),
        ("stalled", vm.stalled.clone()),
        ("accel", vm.accel.clone()),
        ("address", vm.net.address.clone()),
        ("address", vm.net.address6.clone()),
        ("egress", vm.net.egress.map(|mode| mode.as_str().to_owned())),
        ("started", vm.started_at.clone()),
        ("boot id", vm.boot_id.as_ref().map(ToString::to_string)),
        ("process", vm.pid.map(|pid| pid.to_string())),
        ("stops by itself", vm.auto_stop_after_s.map(|after| auto_stop(Some(after)))),
        ("after a restart", restart(vm)),
        ("deleted with its client", vm.leased.then(|| "yes".to_owned())),
        ("ssh host key", vm.ssh_host_key.clone()),
    ];
    let mut rows = vec![
        ("name", vm.name.to_string()),
        ("id", vm.id.to_string()),
        ("state", state(vm.state).to_owned()),
        ("image", vm.image.to_string()),
        ("kernel", vm.kernel.to_string()),
        ("monitor", vm.vmm.clone()),
        ("vcpu", vm.vcpu.to_string()),
        ("memory", size(vm.memory_mib.saturating_mul(1 << 20))),
        ("work disk", size(vm.disk_bytes)),
        ("root disk", size(vm.root_disk_bytes)),
        ("net", vm.net.mode.as_str().to_owned()),
        ("created", vm.created_at.clone()),
        ("last used", vm.last_touched_at.clone()),
    ];
    let known = optional.into_iter();
    rows.extend(known.filter_map(|(name, value)| Some((name, value?))));
    if let Some(workspace) = &vm.workspace {
        rows.push(("repository", workspace.source_path.clone()));
        rows.push(("in the guest", workspace.guest_path.clone()));
        let base = workspace.base_commit.clone();
        rows.push(("base commit", base.unwrap_or_else(|| "none yet".to_owned())));
    }
    rows.extend(vm.publish.iter().map(|publish| ("published", publish.to_string())));
    rows.extend(vm.publish_failed.iter().map(|problem| ("not published", problem.clone())));
    for (name, value) in &vm.labels {
        rows.push(("label", format!("{name}={value}")));
    }
    pairs(&rows)
}
