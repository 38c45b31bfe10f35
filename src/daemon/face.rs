//! What the daemon tells of itself over the RPC.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::checks::Checks;
use crate::config::{Config, Paths};
use crate::report::Report;
use crate::rpc::server::Daemon;
use crate::task::Tasks;
use crate::vm::VmService;
use crate::wire::rpc::{Check, DaemonStatusReply, Image, Kernel};

/// The face of one daemon.
pub(super) struct Face {
    paths: Paths,
    config: Config,
    checks: Arc<Checks>,
    vms: VmService,
    tasks: Tasks,
    started_at: String,
}

impl Face {
    pub(super) fn new(
        paths: Paths,
        config: Config,
        checks: Arc<Checks>,
        vms: &VmService,
        tasks: &Tasks,
    ) -> Self {
        let started_at = crate::vm::now();
        Self { paths, config, checks, vms: vms.clone(), tasks: tasks.clone(), started_at }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Daemon for Face {
    fn images(&self) -> Result<Vec<Image>, Report> {
        self.checks.images.images.list_images().map_err(|error| Report::of(&error))
    }

    fn kernels(&self) -> Result<Vec<Kernel>, Report> {
        self.checks.images.images.list_kernels().map_err(|error| Report::of(&error))
    }

    fn doctor(&self) -> BoxFuture<'_, Vec<Check>> {
        self.checks.all().boxed()
    }

    fn config(&self) -> serde_json::Value {
        serde_json::to_value(&self.config).expect("the configuration has string keys only")
    }

    fn status(&self) -> DaemonStatusReply {
        let status = procfs::process::Process::myself().and_then(|process| process.status());
        DaemonStatusReply {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            socket: shown(&self.paths.socket),
            database: shown(&self.paths.database),
            started_at: self.started_at.clone(),
            vms: self.vms.count() as u64,
            resident_kib: status.ok().and_then(|status| status.vmrss).unwrap_or(0),
            log: shown(&self.paths.log),
        }
    }

    fn shut_down(&self) {
        self.tasks.shutdown().cancel();
    }
}
