//! Faults of ports: every call is counted, and one of them can be made to go wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::report::{Kind, Report};
use crate::vm::ports::PortResult;

/// The deadline that every real port puts on what it does.
pub(crate) const PORT_DEADLINE: Duration = Duration::from_secs(60);

/// How one call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and does nothing.
    Error,
    /// It does what it should and fails all the same.
    ErrorAfter,
    /// It does nothing until its own deadline.
    Hang,
    /// The same, and the user cancels everything.
    HangThenCancel,
    /// The daemon dies before it takes effect.
    DieBefore,
    /// The daemon dies after it took effect.
    DieAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::Error,
        Self::ErrorAfter,
        Self::Hang,
        Self::HangThenCancel,
        Self::DieBefore,
        Self::DieAfter,
    ];
}

/// What became of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    Hangs,
    Dead,
}

/// The calls of one daemon's ports.
pub(crate) struct Faults {
    calls: Mutex<Vec<&'static str>>,
    planned: Option<(usize, Fault)>,
    fate: watch::Sender<Fate>,
}

/// What is left to do when the effect of a call is there.
#[derive(Clone, Copy)]
pub(crate) enum After {
    Return,
    Fail,
    Die,
}

impl Faults {
    pub(crate) fn new(planned: Option<(usize, Fault)>) -> Arc<Self> {
        let fate = watch::Sender::new(Fate::Lives);
        Arc::new(Self { calls: Mutex::default(), planned, fate })
    }

    /// The names of all calls so far.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no panic under the lock").clone()
    }

    /// Done when the daemon's fate is no longer to live.
    pub(crate) async fn until(&self, fate: Fate) {
        let mut seen = self.fate.subscribe();
        seen.wait_for(|now| *now == fate).await.expect("the sender lives");
    }

    /// What has become of the daemon.
    pub(crate) fn fate(&self) -> Fate {
        *self.fate.borrow()
    }

    fn count(&self, call: &'static str) -> Option<Fault> {
        let mut calls = self.calls.lock().expect("no panic under the lock");
        calls.push(call);
        let index = calls.len() - 1;
        self.planned.filter(|(at, _)| *at == index).map(|(_, fault)| fault)
    }

    /// Opens an asynchronous call. Nothing that a dead daemon asks for happens.
    pub(crate) async fn enter(&self, call: &'static str) -> PortResult<After> {
        self.stop_the_dead().await;
        let fault = self.count(call);
        if fault == Some(Fault::DieBefore) {
            return self.die().await;
        }
        // As with every real port, others get their turn.
        tokio::task::yield_now().await;
        self.stop_the_dead().await;
        match fault {
            None => Ok(After::Return),
            Some(Fault::Error) => Err(injected(call)),
            Some(Fault::ErrorAfter) => Ok(After::Fail),
            Some(Fault::Hang | Fault::HangThenCancel) => {
                self.fate.send_replace(Fate::Hangs);
                tokio::time::sleep(PORT_DEADLINE).await;
                Err(Report::new(Kind::TimedOut, format!("`{call}` took too long")))
            }
            Some(Fault::DieBefore) => self.die().await,
            Some(Fault::DieAfter) => Ok(After::Die),
        }
    }

    /// Closes it.
    pub(crate) async fn leave(&self, after: After) -> PortResult<()> {
        match after {
            After::Return => Ok(()),
            After::Fail => Err(injected("a call that did what it should")),
            After::Die => self.die().await,
        }
    }

    /// A call that cannot wait: it can only succeed or fail.
    pub(crate) fn at_once(&self, call: &'static str) -> PortResult<()> {
        match self.count(call) {
            None => Ok(()),
            Some(Fault::DieBefore | Fault::DieAfter) => {
                self.fate.send_replace(Fate::Dead);
                Err(injected(call))
            }
            Some(Fault::Error | Fault::ErrorAfter | Fault::Hang | Fault::HangThenCancel) => {
                Err(injected(call))
            }
        }
    }

    async fn stop_the_dead(&self) {
        if *self.fate.borrow() == Fate::Dead {
            std::future::pending::<()>().await;
        }
    }

    async fn die<T>(&self) -> T {
        self.fate.send_replace(Fate::Dead);
        std::future::pending().await
    }
}

fn injected(call: &str) -> Report {
    Report::new(Kind::Failed, format!("injected failure of `{call}`"))
}
