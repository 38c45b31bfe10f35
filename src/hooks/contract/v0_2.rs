//! `cove:hooks@0.2.0`.

mod imports;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};

use super::{Answer, Call, Contract, Exports, Finding, PluginError};
use crate::hooks::state::State;
use crate::wire::rpc::{HookPoint, Verdict};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/0.2.0",
        world: "plugin",
        imports: {
            "cove:hooks/guest.[method]guest-system.run": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        trappable_error_type: {
            "cove:hooks/types.error" => crate::hooks::handles::CallError,
        },
        with: {
            "cove:hooks/machine.machine": crate::hooks::handles::Machine,
            "cove:hooks/machine-request.machine-request": crate::hooks::handles::MachineRequest,
            "cove:hooks/work-disk.work-disk": crate::hooks::handles::WorkDisk,
            "cove:hooks/work-disk.file-writer": crate::hooks::handles::FileWriter,
            "cove:hooks/host-files.host-files": crate::hooks::handles::HostFiles,
            "cove:hooks/host-files.host-file": crate::hooks::handles::HostFile,
            "cove:hooks/git-config.git-config": crate::hooks::handles::GitConfig,
            "cove:hooks/settings.settings": crate::hooks::handles::Settings,
            "cove:hooks/state.state": crate::hooks::handles::PluginState,
            "cove:hooks/guest.guest-system": crate::hooks::handles::GuestHandle,
        },
    });
}

use bindings::Plugin;
use bindings::cove::hooks::types;
use bindings::exports::cove::hooks::{
    cleanup, configure_machine, doctor, post_start, pre_stop, preflight, prepare_work_disk,
};

/// The version.
pub(in crate::hooks) struct V0_2;

impl Contract for V0_2 {
    fn version(&self) -> &'static str {
        "0.2.0"
    }

    fn offers(&self) -> &'static [&'static str] {
        &[
            "types",
            "log",
            "machine",
            "machine-request",
            "host-files",
            "work-disk",
            "git-config",
            "settings",
            "state",
            "guest",
        ]
    }

    fn add_to_linker(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        Plugin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
    }

    fn exports(
        &self,
        component: &InstancePre<State>,
        points: &[HookPoint],
    ) -> wasmtime::Result<Box<dyn Exports>> {
        let mut hooks = Hooks::default();
        for point in points {
            match point {
                HookPoint::Preflight => {
                    hooks.preflight = Some(preflight::GuestIndices::new(component)?);
                }
                HookPoint::ConfigureMachine => {
                    hooks.configure_machine =
                        Some(configure_machine::GuestIndices::new(component)?);
                }
                HookPoint::PrepareWorkDisk => {
                    hooks.prepare_work_disk =
                        Some(prepare_work_disk::GuestIndices::new(component)?);
                }
                HookPoint::PostStart => {
                    hooks.post_start = Some(post_start::GuestIndices::new(component)?);
                }
                HookPoint::PreStop => {
                    hooks.pre_stop = Some(pre_stop::GuestIndices::new(component)?);
                }
                HookPoint::Cleanup => {
                    hooks.cleanup = Some(cleanup::GuestIndices::new(component)?);
                }
                HookPoint::Doctor => {
                    hooks.doctor = Some(doctor::GuestIndices::new(component)?);
                }
            }
        }
        Ok(Box::new(hooks))
    }
}

/// The hooks of one component: those it exports.
#[derive(Default)]
struct Hooks {
    preflight: Option<preflight::GuestIndices>,
    configure_machine: Option<configure_machine::GuestIndices>,
    prepare_work_disk: Option<prepare_work_disk::GuestIndices>,
    post_start: Option<post_start::GuestIndices>,
    pre_stop: Option<pre_stop::GuestIndices>,
    cleanup: Option<cleanup::GuestIndices>,
    doctor: Option<doctor::GuestIndices>,
}

type Called = wasmtime::Result<Result<Answer, PluginError>>;

impl Exports for Hooks {
    fn call<'a>(
        &'a self,
        store: &'a mut Store<State>,
        instance: &'a Instance,
        call: Call,
    ) -> BoxFuture<'a, Called> {
        self.call(store, instance, call).boxed()
    }
}

/// The hook of a point. The host calls only what the component was found to export.
fn there<T>(indices: Option<&T>) -> wasmtime::Result<&T> {
    indices.ok_or_else(|| wasmtime::Error::msg("the component does not export this hook"))
}

impl Hooks {
    async fn call(&self, store: &mut Store<State>, instance: &Instance, call: Call) -> Called {
        match call {
            Call::Preflight(machine, from) => {
                let hook = there(self.preflight.as_ref())?.load(&mut *store, instance)?;
                let said = hook.call_run(store, machine, from.files, from.git, from.settings);
                Ok(said.await?.map(Answer::Lines).map_err(PluginError::from))
            }
            Call::ConfigureMachine(machine, request, from, state) => {
                let hook = there(self.configure_machine.as_ref())?.load(&mut *store, instance)?;
                let (files, git, settings) = (from.files, from.git, from.settings);
                nothing(hook.call_run(store, machine, request, files, git, settings, state).await)
            }
            Call::PrepareWorkDisk(machine, disk, from, state) => {
                let hook = there(self.prepare_work_disk.as_ref())?.load(&mut *store, instance)?;
                let (files, git, settings) = (from.files, from.git, from.settings);
                nothing(hook.call_run(store, machine, disk, files, git, settings, state).await)
            }
            Call::PostStart(machine, guest, settings, state) => {
                let hook = there(self.post_start.as_ref())?.load(&mut *store, instance)?;
                nothing(hook.call_run(store, machine, guest, settings, state).await)
            }
            Call::PreStop(machine, settings, state) => {
                let hook = there(self.pre_stop.as_ref())?.load(&mut *store, instance)?;
                nothing(hook.call_run(store, machine, settings, state).await)
            }
            Call::Cleanup(machine, settings, state) => {
                let hook = there(self.cleanup.as_ref())?.load(&mut *store, instance)?;
                nothing(hook.call_run(store, machine, settings, state).await)
            }
            Call::Doctor(from) => {
                let hook = there(self.doctor.as_ref())?.load(&mut *store, instance)?;
                let found = hook.call_run(store, from.files, from.git, from.settings).await?;
                let found = found.map(|found| found.into_iter().map(Finding::from).collect());
                Ok(found.map(Answer::Findings).map_err(PluginError::from))
            }
        }
    }
}

fn nothing(called: wasmtime::Result<Result<(), types::Error>>) -> Called {
    Ok(called?.map(|()| Answer::Nothing).map_err(PluginError::from))
}

impl From<types::Error> for PluginError {
    fn from(error: types::Error) -> Self {
        let types::Error { code, message, retryable: _ } = error;
        Self { code, message }
    }
}

impl From<doctor::Finding> for Finding {
    fn from(finding: doctor::Finding) -> Self {
        let verdict = match finding.verdict {
            doctor::Verdict::Pass => Verdict::Pass,
            doctor::Verdict::Warn => Verdict::Warn,
            doctor::Verdict::Fail => Verdict::Fail,
        };
        Self { verdict, found: finding.found, advice: finding.advice }
    }
}
