//! What happens to VMs and operations, remembered for a while and told to whoever follows.
//!
//! One ring for everybody: a follower is a position in it. Nobody who publishes waits for anybody who
//! follows, and whoever is too slow for the ring hears how much it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::record::VmRecord;
use super::shown::Seen;
use crate::id::{VmId, VmName};
use crate::wire::rpc::{Event, EventPage, EventQuery, Happening};

/// How many events are remembered.
const KEPT: usize = 1000;

/// The events of one daemon. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ring: Mutex<VecDeque<Event>>,
    /// The number of the latest event; 0 when there was none.
    latest: watch::Sender<u64>,
}

impl Events {
    /// Tells everybody of something.
    pub(super) fn publish(&self, what: Happening) {
        let at = super::now();
        let mut ring = self.shared.ring.lock().expect("no panic under the lock");
        let number = *self.shared.latest.borrow() + 1;
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Event { number, at, what });
        self.shared.latest.send_replace(number);
    }

    /// The events that are remembered, after the wanted number.
    #[must_use]
    pub fn list(&self, query: &EventQuery) -> EventPage {
        let since = self.known(query.since.unwrap_or(0));
        let ring = self.shared.ring.lock().expect("no panic under the lock");
        let oldest = ring.front().map_or(1, |event| event.number);
        let events = ring.iter().filter(|event| event.number > since).cloned().collect();
        EventPage { events, lost: oldest.saturating_sub(since + 1) }
    }

    /// Follows the events: from the wanted number on, or from now on.
    #[must_use]
    pub fn follow(&self, query: &EventQuery) -> Follower {
        let latest = self.shared.latest.subscribe();
        let seen = match query.since {
            Some(since) => self.known(since),
            None => *latest.borrow(),
        };
        Follower { shared: self.shared.clone(), latest, seen }
    }

    /// A number from an earlier daemon says nothing: all that is remembered came after it.
    fn known(&self, since: u64) -> u64 {
        if since > *self.shared.latest.borrow() { 0 } else { since }
    }
}

/// Somebody who follows the events.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    latest: watch::Receiver<u64>,
    seen: u64,
}

impl Follower {
    /// The next event, waited for. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            // Marked as seen before the look, so that what is published after it wakes us.
            self.latest.mark_unchanged();
            if let Some(event) = self.take() {
                return event;
            }
            self.latest.changed().await.expect("we hold the sender, too");
        }
    }

    fn take(&mut self) -> Option<Event> {
        let ring = self.shared.ring.lock().expect("no panic under the lock");
        let oldest = ring.front()?.number;
        let missed = oldest.saturating_sub(self.seen + 1);
        if missed > 0 {
            self.seen = oldest - 1;
            let what = Happening::Lagged { missed };
            return Some(Event { number: self.seen, at: super::now(), what });
        }
        let place = usize::try_from(self.seen + 1 - oldest).ok()?;
        let event = ring.get(place)?.clone();
        self.seen = event.number;
        Some(event)
    }
}

/// One VM as everybody else sees it. A change of its state is an event.
#[derive(Debug)]
pub(super) struct View {
    seen: watch::Sender<Seen>,
    events: Events,
}

impl View {
    pub(super) fn new(record: VmRecord, events: Events) -> (Self, watch::Receiver<Seen>) {
        let (seen, receiver) = watch::channel(Seen::of(record));
        (Self { seen, events }, receiver)
    }

    /// Shows the VM as it is now.
    pub(super) fn send_replace(&self, record: VmRecord) {
        let state = record.state.view();
        let change = Happening::VmState {
            vm: record.id.clone(),
            vm_name: record.name.clone(),
            state,
            cause: record.state.cause().map(str::to_owned),
        };
        let before = self.seen.send_replace(Seen::of(record));
        if before.record.state.view() != state {
            self.events.publish(change);
        }
    }

    /// Where what happens to it is told.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// Tells everybody of something else that has happened to it.
    pub(super) fn tell(&self, what: Happening) {
        self.events.publish(what);
    }
}

/// That a VM was made.
pub(super) fn created(record: &VmRecord) -> Happening {
    Happening::VmCreated { vm: record.id.clone(), vm_name: record.name.clone() }
}

/// That a VM is gone.
pub(super) fn deleted(vm: &VmId, vm_name: &VmName) -> Happening {
    Happening::VmDeleted { vm: vm.clone(), vm_name: vm_name.clone() }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn published(count: u64) -> Events {
        let events = Events::default();
        (0..count).for_each(|_| publish(&events));
        events
    }

    fn publish(events: &Events) {
        events.publish(deleted(&VmId::random(), &"web".parse().expect("valid")));
    }

    fn since(since: u64) -> EventQuery {
        EventQuery { since: Some(since) }
    }

    #[tokio::test]
    async fn a_follower_hears_everything_in_order() {
        let events = published(3);
        let mut all = events.follow(&since(0));
        let mut new = events.follow(&EventQuery::default());
        for number in 1..=3 {
            assert_eq!(all.next().await.number, number);
        }
        assert!(all.next().now_or_never().is_none() && new.next().now_or_never().is_none());
        publish(&events);
        assert_eq!((all.next().await.number, new.next().await.number), (4, 4));
    }

    #[tokio::test]
    async fn a_slow_follower_hears_how_much_it_missed() {
        let events = published(1);
        let mut slow = events.follow(&since(0));
        assert_eq!(slow.next().await.number, 1);
        (0..KEPT + 7).for_each(|_| publish(&events));
        let told = slow.next().await;
        assert_eq!((told.number, told.what), (8, Happening::Lagged { missed: 7 }));
        assert_eq!(slow.next().await.number, 9);
    }

    #[tokio::test]
    async fn a_bounded_number_is_remembered() {
        let events = published(KEPT as u64 + 5);
        let all = events.list(&EventQuery::default());
        assert_eq!((all.events.len(), all.lost, all.events[0].number), (KEPT, 5, 6));
        let late = events.list(&since(KEPT as u64));
        assert_eq!((late.events.len(), late.lost), (5, 0));
        let of_an_earlier_daemon = events.list(&since(1 << 40));
        assert_eq!(of_an_earlier_daemon.events.len(), KEPT);
    }
}
