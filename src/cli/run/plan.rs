//! What `cove run --dry-run` prints: the machine, the files, and what each plugin would write and asks for.

use std::fmt::Write as _;

use crate::egress::Policy;
use crate::report::escape_control;
use crate::wire::rpc::{
    CreatePlan, HookPlan, HookStep, HookWish, MachinePlan, NetMode, WorkspacePlan,
};

use super::super::output::{one_line, size};

/// The plan as text. Names of files and lines of plugins are escaped.
pub(super) fn render(plan: &CreatePlan) -> String {
    let mut text = machine(&plan.machine);
    for publish in &plan.publish {
        writeln!(text, "publish: {publish}").expect("writing to a String cannot fail");
    }
    for note in &plan.notes {
        writeln!(text, "note: {}", one_line(note)).expect("writing to a String cannot fail");
    }
    if let Some(workspace) = &plan.workspace {
        text.push('\n');
        text.push_str(&repository(workspace));
    }
    for hook in &plan.hooks {
        text.push('\n');
        text.push_str(&of_hook(hook));
    }
    text
}

fn machine(machine: &MachinePlan) -> String {
    let net = machine.net.as_str();
    let mut text = format!(
        "machine: image {}, {} vcpu, {} memory, {} work disk, {} root disk, net {net}\n",
        machine.image,
        machine.vcpu,
        size(machine.memory_mib.saturating_mul(1 << 20)),
        size(machine.disk_bytes),
        size(machine.root_disk_bytes),
    );
    if machine.net != NetMode::None {
        let Policy { mode, rules } = &machine.egress;
        writeln!(text, "egress: {}", mode.as_str()).expect("writing to a String cannot fail");
        for rule in rules {
            writeln!(text, "  rule {rule}").expect("writing to a String cannot fail");
        }
    }
    text
}

fn repository(workspace: &WorkspacePlan) -> String {
    let mut text = String::new();
    let mut line = |content: String| {
        let content = escape_control(&content).replace('\n', "\\n");
        writeln!(text, "{content}").expect("writing to a String cannot fail");
    };
    line(format!("repository: {} -> {}", workspace.source_path, workspace.guest_path));
    let base = workspace.base_commit.as_deref();
    line(format!("  base commit: {}", base.unwrap_or("none yet")));
    line(format!("  origin: {}", workspace.origin.as_deref().unwrap_or("none")));
    let (count, bytes) = (workspace.files.len(), size(workspace.bytes));
    line(format!("  files: {count} ({bytes})"));
    for file in &workspace.files {
        line(format!("    {file}"));
    }
    if workspace.untracked_left_out > 0 {
        let count = workspace.untracked_left_out;
        line(format!("  left out: {count} untracked (take them with --include-untracked)"));
    }
    text
}

fn of_hook(hook: &HookPlan) -> String {
    let count = match hook.steps.len() {
        0 => "nothing to write".to_owned(),
        1 => "1 step".to_owned(),
        more => format!("{more} steps"),
    };
    let mut text = format!("hook {}: {count}\n", hook.plugin);
    for step in &hook.steps {
        writeln!(text, "  {}", of_step(step)).expect("writing to a String cannot fail");
    }
    for wish in &hook.wishes {
        writeln!(text, "  {}", of_wish(wish)).expect("writing to a String cannot fail");
    }
    for line in &hook.log {
        let line = escape_control(line).replace('\n', "\\n");
        writeln!(text, "  log: {line}").expect("writing to a String cannot fail");
    }
    text
}

fn of_step(step: &HookStep) -> String {
    let path = escape_control(&step.path).replace('\n', "\\n");
    let mut text = format!("{} ~/{path}", escape_control(&step.action));
    if let Some(mode) = step.mode {
        write!(text, " {mode:04o}").expect("writing to a String cannot fail");
    }
    if let Some(bytes) = step.bytes {
        write!(text, " ({bytes} bytes)").expect("writing to a String cannot fail");
    }
    text
}

/// Values of variables are not told by the daemon.
fn of_wish(wish: &HookWish) -> String {
    let HookWish { action, name, value } = wish;
    let value = value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
    one_line(&format!("{action} {name}{value}"))
}
