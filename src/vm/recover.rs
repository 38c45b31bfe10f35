//! Recovery: at its start the daemon compares its rows with the host.
//!
//! | the row says | the monitor lives | what happens |
//! |---|---|---|
//! | running | yes | adopted, untouched |
//! | running | no | released, `stopped` with a cause |
//! | stopping | any | killed and released, `stopped`: the stop had been asked for |
//! | being made, or starting for its maker | any | released and removed: its client never got it |
//! | being deleted | any | released and removed: its client was promised that |
//! | starting, a later start | any | released, back at rest |
//! | at rest | – | leftovers are released |
//!
//! A folder has a row before it is made and until it is gone, so one without a row means that the database
//! is not the one that knew it: an older copy, or a new one after the old was lost. Such a folder is set
//! aside, never removed: its disks may hold the only copy of somebody's work. One VM that cannot be
//! recovered does not keep the others from it, and is shown all the same, so that it can be deleted.
//!
//! A row that cannot be read is left alone with all that belongs to its VM; `doctor` names it. When not even
//! its id can be read nothing is set aside, since any folder might be that VM's.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::hooks::cleanup;
use super::ledger::ResourceKind;
use super::ports::PortResult;
use super::record::{Stored, Unreadable, VmRecord};
use super::release::{Extent, release};
use super::service::VmService;
use super::state::{Boot, Event, Rest, State};
use crate::id::VmId;
use crate::report::{Kind, Report};
use crate::wire::rpc::NetMode;

impl VmService {
    /// Takes up what an earlier daemon left. Called once, before anything else.
    ///
    /// # Errors
    /// When the rows cannot be read. Failures with single VMs are logged.
    pub async fn recover(&self) -> PortResult<()> {
        let stored = self.shared.ports.rows.all().await?;
        for row in &stored.unreadable {
            let Unreadable { id, name, problem, .. } = row;
            tracing::error!(?id, name, problem, "a VM's row cannot be read: it is left alone");
        }
        self.recover_bridge(&stored).await?;
        let mut going = Vec::new();
        for record in &stored.vms {
            going.extend(self.recover_one(record.clone()).await);
        }
        // All together: hooks of each may take their time.
        join_all(going.into_iter().map(|record| self.let_go(record))).await;
        let owners = owners(&stored);
        self.unreadable.set(stored.unreadable).ok();
        match owners {
            Some(owners) => self.set_orphans_aside(&owners).await,
            None => Ok(()),
        }
    }

    /// Has exactly those on the bridge that live. Where no row says that one is or was there, the bridge is left
    /// alone.
    async fn recover_bridge(&self, stored: &Stored) -> PortResult<()> {
        let others: Vec<VmId> = stored.unreadable.iter().filter_map(|row| row.id.clone()).collect();
        let (mut living, mut needed) = (Vec::new(), false);
        for id in &others {
            needed |= self.may_be_on_bridge(id).await;
        }
        for record in stored.vms.iter().filter(|record| record.spec.net == NetMode::Bridge) {
            needed |= self.may_be_on_bridge(&record.id).await;
            if let State::Running { boot } = &record.state
                && self.may_live(boot)
            {
                living.push((record.clone(), self.folder(&record.id)));
            }
        }
        match needed {
            true => self.shared.ports.networks.recover(&living, &others).await,
            false => Ok(()),
        }
    }

    /// Whether a VM has, or was about to get, a place on the bridge. What cannot be read is told when that VM's
    /// turn comes.
    async fn may_be_on_bridge(&self, vm: &VmId) -> bool {
        let rows = self.shared.ports.rows.resources(vm).await;
        let is_port = |(kind, _): &(ResourceKind, _)| *kind == ResourceKind::BridgePort;
        rows.map_or(true, |rows| rows.iter().any(is_port))
    }

    /// Puts one VM in order. Returns it when it is to be removed and nothing is left of it but its row.
    async fn recover_one(&self, mut record: VmRecord) -> Option<VmRecord> {
        let recovered = match record.state.clone() {
            State::Running { boot } if self.may_live(&boot) => {
                self.take_up(&record, &boot).await;
                Ok(())
            }
            State::Running { .. } => {
                let cause = Some("its monitor was gone when the daemon came back".to_owned());
                self.bring_to_rest(&mut record, Event::Ended { cause }).await
            }
            State::Making | State::Starting { before: Rest::Making, .. } | State::Deleting => {
                record.state = State::Deleting;
                let folder = self.folder(&record.id);
                match release(&self.shared.ports, &record.id, &folder, Extent::All).await {
                    Ok(()) => return Some(record),
                    Err(error) => Err(error),
                }
            }
            State::Starting { .. } => {
                self.bring_to_rest(&mut record, Event::StartFailed { kept: None }).await
            }
            State::Stopping { .. }
            | State::Created
            | State::Stopped { .. }
            | State::Error { .. } => {
                self.bring_to_rest(&mut record, Event::Ended { cause: None }).await
            }
        };
        self.own(record, recovered);
        None
    }

