//! Images, kernels and the initramfs, for the VM service.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::id::{Digest, ImageName};
use crate::image::{ImageError, Images, KernelFiles, RootImage, initramfs};
use crate::process::FileStamp;
use crate::report::Report;
use crate::vm::ports::{BootFiles, BootSource, PortResult};

/// The version of the initramfs' layout: raised when `initramfs::base` writes something else.
const LAYOUT: u32 = 1;

/// Images of one home, with the agent that goes into every initramfs.
pub struct BootImages {
    pub(super) images: Images,
    initramfs: Initramfs,
}

/// The initramfs of every kernel that was asked for, so that a start does not read and hash the agent.
#[derive(Clone)]
struct Initramfs {
    agent: PathBuf,
    /// By kernel: the agent's file that went in, and the archive.
    known: Arc<Mutex<HashMap<Digest, (FileStamp, PathBuf)>>>,
}

impl Initramfs {
    fn of(&self, images: &Images, kernel: &KernelFiles) -> Result<PathBuf, ImageError> {
        let agent = FileStamp::of(&self.agent).ok();
        let known = {
            let known = self.known.lock().expect("no panic under the lock");
            known.get(&kernel.digest).cloned()
        };
        if let Some((of, archive)) = known
            && Some(of) == agent
            && archive.is_file()
        {
            return Ok(archive);
        }
        let archive = images.initramfs_base(kernel, &self.agent, LAYOUT, initramfs::base)?;
        if let Some(agent) = agent {
            let mut known = self.known.lock().expect("no panic under the lock");
            known.insert(kernel.digest.clone(), (agent, archive.clone()));
        }
        Ok(archive)
    }
}

impl BootImages {
    /// Images with the agent at this path.
    #[must_use]
    pub fn new(images: Images, agent: PathBuf) -> Self {
        Self { images, initramfs: Initramfs { agent, known: Arc::default() } }
    }

    /// The default kernel with its initramfs.
    pub(super) async fn kernel(&self) -> PortResult<(KernelFiles, PathBuf)> {
        let (images, archives) = (self.images.clone(), self.initramfs.clone());
        blocking(move || {
            let kernel = images.kernel()?;
            let initramfs = archives.of(&images, &kernel)?;
            Ok((kernel, initramfs))
        })
        .await
    }

    async fn files(
        &self,
        find: impl FnOnce(&Images) -> Result<(RootImage, KernelFiles), ImageError> + Send + 'static,
    ) -> PortResult<BootFiles> {
        let (images, archives) = (self.images.clone(), self.initramfs.clone());
        blocking(move || {
            let (image, kernel) = find(&images)?;
            Ok(BootFiles {
                initramfs: archives.of(&images, &kernel)?,
                image: image.path,
                image_digest: image.digest,
                kernel: kernel.vmlinuz,
                kernel_digest: kernel.digest,
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> PortResult<T> {
    let done = tokio::task::spawn_blocking(work).await.expect("looking up files does not panic");
    done.map_err(|error| Report::of(&error))
}

#[async_trait]
impl BootSource for BootImages {
    async fn resolve(&self, image: &ImageName) -> PortResult<BootFiles> {
        let image = image.clone();
        self.files(move |images| Ok((images.resolve(&image)?, images.kernel()?))).await
    }

    async fn of_vm(&self, image: &Digest, kernel: &Digest) -> PortResult<BootFiles> {
        let (image, kernel) = (image.clone(), kernel.clone());
        self.files(move |images| Ok((images.image(&image)?, images.kernel_with(&kernel)?))).await
    }
}
