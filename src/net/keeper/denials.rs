//! What the VM was refused, the last of it, for whoever asks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::egress::Rule;
use crate::net::control::LONGEST_WAIT;
use crate::wire::rpc::{Denial, Denials, Tried};

/// How many are kept.
const KEPT: usize = 1024;

/// How many go into one answer.
const PER_ANSWER: usize = 256;

/// How many may wait at once: they must leave connections to others.
const MAX_WAITING: usize = 4;

/// How long the others wait, who are told nothing sooner: they would ask again at once.
const WITHOUT_PLACE: Duration = Duration::from_secs(1);

/// How many of the last ones are looked through for the same thing: programs try again and again, and
/// two of them take turns.
const LOOKED_BACK: usize = 32;

/// How many times of losses are remembered apart.
const MAX_LOSSES: usize = 64;

/// A bounded record. Numbers count up from 1 and have no gaps.
#[derive(Debug)]
pub(super) struct Record {
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<Denial>,
    newest: u64,
    /// Which number would have come next when how many were lost.
    losses: VecDeque<(u64, u64)>,
    /// What the firewall's counter of untold refusals said last.
    untold: u64,
}

impl Default for Record {
    fn default() -> Self {
        let (state, newest) = (Mutex::default(), watch::Sender::new(0));
        Self { state, newest, waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Record {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here would be in a plain push or pop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one down, or counts it with the same thing before it.
    pub(super) fn write(&self, what: Tried, because: String, would_allow: Option<Rule>) {
        let newest = {
            let mut state = self.state();
            let mut last = state.kept.iter_mut().rev().take(LOOKED_BACK);
            if let Some(same) = last.find(|denial| denial.what == what && denial.because == because)
            {
                same.times += 1;
                return;
            }
            state.newest += 1;
            let (number, at) = (state.newest, crate::vm::now());
            let denial = Denial { number, at, what, because, would_allow, times: 1 };
            state.kept.push_back(denial);
            if state.kept.len() > KEPT {
                state.kept.pop_front();
            }
            number
        };
        self.newest.send_replace(newest);
    }

    /// Some could not be written down.
    pub(super) fn lose(&self, count: u64) {
        let mut state = self.state();
        let next = state.newest + 1;
        match state.losses.back_mut() {
            Some((number, lost)) if *number == next => *lost += count,
            Some(_) | None => state.losses.push_back((next, count)),
        }
        if state.losses.len() > MAX_LOSSES
            && let Some((_, oldest)) = state.losses.pop_front()
            && let Some((_, second)) = state.losses.front_mut()
        {
            *second += oldest;
        }
    }

    /// What the firewall has counted in all, because there were too many to be told.
    pub(super) fn untold(&self, total: u64) {
        let more = {
            let mut state = self.state();
            let more = total.saturating_sub(state.untold);
            state.untold = total;
            more
        };
        if more > 0 {
            self.lose(more);
        }
    }

    /// Waits until there is one after `after`, or for so long. When many wait already, it is a moment at
    /// most.
    pub(super) async fn wait(&self, after: u64, wait: Duration) {
        let place = self.waiting.try_acquire();
        let wait = if place.is_ok() { wait } else { wait.min(WITHOUT_PLACE) };
        let mut newest = self.newest.subscribe();
        let one_more = newest.wait_for(|newest| *newest > after);
        // Neither the end of the wait nor that of the record is an error: the answer is what there is.
        drop(tokio::time::timeout(wait.min(LONGEST_WAIT), one_more).await);
    }

    /// Those after `after`, the oldest first. Who has seen none gets the last ones. What was lost is told
    /// with a denial, as only that moves `after` on: it would be told again and again.
    pub(super) fn after(&self, after: u64) -> Denials {
        let mut state = self.state();
        let begin = match after {
            0 => state.newest.saturating_sub(PER_ANSWER as u64),
            after => after,
        };
        let oldest = state.kept.front().map_or(state.newest + 1, |denial| denial.number);
        let oldest = oldest.max(begin.saturating_add(1));
        let pushed_out = oldest.saturating_sub(after.saturating_add(1));
        let denials = state.kept.iter().filter(|denial| denial.number > begin);
        let denials: Vec<Denial> = denials.take(PER_ANSWER).cloned().collect();
        let last = denials.last().map_or(state.newest, |denial| denial.number);
        let newest = state.newest;
        if !denials.is_empty()
            && last == newest
            && let Some((number, _)) = state.losses.back_mut()
            && *number > newest
        {
            // It need not wait for one more. From now on it goes with this one.
            *number = newest;
        }
        let losses = state.losses.iter().filter(|(number, _)| *number > after && *number <= last);
        let lost = pushed_out + losses.map(|(_, count)| count).sum::<u64>();
        Denials { denials, lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(record: &Record, name: &str) {
        record.write(Tried::Resolve { name: name.to_owned() }, "no rule".to_owned(), None);
    }

    #[test]
    fn the_same_again_is_counted_and_not_repeated() {
        let record = Record::default();
        for name in ["a.b", "c.d", "a.b", "a.b"] {
            resolve(&record, name);
        }
        let Denials { denials, lost } = record.after(0);
        let told: Vec<_> = denials.iter().map(|denial| (denial.number, denial.times)).collect();
        assert_eq!((told, lost), (vec![(1, 3), (2, 1)], 0));
        assert_eq!(record.after(1).denials.len(), 1);
        assert_eq!(record.after(u64::MAX), Denials::default());
    }

    #[test]
    fn what_was_pushed_out_is_counted_and_an_answer_has_an_end() {
        let record = Record::default();
        for number in 0..KEPT + 10 {
            resolve(&record, &format!("n{number}.b"));
        }
        let per_answer = PER_ANSWER as u64;
        let told = |after| {
            let Denials { denials, lost } = record.after(after);
            (denials.len(), denials[0].number, lost)
        };
        assert_eq!(told(0), (PER_ANSWER, 1035 - per_answer, 1034 - per_answer));
        assert_eq!(told(1), (PER_ANSWER, 11, 9));
        assert_eq!(told(10 + per_answer), (PER_ANSWER, 11 + per_answer, 0));
        assert_eq!(told(1033), (1, 1034, 0));
    }

    #[test]
    fn what_the_firewall_did_not_tell_is_lost_once() {
        let record = Record::default();
        resolve(&record, "a.b");
        record.untold(5);
        record.untold(5);
        assert_eq!((record.after(0).lost, record.after(1).lost), (5, 0), "with the one before");
        record.untold(6);
        assert_eq!(record.after(1).lost, 0, "not before another one");
        resolve(&record, "c.d");
        assert_eq!((record.after(0).lost, record.after(1).lost, record.after(2).lost), (6, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_a_denial_or_its_time() {
        let (record, begin) = (Record::default(), tokio::time::Instant::now());
        record.wait(0, Duration::from_secs(3600)).await;
        assert_eq!(begin.elapsed(), LONGEST_WAIT);
        tokio::join!(record.wait(0, LONGEST_WAIT), async { resolve(&record, "a.b") });
        assert_eq!(begin.elapsed(), LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_at_once_and_the_others_wait_a_moment() {
        let (record, begin) = (Record::default(), tokio::time::Instant::now());
        let mut waits = [(); MAX_WAITING].map(|()| Box::pin(record.wait(0, LONGEST_WAIT)));
        for wait in &mut waits {
            assert!(futures_util::poll!(wait).is_pending());
        }
        record.wait(0, LONGEST_WAIT).await;
        assert_eq!(begin.elapsed(), WITHOUT_PLACE);
        record.wait(0, Duration::ZERO).await;
        assert_eq!(begin.elapsed(), WITHOUT_PLACE);
    }
}
