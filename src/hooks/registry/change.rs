//! How a record changes: pure functions from one to the next.
//!
//! ```text
//!              install                       grant
//!   (nothing) ────────▶ pending ───────────────────────▶ active, granted
//!                         ▲  ▲                             │  │   ▲
//!                         │  └── revoke all ───────────────┘  │   │ install of a release
//!                         │                                   │   │ for which the grant holds
//!                         └── install of another release ─────┘───┘
//!                             (the active one goes on)
//! ```
//!
//! A grant holds for another release when component and needs are the same, or when the other asks for
//! nothing new and both bear the signature of one key. Without signatures nobody knows whose the other one
//! is, and somebody has to look at it.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Active, By, Failures, GrantRecord, Off, Record, Release, Revoked};
use crate::hooks::needs::Grant;
use crate::hooks::words::{asks_for_files, digest_of_words};
use crate::id::Digest;
use crate::wire::rpc::HookPoint;

/// Failures in a row after which an optional plugin is switched off.
pub const FAILURES: u32 = 3;

/// What became of a release that was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hooks) enum Placed {
    /// It takes part.
    Active,
    /// It waits for a grant.
    Pending,
    /// It was there already.
    Unchanged,
}

/// Whether a release can run beside the plugins that take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hooks) enum Fit {
    Fits,
    /// Each of some plugins, this one among them, wants to run before the next.
    InACircle,
}

/// What somebody grants.
#[derive(Debug, Clone)]
pub(in crate::hooks) struct Granting {
    pub(in crate::hooks) words: BTreeSet<String>,
    pub(in crate::hooks) host_files: BTreeMap<String, Vec<String>>,
    pub(in crate::hooks) uid: u32,
    pub(in crate::hooks) at: String,
}

/// What came of a hook, as far as it counts.
#[derive(Debug, Clone)]
pub(in crate::hooks) enum Came {
    Well,
    /// It failed like this.
    Badly(String),
}

impl Record {
    /// The release that a grant would be for: the one that waits, or else the active one.
    pub(in crate::hooks) fn candidate(&self) -> Option<&Release> {
        self.pending.as_ref().or(self.active.as_ref().map(|active| &active.release))
    }

    /// All releases, the active one first.
    pub(in crate::hooks) fn releases(&self) -> impl Iterator<Item = &Release> {
        self.active.iter().map(|active| &active.release).chain(&self.pending)
    }

    /// How many paths stand behind names that are asked for, besides these.
    pub(in crate::hooks) fn paths_beside(
        &self,
        host_files: &BTreeMap<String, Vec<String>>,
        asks: &BTreeSet<String>,
    ) -> usize {
        let grant = self.active.as_ref().and_then(|active| active.grant.as_ref());
        let behind = grant.into_iter().flat_map(|grant| &grant.host_files);
        behind
            .filter(|(name, _)| asks_for_files(asks, name) && !host_files.contains_key(*name))
            .map(|(_, paths)| paths.len())
            .sum()
    }

    /// A release is installed. What the configuration grants is granted by it alone. One that would run in a
    /// circle waits: the active one goes on.
    pub(super) fn install(
        mut self,
        new: Release,
        configured: Option<&Grant>,
        fit: Fit,
    ) -> (Self, Placed) {
        let known = self.releases().any(|release| release.key == new.key);
        let active = self.active.take();
        let is_active = active.as_ref().is_some_and(|active| active.release.key == new.key);
        if is_active {
            // Going back to what is active ends what waits.
            let (active, pending) = (active, None);
            return (Self { active, pending, ..self }, Placed::Unchanged);
        }
        let (active, pending, placed) = match (configured, active) {
            (Some(grant), _) if grant.component == new.component => {
                (Some(Active { release: new, grant: None }), None, Placed::Active)
            }
            (None, Some(Active { release, grant: Some(grant) }))
                if fit == Fit::Fits && holds_for(&release, &grant, &new) =>
            {
                let grant = Some(carried(&release, grant, &new));
                (Some(Active { release: new, grant }), None, Placed::Active)
            }
            (Some(_), active) | (None, active @ Some(Active { grant: Some(_), .. })) => {
                (active, Some(new), Placed::Pending)
            }
            // Nobody grants what was active: the new one waits in its place.
            (None, Some(Active { grant: None, .. }) | None) => (None, Some(new), Placed::Pending),
        };
        let placed = if known && placed == Placed::Pending { Placed::Unchanged } else { placed };
        (Self { active, pending, ..self }, placed)
    }

