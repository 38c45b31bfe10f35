//! Disks in memory: how long a file is, how long its machine thinks it is, and its file system.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::ports::Sim;
use super::world::SimDisk;
use crate::vm::ports::{Disks, PortResult};

#[async_trait]
impl Disks for Sim {
    async fn make(&self, folder: &Path, work_bytes: u64, _: u64) -> PortResult<()> {
        let make = async {
            let mut host = self.world.host();
            host.folders.insert(folder.to_owned());
            let disk = SimDisk { file: work_bytes, seen: work_bytes, system: work_bytes };
            host.disks.insert(folder.to_owned(), disk);
            Ok(())
        };
        self.call("disks.make", make).await
    }

    async fn grow(&self, folder: &Path, work_bytes: u64) -> PortResult<()> {
        let grow = async {
            let mut host = self.world.host();
            let disk = host.disks.get_mut(folder).expect("the disk is there");
            disk.file = disk.file.max(work_bytes);
            Ok(())
        };
        self.call("disks.grow", grow).await
    }

    fn taken(&self, folder: &Path) -> PortResult<(u64, u64)> {
        self.faults.at_once("disks.taken")?;
        assert!(self.world.host().folders.contains(folder), "its disks are there");
        Ok((4096, 8192))
    }

    async fn remove(&self, folder: &Path) -> PortResult<()> {
        let remove = async {
            self.world.host().disks.remove(folder);
            self.world.host().folders.remove(folder);
            Ok(())
        };
        self.call("disks.remove", remove).await
    }

    fn folders(&self, _: &Path) -> PortResult<Vec<PathBuf>> {
        self.faults.at_once("disks.folders")?;
        Ok(self.world.host().folders.iter().cloned().collect())
    }
}
