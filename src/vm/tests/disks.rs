//! Disks in memory: how long a file is, how long its machine thinks it is, and its file system.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::ports::Sim;
use super::world::SimDisk;
use crate::vm::ports::{ByteStream, DiskCopy, Disks, PortResult};

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

    async fn taken(&self, folder: &Path) -> PortResult<(u64, u64)> {
        self.faults.at_once("disks.taken")?;
        assert!(self.world.host().folders.contains(folder), "its disks are there");
        Ok((4096, 8192))
    }

    async fn copy_out(&self, wanted: DiskCopy) -> PortResult<Box<dyn ByteStream>> {
        let read = async {
            let mut host = self.world.host();
            assert!(host.folders.contains(&wanted.folder), "its disks are there");
            host.read.push(wanted);
            let (ours, _) = tokio::io::duplex(1);
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        };
        self.call("disks.copy_out", read).await
    }

    async fn remove(&self, folder: &Path) -> PortResult<()> {
        let remove = async {
            self.world.host().disks.remove(folder);
            self.world.host().folders.remove(folder);
            Ok(())
        };
        self.call("disks.remove", remove).await
    }

    async fn set_aside(&self, folder: &Path) -> PortResult<PathBuf> {
        let place = Path::new("/lost").join(folder.file_name().expect("a name"));
        let set_aside = async {
            let mut host = self.world.host();
            host.disks.remove(folder);
            if host.folders.remove(folder) {
                host.lost.insert(place.clone());
            }
            Ok(place)
        };
        self.call("disks.set_aside", set_aside).await
    }

    async fn folders(&self, _: &Path) -> PortResult<Vec<PathBuf>> {
        self.faults.at_once("disks.folders")?;
        Ok(self.world.host().folders.iter().cloned().collect())
    }
}
