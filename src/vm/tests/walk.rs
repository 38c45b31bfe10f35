//! A fault at every port call of every scenario, then a new daemon over what is left.

mod scenes;

use std::time::Duration;

use self::scenes::{bridge, end, fail_twice, idle, reach, restart, set, signal, stalled};
use super::fault::{Fate, Fault};
use super::world::{Behaviour, Plugins, World, folder};
use super::{Daemon, daemon, listed, run, wish};
use crate::id::VmId;
use crate::vm::state::State;
use crate::vm::{ConnectionId, Doom};
use crate::wire::rpc::{ClientContext, CreateVm, CreateWorkspace, HookPoint, KillSignal, NetMode};

/// Longer than everything that a scenario may wait for.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    WholeLife,
    CreateOnly,
    FailingHook,
    NeverAnswers,
    NeverAnswersLeased,
    NoLife,
    IgnoresPowerOff,
    LeaseExpires,
    MonitorDies,
    Recovery,
    Restart,
    Signals,
    Set,
    Reach,
    Bridge,
    Idle,
    Stalled,
    FailSoftly,
    Refused,
    AfterStartFails,
    AfterStartHangs,
    BeforeStopHangs,
    CleanupHangs,
}

impl Scenario {
    const ALL: [Self; 23] = [
        Self::WholeLife,
        Self::CreateOnly,
        Self::FailingHook,
        Self::NeverAnswers,
        Self::NeverAnswersLeased,
        Self::NoLife,
        Self::IgnoresPowerOff,
        Self::LeaseExpires,
        Self::MonitorDies,
        Self::Recovery,
        Self::Restart,
        Self::Signals,
        Self::Set,
        Self::Reach,
        Self::Bridge,
        Self::Idle,
        Self::Stalled,
        Self::FailSoftly,
        Self::Refused,
        Self::AfterStartFails,
        Self::AfterStartHangs,
        Self::BeforeStopHangs,
        Self::CleanupHangs,
    ];

    fn behaviour(self) -> Behaviour {
        let usual = Behaviour::default();
        let plugins = |plugins| Behaviour { plugins, ..usual };
        match self {
            Self::FailingHook => plugins(Plugins::BROKEN),
            Self::FailSoftly => plugins(Plugins::FailSoftly),
            Self::Refused => plugins(Plugins::Fail(HookPoint::Preflight)),
            Self::AfterStartFails => plugins(Plugins::Fail(HookPoint::PostStart)),
            Self::AfterStartHangs => plugins(Plugins::Hang(HookPoint::PostStart)),
            Self::BeforeStopHangs => plugins(Plugins::Hang(HookPoint::PreStop)),
            Self::CleanupHangs => plugins(Plugins::Hang(HookPoint::Cleanup)),
            Self::NeverAnswers | Self::NeverAnswersLeased => {
                Behaviour { never_answers: true, ..usual }
            }
            Self::NoLife => Behaviour { silent: true, ..usual },
            Self::IgnoresPowerOff => Behaviour { ignores_power_off: true, ..usual },
            Self::WholeLife
            | Self::CreateOnly
            | Self::LeaseExpires
            | Self::MonitorDies
            | Self::Recovery
            | Self::Restart
            | Self::Signals
            | Self::Set
            | Self::Reach
            | Self::Bridge
            | Self::Idle
            | Self::Stalled => usual,
        }
    }

    /// A world as the scenario finds it.
    fn world(self) -> World {
        let world = World::default();
        if self == Self::Recovery {
            run(left_behind(&world));
            run(died_in_create(&world));
            world.host().folders.insert(folder(&VmId::random()));
        }
        world.behave(self.behaviour());
        world
    }

    /// How many folders the world has that no row names.
    fn unknown(self) -> usize {
        usize::from(self == Self::Recovery)
    }

