//! What names resolved to, as the VM was answered.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use crate::egress::{Answered, DnsName, Ports, Rule};
use crate::net::rules::NamedElement;

/// How many answers are remembered.
const MAX_ANSWERS: usize = 4096;

/// How many of them go at once when there has to be room: looking for them takes a while.
const FORGOTTEN_AT_ONCE: usize = MAX_ANSWERS / 8;

/// How many elements the sets of names get at once. What is left out is opened when the VM asks again.
const MAX_ELEMENTS: usize = 8192;

/// How much longer an element stays in the firewall than its answer is good: the firewall should not refuse what is
/// said to be allowed, and an answer that is given again within this time need not be placed again.
pub(super) const SPARE: Duration = Duration::from_secs(2);

/// The answers of one VM: those that are good, and for the telling of denials those that were.
#[derive(Debug, Default)]
pub(super) struct Answers {
    by_address: HashMap<Ipv4Addr, Vec<Answer>>,
    count: usize,
}

#[derive(Debug)]
struct Answer {
    name: DnsName,
    until: Instant,
}

impl Answers {
    /// Notes that `name` resolved to `address`, and says whether there was room for it.
    pub(super) fn note(
        &mut self,
        name: &DnsName,
        address: Ipv4Addr,
        until: Instant,
        now: Instant,
    ) -> bool {
        let known = self.by_address.get_mut(&address);
        let same = known.and_then(|all| all.iter_mut().find(|answer| answer.name == *name));
        if let Some(answer) = same {
            answer.until = answer.until.max(until);
            return true;
        }
        if self.count >= MAX_ANSWERS {
            self.forget_expired(now);
        }
        if self.count >= MAX_ANSWERS {
            return false;
        }
        self.by_address.entry(address).or_default().push(Answer { name: name.clone(), until });
        self.count += 1;
        true
    }

    fn forget_expired(&mut self, now: Instant) {
        for answers in self.by_address.values_mut() {
            answers.retain(|answer| answer.until > now);
        }
        self.by_address.retain(|_, answers| !answers.is_empty());
        self.count = self.by_address.values().map(Vec::len).sum();
    }

    /// Makes room for others where there is none: those go that end first.
    pub(super) fn make_room(&mut self) {
        if self.count < MAX_ANSWERS {
            return;
        }
        let all = self.by_address.values().flatten();
        let mut ends: Vec<Instant> = all.map(|answer| answer.until).collect();
        let (_, last, _) = ends.select_nth_unstable(FORGOTTEN_AT_ONCE - 1);
        self.forget_expired(*last);
    }

    /// The names that resolved to `address`, and are still good.
    pub(super) fn good(&self, address: Ipv4Addr, now: Instant) -> Vec<Answered> {
        let all = self.by_address.get(&address).into_iter().flatten();
        let good = all.filter(|answer| answer.until > now);
        good.map(|answer| Answered {
            name: answer.name.clone(),
            seconds: answer.until.saturating_duration_since(now).as_secs(),
        })
        .collect()
    }

    /// Whether `name` resolved to `address`, which was good at some time in the last `ago`.
    pub(super) fn had(
        &self,
        name: &DnsName,
        address: Ipv4Addr,
        now: Instant,
        ago: Duration,
    ) -> bool {
        let mut all = self.by_address.get(&address).into_iter().flatten();
        all.any(|answer| answer.name == *name && answer.until + ago > now)
    }

    /// The name whose answer for `address` is or was good for the longest.
    pub(super) fn last_name(&self, address: Ipv4Addr) -> Option<&DnsName> {
        let all = self.by_address.get(&address)?;
        all.iter().max_by_key(|answer| answer.until).map(|answer| &answer.name)
    }

