//! `host-files`: lists what the operator mapped, reads it where `read` is granted, and hands it on where
//! `import` is.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::journal::{Import, Read};
use crate::hooks::limits;
use crate::hooks::needs::Rights;
use crate::hooks::refusal::Refusal;
use crate::hooks::source::{Entry, HostFilesSource, OpenFiles, Opened, entries};
use crate::hooks::state::State;

/// The mapped files of one run.
#[derive(Debug)]
pub struct HostFiles {
    pub(in crate::hooks) rights: Arc<Rights>,
    pub(in crate::hooks) home: PathBuf,
    pub(in crate::hooks) sources: BTreeMap<String, HostFilesSource>,
    /// Bytes that the plugin may still read.
    pub(in crate::hooks) budget: Arc<std::sync::atomic::AtomicU64>,
    /// What the run holds open.
    pub(in crate::hooks) open: OpenFiles,
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

    /// The note that it goes to a path.
    pub(super) fn noted(&self, path: &str) -> Import {
        Import {
            name: self.name.to_string(),
            label: self.entry.label.clone(),
            path: path.to_owned(),
        }
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
    /// The entry behind a handle.
    pub(in crate::hooks) fn host_file(
        &mut self,
        file: &Resource<HostFile>,
    ) -> wasmtime::Result<&Entry> {
        Ok(&self.look(file)?.entry)
    }

    /// Handles to all entries behind a logical name.
    pub(in crate::hooks) fn host_entries(
        &mut self,
        files: &Resource<HostFiles>,
        name: String,
    ) -> Result<Vec<Resource<HostFile>>, CallError> {
        let files = self.reach(files)?;
        if !files.rights.may_read(&name) && !files.rights.may_import(&name) {
            return Err(Refusal::not_granted(&format!("host-files:{name}")).into());
        }
        let Some(source) = files.sources.get(&name) else {
            return Ok(Vec::new());
        };
        let found = entries(source, &files.home, &files.open)?;
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

    /// Bytes of a file, noted down by their digest.
    pub(in crate::hooks) fn host_read(
        &mut self,
        file: &Resource<HostFile>,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, CallError> {
        let file = self.reach(file)?;
        let bytes = file.read(offset, length)?;
        let read =
            Read::of((&file.name, &file.entry.label), file.entry.is_private(), offset, &bytes);
        self.journal.read(read);
        Ok(bytes)
    }
}
