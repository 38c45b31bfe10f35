//! What is tried with each hook of a plugin.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fixtures::{Fixtures, MadeUpGuest};
use super::golden::{self, Seen};
use super::{KitCase, KitError, KitOptions, KitVerdict};
use crate::hooks::ceiling::Ceiling;
use crate::hooks::failure::Failure;
use crate::hooks::guest::GuestPrograms;
use crate::hooks::handles::{Remembered, Settings};
use crate::hooks::manifest::Manifest;
use crate::hooks::needs::{Granted, Rights};
use crate::hooks::plugin::Loaded;
use crate::hooks::run::{Ended, Run, View};
use crate::hooks::state::Chance;
use crate::hooks::words::all_words;
use crate::id::Digest;
use crate::report::counted;
use crate::wire::rpc::HookPoint;

/// How many calls are made to fail, the first ones: a plugin that makes more does the same again and again.
const FAILING_CALLS: u64 = 200;
/// The part of a limit, in percent, that is too much: a user has more files than the fixtures.
const NEAR: u64 = 80;

/// A plugin with its made-up inputs.
pub(super) struct Bench {
    pub(super) loaded: Arc<Loaded>,
    pub(super) manifest: Manifest,
    pub(super) fixtures: Fixtures,
}

impl Bench {
    /// Tries everything, hook by hook, and compares or writes what the plugin did.
    pub(super) async fn all(&self, options: &KitOptions) -> Result<Vec<KitCase>, KitError> {
        let mut cases = Vec::new();
        let mut seen = Vec::new();
        for point in self.manifest.hooks.keys().copied() {
            let began = Instant::now();
            let ended = self.run(point, &self.words(), Chance::default()).await;
            let undisturbed = case("runs", point, began, verdict_of(&ended));
            cases.push(KitCase { log: logged(&ended), ..undisturbed });
            if let Ok(effects) = &ended.result {
                cases.push(self.deterministic(point, &effects.digests.plan).await);
                seen.push((point, Seen::of(effects)));
            }
            cases.extend(self.within_limits(point, &ended));
            for word in self.words() {
                cases.push(self.withheld(point, &word).await);
            }
            cases.push(self.failing_calls(point, ended.used.failable).await);
        }
        if let Some(file) = &options.golden {
            cases.push(golden::check(file, options.update, &seen)?);
        }
        Ok(cases)
    }

    /// All that the manifest asks for, in the words of a grant.
    fn words(&self) -> BTreeSet<String> {
        all_words(&self.manifest.needs)
    }

    /// One run with these needs granted.
    async fn run(&self, point: HookPoint, granted: &BTreeSet<String>, chance: Chance) -> Ended {
        let fixtures = &self.fixtures;
        let (needs, granted) = (&self.manifest.needs, Granted::Words(granted));
        let rights = Rights::new(needs, granted, &Ceiling::default(), &fixtures.settings);
        let settings = Settings::new(self.manifest.settings.clone(), fixtures.settings.clone());
        let settings = match settings {
            Ok(settings) => settings,
            Err(reason) => {
                let code = "settings".to_owned();
                return Ended::without_a_word(Failure::Returned { code, message: reason });
            }
        };
        let git = rights.git_keys().iter();
        let git = git.map(|key| (key.clone(), fixtures.git.0.get(key).cloned())).collect();
        let remembered = match rights.may_remember() {
            true => fixtures.remembered.clone(),
            false => Remembered::new(),
        };
        let guest = Arc::new(MadeUpGuest(fixtures.programs.clone())) as Arc<dyn GuestPrograms>;
        let run = Run {
            loaded: Arc::clone(&self.loaded),
            point,
            limits: self.manifest.limits,
            wall: self.manifest.hooks[&point].wall,
            rights: Arc::new(rights),
            view: View {
                machine: (point != HookPoint::Doctor).then(|| fixtures.machine.clone()),
                home: fixtures.home.clone(),
                sources: fixtures.sources.clone(),
                git,
                settings,
                remembered,
            },
            guest: (point == HookPoint::PostStart).then_some(guest),
            chance,
        };
        run.go().await
    }

    /// Another clock and other random numbers give the same plan.
    async fn deterministic(&self, point: HookPoint, plan: &Digest) -> KitCase {
        let began = Instant::now();
        let later = Duration::from_secs(86_400 * 365);
        let chance = Chance { seed: b"another seed".to_vec(), later, refused: None };
        let ended = self.run(point, &self.words(), chance).await;
        let verdict = match &ended.result {
            Ok(effects) if effects.digests.plan == *plan => {
                KitVerdict::Passed(Some(format!("plan {}", &plan.as_str()[..12])))
            }
            Ok(_) => failed("with another clock and seed the plan is another one"),
            Err(failure) => failed(&format!("with another clock and seed: {failure}")),
        };
        case("another clock and seed", point, began, verdict)
    }

