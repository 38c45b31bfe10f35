//! The host's own addresses, and word of their changes, from the kernel's routing tables.
//!
//! What counts is what the kernel would take for itself: every route of the types *local* and
//! *broadcast*, so that ranges without an interface address (`ip route add local …`) count too.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;

use super::control::MAX_HOST_RANGES;
use super::ranges::{Prefix, disjoint};
use crate::task::Tasks;

/// After the kernel's messages broke off, how long to wait before asking again.
const RETRY: Duration = Duration::from_secs(2);

/// The host's own addresses; `None` until they are known.
pub(crate) type HostAddresses = watch::Receiver<Option<Arc<Vec<Prefix>>>>;

/// Why the host's addresses are not known.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("cannot read the routes")]
    Read(#[source] rtnetlink::Error),
    #[error("the host has more than {MAX_HOST_RANGES} address ranges of its own")]
    TooMany,
}

/// Watches the host's addresses for as long as the daemon runs.
pub(crate) fn watch(tasks: &Tasks) -> HostAddresses {
    let (sender, receiver) = watch::channel(None);
    let (inner, shutdown) = (tasks.clone(), tasks.shutdown());
    drop(tasks.spawn("host-addresses", async move {
        let follow = async {
            loop {
                if let Err(error) = follow(&inner, &sender).await {
                    let why = crate::report::causes(&error).join(": ");
                    tracing::error!(%error, %why, "the host's addresses are not followed");
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        // Both are abandoned for good at shutdown, so nothing needs to be cancel-safe.
        shutdown.run_until_cancelled(follow).await;
    }));
    receiver
}

/// Publishes the addresses at every change, until the kernel's messages break off.
async fn follow(
    tasks: &Tasks,
    sender: &watch::Sender<Option<Arc<Vec<Prefix>>>>,
) -> Result<(), WatchError> {
    // Routes that vanish with their address are not always announced by themselves.
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Link];
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(WatchError::Open)?;
    let netlink = tasks.spawn("netlink", connection);
    let _stop = AbortOnDrop(netlink.abort_handle());
    loop {
        let host = read(&handle).await?;
        sender.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&host);
            if changed {
                *known = Some(Arc::new(host));
            }
            changed
        });
        if messages.next().await.is_none() {
            return Ok(());
        }
        // Changes come in bursts; one reading answers all that are there.
        while let Ok(_one_more) = messages.try_recv() {}
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(netlink: &Handle) -> Result<Vec<Prefix>, WatchError> {
    let every = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = Box::pin(netlink.route().get(every).execute());
    let mut own = Vec::new();
    while let Some(route) = routes.try_next().await.map_err(WatchError::Read)? {
        own.extend(own_range(&route));
        if own.len() > MAX_HOST_RANGES {
            return Err(WatchError::TooMany);
        }
    }
    Ok(disjoint(own))
}

fn own_range(route: &RouteMessage) -> Option<Prefix> {
    if !matches!(route.header.kind, RouteType::Local | RouteType::Broadcast) {
        return None;
    }
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    let length = route.header.destination_prefix_length;
    // A route to everything has no destination: a host that is everything, for a transparent proxy,
    // would leave a guest nothing, and means no address of its own by it.
    (length > 0).then(|| address.map(|address| Prefix::around(address, length)))?
}
