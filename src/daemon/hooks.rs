//! Hooks, for the VM service: where plugins are, and what stands behind the names they know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::StartError;
use super::programs::Programs;
use crate::config::{Config, FileSync, GrantConfig, Paths, SignerConfig};
use crate::doctor::{pass, problem};
use crate::hooks::{
    Asked, Ceiling, Finding, GitValues, Grant, HookError, HookHost, HookInputs, HookOutcome,
    HookSettings, HostFilesSource, HostPath, MachineView, Purpose, SignatureRules, VirtualFile,
};
use crate::id::PluginId;
use crate::process::Tool;
use crate::report::Report;
use crate::vm::plan::WorkDiskPlan;
use crate::vm::ports::{HookRan, Hooked, HookedGuest, HookedVm, Intent, PortResult, VmHooks};
use crate::vm::state::Extras;
use crate::wire::rpc::{Check, ClientContext, HookPlan, HookPoint, HookSigner, Verdict};

/// git and ssh-add answer at once or not at all.
const TOOL_DEADLINE: Duration = Duration::from_secs(5);

/// The host of hooks, as the configuration wants it.
pub(super) async fn host(
    paths: &Paths,
    config: &Config,
    coved: &Path,
) -> Result<Arc<HookHost>, StartError> {
    let settings = settings(paths, config, coved).map_err(StartError::Hooks)?;
    Ok(Arc::new(HookHost::open(settings).await.map_err(StartError::Hooks)?))
}

/// Where plugins are and what they may do.
fn settings(paths: &Paths, config: &Config, coved: &Path) -> Result<HookSettings, HookError> {
    let signer =
        |signer: &SignerConfig| HookSigner { name: signer.name.clone(), key: signer.key.clone() };
    Ok(HookSettings {
        standard_folder: paths.programs.join("plugins"),
        registry_folder: paths.plugins(),
        cache_folder: paths.home.join("compiled"),
        state_folder: paths.home.join("plugin-state"),
        log_folder: paths.home.clone(),
        compiler: coved.to_owned(),
        grants: config.hooks.grants.iter().map(|(id, grant)| granted(id, grant)).collect(),
        ceiling: Ceiling::new(&config.hooks.ceiling)?,
        signatures: SignatureRules {
            required: config.hooks.require_signature,
            signers: config.hooks.signers.iter().map(signer).collect(),
        },
        disabled: config.hooks.disabled.iter().cloned().collect(),
    })
}

fn granted(id: &PluginId, grant: &GrantConfig) -> Grant {
    Grant {
        plugin: id.clone(),
        component: grant.component.clone(),
        needs: grant.needs.clone(),
        host_files: grant.host_files.clone(),
    }
}

fn plain(paths: &[String]) -> HostFilesSource {
    let path = |path: &String| HostPath { path: path.clone(), guest: None, mode: None };
    HostFilesSource::Paths(paths.iter().map(path).collect())
}

fn synced(entries: &[FileSync]) -> HostFilesSource {
    let path = |entry: &FileSync| HostPath {
        path: entry.host.clone(),
        guest: Some(entry.below_home().to_owned()),
        mode: entry.mode_bits(),
    };
    HostFilesSource::Paths(entries.iter().map(path).collect())
}

/// The hooks of one daemon.
pub(super) struct Hooks {
    pub(super) host: Arc<HookHost>,
    home: PathBuf,
    host_files: BTreeMap<String, HostFilesSource>,
    settings: BTreeMap<PluginId, toml::Table>,
    ask_agent: bool,
}

impl Hooks {
    pub(super) fn new(host: Arc<HookHost>, paths: &Paths, config: &Config) -> Self {
        let mut settings = config.hooks.settings.clone();
        if !config.git_identity.keys.is_empty() {
            let mut table = toml::Table::new();
            table.insert("keys".to_owned(), config.git_identity.keys.clone().into());
            settings.insert("git-identity".parse().expect("a valid id"), table);
        }
        let host_files = [
            ("ssh-public-keys".to_owned(), plain(&config.ssh_key.files)),
            ("file-sync".to_owned(), synced(&config.file_sync)),
        ];
        Self {
            host,
            home: paths.user_home.clone(),
            host_files: host_files.into(),
            settings,
            ask_agent: config.ssh_key.agent,
        }
    }

