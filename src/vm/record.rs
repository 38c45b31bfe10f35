//! What the daemon knows of a VM and writes down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::limits::machine_of;
use super::ports::HookedVm;
use super::state::{MachineSize, State, WrongState};
use crate::egress::Policy;
use crate::id::{Digest, ImageName, VmId, VmName};
use crate::report::{Kind, Report};
use crate::wire::guest::SshHostKey;
use crate::wire::rpc::{NetMode, Publish, Setting, Vm, VmNet, VmWorkspace};

/// One VM: one row.
#[derive(Debug, Clone)]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// Its name, unique.
    pub name: VmName,
    /// What it was asked to be.
    pub spec: VmSpec,
    /// Where it is in its life.
    pub state: State,
    /// The repository inside.
    pub workspace: Option<VmWorkspace>,
    /// Whether it goes away with its client.
    pub leased: bool,
    /// When it was made.
    pub created_at: String,
    /// When it was last started.
    pub started_at: Option<String>,
    /// When somebody last used it.
    pub last_touched_at: String,
}

/// What a VM was asked to be, after defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmSpec {
    /// The image's name.
    pub image: ImageName,
    /// The image's digest: a newer image of that name is another one.
    pub image_digest: Digest,
    /// The kernel's digest.
    pub kernel_digest: Digest,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in bytes.
    pub disk_bytes: u64,
    /// Size of the overlay disk in bytes.
    pub root_disk_bytes: u64,
    /// The network.
    pub net: NetMode,
    /// What it may reach through it. Rows of covers without policies mean what these did: the public
    /// internet.
    #[serde(default)]
    pub egress: Policy,
    /// The VMs of the bridge that it reaches, and that reach it.
    #[serde(default)]
    pub peers: BTreeSet<VmId>,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports of the guest that are reachable at ports of the host.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// It is stopped when nobody has used it for so many seconds.
    #[serde(default)]
    pub auto_stop_after_s: Option<u64>,
    /// The ssh host key of the guest, the same at every boot.
    pub ssh_host_key: SshHostKey,
}

/// What the rows of VMs say.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The VMs, oldest first.
    pub vms: Vec<VmRecord>,
    /// The rows that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A VM's row that cannot be read. Nothing of that VM is touched before somebody has looked at it: its
/// folder, its processes and its name stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The row's number.
    pub row: i64,
    /// The VM's id, when at least that can be read: then it is known which folder is its.
    pub id: Option<VmId>,
    /// Its name, as far as it can be read.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

impl Unreadable {
    /// Whether it is the VM that somebody names so.
    pub(super) fn is(&self, wanted: &str) -> bool {
        self.name == wanted || self.id.as_ref().is_some_and(|id| id.as_str() == wanted)
    }

    /// What somebody hears who asks for it.
    pub(super) fn report(&self) -> Report {
        let message = format!("the row of the VM `{}` cannot be read", self.name);
        Report::new(Kind::Failed, message)
            .with_cause(&std::io::Error::other(self.problem.clone()))
            .with_hint("its disks are as they were; `cove doctor` says what to do")
    }
}

impl VmRecord {
    /// Refuses what does not fit the VM's state, naming the VM.
    ///
    /// # Errors
    /// When it does not fit.
    pub(super) fn check(
        &self,
        fits: impl Fn(&State) -> Result<(), WrongState>,
    ) -> Result<(), Report> {
        let conflict = |error| Report::new(Kind::Conflict, format!("`{}`: {error}", self.name));
        fits(&self.state).map_err(conflict)
    }

    /// The VM as hooks see it.
    pub(super) fn hooked(&self) -> HookedVm {
        HookedVm {
            id: self.id.clone(),
            name: self.name.clone(),
            machine: machine_of(&self.spec),
            labels: self.spec.labels.clone(),
            workspace: self.workspace.as_ref().map(in_home),
        }
    }

    /// In what a VM that runs differs from what it is to be.
    fn pending(&self, size: &MachineSize) -> Vec<Setting> {
        let differs = [
            (Setting::Vcpu, size.vcpu != self.spec.vcpu),
            (Setting::Memory, size.memory_mib != self.spec.memory_mib),
            (Setting::Disk, size.disk_bytes != self.spec.disk_bytes),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(setting, _)| setting).collect()
    }

    /// The VM as clients see it, but for what only its monitor knows.
    #[must_use]
    pub fn view(&self) -> Vm {
        let boot = self.state.boot();
        let network = boot.and_then(|boot| boot.network.as_ref());
        Vm {
            id: self.id.clone(),
            name: self.name.clone(),
            state: self.state.view(),
            cause: self.state.cause().map(str::to_owned),
            stalled: None,
            image: self.spec.image.clone(),
            kernel: self.spec.kernel_digest.clone(),
            vmm: "qemu".to_owned(),
            accel: boot.map(|boot| boot.accel.as_str().to_owned()),
            vcpu: self.spec.vcpu,
            memory_mib: self.spec.memory_mib,
            disk_bytes: self.spec.disk_bytes,
            root_disk_bytes: self.spec.root_disk_bytes,
            net: VmNet {
                mode: self.spec.net,
                address: network.map(|network| network.address.to_string()),
                address6: network.and_then(|n| n.ipv6).map(|ipv6| ipv6.address.to_string()),
                egress: (self.spec.net != NetMode::None).then_some(self.spec.egress.mode),
            },
            publish: self.publish(),
            publish_failed: Vec::new(),
            workspace: self.workspace.clone(),
            labels: self.labels(),
            auto_stop_after_s: self.spec.auto_stop_after_s,
            restart_needed: boot.map(|boot| self.pending(&boot.size)).unwrap_or_default(),
            created_at: self.created_at.clone(),
            started_at: self.started_at.clone(),
            last_touched_at: self.last_touched_at.clone(),
            boot_id: boot.map(|boot| boot.id.clone()),
            pid: boot.map(|boot| boot.monitor.pid),
            leased: self.leased,
            ssh_host_key: Some(self.spec.ssh_host_key.public.clone()),
        }
    }
}

/// The folder of a repository, relative to the home.
pub(super) fn in_home(workspace: &VmWorkspace) -> String {
    let path = &workspace.guest_path;
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_cove_without_policies_is_read_as_what_that_did() {
        let row = r#"{"image": "default", "vcpu": 1, "memory_mib": 256, "net": "user", "env": {},
            "image_digest": "DIGEST", "kernel_digest": "DIGEST", "disk_bytes": 1073741824,
            "root_disk_bytes": 1073741824, "labels": {}, "ssh_host_key": {"private": "", "public": ""}}"#;
        let row = row.replace("DIGEST", Digest::of(b"file").as_str());
        let spec: VmSpec = serde_json::from_str(&row).expect("an old row");
        assert_eq!((spec.egress, spec.auto_stop_after_s), (Policy::default(), None));
        let extras =
            serde_json::from_str::<super::super::state::Extras>(r#"{"env": {}, "labels": {}}"#);
        assert!(extras.expect("an old boot").egress.is_empty());
    }
}