    /// More is granted, to the release that waits or else to the active one.
    pub(in crate::hooks) fn grant(self, granting: Granting) -> Self {
        let Granting { words, host_files, uid, at } = granting;
        let (release, before) = match (self.pending, self.active) {
            (Some(release), active) => (release, active.and_then(|active| active.grant)),
            (None, Some(Active { release, grant })) => (release, grant),
            (None, None) => return Self { pending: None, active: None, ..self },
        };
        let (mut all, mut files) = match before {
            Some(before) => (before.words, before.host_files),
            None => (BTreeSet::new(), BTreeMap::new()),
        };
        all.retain(|word| release.asks.contains(word));
        all.extend(words);
        files.retain(|name, _| asks_for_files(&release.asks, name));
        files.extend(host_files);
        let grant = GrantRecord {
            component: release.component.clone(),
            needs: digest_of_words(&release.asks),
            words: all,
            host_files: files,
            signer: release.signer.clone(),
            by: By::User(uid),
            at,
        };
        let active = Some(Active { release, grant: Some(grant) });
        Self { active, pending: None, failures: None, revoked: self.revoked }
    }

    /// These words are taken back, or all of them. Without any a plugin waits again, if it asks for something.
    pub(in crate::hooks) fn revoke(mut self, words: &BTreeSet<String>) -> Self {
        let Some(Active { release, grant: Some(mut grant) }) = self.active.take() else {
            return self;
        };
        grant.words.retain(|word| !words.contains(word));
        if words.is_empty() || (grant.words.is_empty() && !release.asks.is_empty()) {
            let pending = self.pending.or(Some(release));
            return Self { active: None, pending, ..self };
        }
        Self { active: Some(Active { release, grant: Some(grant) }), ..self }
    }

    /// A hook of a component came to its end. Tells whether the plugin is switched off by that.
    pub(in crate::hooks) fn note(
        mut self,
        component: &Digest,
        point: HookPoint,
        came: &Came,
        at: String,
    ) -> (Self, Option<Off>) {
        let mut failures = match self.failures.take() {
            Some(failures) if failures.component == *component => failures,
            Some(_) | None => {
                Failures { component: component.clone(), in_a_row: BTreeMap::new(), off: None }
            }
        };
        let mut newly = None;
        match came {
            Came::Well => drop(failures.in_a_row.remove(&point)),
            Came::Badly(failure) => {
                let count = failures.in_a_row.entry(point).or_default();
                *count += 1;
                if *count >= FAILURES && failures.off.is_none() {
                    newly = Some(Off { point, failure: failure.clone(), at });
                    failures.off.clone_from(&newly);
                }
            }
        }
        let nothing = failures.in_a_row.is_empty() && failures.off.is_none();
        (Self { failures: (!nothing).then_some(failures), ..self }, newly)
    }

    /// The same for a plugin that came with cove: what it asks for is granted but for this.
    pub(in crate::hooks) fn revoke_standard(
        self,
        words: &BTreeSet<String>,
        asks: &BTreeSet<String>,
    ) -> Self {
        let revoked = match (self.revoked, words.is_empty()) {
            (Revoked::Everything, _) | (Revoked::Nothing | Revoked::Words(_), true) => {
                Revoked::Everything
            }
            (Revoked::Nothing, false) => without(words.clone(), asks),
            (Revoked::Words(before), false) => {
                without(before.union(words).cloned().collect(), asks)
            }
        };
        Self { revoked, ..self }
    }

