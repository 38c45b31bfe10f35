//! Following an operation to its end, with its progress shown, and cancelling it on Ctrl-C.

use crate::report::{Kind, Report};
use crate::rpc::client::{Client, Events};
use crate::wire::rpc::{
    OpCancel, OpShow, OpSubscription, OpWait, Operation, OperationEnd, OperationRef, Vm,
};

use super::failure::add_hint;
use super::progress::View;
use super::signals::Signals;

/// How an operation ended that this command began.
#[derive(Debug)]
pub(super) enum Ended {
    /// It did what it should.
    Done {
        /// The VM afterwards.
        vm: Box<Vm>,
        /// The operation.
        operation: Box<Operation>,
    },
    /// It failed.
    Failed {
        /// Why, with what became of the VM.
        report: Box<Report>,
        /// Whether the VM is still there.
        kept: Kept,
    },
    /// The user interrupted it, and what it made is undone; unless it was done before it could be
    /// cancelled.
    Interrupted {
        /// The VM that it had made or started by then.
        too_late: Option<Box<Vm>>,
    },
    /// The user did not wait until it was undone.
    Abandoned {
        /// How to look after it.
        report: Box<Report>,
    },
}

/// Whether a VM whose start failed is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// For inspection.
    Yes,
    /// What was made is undone.
    No,
}

impl Kept {
    /// What an operation's end says about it.
    pub(super) fn of(vm_kept: bool) -> Self {
        if vm_kept { Self::Yes } else { Self::No }
    }
}

/// Follows an operation to its end. The first signal that asks the process to end cancels the operation
/// and waits until it is undone; a second one stops waiting.
///
/// # Errors
/// When the daemon cannot be asked.
pub(super) async fn follow(
    client: &Client,
    operation: Operation,
    view: &mut View<'_>,
    signals: &mut Signals,
) -> Result<Ended, Report> {
    let reference = || OperationRef { operation: operation.id.clone() };
    let mut now = operation.clone();
    let mut events = None;
    let mut interruptions = 0_u32;
    loop {
        view.update(&now);
        if let Some(end) = now.end.take() {
            return Ok(ended(now, end, interruptions));
        }
        tokio::select! {
            // Cancel-safe: an event stays in the subscription, and a question can be asked again.
            next = next_state(client, &reference, &mut events) => now = next?,
            _ = signals.interruption() => {
                interruptions += 1;
                if interruptions > 1 {
                    let report = Report::new(Kind::Cancelled, "interrupted while being cancelled")
                        .in_operation(operation.id.clone())
                        .with_hint(format!("see `cove op show {}`", operation.id));
                    return Ok(Ended::Abandoned { report: Box::new(report) });
                }
                view.say(&format!("cancelling {} of `{}`", operation.action, operation.vm_name));
                match client.call::<OpCancel>(reference()).await {
                    Ok(after) => now = after,
                    // It ended by itself in this moment; the next state says how.
                    Err(report) if report.kind == Kind::Conflict => {}
                    Err(report) => return Err(report),
                }
            }
        }
    }
}

/// Where the operation's events come from.
#[derive(Debug)]
enum Source {
    /// The subscription.
    Events(Events<OpSubscription>),
    /// The subscription ended early, because this client was too slow for it: only the end is awaited.
    End,
}

async fn next_state(
    client: &Client,
    reference: &impl Fn() -> OperationRef,
    source: &mut Option<Source>,
) -> Result<Operation, Report> {
    match source {
        None => {
            let events = client.subscribe::<OpSubscription>(reference()).await?;
            *source = Some(Source::Events(events));
            // What happened before the subscription.
            client.call::<OpShow>(reference()).await
        }
        Some(Source::Events(events)) => match events.next().await {
            Some(event) => event,
            None => {
                *source = Some(Source::End);
                client.call::<OpWait>(reference()).await
            }
        },
        Some(Source::End) => client.call::<OpWait>(reference()).await,
    }
}

fn ended(operation: Operation, end: OperationEnd, interruptions: u32) -> Ended {
    match end {
        OperationEnd::Done { vm } if interruptions > 0 => Ended::Interrupted { too_late: Some(vm) },
        OperationEnd::Done { vm } => Ended::Done { vm, operation: Box::new(operation) },
        OperationEnd::Failed { error, .. }
            if interruptions > 0 && error.kind == Kind::Cancelled =>
        {
            Ended::Interrupted { too_late: None }
        }
        OperationEnd::Failed { error, vm_kept, console_saved } => {
            let kept = Kept::of(vm_kept);
            let report = explain(&operation, error, kept, console_saved.as_deref());
            Ended::Failed { report: Box::new(report), kept }
        }
    }
}

/// A failure with what became of the VM, and where its console is.
pub(super) fn explain(
    operation: &Operation,
    error: Report,
    kept: Kept,
    console_saved: Option<&str>,
) -> Report {
    let name = &operation.vm_name;
    let mut report = error.in_operation(operation.id.clone());
    let said = report.hint.as_deref().is_some_and(|hint| hint.contains("cove logs"));
    // That a VM is still there is news only of one that was to be made.
    if kept == Kept::Yes && !said && operation.action == "create" {
        add_hint(
            &mut report,
            &format!(
                "`{name}` was kept: see `cove logs {name}`, remove it with `cove delete {name}`"
            ),
        );
    }
    if let Some(path) = console_saved {
        add_hint(&mut report, &format!("the console of `{name}` was saved at {path}"));
    }
    report
}