    /// What is asked. Answers do not matter: after a fault they may be anything.
    async fn play(self, daemon: &Daemon, world: &World) {
        let vms = &daemon.vms;
        let client = ClientContext::default;
        match self {
            Self::WholeLife => {
                let path = "/repo".to_owned();
                let workspace = Some(CreateWorkspace { path, ..CreateWorkspace::default() });
                vms.create(CreateVm { workspace, ..wish("web") }, None).await.ok();
                vms.stop("web").await.ok();
                vms.start("web", client(), true).await.ok();
                vms.kill("web", KillSignal::Kill).await.ok();
                vms.start("web", client(), true).await.ok();
                vms.delete("web", Doom::WHATEVER).await.ok();
            }
            Self::CreateOnly | Self::Refused => {
                vms.create(CreateVm { start: Some(false), ..wish("web") }, None).await.ok();
                vms.start("web", client(), true).await.ok();
                vms.stop("web").await.ok();
            }
            Self::AfterStartFails | Self::AfterStartHangs => fail_twice(vms).await,
            Self::FailSoftly | Self::BeforeStopHangs | Self::CleanupHangs => end(vms).await,
            Self::FailingHook | Self::NoLife => {
                vms.create(wish("web"), None).await.ok();
            }
            Self::NeverAnswers => {
                vms.create(wish("web"), None).await.ok();
                vms.start("web", client(), true).await.ok();
                vms.delete("web", Doom::WHATEVER).await.ok();
            }
            Self::IgnoresPowerOff => {
                vms.create(wish("web"), None).await.ok();
                vms.stop("web").await.ok();
            }
            Self::NeverAnswersLeased | Self::LeaseExpires => {
                let connection = ConnectionId(1);
                vms.connection_opened(connection);
                vms.create(CreateVm { lease: true, ..wish("web") }, Some(connection)).await.ok();
                vms.connection_closed(connection);
                tokio::time::sleep(Duration::from_secs(120)).await;
            }
            Self::MonitorDies => {
                vms.create(wish("web"), None).await.ok();
                for monitor in world.monitors() {
                    world.end(monitor);
                }
                tokio::time::sleep(Duration::from_secs(120)).await;
            }
            Self::Restart => restart(vms).await,
            Self::Signals => signal(vms).await,
            Self::Set => set(vms).await,
            Self::Reach => reach(vms).await,
            Self::Bridge => bridge(vms).await,
            Self::Idle => idle(vms).await,
            Self::Stalled => stalled(vms, world).await,
            Self::Recovery => {
                vms.recover().await.ok();
                vms.stop("kept").await.ok();
            }
        }
    }
}

/// A VM that runs, one whose monitor dies behind the daemon's back, one at rest, one never started.
async fn left_behind(world: &World) {
    let daemon = daemon(world, None);
    for name in ["kept", "died", "rests"] {
        let net = Some(if name == "rests" { NetMode::User } else { NetMode::Bridge });
        daemon.vms.create(CreateVm { net, ..wish(name) }, None).await.expect("created");
    }
    let unstarted = CreateVm { start: Some(false), ..wish("fresh") };
    daemon.vms.create(unstarted, None).await.expect("created");
    daemon.vms.stop("rests").await.expect("stopped");
    world.end(world.monitors()[1]);
}

/// A VM whose daemon died while it was being started.
async fn died_in_create(world: &World) {
    let starts = |calls: &[&str]| calls.iter().position(|call| *call == "guest.wait_answering");
    let scratch = World::default();
    let probe = daemon(&scratch, None);
    probe.vms.create(wish("half"), None).await.expect("created");
    let at = starts(&probe.faults.calls()).expect("it starts");
    let dying = daemon(world, Some((at, Fault::DieBefore)));
    tokio::select! {
        created = dying.vms.create(wish("half"), None) => panic!("the daemon lived: {created:?}"),
        () = dying.faults.until(Fate::Dead) => {}
    }
    let host = world.host();
    assert!(host.rows.iter().any(|row| matches!(row.state, State::Starting { .. })));
}