    /// Gives a plugin that came with cove back what was taken.
    pub(in crate::hooks) fn grant_standard(
        self,
        words: &BTreeSet<String>,
        asks: &BTreeSet<String>,
    ) -> Self {
        let before = match self.revoked {
            Revoked::Nothing => BTreeSet::new(),
            Revoked::Words(before) => before,
            Revoked::Everything => asks.clone(),
        };
        let left: BTreeSet<_> = before.difference(words).cloned().collect();
        let revoked = if left.is_empty() { Revoked::Nothing } else { without(left, asks) };
        Self { revoked, failures: None, ..self }
    }
}

fn without(revoked: BTreeSet<String>, asks: &BTreeSet<String>) -> Revoked {
    match asks.is_subset(&revoked) {
        true => Revoked::Everything,
        false => Revoked::Words(revoked),
    }
}

/// Whether what was granted to one release holds for another.
fn holds_for(old: &Release, grant: &GrantRecord, new: &Release) -> bool {
    let same = new.component == grant.component && digest_of_words(&new.asks) == grant.needs;
    let key = |release: &Release| release.signer.as_ref().map(|signer| signer.key.clone());
    let one_signer = key(old).is_some() && key(old) == key(new);
    same || (one_signer && new.asks.is_subset(&old.asks))
}

