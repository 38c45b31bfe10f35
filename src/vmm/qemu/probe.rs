//! Booting the guest's kernel once, to see whether an accelerator really works.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Qemu, command};
use crate::config::AccelChoice;
use crate::id::{BootId, Digest};
use crate::image::initramfs;
use crate::process::{Tool, ToolError};
use crate::report::escape_control;
use crate::task::blocking;
use crate::vm::state::Accel;
use crate::vmm::VmmError;
use crate::vmm::accel::{Circumstances, Verdict};
use crate::wire::boot::{BootMode, PROBE_OK};
use crate::wire::proof::BootKey;

/// How long a probe may take. A guest's kernel reaches its first program in less than a second with a
/// hypervisor; emulation is not probed.
const PROBE_DEADLINE: Duration = Duration::from_secs(8);

/// The kernel's hypervisor.
const KVM: &str = "/dev/kvm";

/// Chooses how processors run, by the configuration or by the last verdict or by a probe.
pub(super) async fn choose(
    qemu: &Qemu,
    kernel: &Path,
    base: &Path,
    digest: &Digest,
) -> Result<Accel, VmmError> {
    if qemu.settings.accel == AccelChoice::Tcg {
        return Ok(Accel::Tcg);
    }
    let verdict = verdict(qemu, kernel, base, digest).await?;
    match (qemu.settings.accel, verdict.accel) {
        (AccelChoice::Kvm, Accel::Tcg) => Err(VmmError::Accel { wanted: "kvm", why: verdict.why }),
        (AccelChoice::Auto | AccelChoice::Kvm | AccelChoice::Tcg, accel) => Ok(accel),
    }
}

impl Qemu {
    /// What the last probe found, or a new one finds, for `doctor`.
    ///
    /// # Errors
    /// When QEMU cannot be run.
    pub async fn verdict(
        &self,
        kernel: &Path,
        base: &Path,
        digest: &Digest,
    ) -> Result<Verdict, VmmError> {
        verdict(self, kernel, base, digest).await
    }
}

async fn verdict(
    qemu: &Qemu,
    kernel: &Path,
    base: &Path,
    digest: &Digest,
) -> Result<Verdict, VmmError> {
    let host_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let circumstances = Circumstances {
        host_boot: host_boot.unwrap_or_default().trim().to_owned(),
        kernel: digest.to_string(),
        monitor: format!("{}: {}", qemu.settings.qemu.display(), qemu.version().await?),
        user: nix::unistd::geteuid().as_raw(),
    };
    let _one_at_a_time = qemu.verdicts.probing.lock().await;
    let (verdicts, wanted) = (Arc::clone(&qemu.verdicts), circumstances.clone());
    if let Some(verdict) = blocking(move || verdicts.find(&wanted)).await {
        return Ok(verdict);
    }
    let (accel, why) = match probe_kvm(qemu, kernel, base).await? {
        Ok(()) => (Accel::Kvm, "the guest's kernel booted with it".to_owned()),
        Err(why) => (Accel::Tcg, why),
    };
    tracing::info!(accel = accel.as_str(), why, "chose how processors run");
    let verdict = Verdict { circumstances, accel, why };
    let (verdicts, kept) = (Arc::clone(&qemu.verdicts), verdict.clone());
    if let Err(error) = blocking(move || verdicts.keep(&kept)).await {
        tracing::info!(%error, "the verdict about accelerators is kept until this daemon ends only");
    }
    Ok(verdict)
}

/// Boots the guest's kernel under KVM; says why that does not work.
async fn probe_kvm(
    qemu: &Qemu,
    kernel: &Path,
    base: &Path,
) -> Result<Result<(), String>, VmmError> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(KVM) {
        return Ok(Err(format!("{KVM} cannot be opened: {error}")));
    }
    let initrd = qemu.settings.scratch.join(format!("probe-{}", BootId::random()));
    let file_failed = |source| VmmError::BootFile { path: initrd.clone(), source };
    tokio::fs::create_dir_all(&qemu.settings.scratch).await.map_err(file_failed)?;
    let (base, place) = (base.to_owned(), initrd.clone());
    let write = move || {
        let (key, boot) = (BootKey::random(), BootId::random());
        initramfs::boot_initrd(&base, &place, &key, &boot, BootMode::Probe)
    };
    blocking(write).await.map_err(VmmError::Initramfs)?;
    let tool = Tool::new(&qemu.settings.qemu)
        .args(command::hardened(Accel::Kvm))
        .args(["-m", "256M", "-smp", "1", "-serial", "stdio", "-append", command::KERNEL_ARGUMENTS])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&initrd)
        .deadline(PROBE_DEADLINE);
    let ran = tool.run().await;
    tokio::fs::remove_file(&initrd).await.map_err(file_failed)?;
    Ok(match ran {
        Ok(console) if String::from_utf8_lossy(&console).contains(PROBE_OK) => Ok(()),
        Ok(_) => Err(format!("{KVM} opens, but a guest ended before its first program")),
        Err(ToolError::TimedOut { .. }) => Err(format!(
            "{KVM} opens, but a guest did not reach its first program within {} s",
            PROBE_DEADLINE.as_secs()
        )),
        Err(error @ (ToolError::Failed { .. } | ToolError::TooMuchOutput { .. })) => {
            let said = escape_control(&error.to_string());
            let first = said.lines().next().unwrap_or_default().chars().take(300);
            Err(format!(
                "{KVM} opens, but the monitor fails with it: {}",
                first.collect::<String>()
            ))
        }
        Err(error @ ToolError::Start { .. }) => {
            return Err(VmmError::Version { program: qemu.settings.qemu.clone(), source: error });
        }
    })
}
