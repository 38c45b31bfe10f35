//! VMs that nobody uses: when one is idle, and stopping it then.
//!
//! A VM is used as long as a byte stream of it is open or a detached command runs in it, and at every exec,
//! touch and start. Only the guest knows of detached commands: it is asked before it would be stopped, and one
//! that does not answer is not stopped, because it may be at work. A VM's row says when it was used last, so
//! that a daemon that comes back goes on counting where its predecessor was.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::command::Command;
use super::owner::Owner;
use super::state::State;

/// A VM is not stopped so soon after the daemon has come back, however long nobody used it: whoever
/// starts a daemon often does so to use a VM.
const GRACE: Duration = Duration::from_secs(30);

/// How a VM's use is told to its owner.
#[derive(Debug, Clone)]
pub struct Usage {
    pub(super) uses: watch::Sender<u32>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// The same, as the owner itself has it: its queue ends when nobody else can reach it.
#[derive(Debug)]
pub(super) struct OwnUsage {
    pub(super) uses: watch::Sender<u32>,
    pub(super) commands: mpsc::WeakSender<Command>,
}

impl OwnUsage {
    /// For somebody who uses the VM; nothing when nobody can reach its owner any more.
    pub(super) fn usage(&self) -> Option<Usage> {
        Some(Usage { uses: self.uses.clone(), commands: self.commands.upgrade()? })
    }
}

/// A use of a VM, which lasts until it is dropped.
#[derive(Debug)]
pub struct InUse(Usage);

impl Usage {
    /// Somebody begins to use the VM.
    #[must_use]
    pub fn begin(&self) -> InUse {
        self.uses.send_modify(|uses| *uses += 1);
        InUse(self.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.uses.send_modify(|uses| *uses -= 1);
        // A VM with a full queue is in use anyway.
        self.0.commands.try_send(Command::Touch { answer: None }).ok();
    }
}

impl Owner {
    /// Done when the VM has been idle for as long as it may; never when it may for ever. Cancel-safe.
    pub(super) fn until_idle(&self) -> impl Future<Output = ()> + use<> {
        let wait = self.idle_wait();
        let mut uses = self.usage.uses.subscribe();
        async move {
            let Some(wait) = wait else {
                return std::future::pending().await;
            };
            loop {
                let unused = async { uses.wait_for(|uses| *uses == 0).await.map(drop) };
                if unused.await.is_err() {
                    return std::future::pending().await;
                }
                // Both arms are cancel-safe: changes are counted, not consumed.
                tokio::select! {
                    () = tokio::time::sleep(wait) => return,
                    _ = uses.wait_for(|uses| *uses > 0) => {}
                }
            }
        }
    }

    /// How long until it is to be stopped if nobody uses it. One that stands still is not: its guest holds
    /// work that is on no disk yet.
    fn idle_wait(&self) -> Option<Duration> {
        let State::Running { .. } = self.record.state else {
            return None;
        };
        if self.told_stall.is_some() {
            return None;
        }
        let after = Duration::from_secs(self.record.spec.auto_stop_after_s?);
        // A time that is not one, or lies in the future because the clock was set, is now.
        let touched: Option<jiff::Timestamp> = self.record.last_touched_at.parse().ok();
        let idle = touched.map(|touched| jiff::Timestamp::now().duration_since(touched));
        let idle = idle.and_then(|idle| Duration::try_from(idle).ok()).unwrap_or_default();
        let grace = GRACE.min(after);
        let grace = (self.adopted + grace).saturating_duration_since(Instant::now());
        Some(after.saturating_sub(idle).max(grace))
    }

    /// Stops it because nobody uses it, unless it is at work by itself: then its time begins anew.
    pub(super) async fn stop_idle(&mut self) {
        if self.is_at_work().await {
            self.record.last_touched_at = super::now();
            self.publish().await.unwrap_or_else(|error| self.warn(&error));
            return;
        }
        // Somebody may have come meanwhile.
        if *self.usage.uses.borrow() > 0 || !self.commands.is_empty() {
            return;
        }
        let after = self.record.spec.auto_stop_after_s.unwrap_or_default();
        tracing::info!(vm = %self.record.id, after, "stopping it: nobody uses it");
        let cause = format!("nobody used it for {after} s, and it stops by itself after that");
        if let Err(error) = self.stop(Some(cause), None).await {
            tracing::warn!(vm = %self.record.id, error = error.one_line(), "an idle VM");
        }
    }

    /// Whether commands run in its guest with nobody there, or that cannot be known.
    async fn is_at_work(&self) -> bool {
        let boot = self.record.state.boot();
        let guest = boot.and_then(|boot| self.shared.ports.guest_of(&self.folder, boot));
        let Some(guest) = guest else {
            return false;
        };
        match self.shared.stillness(&self.record).unless(guest.detached()).await {
            Ok(programs) => programs.any_runs(),
            Err(error) => {
                self.warn(&error);
                true
            }
        }
    }
}
