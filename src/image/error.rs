//! What can go wrong with images and kernels, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::id::{Digest, ImageName};
use crate::report::{Explain, Kind};

/// An image or a kernel cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Neither the cache nor the home names a default image and kernel.
    #[error("there is no default image and kernel in `{}`", .cache.display())]
    NoDefault {
        /// The cache that was looked into.
        cache: PathBuf,
    },
    /// No image has this name.
    #[error("there is no image `{name}`")]
    Unknown {
        /// The name that was asked for.
        name: ImageName,
        /// The names that there are.
        known: Vec<ImageName>,
    },
    /// A VM was made with an image or kernel that is nowhere any more.
    #[error("the {what} `{digest}` is neither in the home nor in the cache")]
    Gone {
        /// `image` or `kernel`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// An entry is not what its manifest and its name say.
    #[error("`{}` is damaged: {reason}", .path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What does not agree.
        reason: String,
    },
    /// A manifest cannot be read as one.
    #[error("`{}` is no manifest that this version understands", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried: "read", "link".
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of the cache could not be brought into the home.
    #[error("cannot link or copy `{}` to `{}`", from.display(), to.display())]
    Bring {
        /// The file of the cache.
        from: PathBuf,
        /// Its place in the home.
        to: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The initramfs of an agent and a kernel could not be made.
    #[error("cannot make the initramfs of kernel `{release}`")]
    Initramfs {
        /// The kernel's release.
        release: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Explain for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoDefault { .. } | Self::Unknown { .. } | Self::Gone { .. } => Kind::NotFound,
            Self::Damaged { .. }
            | Self::Manifest { .. }
            | Self::Io { .. }
            | Self::Bring { .. }
            | Self::Initramfs { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoDefault { .. } => Some(
                "Run scripts/setup.sh: it makes them. COVE_CACHE must be the same for both.".to_owned(),
            ),
            Self::Unknown { known, .. } if known.is_empty() => {
                Some("There is none yet: run scripts/setup.sh.".to_owned())
            }
            Self::Unknown { known, .. } => {
                let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("There is {}.", known.join(", ")))
            }
            Self::Gone { .. } => Some(
                "The VM cannot start without the files it was made with: delete it and make it again."
                    .to_owned(),
            ),
            Self::Damaged { .. } | Self::Manifest { .. } => Some(
                "Remove the folder it lies in, here and in the cache, and run scripts/setup.sh --refresh."
                    .to_owned(),
            ),
            Self::Io { .. } | Self::Bring { .. } | Self::Initramfs { .. } => None,
        }
    }
}