    /// What hooks of a point get to see.
    pub(super) async fn inputs(
        &self,
        point: HookPoint,
        vm: Option<&HookedVm>,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<HookInputs> {
        let mut inputs = HookInputs {
            purpose: purpose(intent),
            machine: vm.map(view),
            home: self.home.clone(),
            host_files: self.host_files.clone(),
            git: GitValues::default(),
            settings: self.settings.clone(),
        };
        // Programs of the host are asked, which takes longer than all hooks together.
        if sees_host(point) && self.host.has(point).await.map_err(report)? {
            let (agent_keys, git) = tokio::join!(self.agent_keys(client), self.git());
            inputs.host_files.insert("ssh-agent-keys".to_owned(), agent_keys);
            inputs.git = git;
        }
        Ok(inputs)
    }

    /// The same where nothing of the client's is seen.
    async fn own_inputs(&self, point: HookPoint, vm: &HookedVm) -> PortResult<HookInputs> {
        self.inputs(point, Some(vm), &ClientContext::default(), Intent::Act).await
    }

    /// What plugins say to `doctor`.
    pub(super) async fn doctor(&self) -> PortResult<Vec<Check>> {
        let client = ClientContext::default();
        let inputs = self.inputs(HookPoint::Doctor, None, &client, Intent::Look).await?;
        let outcomes = self.host.doctor(&inputs).await.map_err(report)?;
        Ok(outcomes.into_iter().flat_map(rows).collect())
    }

    /// The public keys of the client's ssh agent. An agent that does not answer has none: it belongs to
    /// a session that may be over.
    async fn agent_keys(&self, client: &ClientContext) -> HostFilesSource {
        let socket = client.ssh_auth_sock.as_deref().filter(|_| self.ask_agent);
        let mut files = Vec::new();
        if let Some(socket) = socket {
            let tool = Tool::new("ssh-add").arg("-L").keep_only_env(&["PATH", "HOME"]);
            match tool.env("SSH_AUTH_SOCK", socket).deadline(TOOL_DEADLINE).run().await {
                Ok(bytes) => files.push(VirtualFile { name: "your ssh agent".to_owned(), bytes }),
                Err(error) => tracing::debug!(%error, "the client's ssh agent gives no keys"),
            }
        }
        HostFilesSource::Virtual(files)
    }

    /// The user's git configuration, outside any repository. A user without one has no values.
    async fn git(&self) -> GitValues {
        let tool = Tool::new("git")
            .args(["config", "--list", "--includes", "--null"])
            .keep_only_env(&["PATH", "HOME", "XDG_CONFIG_HOME"])
            .env("GIT_CEILING_DIRECTORIES", "/")
            .current_dir("/")
            .deadline(TOOL_DEADLINE);
        match tool.run().await {
            Ok(output) => GitValues::from_list(&output),
            Err(error) => {
                tracing::debug!(%error, "no git configuration");
                GitValues::default()
            }
        }
    }
}

/// The rows of one plugin.
fn rows(outcome: HookOutcome) -> Vec<Check> {
    let name = format!("plugin {}", outcome.plugin);
    if let Some(failure) = outcome.failure {
        let hint = "what it needs cannot be told; `cove hook list` shows whether it can run";
        return vec![problem(Verdict::Warn, &name, failure, hint)];
    }
    if outcome.findings.is_empty() {
        return vec![pass(&name, "has nothing to say")];
    }
    let findings = outcome.findings.into_iter();
    let row = |Finding { verdict, found, advice }| Check {
        name: name.clone(),
        verdict,
        found,
        hint: advice,
    };
    findings.map(row).collect()
}

fn view(vm: &HookedVm) -> MachineView {
    let HookedVm { id, name, machine, labels, workspace } = vm.clone();
    MachineView { id, name, plan: machine, labels, workspace }
}

fn purpose(intent: Intent) -> Purpose {
    match intent {
        Intent::Act => Purpose::Act,
        Intent::Look => Purpose::Look,
    }
}

/// Whether hooks of a point get to see the user's files and git configuration.
fn sees_host(point: HookPoint) -> bool {
    match point {
        HookPoint::Preflight
        | HookPoint::ConfigureMachine
        | HookPoint::PrepareWorkDisk
        | HookPoint::Doctor => true,
        HookPoint::PostStart | HookPoint::PreStop | HookPoint::Cleanup => false,
    }
}

fn report(error: HookError) -> Report {
    Report::of(&error)
}

fn ran(vm: &HookedVm, outcomes: Vec<HookOutcome>) -> Vec<HookRan> {
    let ran = outcomes.into_iter().map(|outcome| {
        let (vm, wall) = (&vm.id, outcome.used.wall);
        let (plugin, point) = (&outcome.plugin, outcome.point);
        tracing::debug!(%vm, %plugin, %point, ?wall, "a hook ran");
        for line in &outcome.log {
            // On one line: what a plugin says must not look like what the daemon does.
            let said = line.text.replace('\n', "\\n");
            tracing::debug!(%vm, %plugin, %point, said, "a hook logged");
        }
        let log = outcome.for_user();
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let wishes = outcome.asked.shown();
        HookRan {
            point,
            failure: outcome.failure,
            shown: HookPlan { plugin: outcome.plugin, steps: outcome.steps, wishes, log, wall_us },
        }
    });
    ran.collect()
}

#[async_trait]
impl VmHooks for Hooks {
    async fn preflight(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Vec<HookRan>> {
        let inputs = self.inputs(HookPoint::Preflight, Some(vm), client, intent).await?;
        Ok(ran(vm, self.host.preflight(&inputs).await.map_err(report)?))
    }

    async fn configure_machine(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<Extras>> {
        let inputs = self.inputs(HookPoint::ConfigureMachine, Some(vm), client, intent).await?;
        let (asked, outcomes) = self.host.configure_machine(&inputs).await.map_err(report)?;
        let publish = asked.published();
        let Asked { env, labels, egress, forwards: _ } = asked;
        Ok(Hooked { wanted: Extras { env, labels, egress, publish }, ran: ran(vm, outcomes) })
    }

    async fn prepare_work_disk(
        &self,
        vm: &HookedVm,
        client: &ClientContext,
        intent: Intent,
    ) -> PortResult<Hooked<WorkDiskPlan>> {
        let inputs = self.inputs(HookPoint::PrepareWorkDisk, Some(vm), client, intent).await?;
        let run = self.host.prepare_work_disk(&inputs).await.map_err(report)?;
        Ok(Hooked { wanted: run.plan, ran: ran(vm, run.hooks) })
    }

    async fn post_start(&self, vm: &HookedVm, guest: HookedGuest) -> PortResult<Vec<HookRan>> {
        let inputs = self.own_inputs(HookPoint::PostStart, vm).await?;
        let outcomes = self.host.post_start(&inputs, Arc::new(Programs(guest))).await;
        Ok(ran(vm, outcomes.map_err(report)?))
    }

    async fn pre_stop(&self, vm: &HookedVm) -> PortResult<Vec<HookRan>> {
        let inputs = self.own_inputs(HookPoint::PreStop, vm).await?;
        Ok(ran(vm, self.host.pre_stop(&inputs).await.map_err(report)?))
    }

    async fn cleanup(&self, vm: &HookedVm) -> PortResult<Vec<HookRan>> {
        let inputs = self.own_inputs(HookPoint::Cleanup, vm).await?;
        Ok(ran(vm, self.host.cleanup(&inputs).await.map_err(report)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ceiling_lets_everything_through_that_can_be_asked_for() {
        let config = Config::default();
        let ceiling = Ceiling::new(&config.hooks.ceiling).expect("known kinds");
        assert!(ceiling.has_all_kinds(), "{:?}", config.hooks.ceiling);
    }
}
