//! What plugins remember: one small file per plugin, `ID.json`, in a folder that only the daemon's user can
//! look into. Values are hexadecimal. A file is replaced as a whole.
//!
//! Hooks of one plugin may run for several machines at once, each on a copy of its own. What one of them
//! has changed is brought into the file key by key, so that none undoes another's changes to other keys.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::handles::Remembered;
use crate::id::{PluginId, from_hex, hex};

/// The folder.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
    /// Held while a file is read and replaced.
    writing: Mutex<()>,
}

impl Memory {
    /// The memory in a folder, which is made when it is first needed.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, writing: Mutex::default() }
    }

    fn path(&self, plugin: &PluginId) -> PathBuf {
        self.folder.join(format!("{plugin}.json"))
    }

    /// What a plugin remembers.
    pub(super) fn load(&self, plugin: &PluginId) -> io::Result<Remembered> {
        let text = match fs::read(self.path(plugin)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Remembered::new()),
            Err(error) => return Err(error),
        };
        let values: BTreeMap<String, String> = serde_json::from_slice(&text)?;
        let value = |(key, value): (String, String)| {
            let bytes = from_hex(&value).ok_or(io::ErrorKind::InvalidData)?;
            Ok((key, bytes))
        };
        values.into_iter().map(value).collect()
    }

    /// Keeps what a run has changed between `before` and `after`.
    pub(super) fn keep(
        &self,
        plugin: &PluginId,
        before: &Remembered,
        after: &Remembered,
    ) -> io::Result<()> {
        if before == after {
            return Ok(());
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = self.load(plugin)?;
        now.retain(|key, _| after.contains_key(key) || !before.contains_key(key));
        let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        now.extend(changed.map(|(key, value)| (key.clone(), value.clone())));
        let values: BTreeMap<_, _> = now.iter().map(|(key, value)| (key, hex(value))).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&serde_json::to_vec(&values)?)?;
        file.as_file().sync_all()?;
        file.persist(self.path(plugin)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Forgets all of it.
    pub(super) fn forget(&self, plugin: &PluginId) -> io::Result<()> {
        match fs::remove_file(self.path(plugin)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(pairs: &[(&str, &[u8])]) -> Remembered {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn changes_of_two_runs_come_together() {
        let folder = tempfile::tempdir().expect("tempdir");
        let memory = Memory::new(folder.path().join("state"));
        let plugin: PluginId = "one".parse().expect("an id");
        let before = memory.load(&plugin).expect("empty");
        assert!(before.is_empty());
        let start = remembered(&[("a", b"1"), ("b", b"\xff\0")]);
        memory.keep(&plugin, &before, &start).expect("kept");
        assert_eq!(memory.load(&plugin).expect("read"), start);

        // Both began with the same copy.
        memory.keep(&plugin, &start, &remembered(&[("a", b"2"), ("b", b"\xff\0")])).expect("kept");
        memory.keep(&plugin, &start, &remembered(&[("a", b"1"), ("c", b"3")])).expect("kept");
        let expected = remembered(&[("a", b"2"), ("c", b"3")]);
        assert_eq!(memory.load(&plugin).expect("read"), expected);
        memory.forget(&plugin).expect("forgotten");
        memory.forget(&plugin).expect("twice");
        assert!(memory.load(&plugin).expect("empty").is_empty());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let folder = tempfile::tempdir().expect("tempdir");
        let memory = Memory::new(folder.path().to_owned());
        let plugin: PluginId = "one".parse().expect("an id");
        for text in ["", "[]", "{\"a\": \"0x\"}"] {
            fs::write(memory.path(&plugin), text).expect("written");
            memory.load(&plugin).expect_err(text);
            memory.keep(&plugin, &Remembered::new(), &remembered(&[("a", b"1")])).expect_err(text);
            assert_eq!(fs::read_to_string(memory.path(&plugin)).expect("there"), text);
        }
    }
}
