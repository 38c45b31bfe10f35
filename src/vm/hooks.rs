//! Hooks in a VM's life: who hears how they went, and those that keep nobody from going on.
//!
//! | hook point | when | a failure that matters |
//! |---|---|---|
//! | `preflight` | before anything is made or started | refuses the create or start |
//! | `configure-machine` | before the guest's kernel boots, at every boot | undoes the start |
//! | `prepare-work-disk` | while it boots | undoes the start |
//! | `post-start` | the guest is set up and has its repository | undoes the start |
//! | `pre-stop` | before a graceful stop: stop, restart, idle | none; a kill or delete cuts it short |
//! | `cleanup` | the VM is being removed and nothing of it runs | none |
//!
//! Every VM that had a row gets `cleanup`, whether its hooks ever ran or not and however it comes to be
//! removed: by a delete, a prune, a lease, a create that is undone, or recovery. It runs between the release of
//! everything the VM had and the end of its row, so a daemon that dies in it has it run again: plugins are
//! told at least once. A VM that is killed or ends by itself gets no `pre-stop`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::events::Events;
use super::limits::{check_env, check_labels, check_rules};
use super::operation::Running;
use super::owner::Owner;
use super::ports::{HookRan, Hooked, HookedVm, Intent, PortResult, Ports};
use super::record::VmRecord;
use super::state::Extras;
use crate::egress::Rule;
use crate::report::{Kind, Report};
use crate::wire::rpc::{ClientContext, Happening, HookPlan, HookPoint};

/// How long a VM waits for hooks that nobody has to wait for. They end earlier by themselves, so this is for
/// a host that does not get to it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tells of hooks: the operation that they are a part of gets their stages and what they say, and everybody
/// hears of those that failed.
pub(super) fn tell(
    record: &VmRecord,
    ran: &[HookRan],
    events: &Events,
    operation: Option<&Running>,
) {
    for HookRan { point, shown, failure } in ran {
        if let Some(operation) = operation {
            operation.past_stage(stage(*point, shown), Duration::from_micros(shown.wall_us));
        }
        for line in &shown.log {
            match operation {
                Some(operation) => operation.note(format!("{}: {line}", shown.plugin)),
                None => tracing::info!(vm = %record.id, plugin = %shown.plugin, line),
            }
        }
        if let Some(message) = failure {
            events.publish(Happening::HookFailed {
                vm: record.id.clone(),
                vm_name: record.name.clone(),
                plugin: shown.plugin.clone(),
                hook: *point,
                message: message.clone(),
            });
        }
    }
}

fn stage(point: HookPoint, shown: &HookPlan) -> String {
    match point {
        HookPoint::PrepareWorkDisk => format!("hook {}", shown.plugin),
        HookPoint::Preflight
        | HookPoint::ConfigureMachine
        | HookPoint::PostStart
        | HookPoint::PreStop
        | HookPoint::Cleanup
        | HookPoint::Doctor => format!("hook {} {point}", shown.plugin),
    }
}

/// Asks plugins what a boot gets. They cannot give it what a user cannot.
pub(super) async fn configure(
    ports: &Ports,
    vm: &HookedVm,
    client: &ClientContext,
    intent: Intent,
) -> PortResult<Hooked<Extras>> {
    let configured = ports.hooks.configure_machine(vm, client, intent).await?;
    let Extras { env, labels, egress } = &configured.wanted;
    let all = vm.machine.egress.with(egress);
    check_extras(env, labels, egress).and_then(|()| check_rules(all.rules.len())).map_err(
        |error| {
            let message = format!("plugins ask for what a VM cannot have: {}", error.message);
            Report { message, ..error }
        },
    )?;
    Ok(configured)
}

/// Refuses variables, labels and rules that no VM can have, whoever asks for them.
///
/// # Errors
/// A sentence about the first that cannot be, or their number.
pub fn check_extras(
    env: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    egress: &BTreeSet<Rule>,
) -> Result<(), Report> {
    check_env(env)?;
    check_labels(labels)?;
    check_rules(egress.len())
}

/// What each plugin contributes at all points together, in the order in which they first ran.
pub(super) fn by_plugin(ran: impl IntoIterator<Item = HookRan>) -> Vec<HookPlan> {
    let mut plans: Vec<HookPlan> = Vec::new();
    for HookRan { shown, .. } in ran {
        match plans.iter_mut().find(|plan| plan.plugin == shown.plugin) {
            Some(plan) => {
                plan.steps.extend(shown.steps);
                plan.wishes.extend(shown.wishes);
                plan.log.extend(shown.log);
                plan.wall_us += shown.wall_us;
            }
            None => plans.push(shown),
        }
    }
    plans
}

/// Tells plugins that a VM goes. Whatever comes of it, the VM does.
pub(super) async fn cleanup(ports: &Ports, record: &VmRecord, events: &Events) {
    let vm = record.hooked();
    let cleaned = tokio::time::timeout(PATIENCE, ports.hooks.cleanup(&vm)).await;
    match cleaned.unwrap_or_else(|_| Err(too_long(HookPoint::Cleanup))) {
        Ok(ran) => tell(record, &ran, events, None),
        Err(error) => tracing::warn!(vm = %record.id, error = error.one_line(), "no cleanup"),
    }
}

impl Owner {
    /// Tells plugins that the VM is about to stop. Whatever comes of it, it does; a kill or a delete does not
    /// wait for them.
    pub(super) async fn pre_stop(&self, operation: Option<&Running>) {
        let vm = self.record.hooked();
        let mut interrupts = self.interrupts.clone();
        // A hook that is dropped here has changed nothing.
        let told = tokio::select! {
            told = self.shared.ports.hooks.pre_stop(&vm) => told,
            () = tokio::time::sleep(PATIENCE) => Err(too_long(HookPoint::PreStop)),
            _ = interrupts.wait_for(|count| *count > 0) => return,
        };
        match told {
            Ok(ran) => tell(&self.record, &ran, self.view.events(), operation),
            Err(error) => self.warn(&error),
        }
    }
}

fn too_long(point: HookPoint) -> Report {
    Report::new(Kind::TimedOut, format!("the hooks `{point}` took too long"))
}

impl VmRecord {
    /// The environment of every command in a boot with these extras: what the VM's maker said wins.
    pub(super) fn env_with(&self, extras: &Extras) -> BTreeMap<String, String> {
        over(&extras.env, &self.spec.env)
    }

    /// The environment of every command now.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let boot = self.state.boot();
        boot.map_or_else(|| self.spec.env.clone(), |boot| self.env_with(&boot.extras))
    }

    /// The labels as they are shown now, the same.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let boot = self.state.boot();
        boot.map_or_else(
            || self.spec.labels.clone(),
            |boot| over(&boot.extras.labels, &self.spec.labels),
        )
    }
}

fn over(
    below: &BTreeMap<String, String>,
    above: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = below.clone();
    all.extend(above.clone());
    all
}
