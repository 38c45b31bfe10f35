//! Virtual machine monitors: they run machines and know nothing of VMs' lives.
//!
//! - [`qemu`]: QEMU, the monitor that is everywhere
//! - [`console`]: the bounded ring that a guest's console goes into
//! - [`accel`]: how processors can really run on this host

pub mod accel;
pub mod console;
pub mod qemu;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::image::initramfs::InitramfsError;
use crate::process::ToolError;
use crate::report::{Explain, Kind, Report};
use crate::vm::ledger::LedgerError;

/// A machine could not be started or looked after.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// A program could not be started.
    #[error("cannot start `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ended at once.
    #[error("`{}` ended at start: {said}", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// What it said, with control characters escaped.
        said: String,
    },
    /// A program did not open its socket in time.
    #[error("`{}` did not open its socket `{socket}` within {} s", program.display(), deadline.as_secs())]
    NoSocket {
        /// The program.
        program: PathBuf,
        /// The socket's name in the VM's folder.
        socket: &'static str,
        /// The deadline.
        deadline: Duration,
    },
    /// The monitor's control socket does not speak as it should.
    #[error("the monitor does not answer on its control socket")]
    Control {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The console's ring could not be read or written.
    #[error("cannot use the console ring in `{}`", folder.display())]
    Console {
        /// The VM's folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The boot's initramfs could not be made.
    #[error("cannot make the initramfs of this boot")]
    Initramfs(#[source] InitramfsError),
    /// A file for the boot could not be made or removed.
    #[error("cannot make or remove `{}`", path.display())]
    BootFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A row could not be written.
    #[error("the machine is not started without a row for it")]
    Ledger(#[source] LedgerError),
    /// A version could not be asked for.
    #[error("cannot ask `{}` for its version", program.display())]
    Version {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// The configured way of running processors does not work here.
    #[error("`monitor.accel = \"{wanted}\"` does not work on this host: {why}")]
    Accel {
        /// The configured way.
        wanted: &'static str,
        /// What happened when it was tried.
        why: String,
    },
}

impl Explain for VmmError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSocket { .. } => Kind::TimedOut,
            Self::Accel { .. } => Kind::Refused,
            Self::Spawn { .. }
            | Self::Ended { .. }
            | Self::Control { .. }
            | Self::Console { .. }
            | Self::BootFile { .. }
            | Self::Initramfs(_)
            | Self::Ledger(_)
            | Self::Version { .. } => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Spawn { program, .. } | Self::Version { program, .. } => Some(format!(
                "install `{}` with `scripts/setup.sh`, or name it in the configuration under [monitor]",
                program.display()
            )),
            Self::Accel { .. } => Some("use `accel = \"auto\"` or `accel = \"tcg\"`".to_owned()),
            Self::Ended { .. } | Self::NoSocket { .. } | Self::Control { .. } => {
                Some("`cove doctor` checks the monitor".to_owned())
            }
            Self::Initramfs(source) => source.hint(),
            Self::Console { .. } | Self::BootFile { .. } | Self::Ledger(_) => None,
        }
    }
}

impl From<VmmError> for Report {
    fn from(error: VmmError) -> Self {
        Self::of(&error)
    }
}