    /// Gives a VM its owner, whatever of it could not be recovered.
    fn own(&self, record: VmRecord, recovered: PortResult<()>) {
        if let Err(error) = recovered {
            let vm = &record.id;
            tracing::error!(%vm, error = error.one_line(), "cannot recover all of a VM");
        }
        let leased = record.leased.then(|| record.id.clone());
        self.adopt(record);
        if let Some(vm) = leased {
            self.expire(vm);
        }
    }

    /// Whether the monitor lives. When that cannot be told it is left alone: its owner watches it, and
    /// tears down when it has ended.
    fn may_live(&self, boot: &Boot) -> bool {
        self.shared.ports.processes.alive(boot.monitor).unwrap_or_else(|error| {
            let pid = boot.monitor.pid;
            tracing::warn!(pid, error = error.one_line(), "cannot tell whether a monitor lives");
            true
        })
    }

    /// Ends the row of a VM that was not whole, of which nothing else is left.
    async fn let_go(&self, record: VmRecord) {
        cleanup(&self.shared.ports, &record, &self.events).await;
        match self.shared.ports.rows.remove(&record.id).await {
            Ok(()) => tracing::info!(vm = %record.id, "removed: it was being made or deleted"),
            Err(error) => self.own(record, Err(error)),
        }
    }

    /// A VM that lives keeps living, whatever of its surroundings can or cannot be taken up.
    async fn take_up(&self, record: &VmRecord, boot: &Boot) {
        let (ports, folder) = (&self.shared.ports, self.folder(&record.id));
        let console = ports.machines.adopt(&record.id, &folder, boot.monitor).await;
        let network = self.take_up_network(record).await;
        for error in [console, network].into_iter().filter_map(Result::err) {
            tracing::warn!(vm = %record.id, error = error.one_line(), "taken up in part");
        }
        tracing::info!(vm = %record.id, pid = boot.monitor.pid, "taken up");
    }

    async fn take_up_network(&self, record: &VmRecord) -> PortResult<()> {
        let rows = self.shared.ports.rows.resources(&record.id).await?;
        let find =
            |kind| rows.iter().find(|(row, _)| *row == kind).and_then(|(_, process)| *process);
        let keeper = find(ResourceKind::NetworkKeeper);
        let Some(keeper) = keeper else { return Ok(()) };
        let folder = self.folder(&record.id);
        let (networks, policy) = (&self.shared.ports.networks, record.egress());
        let processes = (keeper, find(ResourceKind::Uplink));
        networks.adopt(&record.id, &folder, processes, &policy).await
    }

    async fn bring_to_rest(&self, record: &mut VmRecord, event: Event) -> PortResult<()> {
        let folder = self.folder(&record.id);
        let released = release(&self.shared.ports, &record.id, &folder, Extent::Boot).await;
        let state = record.state.clone().after(event);
        record.state = state.map_err(|error| Report::new(Kind::Failed, error.to_string()))?;
        let updated = self.shared.ports.rows.update(record).await;
        released.and(updated)
    }

    async fn set_orphans_aside(&self, owners: &HashSet<VmId>) -> PortResult<()> {
        for folder in self.shared.ports.disks.folders(&self.settings.vms).await? {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Only what looks like ours: anything else in there is the user's.
            let Ok(id) = name.parse::<VmId>() else {
                continue;
            };
            if owners.contains(&id) {
                continue;
            }
            let folder = folder.as_path();
            match self.set_orphan_aside(&id, folder).await {
                Ok(place) => {
                    let (folder, place) = (folder.display(), place.display());
                    tracing::warn!(%folder, %place, "set aside a folder that no VM has");
                }
                Err(error) => {
                    let error = error.one_line();
                    tracing::error!(folder = %folder.display(), error, "cannot set a folder aside");
                }
            }
        }
        Ok(())
    }

    async fn set_orphan_aside(&self, vm: &VmId, folder: &Path) -> PortResult<PathBuf> {
        let ports = &self.shared.ports;
        for process in ports.processes.find(vm) {
            ports.processes.kill(process).await?;
        }
        ports.disks.set_aside(folder).await
    }
}

/// The VMs that folders may belong to; nothing when that cannot be told.
fn owners(stored: &Stored) -> Option<HashSet<VmId>> {
    let known = stored.vms.iter().map(|record| Some(record.id.clone()));
    known.chain(stored.unreadable.iter().map(|row| row.id.clone())).collect()
}
