//! How processors can really run on this host.
//!
//! `/dev/kvm` existing proves nothing: there are hosts where it opens, makes VMs, and never runs an
//! ordinary guest kernel. So each candidate boots cove's own kernel once, with a short deadline, and
//! the verdict is remembered per host boot, kernel and monitor version.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::vm::state::Accel;

/// What a verdict holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circumstances {
    /// `/proc/sys/kernel/random/boot_id`: a host may be another machine after its next boot.
    pub host_boot: String,
    /// The digest of the guest's kernel.
    pub kernel: String,
    /// The monitor's path and version.
    pub monitor: String,
    /// The user: devices are not open to everybody.
    pub user: u32,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// What it holds for.
    pub circumstances: Circumstances,
    /// The best way that works.
    pub accel: Accel,
    /// Why it is not a better one, for people.
    pub why: String,
}

/// The verdict of the last probe, in one file of the cache. Who may not write the cache keeps it for as
/// long as the daemon lives.
#[derive(Debug)]
pub struct Verdicts {
    path: PathBuf,
    last: Mutex<Option<Verdict>>,
    /// One probe at a time; those who wait find its verdict.
    pub(super) probing: tokio::sync::Mutex<()>,
}

impl Verdicts {
    /// The verdicts in this file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::default(), probing: tokio::sync::Mutex::default() }
    }

    /// The verdict for these circumstances, if there is one. A file that cannot be read or understood
    /// counts as none: a probe makes it again.
    #[must_use]
    pub fn find(&self, circumstances: &Circumstances) -> Option<Verdict> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let written: Option<Verdict> = serde_json::from_slice(&text).ok();
        let last = self.last.lock().expect("no panic under the lock").clone();
        let mut known = [written, last].into_iter().flatten();
        known.find(|verdict| verdict.circumstances == *circumstances)
    }

    /// Remembers a verdict.
    ///
    /// # Errors
    /// When the file cannot be written; then it is remembered in memory only.
    pub fn keep(&self, verdict: &Verdict) -> io::Result<()> {
        *self.last.lock().expect("no panic under the lock") = Some(verdict.clone());
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder)?;
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut draft, verdict)?;
        draft.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_circumstances_only() {
        let folder = tempfile::tempdir().expect("tempdir");
        let verdicts = Verdicts::new(folder.path().join("deep/verdict.json"));
        let here = Circumstances {
            host_boot: "b".to_owned(),
            kernel: "k".to_owned(),
            monitor: "qemu 10".to_owned(),
            user: 0,
        };
        assert_eq!(verdicts.find(&here), None);
        let verdict =
            Verdict { circumstances: here.clone(), accel: Accel::Tcg, why: "x".to_owned() };
        verdicts.keep(&verdict).expect("kept");
        let next_daemon = Verdicts::new(folder.path().join("deep/verdict.json"));
        for verdicts in [&verdicts, &next_daemon] {
            assert_eq!(verdicts.find(&here), Some(verdict.clone()));
            let elsewhere = Circumstances { host_boot: "c".to_owned(), ..here.clone() };
            assert_eq!(verdicts.find(&elsewhere), None);
        }
        std::fs::write(folder.path().join("deep/verdict.json"), "{").expect("spoilt");
        assert_eq!(next_daemon.find(&here), None);
        assert_eq!(verdicts.find(&here), Some(verdict), "this daemon knows it still");
    }

    #[test]
    fn a_cache_that_cannot_be_written_costs_one_probe() {
        let verdicts = Verdicts::new("/proc/nowhere/verdict.json".into());
        let circumstances = Circumstances {
            host_boot: "b".to_owned(),
            kernel: "k".to_owned(),
            monitor: "qemu 10".to_owned(),
            user: 1000,
        };
        let verdict = Verdict {
            circumstances: circumstances.clone(),
            accel: Accel::Kvm,
            why: "x".to_owned(),
        };
        verdicts.keep(&verdict).expect_err("nobody can write there");
        assert_eq!(verdicts.find(&circumstances), Some(verdict));
    }
}
