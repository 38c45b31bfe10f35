//! Making a VM: resolve and validate (no lock), reserve name and row (one transaction), then its owner
//! makes and starts it. Each phase undoes exactly what it made; a rejected request leaves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::{Begin, Command};
use super::hooks::{by_plugin, configure};
use super::lease::ConnectionId;
use super::limits::{check_env, check_labels, check_machine};
use super::outbound::{policy_of, warnings};
use super::ports::{BootFiles, Checkout, HookedVm, Intent};
use super::preflight::{Passed, preflight};
use super::record::{VmRecord, VmSpec, in_home};
use super::service::{Handle, VmService};
use super::state::State;
use crate::egress::Policy;
use crate::id::{ImageName, OperationId, VmId, VmName};
use crate::keys::KeyPair;
use crate::report::{Kind, Report};
use crate::size::Size;
use crate::wire::guest::SshHostKey;
use crate::wire::rpc::{CreatePlan, CreateVm, MachinePlan, NetMode, Operation};

/// How often a made-up name is made up again when it is taken.
const NAME_ATTEMPTS: usize = 20;

/// What a VM gets when its maker does not say.
#[derive(Debug, Clone)]
pub struct CreateDefaults {
    /// The image.
    pub image: ImageName,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory.
    pub memory: Size,
    /// The work disk.
    pub disk: Size,
    /// The overlay disk.
    pub root_disk: Size,
    /// The network.
    pub net: NetMode,
    /// What it may reach.
    pub egress: Policy,
}

/// A request that is fit to be carried out.
struct Checked {
    /// The VM as hooks see it. Its name is made up when the request has none.
    vm: HookedVm,
    files: BootFiles,
    preflight: Option<Passed>,
    checkout: Option<Arc<dyn Checkout>>,
    /// The VMs that it reaches over the bridge.
    peers: BTreeSet<VmId>,
}

impl VmService {
    /// Makes a VM and, unless told otherwise, starts it.
    ///
    /// # Errors
    /// When the request is wrong or the name is taken; then there is no row and no file.
    pub async fn create(
        &self,
        wanted: CreateVm,
        connection: Option<ConnectionId>,
    ) -> Result<Operation, Report> {
        let checked = self.check(&wanted, Intent::Act).await?;
        if wanted.lease && connection.is_none() {
            let message = "a lease needs a connection that stays open";
            return Err(
                Report::new(Kind::Invalid, message).with_hint("call vm.create over a WebSocket")
            );
        }
        let wait = wanted.wait;
        let service = self.clone();
        // From the row on nothing may be dropped half-way, and the caller is: its client may go away.
        let carried_out = self
            .tasks
            .spawn("create", async move { service.carry_out(wanted, checked, connection).await });
        let operation = carried_out.await.map_err(|error| {
            Report::new(Kind::Failed, "the create broke off").with_cause(&error)
        })??;
        self.report(&operation, wait).await
    }

    /// Reserves the VM and hands it to an owner of its own.
    async fn carry_out(
        &self,
        wanted: CreateVm,
        checked: Checked,
        connection: Option<ConnectionId>,
    ) -> Result<OperationId, Report> {
        let record = self.reserve(&wanted, &checked).await?;
        let vm = record.id.clone();
        let handle = match self.join(&record) {
            Ok(handle) => handle,
            Err(error) => {
                if let Err(other) = self.shared.ports.rows.remove(&vm).await {
                    tracing::warn!(%vm, error = other.one_line(), "a row is left");
                }
                return Err(error);
            }
        };
        let operation = self.operations.begin("create", &vm, &record.name, super::now());
        let id = operation.id.clone();
        if let Some(passed) = checked.preflight {
            passed.tell_late(&record, &operation);
        }
        warnings(&wanted, &record.spec.egress).into_iter().for_each(|text| operation.note(text));
        let begin = Begin { operation, client: wanted.client, checkout: checked.checkout };
        let start = wanted.start.unwrap_or(true);
        handle.send(Command::Make { begin, start }, "new").await?;
        if let (true, Some(connection)) = (wanted.lease, connection) {
            self.hold(connection, vm);
        }
        Ok(id)
    }

    /// Makes it one of the VMs, unless another has got its ports of the host since they were checked.
    fn join(&self, record: &VmRecord) -> Result<Arc<Handle>, Report> {
        let _alone = self.joining.lock().expect("no panic under the lock");
        self.check_published(&record.spec.publish)?;
        self.events.publish(super::events::created(record));
        Ok(self.adopt(record.clone()))
    }

    /// What `create` would put into the guest. Makes nothing.
    ///
    /// # Errors
    /// When the request is wrong, or a hook fails.
    pub async fn plan(&self, wanted: &CreateVm) -> Result<CreatePlan, Report> {
        let (checked, client) = (self.check(wanted, Intent::Look).await?, &wanted.client);
        let (ports, vm) = (&self.shared.ports, &checked.vm);
        let configured = configure(ports, vm, client, Intent::Look).await?;
        let prepared = ports.hooks.prepare_work_disk(vm, client, Intent::Look).await?;
        let mut notes = checked.preflight.map(Passed::notes).unwrap_or_default();
        notes.extend(warnings(wanted, &checked.vm.machine.egress));
        Ok(CreatePlan {
            machine: checked.vm.machine,
            publish: wanted.publish.clone(),
            notes,
            workspace: checked.checkout.map(|checkout| checkout.plan()),
            hooks: by_plugin(configured.ran.into_iter().chain(prepared.ran)),
        })
    }

