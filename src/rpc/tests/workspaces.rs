//! `vm.workspace.*` on the real server: an export counts once its reader has all of it.

use std::io::{Seek as _, Write as _};
use std::sync::{Arc, Mutex};

use super::Served;
use crate::id::{OperationId, VmId};
use crate::report::{Kind, Report};
use crate::rpc::server::{ExportStream, Exported, WorkspaceRuns};
use crate::wire::rpc::{self, ExportWhat, VmWorkspaceExport, WorkspaceExport};

/// A workspace whose patch is longer than a frame.
#[derive(Default)]
pub(super) struct Fake {
    taken: Arc<Mutex<u32>>,
}

const PATCH: usize = 1_300_000;

#[async_trait::async_trait]
impl WorkspaceRuns for Fake {
    async fn prepare(&self, wanted: rpc::WorkspacePrepare) -> Result<rpc::Operation, Report> {
        Ok(rpc::Operation {
            id: OperationId::random(),
            action: "prepare".to_owned(),
            vm: VmId::random(),
            vm_name: wanted.vm.parse().expect("a name"),
            stages: Vec::new(),
            notes: Vec::new(),
            started_at: crate::vm::now(),
            end: None,
        })
    }

    async fn export(&self, wanted: WorkspaceExport) -> Result<Exported, Report> {
        let mut file = tempfile::tempfile().expect("a file");
        let patch: Vec<u8> = (0..PATCH).map(|number| (number % 251) as u8).collect();
        file.write_all(&patch).expect("writes");
        file.rewind().expect("rewinds");
        let counter = self.taken.clone();
        let taken = async move {
            *counter.lock().expect("no panic") += 1;
            match wanted.vm.as_str() {
                "full" => Err(Report::new(Kind::Failed, "no room")),
                _ => Ok(()),
            }
        };
        let stream = ExportStream { file, bytes: PATCH as u64, taken: Box::pin(taken) };
        let notes = vec![format!("{} times taken", self.taken.lock().expect("no panic"))];
        Ok(Exported { stream, tree: "1234".to_owned(), notes })
    }

    async fn apply(&self, wanted: rpc::WorkspaceApply) -> Result<rpc::WorkspaceApplied, Report> {
        Ok(rpc::WorkspaceApplied {
            change: "1234..5678".to_owned(),
            source_path: "/src/repo".to_owned(),
            files: 1,
            runs: Vec::new(),
            runs_total: 0,
            conflicts: Vec::new(),
            conflicts_total: 0,
            applied: wanted.agreed.is_some(),
            exported: wanted.agreed.is_some(),
            notes: Vec::new(),
        })
    }

    async fn state(&self, _: &str) -> Result<rpc::WorkspaceState, Report> {
        Ok(rpc::WorkspaceState {
            workspace: rpc::VmWorkspace {
                guest_path: "/root/repo".to_owned(),
                source_path: "/src/repo".to_owned(),
                base_commit: None,
                mode: rpc::WorkspaceMode::Shallow,
            },
            unexported: true,
            changes: vec![rpc::WorkspaceChange {
                path: "README".to_owned(),
                change: rpc::ChangeKind::Modified,
            }],
            changes_total: 1,
            commits_ahead: None,
            source_moved: Some(false),
            notes: Vec::new(),
        })
    }
}

fn wanted(vm: &str) -> WorkspaceExport {
    WorkspaceExport { vm: vm.to_owned(), base: None, what: ExportWhat::Patch }
}

#[tokio::test]
async fn an_export_counts_once_its_reader_has_all_of_it() {
    let served = Served::new();
    let client = served.client().await;
    for (confirms, notes) in
        [(false, "0 times taken"), (true, "0 times taken"), (true, "1 times taken")]
    {
        let exported = client.call::<VmWorkspaceExport>(wanted("web")).await.expect("exported");
        assert_eq!((exported.bytes, &exported.notes[..]), (PATCH as u64, &[notes.to_owned()][..]));
        let mut export = client.open_export(&exported).await.expect("opens");
        let mut patch = Vec::new();
        while let Some(bytes) = export.next().await.expect("reads") {
            patch.extend_from_slice(&bytes);
        }
        assert!(patch.iter().enumerate().all(|(number, byte)| *byte == (number % 251) as u8));
        assert_eq!(patch.len(), PATCH);
        if confirms {
            export.confirm().await.expect("written down");
        }
    }
}

#[tokio::test]
async fn that_an_export_could_not_be_written_down_is_told() {
    let served = Served::new();
    let client = served.client().await;
    let exported = client.call::<VmWorkspaceExport>(wanted("full")).await.expect("exported");
    let mut export = client.open_export(&exported).await.expect("opens");
    while export.next().await.expect("reads").is_some() {}
    let report = export.confirm().await.expect_err("not written down");
    assert!(report.message.contains("did not write down"), "{report:?}");
    assert!(report.cause.iter().any(|cause| cause.contains("no room")), "{report:?}");
}
