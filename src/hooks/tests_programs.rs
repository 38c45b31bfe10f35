//! Hooks after a start, and the programs that they run in a guest: granted ones, one after the other, and not
//! longer than somebody waits for them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::tests_points::{ID, edit, remembered, steps, user, with};
use super::tests_support::User;
use super::*;
use crate::wire::rpc::{GrantHook, HookPoint};

/// A guest that notes what is run in it.
#[derive(Default)]
pub(super) struct Guest {
    ran: Mutex<Vec<GuestProgram>>,
    now: AtomicUsize,
    most: AtomicUsize,
    /// Programs do not end, and each is told here.
    hangs: Option<mpsc::Sender<()>>,
}

impl GuestPrograms for Guest {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        async move {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let script = program.arguments.last().cloned().unwrap_or_default();
            self.ran.lock().expect("no panic under the lock").push(program);
            if let Some(told) = &self.hangs {
                told.send(()).await.expect("the test listens");
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            match script.as_str() {
                "lost" => Err("the guest is gone".to_owned()),
                _ => Ok(GuestOutput {
                    status: 3,
                    stdout: b"out\n".to_vec(),
                    ..GuestOutput::default()
                }),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_plugin_runs_what_it_may_in_the_guest() {
    let mut user = user(&[ID]);
    let script = ["shell true", "try run rm", "try shell lost"];
    steps(&mut user, ID, HookPoint::PostStart, &script);
    let (host, guest) = (user.host().await, std::sync::Arc::new(Guest::default()));
    let outcomes = host.post_start(&user.inputs, guest.clone()).await.expect("it may run");
    let said = ["3: out", "not-granted: `guest.run:rm` is not granted", "io: the guest is gone"];
    assert_eq!(outcomes[0].for_user(), said);
    assert_eq!(outcomes[0].refusals.len(), 1);
    let ran: Vec<_> =
        guest.ran.lock().expect("ended").iter().map(|ran| ran.program.clone()).collect();
    assert_eq!(ran, ["sh", "sh"]);

    let flood = format!("flood {}", limits::GUEST_PROGRAMS + 1);
    steps(&mut user, ID, HookPoint::PostStart, &[&flood]);
    let guest = std::sync::Arc::new(Guest::default());
    let failed = host.post_start(&user.inputs, guest.clone()).await.expect_err("too many");
    assert!(failed.to_string().contains("a plugin runs at most 32 programs"), "{failed}");
    assert_eq!(guest.ran.lock().expect("ended").len(), limits::GUEST_PROGRAMS);
}

#[tokio::test]
async fn nothing_runs_in_a_guest_without_a_grant() {
    let mut user = User::new();
    let package = user.package(ID, ID, |manifest| manifest);
    steps(&mut user, ID, HookPoint::PostStart, &["count calls", "shell true"]);
    let guest = std::sync::Arc::new(Guest::default());
    let host = user.host().await;
    host.install(&package).await.expect("installed");
    let (plugin, needs) = (ID.parse().expect("an id"), vec!["state".to_owned()]);
    let grant = GrantHook { plugin, needs, host_files: BTreeMap::new(), release: None };
    host.grant(grant).await.expect("granted");
    let failed = host.post_start(&user.inputs, guest.clone()).await.expect_err("not granted");
    assert!(failed.to_string().contains("`guest.run:sh` is not granted"), "{failed}");
    assert!(guest.ran.lock().expect("ended").is_empty() && remembered(&user, ID).is_empty());
}

#[tokio::test]
async fn hooks_in_a_guest_run_one_after_the_other_in_their_order() {
    let mut user = user(&["one", "two", "zero"]);
    for id in ["one", "two", "zero"] {
        steps(&mut user, id, HookPoint::PostStart, &[&format!("shell {id}"), "shell true"]);
    }
    edit(&user, "one", with(HookPoint::PostStart, "after = ['zero']"));
    edit(&user, "two", with(HookPoint::PostStart, "before = ['zero']"));
    let guest = std::sync::Arc::new(Guest::default());
    let host = user.host().await;
    host.post_start(&user.inputs, guest.clone()).await.expect("all may run");
    let ran = guest.ran.lock().expect("ended");
    let ran: Vec<_> = ran.iter().filter_map(|ran| ran.arguments.last().cloned()).collect();
    assert_eq!(ran, ["two", "true", "zero", "true", "one", "true"]);
    assert_eq!(guest.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn all_hooks_of_a_point_have_a_time_together() {
    let mut user = user(&["one", "three", "two"]);
    for id in ["one", "three", "two"] {
        steps(&mut user, id, HookPoint::PostStart, &["shell true"]);
        edit(&user, id, with(HookPoint::PostStart, "failure = 'optional'\ntimeout = '900s'"));
    }
    let host = user.host().await;
    host.check().await.expect("all can run");
    let (told, mut calls) = mpsc::channel(8);
    let guest = std::sync::Arc::new(Guest { hangs: Some(told), ..Guest::default() });
    tokio::time::pause();
    let time_passes = async {
        for _ in 0..2 {
            calls.recv().await.expect("called");
            tokio::time::advance(std::time::Duration::from_secs(901)).await;
        }
    };
    let (outcomes, ()) = tokio::join!(host.post_start(&user.inputs, guest), time_passes);
    let outcomes = outcomes.expect("none has to succeed");
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.failure.clone()).collect();
    assert!(failures[0].ends_with("it took longer than 900000 ms"), "{failures:?}");
    assert!(failures[1].contains("it took longer than 29"), "{failures:?}");
    assert!(failures[2].contains("nothing was left of the 1200 s"), "{failures:?}");
}

#[tokio::test]
async fn a_hook_whose_caller_is_gone_runs_nothing_on() {
    let mut user = user(&[ID]);
    steps(&mut user, ID, HookPoint::PostStart, &["count calls", "shell true"]);
    let (host, (told, mut calls)) = (user.host().await, mpsc::channel(8));
    let guest = std::sync::Arc::new(Guest { hangs: Some(told), ..Guest::default() });
    let running = std::sync::Arc::downgrade(&guest);
    tokio::select! {
        ended = host.post_start(&user.inputs, guest) => panic!("it hangs: {ended:?}"),
        called = calls.recv() => called.expect("called"),
    }
    // The run lets go of the guest, and with it of the program in it, long before its wall time is over.
    let let_go = async {
        while running.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(limits::wall(HookPoint::PostStart).0 / 2, let_go).await;
    waited.expect("it has let go");
    assert!(remembered(&user, ID).is_empty());
}

/// A guest whose programs keep a thread of the host until the test lets go.
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

impl GuestPrograms for Stuck {
    fn run(&self, _: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        async move {
            let let_go = self.0.lock().expect("no panic under the lock");
            let_go.recv().expect_err("nobody sends anything");
            Ok(GuestOutput::default())
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_run_that_is_left_behind_keeps_its_place() {
    let mut user = user(&[ID]);
    steps(&mut user, ID, HookPoint::PostStart, &["shell true"]);
    edit(&user, ID, with(HookPoint::PostStart, "timeout = '200ms'"));
    let host = user.host().await;
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
    let guest = std::sync::Arc::new(Stuck(Mutex::new(held)));
    let failed = host.post_start(&user.inputs, guest).await.expect_err("it hangs");
    assert!(failed.to_string().contains("it took longer than 200 ms"), "{failed}");
    let all = limits::CONCURRENT_IN_GUESTS;
    assert_eq!(host.turns_in_guests.available_permits() + 1, all as usize);
    drop(hold);
    let back =
        tokio::time::timeout(limits::WALL_GRACE * 30, host.turns_in_guests.acquire_many(all));
    back.await.expect("it comes back").expect("open").forget();
}

#[tokio::test]
async fn a_plugin_is_installed_in_a_place_for_hooks() {
    let user = User::new();
    let package = user.package(ID, ID, |manifest| manifest);
    let host = user.host().await;
    host.turns.close();
    let refused = host.install(&package).await.expect_err("there is no place").to_string();
    assert!(refused.contains("all places for hooks are taken"), "{refused}");
}
