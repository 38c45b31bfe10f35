//! Networks in memory: what each VM may reach, as its keeper knows it, and what it was refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::ports::{Sim, refused};
use crate::egress::{Facts, Policy, decide_address};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::{Kind, Report};
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::ports::{Attachment, Networks, NotSet, Outbound, PortResult};
use crate::vm::record::VmRecord;
use crate::wire::guest::Network;
use crate::wire::rpc::{Denial, Denials, NetExplanation, NetMode, Tried};

impl Sim {
    /// The policy that is in force, while a keeper lives that knows one.
    fn in_force(&self, vm: &VmId) -> PortResult<Policy> {
        let policy = self.world.host().policies.get(vm).cloned();
        policy.ok_or_else(|| Report::new(Kind::Failed, "no keeper answers"))
    }
}

#[async_trait]
impl Networks for Sim {
    async fn recover(&self, living: &[(VmRecord, PathBuf)], others: &[VmId]) -> PortResult<()> {
        let recover = async {
            let living = living.iter().map(|(vm, _)| vm.id.clone());
            self.world.host().bridge = living.chain(others.iter().cloned()).collect();
            Ok(())
        };
        self.call("networks.recover", recover).await
    }

    async fn start(
        &self,
        vm: &VmRecord,
        _: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> PortResult<Attachment> {
        let start = async {
            let id = &vm.id;
            self.servant(id, ResourceKind::NetworkKeeper, ledger).await?;
            self.world.host().policies.insert(id.clone(), policy.clone());
            if vm.spec.net == NetMode::Bridge {
                ledger.intend(ResourceKind::BridgePort).await.map_err(|error| refused(&error))?;
                self.world.host().bridge.insert(id.clone());
            } else {
                self.servant(id, ResourceKind::Uplink, ledger).await?;
            }
            let tap = std::fs::File::open("/dev/null").expect("opens").into();
            let guest = Network {
                mac: "02:00:00:00:00:01".to_owned(),
                address: [10, 0, 2, 15].into(),
                prefix: 24,
                gateway: [10, 0, 2, 2].into(),
                resolver: [10, 0, 2, 3].into(),
                mtu: 1500,
                ipv6: None,
            };
            Ok(Attachment { tap, guest })
        };
        self.call("networks.start", start).await
    }

    async fn adopt(
        &self,
        vm: &VmId,
        _: &Path,
        _: (ProcessId, Option<ProcessId>),
        policy: &Policy,
    ) -> PortResult<()> {
        let adopt = async {
            self.world.host().policies.insert(vm.clone(), policy.clone());
            Ok(())
        };
        self.call("networks.adopt", adopt).await
    }

    async fn detach(&self, vm: &VmId) -> PortResult<()> {
        let detach = async {
            self.world.host().bridge.remove(vm);
            Ok(())
        };
        self.call("networks.detach", detach).await
    }
}

#[async_trait]
impl Outbound for Sim {
    async fn set_policy(&self, vm: &VmId, _: &Path, policy: &Policy) -> Result<(), NotSet> {
        let set = async {
            self.in_force(vm)?;
            self.world.host().policies.insert(vm.clone(), policy.clone());
            Ok(())
        };
        self.call("outbound.set_policy", set).await.map_err(NotSet::Refused)
    }

    async fn explain(
        &self,
        vm: &VmId,
        _: &Path,
        host: &str,
        port: Option<u16>,
    ) -> PortResult<NetExplanation> {
        let explain = async {
            let policy = self.in_force(vm)?;
            let address = host.parse().expect("tests ask a keeper about addresses");
            let verdict = decide_address(&policy, address, port, &Facts::default());
            Ok(NetExplanation {
                allowed: verdict.allowed,
                because: verdict.because.to_string(),
                addresses: Vec::new(),
                would_allow: None,
            })
        };
        self.call("outbound.explain", explain).await
    }

    /// One name was refused. Whoever knows that waits in vain.
    async fn denials(
        &self,
        vm: &VmId,
        _: &Path,
        after: u64,
        wait: Duration,
    ) -> PortResult<Denials> {
        let denials = async {
            self.in_force(vm)?;
            if after > 0 {
                tokio::time::sleep(wait).await;
                return Ok(Denials::default());
            }
            let what = Tried::Resolve { name: "evil.test".to_owned() };
            let (number, at, times) = (1, "2026-11-26T22:00:00.000Z".to_owned(), 1);
            let because = "no rule is about it".to_owned();
            let would_allow = Some("evil.test".parse().expect("a rule"));
            let denial = Denial { number, at, what, because, would_allow, times };
            Ok(Denials { denials: vec![denial], lost: 0 })
        };
        self.call("outbound.denials", denials).await
    }
}
