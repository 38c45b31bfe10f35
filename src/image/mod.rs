//! The image service: root images, kernels and the initramfs made for them.
//!
//! Images and kernels are made by `scripts/setup.sh` and published in the cache by digest. At first
//! use they are taken into the home of the daemon by hard link, so that a cache which somebody
//! empties breaks no VM. Nothing here opens an image as a file system, knows of VMs, or asks the
//! network.
//!
//! ```text
//!   cache/default.json ──names──▶ cache/images/DIGEST ──link or copy──▶ home/images/DIGEST
//!                                 cache/kernels/DIGEST ────────────────▶ home/kernels/DIGEST
//!   home/default.json  (what the cache named last: used when the cache is gone)
//!   home/initramfs/KEY.cpio (made once per agent and kernel)
//! ```
//!
//! Every entry appears by one rename and is never written again. A lock file per folder lets one
//! process at a time publish; the others wait and find the result.
//!
//! **Digests are not computed here.** Setup takes the digest of a file when it publishes it; here the
//! manifest, the name of the folder and the size must agree. Reading 200 MB again at the first start
//! in every home would cost a second and protect only against somebody who may write the cache, and
//! that is this user, who may write the home as well.

mod adopt;
mod catalog;
#[cfg(test)]
mod catalog_tests;
mod error;
pub mod initramfs;
mod initramfs_cache;
mod manifest;
#[cfg(test)]
mod testing;

pub use catalog::{Images, KernelFiles, RootImage};
pub use error::ImageError;