/// Plays a scenario with a fault. Returns the calls that were made.
fn play(scenario: Scenario, world: &World, planned: Option<(usize, Fault)>) -> Vec<&'static str> {
    run(async {
        let daemon = daemon(world, planned);
        let cancel = async {
            daemon.faults.until(Fate::Hangs).await;
            if planned.is_some_and(|(_, fault)| fault == Fault::HangThenCancel) {
                for operation in daemon.vms.operations().list() {
                    daemon.vms.operations().cancel(&operation.id).expect("known");
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = scenario.play(&daemon, world) => {}
            () = daemon.faults.until(Fate::Dead) => {}
            () = cancel => {}
            () = tokio::time::sleep(PATIENCE) => {
                panic!("{scenario:?} with {planned:?} never ended: {:?}", daemon.faults.calls());
            }
        }
        daemon.faults.calls()
    })
}

/// A new daemon over what is left: rows and host agree, and everything can be deleted.
fn recover(world: &World, told: &str) {
    world.behave(Behaviour::default());
    run(async {
        let daemon = daemon(world, None);
        daemon.vms.recover().await.expect("recovers");
        assert_eq!(world.complaints(), Vec::<String>::new(), "{told}");
        let shown = listed(&daemon.vms);
        let mut rows = world.host().rows.clone();
        // As the service lists them: VMs made in one millisecond go by their ids.
        rows.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
        assert_eq!(shown.len(), rows.len(), "{told}");
        for (vm, row) in shown.iter().zip(&rows) {
            assert_eq!((&vm.id, vm.state), (&row.id, row.state.view()), "{told}");
        }
        for vm in shown {
            if vm.state != crate::wire::rpc::VmState::Running {
                let client = ClientContext::default();
                let started = daemon.vms.start(vm.id.as_str(), client, true).await;
                let started = super::outcome(started.expect("an operation"));
                assert_eq!(started, Ok(crate::wire::rpc::VmState::Running), "{told}");
            }
            assert_eq!(world.complaints(), Vec::<String>::new(), "{told}");
            daemon.vms.delete(vm.id.as_str(), Doom::WHATEVER).await.expect("deleted");
        }
        let host = world.host();
        assert!(host.rows.is_empty() && host.resources.is_empty(), "{told}: {host:?}");
        assert!(host.processes.is_empty() && host.folders.is_empty(), "{told}: {host:?}");
    });
}

/// All faults at all calls of one scenario. Returns how many points that were.
fn walk(scenario: Scenario) -> usize {
    let world = scenario.world();
    let calls = play(scenario, &world, None);
    recover(&world, &format!("{scenario:?} without a fault"));
    assert_eq!(world.host().lost.len(), scenario.unknown());
    let mut points = 0;
    for (index, call) in calls.iter().enumerate() {
        for fault in Fault::ALL {
            let told = format!("{scenario:?} with {fault:?} at call {index}, `{call}`");
            let world = scenario.world();
            play(scenario, &world, Some((index, fault)));
            recover(&world, &told);
            // Nothing that a fault leaves is without a row, and what is without a row is kept.
            assert_eq!(world.host().lost.len(), scenario.unknown(), "{told}");
            points += 1;
        }
    }
    points
}

macro_rules! walks {
    ($($name:ident: $scenario:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let points = walk(Scenario::$scenario);
                show(Scenario::$scenario, points);
                assert!(points > 50, "too few points: {points}");
            }
        )*

        #[test]
        fn every_scenario_is_walked() {
            assert_eq!([$(Scenario::$scenario),*], Scenario::ALL);
        }
    };
}

#[expect(clippy::print_stderr, reason = "tests report to people")]
fn show(scenario: Scenario, points: usize) {
    eprintln!("{scenario:?}: {points} points walked");
}

walks! {
    a_whole_life: WholeLife;
    a_vm_that_is_made_and_started_later: CreateOnly;
    a_failing_hook: FailingHook;
    a_guest_that_never_answers: NeverAnswers;
    a_leased_guest_that_never_answers: NeverAnswersLeased;
    a_guest_without_life: NoLife;
    a_guest_that_ignores_power_off: IgnoresPowerOff;
    a_lease_that_expires: LeaseExpires;
    a_monitor_that_dies: MonitorDies;
    recovery: Recovery;
    a_restart: Restart;
    signals: Signals;
    settings: Set;
    what_a_vm_may_reach: Reach;
    vms_on_the_bridge: Bridge;
    a_vm_that_nobody_uses: Idle;
    a_vm_that_stands_still: Stalled;
    hooks_that_fail_and_may: FailSoftly;
    a_start_that_a_plugin_refuses: Refused;
    a_hook_that_fails_after_the_start: AfterStartFails;
    a_hook_that_hangs_after_the_start: AfterStartHangs;
    a_hook_that_hangs_before_a_stop: BeforeStopHangs;
    a_hook_that_hangs_in_a_delete: CleanupHangs;
}
