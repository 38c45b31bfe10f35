//! What is seen of the work in VMs, in memory.

use std::path::Path;

use async_trait::async_trait;

use super::ports::Sim;
use super::world::vm_of;
use crate::vm::ports::{Guest, LastSeen, PortResult, Work, WorkSeen, WorkspaceOf};

#[async_trait]
impl Work for Sim {
    async fn look(&self, workspace: &WorkspaceOf, _: &dyn Guest) -> PortResult<WorkSeen> {
        let look = async {
            let work = self.world.host().work.get(&workspace.vm).cloned();
            Ok(work.unwrap_or(WorkSeen::Safe))
        };
        self.call("work.look", look).await
    }

    async fn last_look(
        &self,
        workspace: &WorkspaceOf,
        _: &dyn Guest,
    ) -> PortResult<Option<LastSeen>> {
        let look = async { Ok(Some(LastSeen(workspace.vm.to_string()))) };
        self.call("work.last_look", look).await
    }

    async fn leaves(&self, workspace: &WorkspaceOf, _: &LastSeen) -> PortResult<()> {
        let leaves = async {
            let mut host = self.world.host();
            let work = host.work.get(&workspace.vm).cloned().unwrap_or(WorkSeen::Safe);
            host.left.insert(workspace.vm.clone(), work);
            Ok(())
        };
        self.call("work.leaves", leaves).await
    }

    async fn left(&self, workspace: &WorkspaceOf) -> PortResult<WorkSeen> {
        let left = async {
            let left = self.world.host().left.get(&workspace.vm).cloned();
            Ok(left.unwrap_or(WorkSeen::Unknown))
        };
        self.call("work.left", left).await
    }

    async fn returns(&self, workspace: &WorkspaceOf) -> PortResult<()> {
        let returns = async {
            self.world.host().left.remove(&workspace.vm);
            Ok(())
        };
        self.call("work.returns", returns).await
    }

    async fn is_kept(&self, kept: &Path) -> bool {
        let folder = kept.parent();
        folder.is_some_and(|folder| self.world.host().work.contains_key(&vm_of(folder)))
    }
}