    /// The VM that `create` would make, as hooks see it.
    ///
    /// # Errors
    /// When the request is wrong.
    pub async fn would_be(&self, wanted: &CreateVm) -> Result<HookedVm, Report> {
        let wanted = CreateVm { start: Some(false), ..wanted.clone() };
        Ok(self.check(&wanted, Intent::Look).await?.vm)
    }

    async fn check(&self, wanted: &CreateVm, intent: Intent) -> Result<Checked, Report> {
        let defaults = &self.settings.defaults;
        let invalid = |error: crate::id::InvalidId| Report::new(Kind::Invalid, error.to_string());
        let name: Option<VmName> =
            wanted.name.as_deref().map(str::parse).transpose().map_err(invalid)?;
        if let Some(name) = &name
            && self.vms.lock().expect("no panic under the lock").named(name.as_str()).is_some()
        {
            return Err(Report::new(
                Kind::Conflict,
                format!("there is a VM named `{name}` already"),
            )
            .with_hint("choose another `--name`, or delete that VM"));
        }
        let image: Option<ImageName> =
            wanted.image.as_deref().map(str::parse).transpose().map_err(invalid)?;
        let net = wanted.net.unwrap_or(defaults.net);
        let machine = MachinePlan {
            image: image.unwrap_or_else(|| defaults.image.clone()),
            vcpu: wanted.vcpu.unwrap_or(defaults.vcpu),
            memory_mib: wanted.memory_mib.unwrap_or(defaults.memory.mebibytes()),
            disk_bytes: wanted.disk_bytes.unwrap_or(defaults.disk.bytes()),
            root_disk_bytes: wanted.root_disk_bytes.unwrap_or(defaults.root_disk.bytes()),
            net,
            egress: policy_of(wanted, net, &defaults.egress)?,
        };
        check_machine(&machine, self.settings.host_memory_mib)?;
        check_env(&wanted.env)?;
        check_labels(&wanted.labels)?;
        self.check_published(&wanted.publish)?;
        let peers = self.peers_of(wanted, net)?;
        let files = self.shared.ports.boot_source.resolve(&machine.image).await?;
        let checkout = match &wanted.workspace {
            Some(workspace) => Some(self.shared.ports.checkouts.inspect(workspace).await?),
            None => None,
        };
        let vm = HookedVm {
            id: VmId::random(),
            name: name.map_or_else(made_up_name, Ok)?,
            machine,
            labels: wanted.labels.clone(),
            workspace: checkout.as_ref().map(|checkout| in_home(&checkout.record())),
        };
        let preflight = match wanted.start.unwrap_or(true) {
            // The start that follows does not ask again.
            true => Some(preflight(&self.shared.ports, &vm, &wanted.client, intent).await?),
            false => None,
        };
        Ok(Checked { vm, files, preflight, checkout, peers })
    }

    async fn reserve(&self, wanted: &CreateVm, checked: &Checked) -> Result<VmRecord, Report> {
        let mut record = record(wanted, checked)?;
        for _ in 0..NAME_ATTEMPTS {
            match self.shared.ports.rows.insert(&record).await {
                Ok(()) => return Ok(record),
                Err(error) if error.kind == Kind::Conflict && wanted.name.is_none() => {
                    record.name = made_up_name()?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Report::new(Kind::Conflict, "no free name could be made up")
            .with_hint("give a `--name`"))
    }
}

fn record(wanted: &CreateVm, checked: &Checked) -> Result<VmRecord, Report> {
    let now = super::now();
    let HookedVm { id, name, machine, .. } = checked.vm.clone();
    Ok(VmRecord {
        id,
        spec: VmSpec {
            image: machine.image,
            image_digest: checked.files.image_digest.clone(),
            kernel_digest: checked.files.kernel_digest.clone(),
            vcpu: machine.vcpu,
            memory_mib: machine.memory_mib,
            disk_bytes: machine.disk_bytes,
            root_disk_bytes: machine.root_disk_bytes,
            net: machine.net,
            egress: machine.egress,
            peers: checked.peers.clone(),
            env: wanted.env.clone(),
            labels: wanted.labels.clone(),
            publish: wanted.publish.clone(),
            auto_stop_after_s: None,
            ssh_host_key: ssh_host_key(&name)?,
        },
        name,
        state: State::Making,
        workspace: None,
        leased: wanted.lease,
        created_at: now.clone(),
        started_at: None,
        last_touched_at: now,
    })
}

/// A name of an adjective and an animal.
fn made_up_name() -> Result<VmName, Report> {
    let made = petname::petname(2, "-").unwrap_or_default();
    made.parse().map_err(|_| Report::new(Kind::Failed, "no name could be made up"))
}

/// A key pair for the guest's ssh server, the same at every boot of the VM.
fn ssh_host_key(name: &VmName) -> Result<SshHostKey, Report> {
    let pair = KeyPair::new(name.as_str()).map_err(|error| {
        Report::new(Kind::Failed, "cannot make an ssh host key").with_cause(&error)
    })?;
    Ok(SshHostKey { private: pair.private, public: pair.public })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_valid() {
        for _ in 0..100 {
            made_up_name().expect("a name");
        }
    }

    #[test]
    fn a_host_key_bears_the_name_of_its_vm() {
        let key = ssh_host_key(&"web".parse().expect("valid")).expect("made");
        assert!(key.public.starts_with("ssh-ed25519 ") && key.public.ends_with(" web"));
    }
}
