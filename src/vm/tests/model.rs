//! Random commands against a model that knows nothing but states.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::fault::{Fate, Fault};
use super::world::World;
use super::{Daemon, daemon, listed, run, wish};
use crate::wire::rpc::{ClientContext, CreateVm, KillSignal, SetVm, VmState};

#[derive(Debug, Clone, Copy)]
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
        Step::Prune => vms.delete_at_rest(&name).await.is_ok(),
        Step::Delete => vms.delete(&name).await.is_ok(),
        Step::MonitorsDie => {
            world.monitors().into_iter().for_each(|monitor| world.end(monitor));
            tokio::time::sleep(Duration::from_secs(1)).await;
            true
        }
        Step::NextDaemon => {
            daemon.tasks.drain(Duration::from_secs(100)).await;
            *daemon = super::daemon(world, None);
            daemon.vms.recover().await.is_ok()
        }
    }
}

/// The same in the model.
fn expect(model: &mut BTreeMap<String, VmState>, (step, number): (Step, u8)) -> bool {
    let name = name(number);
    let state = model.get(&name).copied();
    let next = match (step, state) {
        (Step::Create, None) => Some(VmState::Running),
        (Step::Make, None) => Some(VmState::Created),
        (Step::Create | Step::Make, Some(_)) => return false,
        (Step::Start, Some(VmState::Running) | None) => return false,
        (Step::Again, None) => return false,
        (Step::Start | Step::Again, Some(_)) => Some(VmState::Running),
        (Step::Stop | Step::Kill | Step::Delete | Step::Larger | Step::Prune, None) => {
            return false;
        }
        (Step::Prune, Some(VmState::Running)) => return false,
        (Step::Prune, Some(_)) => None,
        (Step::Stop | Step::Kill, Some(VmState::Running)) => Some(VmState::Stopped),
        (Step::Stop | Step::Kill | Step::Larger | Step::NextDaemon, state) => state,
        (Step::Delete, Some(_)) => None,
        (Step::MonitorsDie, state) => {
            let running = model.values_mut().filter(|state| **state == VmState::Running);
            running.for_each(|state| *state = VmState::Stopped);
            state.map(|state| if state == VmState::Running { VmState::Stopped } else { state })
        }
    };
    match next {
        Some(state) => model.insert(name, state),
        None => model.remove(&name),
    };
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Without faults the service does what the model says, whatever is asked in whatever order.
    #[test]
    fn the_service_is_the_model(steps in prop::collection::vec(step(), 1..30)) {
        run(async {
            let world = World::default();
            let mut daemon = daemon(&world, None);
            let mut model = BTreeMap::new();
            for step in steps {
                let done = act(&mut daemon, &world, step).await;
                assert_eq!(done, expect(&mut model, step), "{step:?} on {model:?}");
                let shown = listed(&daemon.vms);
                let shown: BTreeMap<_, _> =
                    shown.into_iter().map(|vm| (vm.name.to_string(), vm.state)).collect();
                assert_eq!(shown, model, "after {step:?}");
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
