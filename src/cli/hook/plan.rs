//! `cove hook plan`: what hooks would do to a machine.

use std::fmt::Write as _;
use std::path::Path;

use crate::report::{Kind, Report, escape_control};
use crate::wire::rpc::{
    CreateVm, CreateWorkspace, HookPlanQuery, HookPlanShow, HookPlans, PlannedWrite, PluginPlan,
};

use super::super::completion::vm_names;
use super::super::connect::{client_context, connect};
use super::super::failure::Failure;
use super::super::output::{Format, one_line};
use super::super::run::existing_folder;
use super::is_path;

/// Arguments of `cove hook plan`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// A VM, or a path in a repository (with a slash in it, or `.`)
    #[arg(value_name = "VM|REPO", add = vm_names())]
    target: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let wanted = match is_path(&self.target) {
            true => of_repository(&self.target)?,
            false => of_vm(&self.target),
        };
        let plans = match client.call::<HookPlanShow>(wanted).await {
            // A folder's bare name, where no VM has it.
            Err(error) if error.kind == Kind::NotFound && Path::new(&self.target).is_dir() => {
                client.call::<HookPlanShow>(of_repository(&self.target)?).await?
            }
            answered => answered?,
        };
        self.format.print(&plans, render)?;
        Ok(0)
    }
}

fn of_vm(vm: &str) -> HookPlanQuery {
    HookPlanQuery { vm: Some(vm.to_owned()), client: client_context(), create: None }
}

fn of_repository(path: &str) -> Result<HookPlanQuery, Report> {
    let path = existing_folder(Path::new(path))?;
    let workspace = CreateWorkspace { path, ..CreateWorkspace::default() };
    let create = CreateVm { workspace: Some(workspace), ..CreateVm::default() };
    Ok(HookPlanQuery { create: Some(Box::new(create)), client: client_context(), vm: None })
}

/// The plans as text: what is written in the shape of a diff. The host never reads a guest's disk, so all of
/// it is new.
pub(in super::super) fn render(plans: &HookPlans) -> String {
    plans.plugins.iter().map(of_plugin).collect::<Vec<_>>().join("\n")
}

fn of_plugin(plan: &PluginPlan) -> String {
    let (version, digest) = (one_line(&plan.version), &plan.plan.as_str()[..12]);
    let mut text = format!("plugin {} {version}, plan {digest}\n", plan.plugin);
    let mut line = |content: String| writeln!(text, "{content}").expect("a String takes it");
    for wish in &plan.wishes {
        let value = wish.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
        line(format!("  {}", one_line(&format!("{} {}{value}", wish.action, wish.name))));
    }
    for step in &plan.steps {
        line(format!("  {}", one_line(&headline(step))));
        let content = step.text.as_deref().map(escape_control).unwrap_or_default();
        content.lines().for_each(|content| line(format!("  + {content}")));
        match step.withheld.as_deref() {
            None => {}
            Some("long") => line("  … and more".to_owned()),
            Some("private") => {
                line("  (not shown: the plugin read a file that only you may read)".to_owned())
            }
            Some(other) => line(format!("  (not shown: {})", one_line(other))),
        }
    }
    if plan.left_out > 0 {
        line(format!("  … and {} more steps", plan.left_out));
    }
    for said in &plan.log {
        line(format!("  log: {}", one_line(said)));
    }
    text
}

fn headline(step: &PlannedWrite) -> String {
    let mut text = format!("{} ~/{}", step.action, step.path);
    let mut add = |more: String| text.push_str(&more);
    if let Some(mode) = step.mode {
        add(format!(" {mode:04o}"));
    }
    if let Some(bytes) = step.bytes {
        add(format!(", {bytes} bytes"));
    }
    if let Some(marker) = &step.marker {
        add(format!(", block `{marker}`"));
    }
    if let Some(target) = &step.target {
        add(format!(" -> {target}"));
    }
    if let Some(from) = &step.from {
        add(format!(", copied from {from}"));
        if let Some(sha256) = &step.sha256 {
            add(format!(", sha256 {}", &sha256.as_str()[..12]));
        }
    }
    text
}
