//! Starting a VM: from a folder with disks to a guest that answers.
//!
//! ```text
//!                           ┌ network ─▶ monitor ─▶ boot ────┐
//!  preflight ─▶ configure ─▶┤ hooks (prepare-work-disk) ─────┼─▶ setup ─▶ workspace ─▶ post-start
//!                           └ pack (the repository) ─────────┘
//! ```
//!
//! Hooks and packing run on the host while the kernel boots, so they cost no wall time. Whoever drops
//! this future (a cancel) or gets its failure releases what the ledger says; nothing here undoes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::hooks::{configure, tell};
use super::operation::Running;
use super::owner::Whose;
use super::plan::WorkDiskPlan;
use super::ports::{
    Attachment, BootFiles, Checkout, Guest, HookRan, HookedGuest, HookedVm, Intent, MachineSpec,
    PackedCheckout, Ports, WorkspaceOf,
};
use super::preflight::preflight;
use super::record::{VmRecord, VmSpec, in_home};
use super::release::{Extent, release};
use super::stall::Stillness;
use super::state::{Accel, Boot, Extras, MachineSize};
use super::workspace::KEPT;
use crate::id::BootId;
use crate::report::{Kind, Report};
use crate::wire::guest::Setup;
use crate::wire::proof::BootKey;
use crate::wire::rpc::{ClientContext, NetMode};

/// Deadlines of a start.
#[derive(Debug, Clone, Copy)]
pub struct StartDeadlines {
    /// A guest that shows no sign of life for so long is started once more.
    pub life: Duration,
    /// A guest must answer within this.
    pub boot: Duration,
}

/// Why a start failed.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// The host, a hook or the request: the start is undone.
    Undo(Report),
    /// The guest never became reachable: it is kept for inspection.
    Guest(Report),
}

impl From<Report> for StartFailure {
    fn from(report: Report) -> Self {
        Self::Undo(report)
    }
}

/// One start of one VM.
pub(super) struct Start<'a> {
    pub(super) ports: &'a Ports,
    pub(super) record: &'a VmRecord,
    pub(super) whose: Whose,
    pub(super) folder: PathBuf,
    pub(super) deadlines: StartDeadlines,
    pub(super) operation: &'a Running,
    pub(super) client: &'a ClientContext,
    pub(super) checkout: Option<Arc<dyn Checkout>>,
}

