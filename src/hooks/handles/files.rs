//! `host-files`: lists what the operator mapped, reads it where `read` is granted, and hands it on where
//! `import` is.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::bindings::host_files::{self, Kind};
use crate::hooks::limits;
use crate::hooks::needs::Rights;
use crate::hooks::refusal::Refusal;
use crate::hooks::source::{Entry, EntryKind, HostFilesSource, Opened, entries};
use crate::hooks::state::State;

/// The mapped files of one run.
#[derive(Debug)]
pub struct HostFiles {
    pub(in crate::hooks) rights: Arc<Rights>,
    pub(in crate::hooks) home: PathBuf,
    pub(in crate::hooks) sources: BTreeMap<String, HostFilesSource>,
    /// Bytes that the plugin may still read.
    pub(in crate::hooks) budget: Arc<std::sync::atomic::AtomicU64>,
}

/// One entry, with what its plugin may do with it.
#[derive(Debug)]
pub struct HostFile {
    entry: Entry,
    name: Arc<str>,
    rights: Arc<Rights>,
    budget: Arc<std::sync::atomic::AtomicU64>,
}

impl HostFile {
    /// Opens the file, when the plugin may hand it on.
    pub(super) fn open_to_import(&self) -> Result<Opened, Refusal> {
        if !self.rights.may_import(&self.name) {
            return Err(Refusal::not_granted(&format!("host-files.import:{}", self.name)));
        }
        self.entry.open()
    }

    fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        if !self.rights.may_read(&self.name) {
            return Err(Refusal::not_granted(&format!("host-files.read:{}", self.name)));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(limits::PIECE_BYTES);
        let bytes = match self.entry.open()? {
            Opened::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(length).min(bytes.len());
                bytes[start..end].to_vec()
            }
            Opened::File(file, size) => {
                let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut bytes = vec![0; length.min(left)];
                let read = file.read_at(&mut bytes, offset);
                let read = read.map_err(|error| Refusal::io(&self.entry.label, &error))?;
                bytes.truncate(read);
                bytes
            }
        };
        self.spend(bytes.len() as u64)?;
        Ok(bytes)
    }

    fn spend(&self, bytes: u64) -> Result<(), Refusal> {
        use std::sync::atomic::Ordering::Relaxed;
        let left = self.budget.load(Relaxed);
        let Some(left) = left.checked_sub(bytes) else {
            let limit = limits::READ_BYTES >> 20;
            let message = format!("a plugin reads at most {limit} MiB of host files");
            return Err(Refusal::new("too-large", message));
        };
        self.budget.store(left, Relaxed);
        Ok(())
    }
}

impl State {
    fn entry(&mut self, file: &Resource<HostFile>) -> wasmtime::Result<&Entry> {
        self.count_call()?;
        Ok(&self.table.get(file)?.entry)
    }
}

impl host_files::Host for State {}

impl host_files::HostHostFiles for State {
    fn entries(
        &mut self,
        files: Resource<HostFiles>,
        name: String,
    ) -> Result<Vec<Resource<HostFile>>, CallError> {
        self.count_call()?;
        let files = self.table.get(&files)?;
        if !files.rights.may_read(&name) && !files.rights.may_import(&name) {
            return Err(Refusal::not_granted(&format!("host-files:{name}")).into());
        }
        let Some(source) = files.sources.get(&name) else {
            return Ok(Vec::new());
        };
        let found = entries(source, &files.home)?;
        let (rights, budget) = (Arc::clone(&files.rights), Arc::clone(&files.budget));
        let name: Arc<str> = name.into();
        let mut handles = Vec::with_capacity(found.len());
        for entry in found {
            let (name, rights) = (Arc::clone(&name), Arc::clone(&rights));
            let file = HostFile { entry, name, rights, budget: Arc::clone(&budget) };
            handles.push(self.table.push(file)?);
        }
        Ok(handles)
    }

    fn drop(&mut self, files: Resource<HostFiles>) -> wasmtime::Result<()> {
        self.table.delete(files)?;
        Ok(())
    }
}

impl host_files::HostHostFile for State {
    fn label(&mut self, file: Resource<HostFile>) -> wasmtime::Result<String> {
        Ok(self.entry(&file)?.label.clone())
    }

    fn path(&mut self, file: Resource<HostFile>) -> wasmtime::Result<String> {
        Ok(self.entry(&file)?.path.clone())
    }

    fn kind(&mut self, file: Resource<HostFile>) -> wasmtime::Result<Kind> {
        Ok(match self.entry(&file)?.kind {
            EntryKind::File => Kind::File,
            EntryKind::Folder => Kind::Folder,
            EntryKind::Link => Kind::Link,
            EntryKind::Other => Kind::Other,
            EntryKind::Missing => Kind::Missing,
        })
    }

    fn size(&mut self, file: Resource<HostFile>) -> wasmtime::Result<u64> {
        Ok(self.entry(&file)?.size)
    }

    fn mode(&mut self, file: Resource<HostFile>) -> wasmtime::Result<u32> {
        Ok(self.entry(&file)?.mode)
    }

    fn guest_path(&mut self, file: Resource<HostFile>) -> wasmtime::Result<Option<String>> {
        Ok(self.entry(&file)?.guest_path.clone())
    }

    fn guest_mode(&mut self, file: Resource<HostFile>) -> wasmtime::Result<Option<u32>> {
        Ok(self.entry(&file)?.guest_mode)
    }

    fn read(
        &mut self,
        file: Resource<HostFile>,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, CallError> {
        self.count_call()?;
        Ok(self.table.get(&file)?.read(offset, length)?)
    }

    fn drop(&mut self, file: Resource<HostFile>) -> wasmtime::Result<()> {
        self.table.delete(file)?;
        Ok(())
    }
}
