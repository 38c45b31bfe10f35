//! Networks of VMs, and what each of them may reach.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::PortResult;
use crate::egress::Policy;
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::Report;
use crate::vm::ledger::Ledger;
use crate::vm::record::VmRecord;
use crate::wire::guest::Network;
use crate::wire::rpc::{Denials, NetExplanation};

/// A network made for one boot of a VM.
#[derive(Debug)]
pub struct Attachment {
    /// The TAP device.
    pub tap: std::os::fd::OwnedFd,
    /// What the guest must know.
    pub guest: Network,
}

/// Networks of VMs.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Says which VMs run on the bridge since an earlier daemon, with their folders, and which `others` may, of
    /// which nothing more is known. Asked once, before any other of these; where it is not asked the bridge is
    /// left alone until a VM needs it. Fails only when the addresses cannot be read: what is wrong with the
    /// bridge is logged and mended when that can be.
    async fn recover(&self, living: &[(VmRecord, PathBuf)], others: &[VmId]) -> PortResult<()>;
    /// Makes the network of one boot. The policy is in force before any packet of the guest gets out.
    async fn start(
        &self,
        vm: &VmRecord,
        folder: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> PortResult<Attachment>;
    /// Takes up the network of a machine that was started by an earlier daemon, and tells it its policy
    /// again. Without an uplink process it is on the bridge.
    async fn adopt(
        &self,
        vm: &VmId,
        folder: &Path,
        processes: (ProcessId, Option<ProcessId>),
        policy: &Policy,
    ) -> PortResult<()>;
    /// Takes a VM off the bridge. One that is not on it is no error.
    async fn detach(&self, vm: &VmId) -> PortResult<()>;
}

/// Why a policy was not put in force, as far as that is known.
#[derive(Debug)]
pub enum NotSet {
    /// It was not taken, or nobody could be told: the one before is in force.
    Refused(Report),
    /// Nobody has said that it was taken: the one before or the new one is in force.
    Unconfirmed(Report),
}

/// What VMs that run may reach. Each call has a deadline of its own.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// Puts a policy in force, as a whole or not at all.
    async fn set_policy(&self, vm: &VmId, folder: &Path, policy: &Policy) -> Result<(), NotSet>;
    /// Why the VM may or may not reach a name or an address now, by the decision that its packets meet.
    async fn explain(
        &self,
        vm: &VmId,
        folder: &Path,
        host: &str,
        port: Option<u16>,
    ) -> PortResult<NetExplanation>;
    /// What it was refused after this number; waits so long for something when there is nothing yet.
    async fn denials(
        &self,
        vm: &VmId,
        folder: &Path,
        after: u64,
        wait: Duration,
    ) -> PortResult<Denials>;
}
