//! One command on many VMs: run in parallel, reported in the order given.
//! Those that exist are served even when others do not.

use futures_util::StreamExt;
use serde::Serialize;

use crate::report::{Kind, Report};
use crate::rpc::client::Client;
use crate::wire::rpc::{Page, Vm, VmList, VmRef, VmShow};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::{self, Failure, Statuses};
use super::output::Format;

/// How many VMs are served at once; the daemon's lock per VM orders the rest.
const AT_ONCE: usize = 32;

/// How many pages of a list are fetched before something is wrong with its cursors.
const MAX_PAGES: usize = 1000;

/// Arguments of a command on many VMs.
#[derive(Debug, clap::Args)]
pub(super) struct Targets {
    /// The VMs: names, ids, or beginnings of ids
    #[arg(required = true, value_name = "VM", add = vm_names())]
    vms: Vec<String>,
    #[command(flatten)]
    format: Format,
}

impl Targets {
    /// Does `act` on every VM, prints the results in the order given, and returns the exit status of
    /// the first failure.
    pub(super) async fn each<T: Serialize>(
        self,
        act: impl AsyncFn(&Client, &Vm) -> Result<T, Report>,
        shown: impl Fn(&T) -> String,
    ) -> Result<u8, Failure> {
        let client = connect().await?;
        let vms = resolve_all(&client, &self.vms).await;
        each_of(&client, vms, act, shown, self.format).await
    }
}

/// Does `act` on VMs that are known, in parallel, prints the results in their order, and returns the
/// exit status of the first failure.
pub(super) async fn each_of<T: Serialize>(
    client: &Client,
    vms: impl IntoIterator<Item = Result<Vm, Report>>,
    act: impl AsyncFn(&Client, &Vm) -> Result<T, Report>,
    shown: impl Fn(&T) -> String,
    format: Format,
) -> Result<u8, Failure> {
    let outcomes = futures_util::stream::iter(vms)
        .map(async |vm| act(client, &vm?).await)
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let (mut done, mut status) = (Vec::new(), 0);
    for outcome in outcomes {
        match outcome {
            Ok(result) => done.push(result),
            Err(report) => {
                let failed = failure::show(&report, Statuses::OfKind);
                status = if status == 0 { failed } else { status };
            }
        }
    }
    format.print(&done, |done| done.iter().map(shown).collect::<Vec<_>>().join("\n"))?;
    Ok(status)
}

/// All VMs, page by page.
pub(super) async fn all(client: &Client) -> Result<Vec<Vm>, Report> {
    let (mut vms, mut cursor) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let page = client.call::<VmList>(Page { limit: None, cursor }).await?;
        vms.extend(page.vms);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(vms);
        }
    }
    Err(Report::new(Kind::Failed, "the daemon's list of VMs has no end"))
}

/// Every reference as its VM, as the daemon understands it; a VM that is named twice counts once.
pub(super) async fn resolve_all(client: &Client, references: &[String]) -> Vec<Result<Vm, Report>> {
    let shown = |vm: &String| client.call::<VmShow>(VmRef { vm: vm.clone() });
    let resolved: Vec<_> =
        futures_util::stream::iter(references).map(shown).buffered(AT_ONCE).collect().await;
    let mut seen = std::collections::HashSet::new();
    let is_new =
        |vm: &Result<Vm, Report>| vm.as_ref().map_or(true, |vm| seen.insert(vm.id.clone()));
    resolved.into_iter().filter(is_new).collect()
}
