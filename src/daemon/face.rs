//! What the daemon tells of itself over the RPC.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::images::BootImages;
use crate::config::{Config, Paths};
use crate::doctor::{self, pass, problem};
use crate::hooks::HookHost;
use crate::net::Networks;
use crate::report::{Explain, Report, escape_control};
use crate::rpc::server::Daemon;
use crate::task::Tasks;
use crate::vm::VmService;
use crate::vmm::qemu::Qemu;
use crate::wire::rpc::{Check, DaemonStatusReply, Hook, Image, Kernel, Verdict};

/// The parts whose state is told.
pub(super) type Parts = (Arc<Qemu>, Arc<Networks>, Arc<BootImages>, Arc<HookHost>);

/// The face of one daemon.
pub(super) struct Face {
    paths: Paths,
    config: Config,
    parts: Parts,
    vms: VmService,
    tasks: Tasks,
    started_at: String,
}

impl Face {
    pub(super) fn new(
        paths: Paths,
        config: Config,
        parts: Parts,
        vms: &VmService,
        tasks: &Tasks,
    ) -> Self {
        let started_at = crate::vm::now();
        Self { paths, config, parts, vms: vms.clone(), tasks: tasks.clone(), started_at }
    }

    async fn checks(&self) -> Vec<Check> {
        let (qemu, networks, images, hooks) = &self.parts;
        let (monitor, vsock, image, kernel, network, hooks, git, mke2fs) = tokio::join!(
            self.monitor(),
            qemu.vsock_kind(),
            async { images.images.resolve(&self.config.vm.image) },
            self.kernel(),
            networks.check(),
            hooks.check(),
            doctor::git(),
            doctor::mke2fs(),
        );
        let mut rows = vec![monitor];
        rows.push(match vsock {
            Ok(kind) => pass("vsock", kind),
            Err(error) => failed("vsock", &error),
        });
        rows.extend(kernel);
        rows.push(match image {
            Ok(image) => pass("image", format!("`{}`: {}", image.name, image.description)),
            Err(error) => failed("image", &error),
        });
        rows.push(match hooks {
            Ok(()) => pass("hooks", "all can run"),
            Err(error) => failed("hooks", &error),
        });
        rows.extend(network.into_iter().map(|check| match check.found {
            Ok(found) => pass(&format!("network: {}", check.need), found),
            Err(problem_found) => problem(
                Verdict::Warn,
                &format!("network: {}", check.need),
                format!("{}; VMs need `--net none`", problem_found.what),
                &problem_found.fix,
            ),
        }));
        rows.extend([git, mke2fs, doctor::room(&self.paths.home), doctor::memory()]);
        rows
    }

    async fn monitor(&self) -> Check {
        match self.parts.0.version().await {
            Ok(version) => pass("monitor", version),
            Err(error) => failed("monitor", &error),
        }
    }

    /// The kernel, and how processors run with it.
    async fn kernel(&self) -> Vec<Check> {
        let (kernel, initramfs) = match self.parts.2.kernel().await {
            Ok(found) => found,
            Err(report) => {
                let hint = report.hint.clone().unwrap_or_default();
                return vec![problem(Verdict::Fail, "kernel", report.one_line(), &hint)];
            }
        };
        let found = pass("kernel", kernel.release.clone());
        let verdict = self.parts.0.verdict(&kernel.vmlinuz, &initramfs, &kernel.digest).await;
        let name = "accelerator";
        let accelerator = match verdict {
            Ok(verdict) if verdict.accel == crate::vm::state::Accel::Kvm => {
                pass(name, format!("kvm: {}", verdict.why))
            }
            Ok(verdict) => problem(
                Verdict::Warn,
                name,
                format!("tcg (emulation, slow): {}", escape_control(&verdict.why)),
                "run cove where KVM works for guests, and give your user /dev/kvm",
            ),
            Err(error) => failed(name, &error),
        };
        vec![found, accelerator]
    }
}

fn failed(name: &str, error: &impl Explain) -> Check {
    let report = Report::of(error);
    let hint = report.hint.clone().unwrap_or_else(|| "run scripts/setup.sh again".to_owned());
    problem(Verdict::Fail, name, escape_control(&report.one_line()), &hint)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Daemon for Face {
    fn images(&self) -> Result<Vec<Image>, Report> {
        self.parts.2.images.list_images().map_err(|error| Report::of(&error))
    }

    fn kernels(&self) -> Result<Vec<Kernel>, Report> {
        self.parts.2.images.list_kernels().map_err(|error| Report::of(&error))
    }

    fn hooks(&self) -> BoxFuture<'_, Result<Vec<Hook>, Report>> {
        async { self.parts.3.list().await.map_err(|error| Report::of(&error)) }.boxed()
    }

    fn doctor(&self) -> BoxFuture<'_, Vec<Check>> {
        self.checks().boxed()
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
