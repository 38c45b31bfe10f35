//! What one client may have of what there is for all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many of something each client has now.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Shares {
    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Every change is one number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more for a client, unless it has `most`. Given back when dropped.
    pub(super) fn take(&self, client: IpAddr, most: usize) -> Option<Share> {
        let mut held = self.held();
        let count = held.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), client })
    }
}

/// One of something.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    client: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_takes_nothing_from_another() {
        let shares = Shares::default();
        let [one, other] = [[10, 9, 0, 2], [10, 9, 0, 3]].map(IpAddr::from);
        let taken: Vec<Share> = (0..3).filter_map(|_| shares.take(one, 2)).collect();
        assert_eq!(taken.len(), 2);
        assert!(shares.take(other, 2).is_some());
        drop(taken);
        assert!(shares.take(one, 2).is_some());
        assert!(shares.held().is_empty(), "nobody is remembered who has nothing");
    }
}
