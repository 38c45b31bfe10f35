//! What this host has and lacks: told by `doctor`, and asked before every start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::hooks::Hooks;
use super::images::BootImages;
use crate::doctor::{self, pass, problem};
use crate::hooks::{FAILURES, HookHost};
use crate::id::ImageName;
use crate::net::{BridgeCheck, Networks};
use crate::report::{Explain, Kind, Report, escape_control};
use crate::size::Size;
use crate::task::blocking;
use crate::vm::ports::{Needs, PortResult, Preflight, Rows};
use crate::vm::record::Unreadable;
use crate::vm::state::Accel;
use crate::vmm::qemu::Qemu;
use crate::wire::rpc::{Check, Hook, HookPoint, HookState, NetMode, Verdict};

/// The parts of a daemon that can be checked.
pub(super) struct Checks {
    pub(super) qemu: Arc<Qemu>,
    pub(super) networks: Arc<Networks>,
    pub(super) images: Arc<BootImages>,
    pub(super) hooks: Arc<HookHost>,
    pub(super) plugins: Arc<Hooks>,
    /// The folder of all state.
    pub(super) home: PathBuf,
    /// The folder of what was set aside.
    pub(super) lost: PathBuf,
    /// The folder of the VMs' folders.
    pub(super) vms: PathBuf,
    /// The database.
    pub(super) database: PathBuf,
    /// What is in it.
    pub(super) rows: Arc<dyn Rows>,
    /// The image that VMs are made of when nobody says.
    pub(super) image: ImageName,
    /// The network that VMs get when nobody says.
    pub(super) net: NetMode,
    /// Disk that must be free for a start.
    pub(super) keep_free: Size,
}

impl Checks {
    /// Everything, tried and not guessed: some of it takes seconds.
    pub(super) async fn all(&self) -> Vec<Check> {
        let (monitor, vsock, image, kernel, network, hooks, plugins, git, mke2fs) = tokio::join!(
            self.monitor(),
            self.vsock(),
            async { self.images.images.resolve(&self.image) },
            self.kernel(),
            self.networks.check(),
            self.hooks.check(),
            self.plugins.doctor(),
            doctor::git(),
            doctor::mke2fs(),
        );
        let mut rows = vec![monitor, vsock];
        rows.extend(kernel);
        rows.push(match image {
            Ok(image) => pass("image", format!("`{}`: {}", image.name, image.description)),
            Err(error) => failed("image", &error),
        });
        rows.push(match hooks {
            Ok(()) => pass("hooks", "all that take part can run"),
            Err(error) => failed("hooks", &error),
        });
        rows.extend(self.bystanders().await);
        // Where they cannot be asked at all, the row before says why.
        rows.extend(plugins.into_iter().flatten());
        let network = network.into_iter().map(|check| {
            let mut row = network_row(check, Verdict::Warn);
            if row.verdict != Verdict::Pass {
                row.found.push_str("; no VM of `--net user` can start");
            }
            row
        });
        rows.extend(network);
        if self.wants_bridge().await {
            rows.push(self.bridge().await);
        }
        rows.extend([git, mke2fs, self.room().await, doctor::memory(doctor::MEMORY)]);
        let lost = self.lost.clone();
        rows.extend(blocking(move || doctor::lost(&lost)).await);
        rows.extend(self.database().await);
        rows
    }

    /// Whether a VM is, or is to be, on the bridge. Hosts without one have no need of what it takes.
    async fn wants_bridge(&self) -> bool {
        let vms = self.rows.all().await.unwrap_or_default().vms;
        self.net == NetMode::Bridge || vms.iter().any(|vm| vm.spec.net == NetMode::Bridge)
    }

    /// Room for what a VM writes.
    async fn room(&self) -> Check {
        let (home, keep_free) = (self.home.clone(), self.keep_free);
        blocking(move || doctor::room(&home, keep_free)).await
    }

    /// Whether VMs can be on the bridge.
    async fn bridge(&self) -> Check {
        match self.networks.check_bridge().await {
            BridgeCheck::Good(found) => pass("network: bridge", found),
            BridgeCheck::Cut { what, fix } => problem(Verdict::Warn, "network: bridge", what, &fix),
            BridgeCheck::None(report) => {
                let hint = report.hint.clone().unwrap_or_default();
                problem(Verdict::Fail, "network: bridge", report.one_line(), &hint)
            }
        }
    }

    /// Plugins that are there and do not take part, or not in the version that was installed last, or fail.
    async fn bystanders(&self) -> Vec<Check> {
        let Ok(hooks) = self.hooks.list().await else {
            // The row before says why.
            return Vec::new();
        };
        hooks.iter().flat_map(|hook| bystander(hook, &self.hooks.failures(hook))).collect()
    }

