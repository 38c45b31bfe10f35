//! The initramfs of an agent and a kernel, made once and kept in the home.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use super::adopt;
use super::catalog::{Images, KernelFiles};
use super::error::ImageError;
use crate::id::Digest;

const SHELF: &str = "initramfs";
const FILE: &str = "base.cpio";

impl Images {
    /// The initramfs for `kernel` with the agent at `agent` as `/init`: `build` is called with the
    /// agent's bytes and the kernel's module folder when this pair has none yet. Raise `layout` when
    /// `build` changes what it writes.
    ///
    /// # Errors
    /// When the agent cannot be read, `build` fails, or the file cannot be written.
    pub fn initramfs_base<E: Error + Send + Sync + 'static>(
        &self,
        kernel: &KernelFiles,
        agent: &Path,
        layout: u32,
        build: impl FnOnce(&[u8], &Path) -> Result<Vec<u8>, E>,
    ) -> Result<PathBuf, ImageError> {
        let bytes = fs::read(agent).map_err(|source| ImageError::Io {
            action: "read",
            path: agent.to_owned(),
            source,
        })?;
        let parts = format!("{layout} {} {}", Digest::of(&bytes), kernel.digest);
        let key = Digest::of(parts.as_bytes());
        let shelf = self.home.join(SHELF);
        let place = shelf.join(key.as_str()).join(FILE);
        if place.is_file() {
            return Ok(place);
        }
        adopt::publish(&shelf, key.as_str(), |entry| {
            let archive = build(&bytes, &kernel.modules).map_err(|source| {
                ImageError::Initramfs { release: kernel.release.clone(), source: Box::new(source) }
            })?;
            adopt::write_file(&entry.join(FILE), &archive)
        })?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::testing::World;
    use super::*;

    #[test]
    fn it_is_made_once_per_agent_kernel_and_layout() {
        let world = World::new();
        let (image, kernel) = world.default_entries("1");
        world.name_defaults(&image, &kernel);
        let images = world.images();
        let kernel = images.kernel().expect("the default kernel");
        let agent = world.path("agent");
        let make = |layout: u32, content: &str| {
            let mut built = false;
            let path = images
                .initramfs_base(&kernel, &agent, layout, |agent, modules| {
                    built = true;
                    assert!(modules.join("modules.builtin").is_file());
                    Ok::<_, io::Error>([agent, content.as_bytes()].concat())
                })
                .expect("made");
            (built, fs::read(path).expect("readable"))
        };
        fs::write(&agent, "agent one ").expect("written");
        assert_eq!(make(1, "a"), (true, b"agent one a".to_vec()));
        assert_eq!(make(1, "b"), (false, b"agent one a".to_vec()));
        assert_eq!(make(2, "c"), (true, b"agent one c".to_vec()));
        fs::write(&agent, "agent two ").expect("written");
        assert_eq!(make(1, "d"), (true, b"agent two d".to_vec()));
    }

    #[test]
    fn a_failed_build_is_tried_again() {
        let world = World::new();
        let (image, kernel) = world.default_entries("1");
        world.name_defaults(&image, &kernel);
        let images = world.images();
        let kernel = images.kernel().expect("the default kernel");
        let agent = world.path("agent");
        fs::write(&agent, "agent").expect("written");
        let failing = images.initramfs_base(&kernel, &agent, 1, |_, _| {
            Err::<Vec<u8>, _>(io::Error::other("no such module"))
        });
        assert!(matches!(failing, Err(ImageError::Initramfs { .. })));
        let built =
            images.initramfs_base(&kernel, &agent, 1, |_, _| Ok::<_, io::Error>(b"x".to_vec()));
        assert_eq!(fs::read(built.expect("made")).expect("readable"), b"x");
    }
}
