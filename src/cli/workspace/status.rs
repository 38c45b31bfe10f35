//! `cove workspace status`: what has changed in a VM's repository.

use crate::wire::rpc::{ChangeKind, VmRef, VmWorkspaceStatus, WorkspaceState};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{Format, one_line, pairs, tell};

/// Arguments of `cove workspace status`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let state = client.call::<VmWorkspaceStatus>(VmRef { vm: self.vm }).await?;
        self.format.print(&state, render)?;
        tell(&state.notes);
        Ok(0)
    }
}

fn render(state: &WorkspaceState) -> String {
    let workspace = &state.workspace;
    let or_unknown = |known: Option<String>| known.unwrap_or_else(|| "unknown".to_owned());
    let moved = state.source_moved.map(|moved| match moved {
        true => "something else is checked out by now".to_owned(),
        false => "as it was".to_owned(),
    });
    let base = workspace.base_commit.clone();
    let work = match (state.changes_total, state.unexported) {
        (0, false) => "nothing has changed",
        (_, false) => "exported",
        (_, true) => "not exported",
    };
    let mut text = pairs(&[
        ("guest", one_line(&workspace.guest_path)),
        ("source", one_line(&workspace.source_path)),
        ("mode", workspace.mode.as_str().to_owned()),
        ("base commit", base.unwrap_or_else(|| "none".to_owned())),
        ("source is", or_unknown(moved)),
        ("commits ahead", or_unknown(state.commits_ahead.map(|count| count.to_string()))),
        ("changes", state.changes_total.to_string()),
        ("work", work.to_owned()),
    ]);
    for change in &state.changes {
        let letter = match change.change {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'M',
            ChangeKind::Deleted => 'D',
        };
        text.push_str(&format!("\n{letter} {}", one_line(&change.path)));
    }
    let more = state.changes_total.saturating_sub(state.changes.len() as u64);
    if more > 0 {
        text.push_str(&format!("\nand {more} more: `cove workspace export --name-only` has all"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rpc::{VmWorkspace, WorkspaceChange, WorkspaceMode};

    #[test]
    fn a_state_says_whether_work_is_in_danger() {
        let change = |path: &str, change| WorkspaceChange { path: path.to_owned(), change };
        let mut state = WorkspaceState {
            workspace: VmWorkspace {
                guest_path: "/root/web".to_owned(),
                source_path: "/src/web".to_owned(),
                base_commit: Some("1234".to_owned()),
                mode: WorkspaceMode::Shallow,
            },
            unexported: true,
            changes: vec![change("a b", ChangeKind::Added), change("c", ChangeKind::Deleted)],
            changes_total: 5,
            commits_ahead: None,
            source_moved: Some(false),
            notes: Vec::new(),
        };
        insta::assert_snapshot!(render(&state), @r"
        guest          /root/web
        source         /src/web
        mode           shallow
        base commit    1234
        source is      as it was
        commits ahead  unknown
        changes        5
        work           not exported
        A a b
        D c
        and 3 more: `cove workspace export --name-only` has all
        ");
        state.unexported = false;
        assert!(render(&state).contains("work           exported"));
        (state.changes, state.changes_total) = (Vec::new(), 0);
        assert!(render(&state).contains("work           nothing has changed"));
    }
}