    /// What cannot be read in the database.
    async fn database(&self) -> Vec<Check> {
        match self.rows.all().await {
            Ok(stored) => {
                let unreadable = stored.unreadable.iter();
                unreadable.map(|row| unreadable_row(row, &self.vms, &self.database)).collect()
            }
            Err(report) => {
                let hint = report.hint.clone().unwrap_or_default();
                vec![problem(Verdict::Fail, "database", report.one_line(), &hint)]
            }
        }
    }

    async fn monitor(&self) -> Check {
        match self.qemu.version().await {
            Ok(version) => pass("monitor", version),
            Err(error) => failed("monitor", &error),
        }
    }

    async fn vsock(&self) -> Check {
        match self.qemu.vsock_kind().await {
            Ok(kind) => pass("vsock", kind),
            Err(error) => failed("vsock", &error),
        }
    }

    /// The kernel, and how processors run with it.
    async fn kernel(&self) -> Vec<Check> {
        let (kernel, initramfs) = match self.images.kernel().await {
            Ok(found) => found,
            Err(report) => {
                let hint = report.hint.clone().unwrap_or_default();
                return vec![problem(Verdict::Fail, "kernel", report.one_line(), &hint)];
            }
        };
        let found = pass("kernel", kernel.release.clone());
        let verdict = self.qemu.verdict(&kernel.vmlinuz, &initramfs, &kernel.digest).await;
        let name = "accelerator";
        let accelerator = match verdict {
            Ok(verdict) if verdict.accel == Accel::Kvm => {
                pass(name, format!("kvm: {}", verdict.why))
            }
            Ok(verdict) => problem(
                Verdict::Warn,
                name,
                format!("tcg (emulation, slow): {}", escape_control(&verdict.why)),
                "run cove where KVM works for guests, and give your user /dev/kvm",
            ),
            Err(error) => failed(name, &error),
        };
        vec![found, accelerator]
    }
}

#[async_trait]
impl Preflight for Checks {
    /// Milliseconds: what takes longer in [`Checks::all`] (git, mke2fs, a trial of namespaces) is left
    /// to the start itself, which says the same when it fails, and is undone.
    async fn check(&self, needs: &Needs) -> PortResult<Vec<String>> {
        self.hooks.check().await.map_err(|error| Report::of(&error))?;
        let (monitor, vsock) = tokio::join!(self.monitor(), self.vsock());
        let (room, memory) = (self.room().await, doctor::memory(needs.memory_mib << 20));
        let mut rows = vec![monitor, vsock, room, memory];
        match needs.net {
            NetMode::None => {}
            NetMode::User => {
                let network = self.networks.at_hand().into_iter();
                rows.extend(network.map(|check| network_row(check, Verdict::Fail)));
            }
            NetMode::Bridge => {
                rows.push(network_row(self.networks.device_at_hand(), Verdict::Fail));
                // That it forwards nothing is no reason not to start: the host reaches the VM all the same.
                rows.push(self.bridge().await);
            }
        }
        let mut failures = rows.iter().filter(|row| row.verdict == Verdict::Fail);
        let Some(first) = failures.next() else {
            let warnings = rows.into_iter().filter(|row| row.verdict == Verdict::Warn);
            return Ok(warnings.map(|row| format!("{}: {}", row.name, row.found)).collect());
        };
        let message = format!("this host cannot start a VM now: {}: {}", first.name, first.found);
        let mut report = Report::new(Kind::Failed, message);
        report.hint.clone_from(&first.hint);
        report.cause.extend(failures.map(|row| format!("also {}: {}", row.name, row.found)));
        Err(report)
    }
}

/// What somebody should know of a plugin that every start gets by without, or soon will: it has failed so often
/// in a row at these points.
fn bystander(hook: &Hook, failures: &BTreeMap<HookPoint, u32>) -> Vec<Check> {
    let id = &hook.plugin;
    let row = |found: &str, hint: &str| {
        problem(Verdict::Warn, &format!("plugin {id}"), escape_control(found), hint)
    };
    let state = |hint: &str| {
        let state = hook.state.as_str();
        let problem = hook.problem.as_ref().map(|problem| format!("{state}: {problem}"));
        vec![row(problem.as_deref().unwrap_or(state), hint)]
    };
    match (hook.state, hook.standard) {
        // What is revoked of cove's own was meant, and so was what the configuration says.
        (HookState::PendingGrant, true) | (HookState::Disabled, _) => Vec::new(),
        (HookState::Off | HookState::Void, true) => state(&format!("`cove hook grant {id}`")),
        (HookState::PendingGrant | HookState::Off | HookState::Void, false) => {
            state(&format!("`cove hook inspect {id}`, then `cove hook grant {id}`, or remove it"))
        }
        (HookState::Broken, true) => state("run scripts/setup.sh again"),
        (HookState::Broken, false) => state("install it again, or remove it"),
        (HookState::Active, _) => {
            let waits = hook.pending.iter().map(|version| {
                let found = format!("{version} is pending-grant, {} goes on", hook.version);
                let hint = format!(
                    "`cove hook inspect {id}` shows what it asks for anew, `cove hook grant {id}` lets it take part"
                );
                row(&found, &hint)
            });
            let fails = failures.iter().map(|(point, count)| {
                let runs = if *count == 1 { "run".to_owned() } else { format!("{count} runs") };
                let found = format!(
                    "failed at `{point}` in its last {runs}; after {FAILURES} in a row it is switched off"
                );
                row(&found, &format!("`cove hook runs --plugin {id}` says how"))
            });
            waits.chain(fails).collect()
        }
    }
}