    /// The elements that the sets of names have for `rules`, of the addresses that `wanted` takes: those
    /// that stay longest first, [`MAX_ELEMENTS`] at most.
    pub(super) fn elements(
        &self,
        rules: &[Rule],
        now: Instant,
        wanted: impl Fn(Ipv4Addr) -> bool,
    ) -> Vec<NamedElement> {
        let mut longest: HashMap<(Option<Ports>, Ipv4Addr), Duration> = HashMap::new();
        for (address, answers) in self.by_address.iter().filter(|(address, _)| wanted(**address)) {
            for answer in answers.iter().filter(|answer| answer.until > now) {
                let about = rules.iter().filter(|rule| rule.target.is_about(&answer.name));
                for rule in about {
                    let time = longest.entry((rule.ports, *address)).or_default();
                    *time = (*time).max(answer.until.saturating_duration_since(now));
                }
            }
        }
        let elements = longest.into_iter().map(|((ports, address), time)| NamedElement {
            ports,
            address,
            time: time + SPARE,
        });
        let mut elements: Vec<NamedElement> = elements.collect();
        elements.sort_unstable_by_key(|element| std::cmp::Reverse(element.time));
        elements.truncate(MAX_ELEMENTS);
        elements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(11, 2, 0, 80);

    fn name(text: &str) -> DnsName {
        text.parse().expect("a name")
    }

    #[test]
    fn an_answer_counts_until_it_expires_and_names_things_after_that() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let seconds = Duration::from_secs;
        assert!(answers.note(&name("a.b"), ADDRESS, now + seconds(9), now));
        assert!(answers.note(&name("a.b"), ADDRESS, now + seconds(5), now), "an earlier end");
        assert!(answers.note(&name("c.b"), ADDRESS, now + seconds(7), now));
        let good = |answers: &Answers, later| -> Vec<(String, u64)> {
            let good = answers.good(ADDRESS, now + seconds(later)).into_iter();
            good.map(|answered| (answered.name.to_string(), answered.seconds)).collect()
        };
        assert_eq!(good(&answers, 0), [("a.b".to_owned(), 9), ("c.b".to_owned(), 7)]);
        assert_eq!(good(&answers, 8), [("a.b".to_owned(), 1)]);
        assert_eq!(good(&answers, 9), []);
        assert_eq!(answers.last_name(ADDRESS), Some(&name("a.b")));
        let had = |text, later, ago| {
            answers.had(&name(text), ADDRESS, now + seconds(later), seconds(ago))
        };
        assert!(had("a.b", 8, 0) && had("a.b", 10, 2) && !had("a.b", 10, 1));
        assert!(!had("x.b", 0, 9));
    }

    #[test]
    fn sets_get_the_addresses_of_names_that_rules_are_about_for_the_longest_time() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let other = Ipv4Addr::new(11, 2, 0, 81);
        for (text, address, seconds) in
            [("a.b.c", ADDRESS, 9), ("d.b.c", ADDRESS, 20), ("a.b.c", other, 9), ("x.y", other, 99)]
        {
            let until = now + Duration::from_secs(seconds);
            assert!(answers.note(&name(text), address, until, now));
        }
        let rules = ["*.b.c", "a.b.c:443"].map(|rule| rule.parse::<Rule>().expect("a rule"));
        let mut elements: Vec<_> = answers
            .elements(&rules, now, |address| address == ADDRESS)
            .into_iter()
            .map(|element| (element.ports.map(|ports| ports.first), element.time - SPARE))
            .collect();
        elements.sort_unstable();
        let expected = [(None, 20), (Some(443), 9)];
        assert_eq!(elements, expected.map(|(port, seconds)| (port, Duration::from_secs(seconds))));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        for number in 0..4096_u32 {
            assert!(answers.note(&name("a.b"), Ipv4Addr::from_bits(number), until, now));
        }
        assert!(!answers.note(&name("a.b"), ADDRESS, until, now));
        assert!(answers.note(&name("a.b"), ADDRESS, until + Duration::from_secs(9), until));
    }

    #[test]
    fn room_is_made_by_those_that_end_first_and_elements_that_stay_longest_come_first() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        let until = |number: u32| now + Duration::from_secs(10 + u64::from(number));
        let address = Ipv4Addr::from_bits;
        for number in 0..4096 {
            answers.make_room();
            assert!(answers.note(&name("a.b"), address(number), until(number), now));
        }
        answers.make_room();
        assert!(answers.note(&name("a.b"), ADDRESS, until(9999), now));
        assert_eq!(answers.good(address(511), now), []);
        assert_eq!(answers.good(address(512), now).len(), 1);
        let rules: Vec<Rule> =
            (1..=3).map(|port| format!("a.b:{port}").parse().expect("a rule")).collect();
        let elements = answers.elements(&rules, now, |_| true);
        assert_eq!(elements.len(), 8192);
        assert!(elements[..3].iter().all(|element| element.address == ADDRESS));
        assert!(elements.is_sorted_by(|one, next| one.time >= next.time));
    }
}
