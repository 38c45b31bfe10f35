//! Networks in memory: what each VM may reach, as its keeper knows it, and what it was refused.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::ports::Sim;
use crate::egress::{Facts, Policy, decide_address};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::{Kind, Report};
use crate::vm::ledger::{Ledger, ResourceKind};
use crate::vm::ports::{Attachment, Networks, NotSet, Outbound, PortResult};
use crate::wire::guest::Network;
use crate::wire::rpc::{Denial, Denials, NetExplanation, Tried};

impl Sim {
    /// The policy that is in force, while a keeper lives that knows one.
    fn in_force(&self, vm: &VmId) -> PortResult<Policy> {
        let policy = self.world.host().policies.get(vm).cloned();
        policy.ok_or_else(|| Report::new(Kind::Failed, "no keeper answers"))
    }
}

#[async_trait]
impl Networks for Sim {
    async fn start(
        &self,
        vm: &VmId,
        _: &Path,
        policy: &Policy,
        ledger: &dyn Ledger,
    ) -> PortResult<Attachment> {
        let start = async {
            self.servant(vm, ResourceKind::NetworkKeeper, ledger).await?;
            self.world.host().policies.insert(vm.clone(), policy.clone());
            self.servant(vm, ResourceKind::Uplink, ledger).await?;
            let tap = std::fs::File::open("/dev/null").expect("opens").into();
            let guest = Network {
                mac: "02:00:00:00:00:01".to_owned(),
                address: [10, 0, 2, 15].into(),
                prefix: 24,
                gateway: [10, 0, 2, 2].into(),
                resolver: [10, 0, 2, 3].into(),
                mtu: 1500,
            };
            Ok(Attachment { tap, guest })
        };
        self.call("networks.start", start).await
    }

    async fn adopt(
        &self,
        vm: &VmId,
        _: &Path,
        _: ProcessId,
        _: ProcessId,
        policy: &Policy,
    ) -> PortResult<()> {
        let adopt = async {
            self.world.host().policies.insert(vm.clone(), policy.clone());
            Ok(())
        };
        self.call("networks.adopt", adopt).await
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