    /// What the undisturbed run has used, beside its limits.
    fn within_limits(&self, point: HookPoint, ended: &Ended) -> [KitCase; 3] {
        let limits = &self.manifest.limits;
        let near = |used: u128, limit: u128| used * 100 > limit * u128::from(NEAR);
        let (memory, most) = (ended.used.memory, limits.memory);
        let said = format!("{} KiB of {} KiB", memory >> 10, most >> 10);
        let memory = match near(memory as u128, most as u128) {
            true => failed(&format!("it used {said}: too near the limit")),
            false => KitVerdict::Passed(Some(said)),
        };
        let (cpu, most) = (ended.used.cpu, limits.cpu);
        let said = format!("{} of {} ms of processor time", cpu.as_millis(), most.as_millis());
        let time = match near(cpu.as_micros(), most.as_micros()) {
            true => failed(&format!("it used {said}: too near the limit")),
            false => KitVerdict::Passed(Some(said)),
        };
        let log = match ended.dropped {
            0 => KitVerdict::Passed(Some(counted(ended.log.len() as u64, "line"))),
            dropped => failed(&format!("it logs too much: {dropped} lines did not fit")),
        };
        let now = Instant::now();
        [
            case("memory", point, now, memory),
            case("deadline", point, now, time),
            case("log", point, now, log),
        ]
    }

    /// Without one of its needs a plugin goes on or returns an error. It does not crash.
    async fn withheld(&self, point: HookPoint, word: &str) -> KitCase {
        let began = Instant::now();
        let others: BTreeSet<_> = self.words().into_iter().filter(|other| other != word).collect();
        let ended = self.run(point, &others, Chance::default()).await;
        let verdict = match verdict_when_disturbed(&ended) {
            // A hook that did not try says nothing about what happens to those that do.
            KitVerdict::Passed(_) if ended.journal.refusals.is_empty() => {
                KitVerdict::Passed(Some("not exercised".to_owned()))
            }
            verdict => verdict,
        };
        case(&format!("`{word}` withheld"), point, began, verdict)
    }

    /// Each call that can fail does, once.
    async fn failing_calls(&self, point: HookPoint, calls: u64) -> KitCase {
        let began = Instant::now();
        let mut verdict = KitVerdict::Passed(Some(counted(calls.min(FAILING_CALLS), "call")));
        for refused in 1..=calls.min(FAILING_CALLS) {
            let chance = Chance { refused: Some(refused), ..Chance::default() };
            let ended = self.run(point, &self.words(), chance).await;
            if let KitVerdict::Failed(reason) = verdict_when_disturbed(&ended) {
                verdict = failed(&format!("when call {refused} of the host fails, {reason}"));
                break;
            }
        }
        case("every call of the host fails once", point, began, verdict)
    }
}

fn case(name: &str, point: HookPoint, began: Instant, verdict: KitVerdict) -> KitCase {
    let (name, took) = (name.to_owned(), began.elapsed());
    KitCase { name, point: Some(point), verdict, took, log: Vec::new() }
}

/// All lines that a run logged.
fn logged(ended: &Ended) -> Vec<String> {
    ended.log.iter().map(|line| line.text.clone()).collect()
}

pub(super) fn failed(reason: &str) -> KitVerdict {
    KitVerdict::Failed(reason.to_owned())
}

/// A run with everything it asked for ends well.
fn verdict_of(ended: &Ended) -> KitVerdict {
    match &ended.result {
        Ok(effects) => KitVerdict::Passed(Some(counted(effects.steps.len() as u64, "step"))),
        Err(failure) => match ended.log.last() {
            Some(line) => failed(&format!("{failure}; the last line it logged: {}", line.text)),
            None => failed(&failure.to_string()),
        },
    }
}

/// A run that was denied something ends well or with an error that it returns.
fn verdict_when_disturbed(ended: &Ended) -> KitVerdict {
    match &ended.result {
        Ok(_) => KitVerdict::Passed(Some("goes on".to_owned())),
        Err(Failure::Returned { code, .. }) => {
            KitVerdict::Passed(Some(format!("returns `{code}`")))
        }
        Err(
            failure @ (Failure::Panicked(_)
            | Failure::Trapped(_)
            | Failure::Exited(_)
            | Failure::Cpu(_)
            | Failure::Wall(_)
            | Failure::Memory(_)
            | Failure::Limit(_)
            | Failure::Phase(_)
            | Failure::Cancelled
            | Failure::Instantiate(_)),
        ) => failed(&failure.to_string()),
    }
}
