//! Rules about the contract with plugins: what was frozen keeps working, and every item says since when it
//! is there.
//!
//! `tests/tidy/contract/VERSION/` is the contract as the last release of cove had it. A component that was
//! built against that must run with `wit/VERSION` of today.

use wit_parser::{PackageId, Resolve, Stability, UnresolvedPackageGroup, WorldId};

use crate::papers::read;

/// The contract, as a text.
pub(crate) fn today() -> String {
    read("wit/0.2.0/hooks.wit")
}

/// The same as it was frozen.
pub(crate) fn frozen() -> String {
    read("tests/tidy/contract/0.2.0/hooks.wit")
}

fn add(resolve: &mut Resolve, text: &str) -> PackageId {
    let group = UnresolvedPackageGroup::parse("hooks.wit", text).expect("it is WIT");
    resolve.push_group(group).expect("it is sound")
}

fn worlds(resolve: &Resolve, package: PackageId) -> Vec<(String, WorldId)> {
    let worlds = resolve.packages[package].worlds.iter();
    worlds.map(|(name, id)| (name.clone(), *id)).collect()
}

/// Worlds of `old` for which a component would not run with `new`, with the reason.
pub(crate) fn broken(old: &str, new: &str) -> Vec<String> {
    // Two versions must differ in their numbers to be looked at together.
    let old = old.replace("0.2.0", "0.1.0");
    let mut resolve = Resolve::default();
    let (old, new) = (add(&mut resolve, &old), add(&mut resolve, new));
    let (old, new) = (worlds(&resolve, old), worlds(&resolve, new));
    let complaint = |(name, old): &(String, WorldId)| {
        let Some((_, new)) = new.iter().find(|(other, _)| other == name) else {
            return Some(format!("the world `{name}` is gone"));
        };
        let checked = wit_component::semver_check(resolve.clone(), *old, *new);
        checked.err().map(|error| format!("{name}: {error:#}"))
    };
    old.iter().filter_map(complaint).collect()
}

/// Items that do not say since when they are there.
pub(crate) fn without_since(text: &str) -> Vec<String> {
    let mut resolve = Resolve::default();
    add(&mut resolve, text);
    let mut missing = Vec::new();
    let mut look = |what: String, stability: &Stability| {
        if !matches!(stability, Stability::Stable { .. }) {
            missing.push(what);
        }
    };
    for (_, interface) in resolve.interfaces.iter() {
        let name = interface.name.clone().unwrap_or_default();
        look(name.clone(), &interface.stability);
        for function in interface.functions.values() {
            look(format!("{name}: {}", function.name), &function.stability);
        }
        for (kind, id) in &interface.types {
            look(format!("{name}: {kind}"), &resolve.types[*id].stability);
        }
    }
    for (_, world) in resolve.worlds.iter() {
        look(world.name.clone(), &world.stability);
    }
    missing
}
