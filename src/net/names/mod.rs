//! Names: the resolver that a guest asks, and the one that the host asks for the names of VMs.
//!
//! ```text
//!  guest ── UDP, TCP ── `serve` ── `message`: one question ── `guest`: what to do with it
//!                                                              │ ours ────── `zone`
//!                                                              │ refused ─── `Judge::may_resolve`
//!                                                              └ allowed ─── `upstream` ── `answer` ──
//!                                                                            `Judge::answered` ── guest
//!  host, bridge ───────── `serve` ── `message` ─────────────── `host`: `zone`; the rest for the bridge alone
//! ```
//!
//! Whoever asks is hostile, and so is whoever answers from far away. Questions, connections, sizes and
//! times are bounded; no bytes make it panic. Nothing is cached: the host's resolver does that.
//!
//! It knows no policy and no firewall, only a [`Judge`]. A name that may be asked is a way out for a
//! little data (the name itself goes to its owner's servers): rules about names limit whom it reaches.

mod answer;
pub(crate) mod guest;
pub(crate) mod host;
mod message;
mod reply;
mod serve;
mod shares;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
mod upstream;
mod zone;

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::rr::{Name, RecordType};

pub(crate) use self::upstream::Upstream;
pub(crate) use self::zone::Zone;
use crate::egress::{BadName, DnsName};

/// The most addresses of one answer that a guest sees and its firewall takes.
pub(crate) const MAX_ADDRESSES: usize = 64;

/// The shortest and the longest time that an answer is said to be good for, in seconds.
const TTL_BOUNDS: (u32, u32) = (1, 3600);

/// A refusal. Whoever judges keeps the reason, for the owner of the VM; the guest is told none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// The firewall did not take what it was to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotOpened;

/// Who decides what a guest may resolve. One per VM.
#[async_trait]
pub(crate) trait Judge: Send + Sync + 'static {
    /// Whether `name` may be asked for. Records a denial. Called for each question, so it must be quick.
    ///
    /// # Errors
    /// When it may not.
    fn may_resolve(&self, name: &DnsName) -> Result<(), Refused>;

    /// `name` resolved to `addresses` (1 to [`MAX_ADDRESSES`]), which is good for `ttl` (whole seconds, as
    /// the guest is told). Gives back those that the guest may see; they are in the firewall by then, as
    /// the guest connects the moment it is answered. None of them: the question is refused.
    ///
    /// Dropped at any await when it takes longer than the question may; nothing may be half done then.
    ///
    /// # Errors
    /// When the firewall cannot be told: the question fails.
    async fn answered(
        &self,
        name: &DnsName,
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<Vec<IpAddr>, NotOpened>;
}

/// The addresses of IPv4 that `name` resolves to, for somebody who asks on behalf of a guest's owner. None:
/// nobody answered.
pub(crate) async fn ipv4_addresses(upstream: &Upstream, name: &DnsName) -> Option<Vec<IpAddr>> {
    let (name, kind) = (wire_name(name), RecordType::A);
    let mut message = upstream.ask(&name, kind).await.ok()?;
    let mut addresses = answer::Answer::of(&mut message, &name, kind).addresses();
    addresses.truncate(MAX_ADDRESSES);
    Some(addresses)
}

/// The name of a question as rules have it. What is judged is exactly what is asked upstream: a dot
/// inside a label, which DNS can carry, is no dot between labels.
fn host_name(name: &Name) -> Result<DnsName, BadName> {
    let mut text = String::new();
    for label in name {
        if label.contains(&b'.') {
            return Err(BadName::Character { found: '.' });
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().copied().map(char::from));
    }
    text.parse()
}

/// The same the other way.
fn wire_name(name: &DnsName) -> Name {
    let labels = name.as_str().split('.').map(str::as_bytes);
    Name::from_labels(labels).expect("a checked name fits DNS")
}
