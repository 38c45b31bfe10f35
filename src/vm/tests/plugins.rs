//! Plugins in memory, at every hook point.

use async_trait::async_trait;

use super::fault::{Fate, PORT_DEADLINE};
use super::ports::Sim;
use super::world::Plugins;
use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::vm::plan::WorkDiskPlan;
use crate::vm::ports::{HookRan, Hooked, HookedGuest, HookedVm, Intent, PortResult, VmHooks};
use crate::vm::state::Extras;
use crate::wire::rpc::{ClientContext, HookPlan, HookPoint, HookWish};

/// The variable that plugins give every boot, with another value for each.
pub(crate) const VARIABLE: &str = "BOOT";

impl Sim {
    /// One hook of the plugin `watcher`.
    async fn hook(
        &self,
        (name, point): (&'static str, HookPoint),
        effect: impl Future<Output = PortResult<()>>,
    ) -> PortResult<Vec<HookRan>> {
        let run = async {
            let plugins = self.world.host().behaviour.plugins;
            match plugins {
                Plugins::Fail(at) if at == point => {
                    return Err(Report::new(Kind::Refused, "the plugin `watcher` says no"));
                }
                Plugins::Hang(at) if at == point => {
                    tokio::time::sleep(PORT_DEADLINE).await;
                    return Err(Report::new(Kind::TimedOut, "the plugin `watcher` hangs"));
                }
                Plugins::Fine | Plugins::Fail(_) | Plugins::Hang(_) | Plugins::FailSoftly => {}
            }
            effect.await?;
            let failure = (plugins == Plugins::FailSoftly).then(|| "it broke".to_owned());
            let shown = HookPlan {
                plugin: "watcher".parse().expect("an id"),
                steps: Vec::new(),
                wishes: Vec::new(),
                log: failure.iter().cloned().collect(),
                wall_us: 1,
            };
            Ok(vec![HookRan { point, shown, failure }])
        };
        self.call(name, run).await
    }

    /// From here on plugins know the VM.
    fn introduce(&self, vm: &HookedVm, intent: Intent) {
        if intent == Intent::Act {
            self.world.host().introduced.insert(vm.id.clone());
        }
    }
}

/// A call of `cleanup`. A plugin that fails in it, or takes too long, was told all the same.
struct Telling<'a> {
    sim: &'a Sim,
    vm: &'a VmId,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if self.sim.faults.fate() != Fate::Dead {
            self.sim.world.host().introduced.remove(self.vm);
        }
    }
}

#[async_trait]
impl VmHooks for Sim {
    async fn preflight(
        &self,
        _: &HookedVm,
        _: &ClientContext,
        _: Intent,
    ) -> PortResult<Vec<HookRan>> {
        self.hook(("hooks.preflight", HookPoint::Preflight), async { Ok(()) }).await
    }

    async fn configure_machine(
        &self,
        vm: &HookedVm,
        _: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<Extras>> {
        let mut wanted = Extras::default();
        let configure = async {
            self.introduce(vm, intent);
            let mut host = self.world.host();
            host.asked += 1;
            wanted.env.insert(VARIABLE.to_owned(), host.asked.to_string());
            wanted.env.insert("OWN".to_owned(), "the plugin's".to_owned());
            wanted.labels.extend(host.labels.clone());
            wanted.egress.extend(host.wished.clone());
            Ok(())
        };
        let named = ("hooks.configure_machine", HookPoint::ConfigureMachine);
        let mut ran = self.hook(named, configure).await?;
        ran[0].shown.wishes = wanted.env.keys().map(|name| wish(name)).collect();
        Ok(Hooked { wanted, ran })
    }

    async fn prepare_work_disk(
        &self,
        vm: &HookedVm,
        _: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<WorkDiskPlan>> {
        let prepare = async {
            self.introduce(vm, intent);
            Ok(())
        };
        let named = ("hooks.prepare_work_disk", HookPoint::PrepareWorkDisk);
        Ok(Hooked { wanted: WorkDiskPlan::default(), ran: self.hook(named, prepare).await? })
    }

    async fn post_start(&self, _: &HookedVm, guest: HookedGuest) -> PortResult<Vec<HookRan>> {
        let greet = async {
            assert!(guest.env.contains_key(VARIABLE), "commands have what plugins gave");
            guest.guest.health().await.map(drop)
        };
        self.hook(("hooks.post_start", HookPoint::PostStart), greet).await
    }

    async fn pre_stop(&self, _: &HookedVm) -> PortResult<Vec<HookRan>> {
        self.hook(("hooks.pre_stop", HookPoint::PreStop), async { Ok(()) }).await
    }

    async fn cleanup(&self, vm: &HookedVm) -> PortResult<Vec<HookRan>> {
        let _telling = Telling { sim: self, vm: &vm.id };
        self.hook(("hooks.cleanup", HookPoint::Cleanup), async { Ok(()) }).await
    }
}

fn wish(name: &str) -> HookWish {
    HookWish { action: "set-env".to_owned(), name: name.to_owned(), value: None }
}
