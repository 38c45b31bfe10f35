//! A first prepare that was cut off behind its end: the guest has the repository, and the VM's row says nothing of it.

use super::anew::{is_gone, there_already};
use super::looks::look;
use super::prepare::{Place, sources};
use super::{Exports, report};
use crate::daemon::checkouts::{self, inspection};
use crate::report::Report;
use crate::vm::PrepareVm;
use crate::wire::rpc::{VmWorkspace, WorkspacePrepare};
use crate::workspace::Kept;

/// What is in a VM whose row says that nothing is.
pub(super) enum Arrived {
    /// Nothing that is known.
    Gone,
    /// Just what was on its way in last.
    There(VmWorkspace),
    /// Something else in that place, or what cannot be looked at, and a refusal that says so. What is kept of the
    /// one that was on its way stays: it may be that one with work in it.
    Other(Report),
}

impl Exports {
    /// Finds out what is there. What somebody has made or changed there is not taken for what was on its way in, nor
    /// is that in another mode than is wanted.
    pub(super) async fn arrived(
        &self,
        vm: &PrepareVm,
        kept: &Kept,
        wanted: &WorkspacePrepare,
        path: &str,
    ) -> Result<Arrived, Report> {
        if !kept.is_there().await {
            return Ok(Arrived::Gone);
        }
        let sources = sources(wanted, path.to_owned());
        let look = async {
            let mode = kept.mode().await;
            let inspection = inspection(&self.workspaces, &sources).await?;
            let there = VmWorkspace { mode, ..checkouts::record(&inspection) };
            let viewed = vm.with(there.clone());
            let place = Place::of(vm, &viewed, kept);
            if is_gone(&place).await? {
                return Ok(Arrived::Gone);
            }
            let other = there_already(place.name, place.folder);
            let seen = match look(place.guest, place.folder, mode, place.limit, kept).await {
                Ok(seen) => seen,
                Err(error) => return Ok(Arrived::Other(because(other, error.one_line()))),
            };
            if !kept.is_safe(&seen.tree).await.map_err(report)? {
                return Ok(Arrived::Other(other));
            }
            match wanted.mode {
                Some(wanted) if wanted != mode => {
                    let why = format!("it is the repository in the mode `{}`", mode.as_str());
                    let hint = format!("bring that up to date with `--mode {}`", mode.as_str());
                    let or = other.hint.clone().unwrap_or_default();
                    let other = because(other, why).with_hint(format!("{hint}, or {or}"));
                    Ok(Arrived::Other(other))
                }
                Some(_) | None => Ok(Arrived::There(there)),
            }
        };
        vm.unless_given_up(look).await
    }
}

fn because(mut report: Report, why: String) -> Report {
    report.cause.push(why);
    report
}
