//! Images, kernels and the initramfs, for the VM service.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::id::{Digest, ImageName};
use crate::image::{ImageError, Images, KernelFiles, RootImage, initramfs};
use crate::report::Report;
use crate::vm::ports::{BootFiles, BootSource, PortResult};

/// The version of the initramfs' layout: raised when `initramfs::base` writes something else.
const LAYOUT: u32 = 1;

/// Images of one home, with the agent that goes into every initramfs.
pub struct BootImages {
    pub(super) images: Images,
    agent: PathBuf,
}

impl BootImages {
    /// Images with the agent at this path.
    #[must_use]
    pub fn new(images: Images, agent: PathBuf) -> Self {
        Self { images, agent }
    }

    /// The default kernel with its initramfs.
    pub(super) async fn kernel(&self) -> PortResult<(KernelFiles, PathBuf)> {
        let (images, agent) = (self.images.clone(), self.agent.clone());
        blocking(move || {
            let kernel = images.kernel()?;
            let initramfs = base(&images, &kernel, &agent)?;
            Ok((kernel, initramfs))
        })
        .await
    }

    async fn files(
        &self,
        find: impl FnOnce(&Images) -> Result<(RootImage, KernelFiles), ImageError> + Send + 'static,
    ) -> PortResult<BootFiles> {
        let (images, agent) = (self.images.clone(), self.agent.clone());
        blocking(move || {
            let (image, kernel) = find(&images)?;
            Ok(BootFiles {
                initramfs: base(&images, &kernel, &agent)?,
                image: image.path,
                image_digest: image.digest,
                kernel: kernel.vmlinuz,
                kernel_digest: kernel.digest,
            })
        })
        .await
    }
}

fn base(
    images: &Images,
    kernel: &KernelFiles,
    agent: &std::path::Path,
) -> Result<PathBuf, ImageError> {
    images.initramfs_base(kernel, agent, LAYOUT, initramfs::base)
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