fn network_row(check: crate::net::Check, verdict: Verdict) -> Check {
    let name = format!("network: {}", check.need);
    match check.found {
        Ok(found) => pass(&name, found),
        Err(wrong) => problem(verdict, &name, wrong.what, &wrong.fix),
    }
}

/// A VM whose row cannot be read: what of it is where, and how to go on without it.
fn unreadable_row(row: &Unreadable, vms: &Path, database: &Path) -> Check {
    let Unreadable { row: number, id, name, problem: wrong } = row;
    let disks = match id {
        Some(id) => format!("its disks in `{}`", vms.join(id.as_str()).display()),
        None => format!("its disks, somewhere in `{}`,", vms.display()),
    };
    let found =
        format!("the row of the VM `{name}` cannot be read: {wrong}; {disks} are as they were");
    let database = database.display();
    let hint = format!(
        "to go on without it: `cove daemon stop`, copy `{database}`, then `sqlite3 {database} \"DELETE FROM \
         resource WHERE vm = (SELECT id FROM vm WHERE rowid = {number}); DELETE FROM vm WHERE rowid = \
         {number}\"`; its folder is then set aside, not deleted"
    );
    problem(Verdict::Fail, "database row", escape_control(&found), &hint)
}

fn failed(name: &str, error: &impl Explain) -> Check {
    let report = Report::of(error);
    let hint = report.hint.clone().unwrap_or_else(|| "run scripts/setup.sh again".to_owned());
    problem(Verdict::Fail, name, escape_control(&report.one_line()), &hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    fn hook(state: HookState, standard: bool) -> Hook {
        let active = state == HookState::Active;
        Hook {
            plugin: "one".parse().expect("an id"),
            version: "1".to_owned(),
            state,
            hooks: vec![HookPoint::PrepareWorkDisk],
            digest: Digest::of(b"one"),
            standard,
            needs: Vec::new(),
            problem: (!active).then(|| "what is wrong".to_owned()),
            pending: None,
        }
    }

    /// The rows of a plugin, each with its hint.
    fn shown(hook: &Hook, failures: &[(HookPoint, u32)]) -> Vec<(String, String)> {
        let rows = bystander(hook, &failures.iter().copied().collect()).into_iter();
        let row = |row: Check| {
            assert_eq!((row.verdict, row.name.as_str()), (Verdict::Warn, "plugin one"));
            (row.found, row.hint.expect("what to do"))
        };
        rows.map(row).collect()
    }

    #[test]
    fn a_plugin_that_starts_get_by_without_has_a_row() {
        let grant = "`cove hook inspect one`, then `cove hook grant one`, or remove it";
        for (state, standard, hint) in [
            (HookState::Active, false, None),
            (HookState::Disabled, false, None),
            (HookState::PendingGrant, true, None),
            (HookState::PendingGrant, false, Some(grant)),
            (HookState::Off, false, Some(grant)),
            (HookState::Off, true, Some("`cove hook grant one`")),
            (HookState::Void, false, Some(grant)),
            (HookState::Broken, false, Some("install it again, or remove it")),
            (HookState::Broken, true, Some("run scripts/setup.sh again")),
        ] {
            let found = format!("{}: what is wrong", state.as_str());
            let expected: Vec<_> = hint.map(|hint| (found, hint.to_owned())).into_iter().collect();
            assert_eq!(shown(&hook(state, standard), &[]), expected, "{state:?} {standard}");
        }
    }

    #[test]
    fn failures_are_told_before_they_are_too_many() {
        let hook = Hook { pending: Some("2".to_owned()), ..hook(HookState::Active, true) };
        let failures = [(HookPoint::Preflight, 1), (HookPoint::PrepareWorkDisk, 2)];
        let found: Vec<_> = shown(&hook, &failures).into_iter().map(|(found, _)| found).collect();
        let expected = [
            "2 is pending-grant, 1 goes on",
            "failed at `preflight` in its last run; after 3 in a row it is switched off",
            "failed at `prepare-work-disk` in its last 2 runs; after 3 in a row it is switched off",
        ];
        assert_eq!(found, expected);
    }
}
