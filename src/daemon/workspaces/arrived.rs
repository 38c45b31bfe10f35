//! A first prepare that was cut off behind its end: the guest has the repository, and the VM's row says nothing of it.

use super::looks::look;
use super::prepare::{Place, is_gone, sources};
use super::{Exports, report};
use crate::daemon::checkouts::{self, inspection};
use crate::report::Report;
use crate::vm::PrepareVm;
use crate::wire::rpc::{VmWorkspace, WorkspacePrepare};
use crate::workspace::Kept;

impl Exports {
    /// What is in a VM whose row says that nothing is, when the guest has just what was on its way in last. What
    /// somebody has made or changed there is not taken for it.
    pub(super) async fn arrived(
        &self,
        vm: &PrepareVm,
        wanted: &WorkspacePrepare,
        path: &str,
    ) -> Result<Option<VmWorkspace>, Report> {
        let kept = Kept::at(vm.kept.clone());
        if !kept.is_there() {
            return Ok(None);
        }
        let sources = sources(wanted, path.to_owned());
        let look = async {
            let there = checkouts::record(&inspection(&self.workspaces, &sources).await?);
            let viewed = vm.with(there.clone());
            let place = Place::of(vm, &viewed, &kept);
            if is_gone(&place).await? {
                return Ok(None);
            }
            // What cannot be looked at is not what was on its way.
            let seen = look(place.guest, place.folder, place.mode, place.limit, &kept).await;
            let Ok(seen) = seen else { return Ok(None) };
            let arrived = kept.is_safe(&seen.tree).await.map_err(report)?;
            Ok(arrived.then_some(there))
        };
        vm.unless_given_up(look).await
    }
}
