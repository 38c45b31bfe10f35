//! Changing what a VM may reach, as its owner does it.
//!
//! ```text
//!  checked ─▶ row ─▶ (it runs) keeper
//!                      │ fails, or does not answer
//!                      └─▶ an error that says what holds; the same again, or the next start, brings it into force
//! ```

use crate::egress::Rule;
use crate::report::{Kind, Report};
use crate::vm::limits::check_rules;
use crate::vm::owner::Owner;
use crate::vm::ports::NotSet;
use crate::vm::record::{VmRecord, VmSpec};
use crate::wire::rpc::NetShow;

/// Rules that a refusal names.
const NAMED_RULES: usize = 20;

/// A change of what a VM may reach.
#[derive(Debug)]
pub(in crate::vm) enum Reach {
    /// By a rule more.
    Allow(Rule),
    /// By a rule less.
    Deny(Rule),
}

impl Owner {
    pub(in crate::vm) async fn reach(&mut self, change: Reach) -> Result<NetShow, Report> {
        self.check_whole()?;
        self.record.check_network()?;
        let before = &self.record.spec;
        let mut egress = before.egress.clone();
        match change {
            Reach::Allow(rule) if egress.rules.contains(&rule) => {}
            Reach::Allow(rule) => egress.rules.push(rule),
            Reach::Deny(rule) => {
                let there = egress.rules.iter().position(|known| *known == rule);
                let Some(there) = there else {
                    // It may be gone from the row only: then this is what brings that into force.
                    self.tell_policy().await?;
                    return Err(not_there(&self.record, &rule));
                };
                egress.rules.remove(there);
            }
        }
        if egress != before.egress {
            let next =
                VmRecord { spec: VmSpec { egress, ..before.clone() }, ..self.record.clone() };
            check_rules(next.egress().rules.len())?;
            self.write_spec(next.spec).await?;
        }
        self.tell_policy().await?;
        Ok(super::asking::shown(&self.record))
    }

    /// Brings what is written down into force where the VM runs. What is in force already stays so.
    ///
    /// # Errors
    /// When its keeper cannot be told, with what is in force then.
    pub(in crate::vm) async fn tell_policy(&self) -> Result<(), Report> {
        let networked = self.record.state.boot().is_some_and(|boot| boot.network.is_some());
        if !networked {
            return Ok(());
        }
        self.told_policy().await.map_err(|not_set| {
            let name = &self.record.name;
            let (error, so) = match not_set {
                NotSet::Refused(error) => {
                    (error, "could not be told: what was in force stays so")
                }
                NotSet::Unconfirmed(error) => {
                    (error, "did not confirm it: the old or the new rules are in force")
                }
            };
            let message =
                format!("what `{name}` may reach is written down, but its network {so}");
            let mut report = Report::new(error.kind, message).with_hint(format!(
                "the same command again tells it once more; `cove restart {name}` brings it into force in any case"
            ));
            report.cause.push(error.message);
            report.cause.extend(error.cause);
            report
        })
    }

    async fn told_policy(&self) -> Result<(), NotSet> {
        let (outbound, vm) = (&self.shared.ports.outbound, &self.record.id);
        let policy = self.record.egress();
        let mut interrupts = self.interrupts.clone();
        // Whatever is dropped here goes with the boot.
        tokio::select! {
            told = outbound.set_policy(vm, &self.folder, &policy) => told,
            _ = interrupts.wait_for(|count| *count > 0) => {
                let message = "the VM is being killed or deleted";
                Err(NotSet::Unconfirmed(Report::new(Kind::Cancelled, message)))
            }
        }
    }
}

fn not_there(record: &VmRecord, rule: &Rule) -> Report {
    let name = &record.name;
    let conflict = |message: String| Report::new(Kind::Conflict, message);
    if record.egress().rules.contains(rule) {
        return conflict(format!("`{rule}` is no rule of `{name}` itself: a plugin asked for it"))
            .with_hint("`cove hook list` shows plugins, and `cove hook revoke` takes their rights from the next start on");
    }
    let rules = &record.spec.egress.rules;
    let named: Vec<_> = rules.iter().take(NAMED_RULES).map(|rule| format!("`{rule}`")).collect();
    let hint = match rules.len().saturating_sub(NAMED_RULES) {
        0 if named.is_empty() => "it has no rules".to_owned(),
        0 => format!("its rules are {}", named.join(", ")),
        more => {
            format!("its rules are {}, and {more} more: `cove net show {name}`", named.join(", "))
        }
    };
    conflict(format!("`{name}` has no rule `{rule}`")).with_hint(hint)
}
