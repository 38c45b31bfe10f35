//! Ports of VMs that are reachable at ports of the host.
//!
//! What a VM's maker asks for is written down with the VM; what plugins ask for holds for one boot. Both are
//! taken before the monitor is started, so that a start that cannot have them makes nothing; connections that
//! are made meanwhile wait until the guest runs.
//!
//! | when | a port that cannot be had |
//! |---|---|
//! | a VM is made | refused when another VM is to have it |
//! | a VM is started | the start is refused |
//! | a daemon comes back to a VM that runs | the VM runs on; the log and `publish_failed` of the VM say so |

use super::owner::Owner;
use super::ports::HookRan;
use super::record::VmRecord;
use super::service::VmService;
use super::start::{Start, StartFailure};
use super::state::{Extras, State};
use crate::report::{Kind, Report};
use crate::wire::rpc::Publish;

/// Ports that one VM can have on the host.
const MAX_PUBLISH: usize = 64;

/// The action of a wish for a forward, as hooks show it.
const FORWARD: &str = "forward";

/// Refuses ports that no VM can have, or not at once.
pub(super) fn check_publish(wanted: &[Publish]) -> Result<(), Report> {
    let refuse = |message: String, hint: &str| {
        Err(Report::new(Kind::Invalid, message).with_hint(hint.to_owned()))
    };
    if wanted.len() > MAX_PUBLISH {
        let message = format!("{} published ports are too many", wanted.len());
        return refuse(message, &format!("publish at most {MAX_PUBLISH}"));
    }
    for (at, publish) in wanted.iter().enumerate() {
        if publish.port == 0 {
            let message = format!("`{publish}` names no port of the host");
            return refuse(message, "name the port: it is the VM's at every start");
        }
        if let Some(other) = wanted[..at].iter().find(|other| other.collides(publish)) {
            let message = format!("`{other}` and `{publish}` are one port of the host");
            return refuse(message, "give each its own");
        }
    }
    Ok(())
}

impl VmService {
    /// Refuses ports of the host that another VM is to have.
    pub(super) fn check_published(&self, wanted: &[Publish]) -> Result<(), Report> {
        check_publish(wanted)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let vms = self.vms.lock().expect("no panic under the lock");
        for (_, vm) in vms.with_prefix("") {
            let seen = vm.value.view.borrow();
            for theirs in &seen.record.spec.publish {
                if let Some(own) = wanted.iter().find(|own| own.collides(theirs)) {
                    let name = &seen.record.name;
                    let message = format!("cannot publish `{own}`: `{name}` has `{theirs}`");
                    return Err(Report::new(Kind::Conflict, message).with_hint(format!(
                        "choose another port of the host, or delete `{name}`"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl VmRecord {
    /// What is published in a boot with these extras: what the VM's maker said wins.
    pub(super) fn publish_with(&self, extras: &Extras) -> Vec<Publish> {
        let mut all = self.spec.publish.clone();
        let free = |extra: &&Publish| !self.spec.publish.iter().any(|own| own.collides(extra));
        all.extend(extras.publish.iter().filter(free));
        all
    }

    /// What is published now, or at the next start.
    pub(super) fn publish(&self) -> Vec<Publish> {
        let boot = self.state.boot();
        boot.map_or_else(|| self.spec.publish.clone(), |boot| self.publish_with(&boot.extras))
    }
}

impl Start<'_> {
    /// Takes the host's ports. All or none: whoever gets the failure lets go of the others.
    pub(super) fn take_ports(&self, extras: &Extras, ran: &[HookRan]) -> Result<(), StartFailure> {
        let wanted = self.record.publish_with(extras);
        let failed = self.ports.forwards.open(&self.record.id, &self.record.name, &wanted);
        let Some((publish, mut error)) = failed.into_iter().next() else {
            return Ok(());
        };
        if let Some(plugin) = asked_by(&publish, ran).filter(|_| extras.publish.contains(&publish))
        {
            error.cause.push(format!("the plugin `{plugin}` asks for it"));
        }
        Err(error.into())
    }
}

fn asked_by(publish: &Publish, ran: &[HookRan]) -> Option<String> {
    let name = format!("{}:{}", publish.port, publish.guest_port);
    let asks = |ran: &&HookRan| {
        ran.shown.wishes.iter().any(|wish| wish.action == FORWARD && wish.name == name)
    };
    ran.iter().find(asks).map(|ran| ran.shown.plugin.to_string())
}

impl Owner {
    /// Lets connections to the ports that were taken through to the guest.
    pub(super) fn serve_ports(&self) {
        let Some(boot) = self.record.state.boot() else {
            return;
        };
        let guest = self.shared.ports.guest_of(&self.folder, boot);
        if let Some((guest, usage)) = guest.zip(self.usage.usage()) {
            self.shared.ports.forwards.serve(&self.record.id, guest, usage);
        }
    }

    /// Takes up the ports of a VM that ran when this daemon began.
    pub(super) fn reopen_ports(&self) {
        let State::Running { .. } = self.record.state else {
            return;
        };
        let VmRecord { id, name, .. } = &self.record;
        for (_, error) in self.shared.ports.forwards.open(id, name, &self.record.publish()) {
            self.warn(&error);
        }
        self.serve_ports();
    }

    /// Lets go of the host's ports; open connections end.
    pub(super) fn close_ports(&self) {
        self.shared.ports.forwards.close(&self.record.id);
    }
}