impl Start<'_> {
    /// Runs it. Not cancel-safe by itself: dropping it leaves what the ledger names.
    pub(super) async fn run(self) -> Result<Boot, StartFailure> {
        match self.whose {
            // Its request was not taken before the host had been looked at.
            Whose::Makers => {}
            Whose::Anybodys => self.preflight().await?,
        }
        let extras = self.configure().await?;
        let (booted, plan, packed) =
            tokio::try_join!(self.boot(&extras), self.prepare(), self.pack())?;
        let (boot, guest) = booted;
        if let Some(workspace) = WorkspaceOf::of(self.record, &self.folder) {
            self.ports.work.returns(&workspace).await?;
        }
        {
            let _stage = self.operation.stage("setup");
            let steps = u32::try_from(plan.steps.len()).unwrap_or(u32::MAX);
            // The plan is one by now: what the guest cannot place undoes the start, were it only an optional
            // plugin that wanted it, because a home with a part of a plan is nobody's plan.
            let setup = self.setup(&boot, steps);
            self.or_monitor_end(&boot, guest.set_up(setup, plan)).await?;
        }
        if let Some(packed) = packed {
            let _stage = self.operation.stage("workspace");
            let kept = self.folder.join(KEPT);
            self.or_monitor_end(&boot, packed.deliver(&*guest, &kept)).await?;
        }
        self.post_start(&boot, guest).await?;
        Ok(boot)
    }

    async fn preflight(&self) -> Result<(), StartFailure> {
        let _stage = self.operation.stage("preflight");
        let passed = preflight(self.ports, &self.hooked(), self.client, Intent::Act).await?;
        passed.tell(self.record, self.operation);
        Ok(())
    }

    async fn configure(&self) -> Result<Extras, StartFailure> {
        let _stage = self.operation.stage("configure");
        let configured = configure(self.ports, &self.hooked(), self.client, Intent::Act).await?;
        self.tell(&configured.ran);
        self.take_ports(&configured.wanted, &configured.ran)?;
        Ok(configured.wanted)
    }

    async fn prepare(&self) -> Result<WorkDiskPlan, StartFailure> {
        let _stage = self.operation.stage("hooks");
        let (hooks, vm) = (&self.ports.hooks, self.hooked());
        let prepared = hooks.prepare_work_disk(&vm, self.client, Intent::Act).await?;
        self.tell(&prepared.ran);
        Ok(prepared.wanted)
    }

    async fn post_start(&self, boot: &Boot, guest: Arc<dyn Guest>) -> Result<(), StartFailure> {
        let _stage = self.operation.stage("post-start");
        let (hooks, vm) = (&self.ports.hooks, self.hooked());
        let guest = HookedGuest { guest, env: self.record.env_with(&boot.extras) };
        let ran = self.or_monitor_end(boot, hooks.post_start(&vm, guest)).await?;
        self.tell(&ran);
        Ok(())
    }

    fn tell(&self, ran: &[HookRan]) {
        tell(self.record, ran, self.operation.events(), Some(self.operation));
    }

    /// The VM as hooks see it, with the repository that is to go in.
    fn hooked(&self) -> HookedVm {
        let mut vm = self.record.hooked();
        if let Some(checkout) = &self.checkout {
            vm.workspace = Some(in_home(&checkout.record()));
        }
        vm
    }

    async fn pack(&self) -> Result<Option<Box<dyn PackedCheckout>>, StartFailure> {
        let Some(checkout) = &self.checkout else {
            return Ok(None);
        };
        let _stage = self.operation.stage("pack");
        for note in checkout.notes() {
            self.operation.note(note);
        }
        Ok(Some(checkout.pack().await?))
    }

    /// Boots until the guest answers. A boot without any sign of life is tried once more, visibly.
    async fn boot(&self, extras: &Extras) -> Result<(Boot, Arc<dyn Guest>), StartFailure> {
        let files = {
            let spec = &self.record.spec;
            self.ports.boot_source.of_vm(&spec.image_digest, &spec.kernel_digest).await?
        };
        // A growth that was cut off is finished here.
        self.ports.disks.grow(&self.folder, self.record.spec.disk_bytes).await?;
        let machines = &self.ports.machines;
        let accel = {
            let _stage = self.operation.stage("accelerator");
            machines.choose_accel(&files.kernel, &files.initramfs, &files.kernel_digest).await?
        };
        match self.boot_once(&files, accel, extras).await? {
            Attempt::Answered(booted) => Ok(*booted),
            Attempt::NoLife => {
                self.operation.note(format!(
                    "the guest showed no sign of life for {} s and is started once more",
                    self.deadlines.life.as_secs_f64()
                ));
                release(self.ports, &self.record.id, &self.folder, Extent::Boot).await?;
                match self.boot_once(&files, accel, extras).await? {
                    Attempt::Answered(booted) => Ok(*booted),
                    Attempt::NoLife => {
                        let what = "showed no sign of life in two boots".to_owned();
                        Err(self.guest_failure(Kind::TimedOut, what).await)
                    }
                }
            }
        }
    }

    async fn boot_once(
        &self,
        files: &BootFiles,
        accel: Accel,
        extras: &Extras,
    ) -> Result<Attempt, StartFailure> {
        let (key, boot_id) = (BootKey::random(), BootId::random());
        let ledger = self.ports.rows.ledger(&self.record.id);
        let network = self.network(extras, &*ledger).await?;
        let guest_network = network.as_ref().map(|network| network.guest.clone());
        let machine = {
            let _stage = self.operation.stage("monitor");
            let spec = self.machine_spec(files, accel, &key, &boot_id, network);
            self.ports.machines.start(spec, &*ledger).await?
        };
        let _stage = self.operation.stage("boot");
        let guest = self.ports.guests.guest(&self.folder, &machine.vsock, key.clone(), &boot_id);
        let printed = self.ports.machines.console_position(&self.record.id);
        let stillness = self.stillness();
        // All arms are cancel-safe: an unfinished connection is dropped, nothing else is consumed.
        tokio::select! {
            answered = guest.wait_answering(self.deadlines.boot) => match answered {
                Ok(_) => {
                    let boot = Boot {
                        id: boot_id,
                        key: key.to_hex(),
                        accel,
                        size: self.size(),
                        monitor: machine.monitor,
                        vsock: machine.vsock,
                        network: guest_network,
                        extras: extras.clone(),
                    };
                    Ok(Attempt::Answered(Box::new((boot, guest))))
                }
                Err(error) => {
                    let what = format!("did not become reachable: {}", error.one_line());
                    Err(self.guest_failure(error.kind, what).await)
                }
            },
            ended = self.ports.processes.ended(machine.monitor) => {
                ended?;
                let what = "ended before it was reachable".to_owned();
                Err(self.guest_failure(Kind::Failed, what).await)
            }
            stall = stillness.begins() => Err(stillness.report(Kind::Failed, stall).into()),
            () = self.no_life(printed) => Ok(Attempt::NoLife),
        }
    }

    /// Done when the guest has printed nothing for the whole deadline; never done when it has.
    async fn no_life(&self, printed: u64) {
        tokio::time::sleep(self.deadlines.life).await;
        if self.ports.machines.console_position(&self.record.id) != printed {
            std::future::pending::<()>().await;
        }
    }

    async fn network(
        &self,
        extras: &Extras,
        ledger: &dyn super::ledger::Ledger,
    ) -> Result<Option<Attachment>, StartFailure> {
        match self.record.spec.net {
            NetMode::None => Ok(None),
            NetMode::User | NetMode::Bridge => {
                let _stage = self.operation.stage("network");
                let (networks, policy) = (&self.ports.networks, self.record.egress_with(extras));
                Ok(Some(networks.start(self.record, &self.folder, &policy, ledger).await?))
            }
        }
    }

    fn machine_spec(
        &self,
        files: &BootFiles,
        accel: Accel,
        key: &BootKey,
        boot_id: &BootId,
        network: Option<Attachment>,
    ) -> MachineSpec {
        MachineSpec {
            vm: self.record.id.clone(),
            folder: self.folder.clone(),
            kernel: files.kernel.clone(),
            initramfs: files.initramfs.clone(),
            image: files.image.clone(),
            accel,
            vcpu: self.record.spec.vcpu,
            memory_mib: self.record.spec.memory_mib,
            boot_id: boot_id.clone(),
            key: key.clone(),
            network,
        }
    }

    fn size(&self) -> MachineSize {
        let VmSpec { vcpu, memory_mib, disk_bytes, .. } = self.record.spec;
        MachineSize { vcpu, memory_mib, disk_bytes }
    }

    fn setup(&self, boot: &Boot, steps: u32) -> Setup {
        let now = jiff::Timestamp::now().as_nanosecond();
        Setup {
            vm: self.record.id.clone(),
            hostname: self.record.name.to_string(),
            unix_time_ns: i64::try_from(now).unwrap_or(i64::MAX),
            entropy: format!("{}{}", BootKey::random().to_hex(), BootKey::random().to_hex()),
            network: boot.network.clone(),
            ssh_host_key: Some(self.record.spec.ssh_host_key.clone()),
            steps,
        }
    }

    /// Work with the guest, ended by the monitor's end and by the machine's standing still: without this
    /// a guest that cannot answer would be waited for until a deadline.
    async fn or_monitor_end<T>(
        &self,
        boot: &Boot,
        work: impl Future<Output = Result<T, Report>>,
    ) -> Result<T, StartFailure> {
        let stillness = self.stillness();
        // All arms may be dropped: the start fails then.
        tokio::select! {
            done = stillness.unless(work) => Ok(done?),
            ended = self.ports.processes.ended(boot.monitor) => {
                ended?;
                let what = "ended while it was being set up".to_owned();
                Err(self.guest_failure(Kind::Failed, what).await)
            }
        }
    }

    fn stillness(&self) -> Stillness {
        Stillness::of(self.ports.stalls.clone(), self.record, self.folder.clone())
    }

    async fn guest_failure(&self, kind: Kind, what: String) -> StartFailure {
        let name = &self.record.name;
        let mut report = Report::new(kind, format!("the guest of `{name}` {what}"));
        let machines = &self.ports.machines;
        if let Some(words) = machines.last_words(&self.record.id, &self.folder).await {
            report.cause.push(format!("its last words:\n{words}"));
        }
        StartFailure::Guest(report)
    }
}

/// How one boot went.
enum Attempt {
    Answered(Box<(Boot, Arc<dyn Guest>)>),
    NoLife,
}
