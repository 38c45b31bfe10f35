//! Random commands against a model that knows nothing but states.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::fault::{Fate, Fault};
use super::world::World;
use super::{AT_REST, Daemon, daemon, listed, run, wish};
use crate::vm::Doom;
use crate::wire::rpc::{ClientContext, CreateVm, KillSignal, SetVm, VmState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Make,
    Start,
    Stop,
    Kill,
    Delete,
    Again,
    Larger,
    Prune,
    MonitorsDie,
    DiskFills,
    RoomIsMade,
    NextDaemon,
}

fn step() -> impl Strategy<Value = (Step, u8)> {
    let step = prop_oneof![
        3 => Just(Step::Create),
        1 => Just(Step::Make),
        3 => Just(Step::Start),
        2 => Just(Step::Stop),
        1 => Just(Step::Kill),
        1 => Just(Step::Delete),
        1 => Just(Step::Again),
        1 => Just(Step::Larger),
        1 => Just(Step::Prune),
        1 => Just(Step::MonitorsDie),
        2 => Just(Step::DiskFills),
        2 => Just(Step::RoomIsMade),
        1 => Just(Step::NextDaemon),
    ];
    (step, 0_u8..3)
}

fn name(number: u8) -> String {
    format!("vm-{number}")
}

/// Does one step; says whether it was done.
async fn act(daemon: &mut Daemon, world: &World, (step, number): (Step, u8)) -> bool {
    let (vms, name) = (&daemon.vms, name(number));
    let started = |operation: Result<crate::wire::rpc::Operation, _>| {
        operation.is_ok_and(|operation| super::outcome(operation).is_ok())
    };
    match step {
        Step::Create => started(vms.create(wish(&name), None).await),
        Step::Make => {
            let make = CreateVm { start: Some(false), ..wish(&name) };
            started(vms.create(make, None).await)
        }
        Step::Start => started(vms.start(&name, ClientContext::default(), true).await),
        Step::Again => started(vms.restart(&name, ClientContext::default(), true).await),
        Step::Stop => vms.stop(&name).await.is_ok(),
        Step::Kill => vms.kill(&name, KillSignal::Kill).await.is_ok(),
        Step::Larger => {
            let disk_bytes = vms.show(&name).ok().map(|vm| vm.disk_bytes + (1 << 30));
            vms.set(SetVm { vm: name, disk_bytes, ..SetVm::default() }).await.is_ok()
        }
        Step::Prune => vms.delete(&name, AT_REST).await.is_ok(),
        Step::Delete => vms.delete(&name, Doom::WHATEVER).await.is_ok(),
        Step::MonitorsDie => {
            world.monitors().into_iter().for_each(|monitor| world.end(monitor));
            tokio::time::sleep(Duration::from_secs(1)).await;
            true
        }
        Step::DiskFills => {
            world.fill();
            true
        }
        Step::RoomIsMade => {
            world.make_room();
            true
        }
        Step::NextDaemon => {
            daemon.tasks.drain(Duration::from_secs(100)).await;
            *daemon = super::daemon(world, None);
            daemon.vms.recover().await.is_ok()
        }
    }
}

/// What the model knows: states, who stands still, and whether the host's disk is full.
#[derive(Debug, Default)]
struct Model {
    states: BTreeMap<String, VmState>,
    stalled: BTreeSet<String>,
    full: bool,
}

impl Model {
    /// The same in the model.
    fn expect(&mut self, (step, number): (Step, u8)) -> bool {
        let name = name(number);
        let state = self.states.get(&name).copied();
        if (step, state) == (Step::Start, Some(VmState::Running)) && self.stalled.contains(&name) {
            return !self.full && self.stalled.remove(&name);
        }
        let Some(next) = self.next(step, &name, state) else {
            return false;
        };
        let stays = (next, state) == (Some(VmState::Running), Some(VmState::Running));
        if !stays || step == Step::Again {
            self.stalled.remove(&name);
        }
        match next {
            Some(state) => self.states.insert(name, state),
            None => self.states.remove(&name),
        };
        true
    }

    /// The state of the step's VM afterwards, none when it is gone; or nothing when the step is refused.
    fn next(&mut self, step: Step, name: &str, state: Option<VmState>) -> Option<Option<VmState>> {
        let running = |(_, state): &(&String, &mut VmState)| **state == VmState::Running;
        Some(match (step, state) {
            (Step::Create, None) => Some(VmState::Running),
            (Step::Make, None) => Some(VmState::Created),
            (Step::Create | Step::Make, Some(_)) => return None,
            (Step::Start, Some(VmState::Running) | None) | (Step::Again, None) => return None,
            (Step::Start | Step::Again, Some(_)) => Some(VmState::Running),
            (Step::Stop | Step::Kill | Step::Delete | Step::Larger | Step::Prune, None) => {
                return None;
            }
            (Step::Prune, Some(VmState::Running)) => return None,
            (Step::Prune | Step::Delete, Some(_)) => None,
            (Step::Stop | Step::Kill, Some(VmState::Running)) => Some(VmState::Stopped),
            (Step::Stop | Step::Kill | Step::Larger | Step::NextDaemon, state) => state,
            (Step::MonitorsDie, _) => {
                let died = self.states.iter_mut().filter(running);
                died.for_each(|(_, state)| *state = VmState::Stopped);
                self.stalled.clear();
                self.states.get(name).copied()
            }
            (Step::DiskFills, state) => {
                self.full = true;
                let fills = self.states.iter_mut().filter(running);
                self.stalled.extend(fills.map(|(name, _)| name.clone()));
                state
            }
            (Step::RoomIsMade, state) => {
                self.full = false;
                state
            }
        })
    }
}

/// The VMs as they are shown.
fn shown(daemon: &Daemon) -> (BTreeMap<String, VmState>, BTreeSet<String>) {
    let vms = listed(&daemon.vms);
    let stalled = vms.iter().filter(|vm| vm.stalled.is_some()).map(|vm| vm.name.to_string());
    let stalled = stalled.collect();
    (vms.into_iter().map(|vm| (vm.name.to_string(), vm.state)).collect(), stalled)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Without faults the service does what the model says, whatever is asked in whatever order.
    #[test]
    fn the_service_is_the_model(steps in prop::collection::vec(step(), 1..30)) {
        run(async {
            let world = World::default();
            let mut daemon = daemon(&world, None);
            let mut model = Model::default();
            for step in steps {
                let done = act(&mut daemon, &world, step).await;
                assert_eq!(done, model.expect(step), "{step:?} on {model:?}");
                let expected = (model.states.clone(), model.stalled.clone());
                assert_eq!(shown(&daemon), expected, "after {step:?}");
                assert_eq!(world.complaints(), Vec::<String>::new(), "after {step:?}");
            }
        });
    }

    /// With a fault anywhere, the next daemon finds a world it can put in order.
    #[test]
    fn after_any_fault_the_world_can_be_put_in_order(
        steps in prop::collection::vec(step(), 1..12),
        at in 0_usize..400,
        fault in prop::sample::select(Fault::ALL.to_vec()),
    ) {
        let world = World::default();
        run(async {
            let mut daemon = daemon(&world, Some((at, fault)));
            let faults = daemon.faults.clone();
            let play = async {
                for step in steps {
                    act(&mut daemon, &world, step).await;
                }
            };
            tokio::select! {
                () = play => {}
                () = faults.until(Fate::Dead) => {}
            }
        });
        run(async {
            let daemon = daemon(&world, None);
            daemon.vms.recover().await.expect("recovers");
            assert_eq!(world.complaints(), Vec::<String>::new());
        });
    }
}
