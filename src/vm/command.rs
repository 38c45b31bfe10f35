//! What is asked of a VM's owner, and what happens when nobody gets to answer it.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::operation::Running;
use super::outbound::Reach;
use super::ports::Checkout;
use crate::report::{Kind, Report};
use crate::wire::rpc::{
    ClientContext, Deleted, KillSignal, NetShow, OperationEnd, SetVm, SetVmReply, Vm, VmWorkspace,
};

/// What is asked of a VM.
pub(super) enum Command {
    /// Make its disks, and start it unless told otherwise. The VM is removed when this fails.
    Make { begin: Begin, start: bool },
    /// Start it, in this way.
    Launch { begin: Begin, how: Launch },
    /// Stop it gracefully.
    Stop { answer: Answer<Vm> },
    /// Change what it is.
    Set { wanted: SetVm, answer: Answer<SetVmReply> },
    /// Change what it may reach.
    Reach { change: Reach, answer: Answer<NetShow> },
    /// Signal its monitor. An interrupt comes with the signals that end it.
    Kill { answer: Answer<Vm>, signal: KillSignal, interrupt: Option<Interrupt> },
    /// Remove it with all it has. An interrupt comes with a delete whatever it does.
    Delete { answer: Answer<Deleted>, doom: Doom, interrupt: Option<Interrupt> },
    /// Write down that this repository is in it now.
    Prepared { workspace: VmWorkspace, answer: Answer<Vm> },
    /// Somebody used it.
    Touch { answer: Option<Answer<Vm>> },
}

/// How a VM comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launch {
    /// From rest, or from standing still.
    Start,
    /// From rest, or from running by a graceful stop.
    Restart,
}

impl Launch {
    /// The operation's name.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }
}

/// Which VMs a delete deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doomed {
    /// The VM, whatever it does.
    Any,
    /// The VM when it is at rest, and not one that runs or is being started.
    AtRest,
}

/// Under which conditions a VM is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doom {
    /// Which VMs are.
    pub which: Doomed,
    /// What becomes of their work.
    pub work: Unexported,
}

impl Doom {
    /// Whatever it does, and whatever is in it.
    pub const WHATEVER: Self = Self { which: Doomed::Any, work: Unexported::Discard };
}

/// What becomes of work in a VM's workspace that was not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unexported {
    /// It stays: what would cost it is not done.
    Keep,
    /// It is given up.
    Discard,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, Report>>;

/// What a start is begun with. Its operation ends with it at the latest: a VM that is deleted takes the
/// starts that queued up for it with it, and nobody waits for them for ever.
pub(super) struct Begin {
    pub(super) operation: Running,
    pub(super) client: ClientContext,
    pub(super) checkout: Option<Arc<dyn Checkout>>,
}

impl Drop for Begin {
    fn drop(&mut self) {
        if self.operation.has_ended() {
            return;
        }
        let error = Report::new(Kind::NotFound, "the VM was deleted before this could be done")
            .in_operation(self.operation.id.clone());
        self.operation.end(OperationEnd::Failed { error, vm_kept: false, console_saved: None });
    }
}

/// A kill or a delete on its way: as long as one exists, starts and graceful stops of the VM are cut
/// short. It goes with its command, also when that is dropped before it reaches the queue.
pub(super) struct Interrupt(watch::Sender<u32>);

impl Interrupt {
    pub(super) fn new(interrupts: &watch::Sender<u32>) -> Self {
        interrupts.send_modify(|count| *count += 1);
        Self(interrupts.clone())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
