//! Questions and orders to the keepers of VMs that run.

use std::path::Path;
use std::time::Duration;

use super::control::{Host, LONGEST_WAIT, Reply, Request};
use super::error::NetError;
use super::{Networks, talk};
use crate::egress::Policy;
use crate::wire::rpc::{Denials, NetExplanation};

impl Networks {
    /// Changes what a running VM may reach. It is in force when this returns, for running flows too.
    ///
    /// # Errors
    /// When the keeper of the VM with this folder cannot be reached or does not take it; then the policy
    /// before stays in force ([`NetError::leaves_the_policy`]). Also when it does not answer in time, or the
    /// connection breaks: then it may have taken it, or take it yet.
    pub async fn set_policy(&self, folder: &Path, policy: &Policy) -> Result<(), NetError> {
        let request = Request::Policy { policy: policy.clone() };
        match talk::ask_once(folder, &request, "change the policy", Duration::ZERO).await? {
            Reply::Done => Ok(()),
            Reply::Explained(_) | Reply::Denied(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }

    /// Why a running VM may or may not reach `host`, a name or an address, now.
    ///
    /// # Errors
    /// When `host` is neither, or the keeper cannot be reached.
    pub async fn explain(
        &self,
        folder: &Path,
        host: &str,
        port: Option<u16>,
    ) -> Result<NetExplanation, NetError> {
        let bad = |source| NetError::Host { host: host.to_owned(), source };
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host.parse().map_err(bad)?),
        };
        let request = Request::Explain { host, port };
        match talk::ask_once(folder, &request, "explain it", Duration::ZERO).await? {
            Reply::Explained(explanation) => Ok(explanation),
            Reply::Done | Reply::Denied(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }

    /// What a running VM was refused since its boot, after the denial of number `after`: the oldest
    /// first, at most 256. Waits for one when there is none, 30 s at most.
    ///
    /// # Errors
    /// When the keeper cannot be reached.
    pub async fn denials(
        &self,
        folder: &Path,
        after: u64,
        wait: Duration,
    ) -> Result<Denials, NetError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Denials { after, wait_ms };
        let wait = wait.min(LONGEST_WAIT);
        match talk::ask_once(folder, &request, "tell what it refused", wait).await? {
            Reply::Denied(denials) => Ok(denials),
            Reply::Done | Reply::Explained(_) | Reply::Failed { .. } => {
                Err(NetError::Connection(talk::another_answer()))
            }
        }
    }
}
