//! `cove op`: operations, which go on without the client that began them.

use crate::id::OperationId;
use crate::report::Report;
use crate::wire::rpc::{
    Nothing, OpCancel, OpList, OpShow, OpWait, Operation, OperationEnd, OperationRef,
};

use super::connect::connect;
use super::failure::Failure;
use super::operation::{Kept, explain};
use super::output::{Format, age, pairs, table};
use super::progress::took;

/// The commands of `cove op`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the operations that are kept
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Show one operation with its stages
    Show {
        /// The operation's id
        operation: OperationId,
        #[command(flatten)]
        format: Format,
    },
    /// Wait for the end of an operation; fails as the operation does
    Wait {
        /// The operation's id
        operation: OperationId,
        #[command(flatten)]
        format: Format,
    },
    /// Cancel an operation; what it made is undone
    Cancel {
        /// The operation's id
        operation: OperationId,
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        match self {
            Self::List { format } => {
                let operations = client.call::<OpList>(Nothing {}).await?;
                let now = jiff::Timestamp::now();
                format.print(&operations, |operations| list(operations, now))?;
                Ok(0)
            }
            Self::Show { operation, format } => {
                let operation = client.call::<OpShow>(OperationRef { operation }).await?;
                format.print(&operation, show)?;
                Ok(0)
            }
            Self::Wait { operation, format } => {
                let operation = client.call::<OpWait>(OperationRef { operation }).await?;
                format.print(&operation, show)?;
                failure(&operation).map_or(Ok(0), |report| Err(report.into()))
            }
            Self::Cancel { operation, format } => {
                let operation = client.call::<OpCancel>(OperationRef { operation }).await?;
                format.print(&operation, show)?;
                Ok(0)
            }
        }
    }
}

fn failure(operation: &Operation) -> Option<Report> {
    match operation.end.as_ref()? {
        OperationEnd::Done { .. } => None,
        OperationEnd::Failed { error, vm_kept, console_saved } => {
            Some(explain(operation, error.clone(), Kept::of(*vm_kept), console_saved.as_deref()))
        }
    }
}

fn end(operation: &Operation) -> String {
    match &operation.end {
        None => "running".to_owned(),
        Some(OperationEnd::Done { .. }) => "done".to_owned(),
        Some(OperationEnd::Failed { error, .. }) => error.kind.as_str().to_owned(),
    }
}

fn list(operations: &[Operation], now: jiff::Timestamp) -> String {
    let row = |operation: &Operation| {
        [
            operation.id.to_string(),
            operation.action.clone(),
            operation.vm_name.to_string(),
            end(operation),
            age(&operation.started_at, now),
        ]
    };
    let header = ["OPERATION", "ACTION", "VM", "STATE", "AGE"];
    table(header, operations.iter().map(row))
}

/// An operation with its stages and notes.
pub(super) fn show(operation: &Operation) -> String {
    let mut rows = vec![
        ("operation", operation.id.to_string()),
        ("action", operation.action.clone()),
        ("vm", format!("{} ({})", operation.vm_name, operation.vm)),
        ("state", end(operation)),
        ("started", operation.started_at.clone()),
        ("took", format!("{:.3} s", took(operation).as_secs_f64())),
    ];
    if let Some(report) = failure(operation) {
        rows.push(("error", report.one_line()));
    }
    rows.extend(operation.notes.iter().map(|note| ("note", note.clone())));
    let stage = |stage: &crate::wire::rpc::Stage| {
        let milliseconds = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
        let took = stage.took_us.map_or_else(|| "-".to_owned(), milliseconds);
        [stage.name.clone(), milliseconds(stage.began_us), took]
    };
    let stages = table(["STAGE", "BEGAN", "TOOK"], operation.stages.iter().map(stage));
    format!("{}\n\n{stages}", pairs(&rows))
}
