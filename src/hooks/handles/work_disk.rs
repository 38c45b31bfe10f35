//! `work-disk`: stages steps in the plan of its plugin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::Resource;

use super::{CallError, HostFile};
use crate::hooks::refusal::Refusal;
use crate::hooks::staging::Stage;
use crate::hooks::state::State;
use crate::wire::guest::BlockPlace;

/// A plan that several handles of one run write to.
pub type SharedStage = Arc<Mutex<Stage>>;

/// The work disk of one run.
#[derive(Debug)]
pub struct WorkDisk(pub(in crate::hooks) SharedStage);

/// A file that grows in pieces.
#[derive(Debug)]
pub struct FileWriter {
    stage: SharedStage,
    path: String,
    mode: u32,
    bytes: Vec<u8>,
}

fn locked(stage: &SharedStage) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Counts the call and does something with the plan behind a handle.
    fn staging<T>(
        &mut self,
        disk: &Resource<WorkDisk>,
        what: impl FnOnce(&mut Stage) -> Result<T, Refusal>,
    ) -> Result<T, CallError> {
        let disk = self.look(disk)?;
        Ok(what(&mut locked(&disk.0))?)
    }

    pub(in crate::hooks) fn disk_make_directory(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: &str,
        mode: u32,
    ) -> Result<(), CallError> {
        self.staging(disk, |stage| stage.directory(path, mode))
    }

    pub(in crate::hooks) fn disk_write_file(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: &str,
        mode: u32,
        content: Vec<u8>,
    ) -> Result<(), CallError> {
        self.staging(disk, |stage| {
            stage.take_bytes(content.len())?;
            stage.file(path, mode, content)
        })
    }

    pub(in crate::hooks) fn disk_create(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: String,
        mode: u32,
    ) -> Result<Resource<FileWriter>, CallError> {
        self.staging(disk, |stage| stage.may(&path, Some(mode)))?;
        let stage = Arc::clone(&self.table.get(disk)?.0);
        Ok(self.table.push(FileWriter { stage, path, mode, bytes: Vec::new() })?)
    }

    pub(in crate::hooks) fn disk_import_file(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: &str,
        mode: u32,
        source: &Resource<HostFile>,
    ) -> Result<(), CallError> {
        // The path first: a file that may go nowhere is not opened.
        self.staging(disk, |stage| stage.may(path, Some(mode)))?;
        let opened = self.table.get(source)?.open_to_import()?;
        let disk = self.table.get(disk)?;
        Ok(locked(&disk.0).import(path, mode, opened)?)
    }

    pub(in crate::hooks) fn disk_ensure_block(
        &mut self,
        disk: &Resource<WorkDisk>,
        (path, mode): (&str, u32),
        block: (&str, BlockPlace),
        content: String,
    ) -> Result<(), CallError> {
        self.staging(disk, |stage| stage.block(path, mode, block, content))
    }

    pub(in crate::hooks) fn disk_remove(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: &str,
    ) -> Result<(), CallError> {
        self.staging(disk, |stage| stage.remove(path))
    }

    pub(in crate::hooks) fn disk_symlink(
        &mut self,
        disk: &Resource<WorkDisk>,
        path: &str,
        target: &str,
    ) -> Result<(), CallError> {
        self.staging(disk, |stage| stage.symlink(path, target))
    }

    pub(in crate::hooks) fn writer_write(
        &mut self,
        writer: &Resource<FileWriter>,
        bytes: Vec<u8>,
    ) -> Result<(), CallError> {
        self.count_call()?;
        let writer = self.table.get_mut(writer)?;
        locked(&writer.stage).take_bytes(bytes.len())?;
        writer.bytes.extend(bytes);
        Ok(())
    }

    pub(in crate::hooks) fn writer_finish(
        &mut self,
        writer: Resource<FileWriter>,
    ) -> Result<(), CallError> {
        self.count_call()?;
        let FileWriter { stage, path, mode, bytes } = self.table.delete(writer)?;
        Ok(locked(&stage).file(&path, mode, bytes)?)
    }

    pub(in crate::hooks) fn writer_drop(
        &mut self,
        writer: Resource<FileWriter>,
    ) -> wasmtime::Result<()> {
        let writer = self.table.delete(writer)?;
        locked(&writer.stage).give_back(writer.bytes.len());
        Ok(())
    }
}
