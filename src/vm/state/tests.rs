//! Tests of the transitions.

use super::*;
use crate::process::ProcessId;
use proptest::prelude::*;

fn boot() -> Boot {
    Boot {
        id: "0123456789abcdef".parse().expect("valid"),
        key: "00".repeat(32),
        accel: Accel::Tcg,
        size: MachineSize { vcpu: 1, memory_mib: 256, disk_bytes: 1 << 30 },
        monitor: ProcessId { pid: 1, start_ticks: 1 },
        vsock: VsockAddress::Context { cid: 3 },
        network: None,
        extras: Extras::default(),
    }
}

fn event(number: u8) -> Event {
    match number {
        0 => Event::Start { operation: "0123456789ab".parse().expect("valid") },
        1 => Event::Started { boot: Box::new(boot()) },
        2 => Event::StartFailed { kept: None },
        3 => Event::StartFailed { kept: Some("no guest".to_owned()) },
        4 => Event::Stop,
        5 => Event::Ended { cause: None },
        7 => Event::Grown { disk_bytes: 2 << 30 },
        _ => Event::Ended { cause: Some("it died".to_owned()) },
    }
}

proptest! {
    /// A boot exists exactly between `Started` and `Ended`, and no sequence of events leaves a
    /// state that cannot be ended and started again.
    #[test]
    fn whatever_happens_the_vm_can_be_ended_and_started(events in proptest::collection::vec(0_u8..8, 0..40)) {
        let mut state = State::Created;
        let mut has_boot = false;
        for number in events {
            let before = state.clone();
            match state.after(event(number)) {
                Ok(next) => {
                    has_boot = match number { 1 => true, 5 | 6 => false, _ => has_boot };
                    state = next;
                }
                Err(error) => {
                    prop_assert_eq!(error.state, before.view());
                    state = before;
                }
            }
            prop_assert_eq!(state.boot().is_some(), has_boot);
        }
        let ended = state.after(event(5)).expect("everything can be ended");
        prop_assert!(ended.boot().is_none());
        prop_assert!(ended.after(event(0)).is_ok());
    }
}

#[test]
fn a_failed_start_goes_back_to_what_was() {
    for rest in [Rest::Created, Rest::Stopped, Rest::Error { cause: "old".to_owned() }] {
        let state = State::from(rest.clone()).after(event(0)).expect("starts");
        assert_eq!(state.after(event(2)), Ok(State::from(rest)));
    }
}

#[test]
fn a_disk_grows_in_a_vm_that_runs_and_nowhere_else() {
    let grown = State::Running { boot: boot() }.after(event(7)).expect("grows");
    assert_eq!(grown.boot().map(|boot| boot.size.disk_bytes), Some(2 << 30));
    State::Stopping { boot: boot() }.after(event(7)).expect_err("refused");
    State::Stopped { cause: None }.after(event(7)).expect_err("refused");
}

#[test]
fn a_refusal_is_a_sentence() {
    let error = State::Running { boot: boot() }.after(event(0)).expect_err("refused");
    assert_eq!(error.to_string(), "the VM is running, so it cannot be started");
}

#[test]
fn states_survive_their_row() {
    let state = State::Running { boot: boot() };
    let text = serde_json::to_string(&state).expect("writes");
    assert_eq!(serde_json::from_str::<State>(&text).expect("reads"), state);
}

#[test]
fn a_vm_that_is_not_whole_cannot_be_started() {
    for state in [State::Making, State::Created.after(Event::Delete).expect("deletes")] {
        state.clone().after(event(0)).expect_err("refused");
        assert_eq!(state.clone().after(event(5)), Ok(state));
    }
}

#[test]
fn a_failed_first_start_leaves_the_rest_to_the_maker() {
    let operation = "0123456789ab".parse().expect("valid");
    let state = State::Making.after(Event::FirstStart { operation }).expect("starts");
    assert_eq!(state.after(event(2)), Ok(State::Making));
}