fn carried(old: &Release, mut grant: GrantRecord, new: &Release) -> GrantRecord {
    grant.words.retain(|word| new.asks.contains(word));
    GrantRecord {
        component: new.component.clone(),
        needs: digest_of_words(&new.asks),
        signer: new.signer.clone(),
        by: By::CarriedOver(old.version.clone()),
        at: new.installed_at.clone(),
        ..grant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rpc::HookSigner;

    fn words(text: &str) -> BTreeSet<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn signer(key: &str) -> Option<HookSigner> {
        (!key.is_empty())
            .then(|| HookSigner { name: format!("name of {key}"), key: key.to_owned() })
    }

    /// A release whose component is this, that asks for these words, signed with this key or not.
    fn release(component: &str, asks: &str, key: &str) -> Release {
        let digest = |text: String| Digest::of(text.as_bytes());
        Release {
            key: digest(format!("{component} {asks}")),
            version: component.to_owned(),
            manifest: digest(asks.to_owned()),
            component: digest(component.to_owned()),
            asks: words(asks),
            signer: signer(key),
            installed_at: "then".to_owned(),
            from: "/somewhere".to_owned(),
        }
    }

    fn all(asks: &str) -> Granting {
        Granting {
            words: words(asks),
            host_files: BTreeMap::new(),
            uid: 1000,
            at: "now".to_owned(),
        }
    }

    fn installed(release: Release) -> Record {
        Record::default().install(release, None, Fit::Fits).0
    }

    /// What takes part with which words, and what waits.
    fn shown(record: &Record) -> (Option<(&str, BTreeSet<String>)>, Option<&str>) {
        let active = record.active.as_ref().map(|active| {
            let words = active.grant.as_ref().map(|grant| grant.words.clone()).unwrap_or_default();
            (active.release.version.as_str(), words)
        });
        (active, record.pending.as_ref().map(|release| release.version.as_str()))
    }

    #[test]
    fn what_is_installed_first_waits_until_it_is_granted() {
        let (record, placed) = Record::default().install(release("1", "a b", "k"), None, Fit::Fits);
        assert_eq!((shown(&record), placed), ((None, Some("1")), Placed::Pending));
        let record = record.grant(all("a"));
        assert_eq!(shown(&record), (Some(("1", words("a"))), None));
        let record = record.grant(all("b"));
        assert_eq!(shown(&record), (Some(("1", words("a b"))), None), "grants add up");
        let record = record.revoke(&words("a"));
        assert_eq!(shown(&record), (Some(("1", words("b"))), None));
        assert_eq!(
            shown(&record.clone().revoke(&words("b"))),
            (None, Some("1")),
            "nothing is left"
        );
        assert_eq!(shown(&record.revoke(&words(""))), (None, Some("1")), "all");
        let asks_nothing = installed(release("1", "", "")).grant(all(""));
        assert_eq!(shown(&asks_nothing), (Some(("1", words(""))), None));
        assert_eq!(shown(&asks_nothing.revoke(&words(""))), (None, Some("1")));
    }

    #[test]
    fn a_grant_carries_over_only_where_nobody_can_mind() {
        // The old one, the new one, and whether the grant of all of the old one holds for the new one.
        for ((old, asked, key), (new, asks, new_key), holds) in [
            (("1", "a b", "k"), ("2", "a b", "k"), true),
            (("1", "a b", "k"), ("2", "a", "k"), true),
            (("1", "a b", "k"), ("2", "a b c", "k"), false),
            (("1", "a b", "k"), ("2", "c", "k"), false),
            (("1", "a b", "k"), ("2", "a b", "other"), false),
            (("1", "a b", "k"), ("2", "a b", ""), false),
            (("1", "a b", ""), ("2", "a b", "k"), false),
            (("1", "a b", ""), ("2", "a b", ""), false),
            // Downgrades are no different.
            (("2", "a b", "k"), ("1", "a", "k"), true),
            (("2", "a", "k"), ("1", "a b", "k"), false),
        ] {
            let record = installed(release(old, asked, key)).grant(all(asked));
            let (record, placed) = record.install(release(new, asks, new_key), None, Fit::Fits);
            let case = format!("{old} {asked} {key} -> {new} {asks} {new_key}");
            if holds {
                assert_eq!(shown(&record), (Some((new, words(asks))), None), "{case}");
                assert_eq!(placed, Placed::Active, "{case}");
                let grant = record.active.and_then(|active| active.grant).expect("granted");
                assert_eq!(grant.by, By::CarriedOver(old.to_owned()));
                assert_eq!(grant.component, Digest::of(new.as_bytes()));
            } else {
                assert_eq!(shown(&record), (Some((old, words(asked))), Some(new)), "{case}");
                assert_eq!(placed, Placed::Pending, "{case}");
            }
        }
    }

    #[test]
    fn what_would_run_in_a_circle_waits_although_the_grant_would_hold() {
        let record = installed(release("1", "a", "k")).grant(all("a"));
        let (record, placed) = record.install(release("2", "a", "k"), None, Fit::InACircle);
        assert_eq!(
            (shown(&record), placed),
            ((Some(("1", words("a"))), Some("2")), Placed::Pending)
        );
    }

    #[test]
    fn what_was_not_granted_is_not_carried_over_either() {
        let record = installed(release("1", "a b", "k")).grant(all("a"));
        let (record, _) = record.install(release("2", "a b", "k"), None, Fit::Fits);
        assert_eq!(shown(&record), (Some(("2", words("a"))), None));
    }

    #[test]
    fn another_manifest_with_the_same_component_and_needs_keeps_its_grant() {
        let record = installed(release("1", "a", "")).grant(all("a"));
        let other = Release { key: Digest::of(b"slower"), ..release("1", "a", "") };
        let (record, placed) = record.install(other, None, Fit::Fits);
        assert_eq!((record.pending, placed), (None, Placed::Active));
    }

    #[test]
    fn an_upgrade_waits_while_the_old_one_runs() {
        let record = installed(release("1", "a", "")).grant(all("a"));
        let (record, _) = record.install(release("2", "a b", ""), None, Fit::Fits);
        let (again, placed) = record.clone().install(release("2", "a b", ""), None, Fit::Fits);
        assert_eq!((placed, &again), (Placed::Unchanged, &record));
        let (third, _) = record.clone().install(release("3", "a c", ""), None, Fit::Fits);
        assert_eq!(shown(&third), (Some(("1", words("a"))), Some("3")), "the last one waits");
        let (back, placed) = third.install(release("1", "a", ""), None, Fit::Fits);
        assert_eq!((shown(&back), placed), ((Some(("1", words("a"))), None), Placed::Unchanged));
        let granted = record.clone().grant(all("b"));
        assert_eq!(shown(&granted), (Some(("2", words("a b"))), None), "and what it had");
        let revoked = record.revoke(&words(""));
        assert_eq!(shown(&revoked), (None, Some("2")), "nobody goes back to what was revoked");
    }

    #[test]
    fn what_the_configuration_grants_is_granted_by_it_alone() {
        let grant = |component: &str| Grant {
            plugin: "one".parse().expect("an id"),
            component: Digest::of(component.as_bytes()),
            needs: words("a"),
            host_files: BTreeMap::new(),
        };
        let (record, placed) =
            Record::default().install(release("1", "a", ""), Some(&grant("1")), Fit::Fits);
        assert_eq!((shown(&record), placed), ((Some(("1", words(""))), None), Placed::Active));
        let (record, placed) = record.install(release("2", "a", ""), Some(&grant("1")), Fit::Fits);
        assert_eq!(
            (shown(&record), placed),
            ((Some(("1", words(""))), Some("2")), Placed::Pending)
        );
        let (record, placed) = record.install(release("3", "a", ""), Some(&grant("3")), Fit::Fits);
        assert_eq!((shown(&record), placed), ((Some(("3", words(""))), None), Placed::Active));
        let (record, placed) = record.install(release("4", "a", ""), None, Fit::Fits);
        assert_eq!(
            (shown(&record), placed),
            ((None, Some("4")), Placed::Pending),
            "it grants no more"
        );
    }

    #[test]
    fn three_failures_in_a_row_are_too_many() {
        let (component, at) = (Digest::of(b"1"), || "now".to_owned());
        let bad = Came::Badly("it broke".to_owned());
        let (one, other) = (HookPoint::ConfigureMachine, HookPoint::PrepareWorkDisk);
        let mut record = installed(release("1", "a", "")).grant(all("a"));
        let steps = [
            (one, &bad),
            (one, &bad),
            (one, &Came::Well),
            (one, &bad),
            (one, &bad),
            (other, &bad),
            (other, &Came::Well),
        ];
        for (point, came) in steps {
            let (next, off) = record.note(&component, point, came, at());
            assert_eq!(off, None, "{point} {came:?}");
            record = next;
        }
        let (record, off) = record.note(&component, one, &bad, at());
        assert_eq!(
            off.as_ref().map(|off| (off.point, off.failure.as_str())),
            Some((one, "it broke"))
        );
        assert_eq!(record.failures.as_ref().and_then(|failures| failures.off.clone()), off);
        let (record, off) = record.note(&component, one, &bad, at());
        assert_eq!(off, None, "it is told once");
        assert_eq!(record.clone().grant(all("a")).failures, None, "a grant switches it on");
        let (record, _) = record.note(&Digest::of(b"2"), one, &Came::Well, at());
        assert_eq!(record.failures, None, "another component begins anew");
    }

    #[test]
    fn what_came_with_cove_has_all_but_what_was_revoked() {
        let asks = words("a b");
        let record = Record::default().revoke_standard(&words("a"), &asks);
        assert_eq!(record.revoked, Revoked::Words(words("a")));
        assert_eq!(record.clone().revoke_standard(&words("b"), &asks).revoked, Revoked::Everything);
        assert_eq!(record.clone().revoke_standard(&words(""), &asks).revoked, Revoked::Everything);
        assert_eq!(record.clone().grant_standard(&asks, &asks).revoked, Revoked::Nothing);
        let none = record.revoke_standard(&words(""), &asks);
        assert_eq!(none.grant_standard(&words("b"), &asks).revoked, Revoked::Words(words("a")));
    }
}
