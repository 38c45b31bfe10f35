//! Components by hand: text is put in the places of `wat/plugin.wat`.

/// The plugin with its places.
const PLUGIN: &str = include_str!("../wat/plugin.wat");

/// The places, with what a plugin has there that does no harm.
const HARMLESS: &[(&str, &str)] = &[
    ("pages", "2"),
    (
        "realloc",
        "(global.get $free) \
         (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get $size)) \
         (i32.const 7)) (i32.const -8)))",
    ),
    ("core", ""),
    ("run", ""),
    ("component", ""),
    ("lift", ""),
];

/// A plugin with text in some of its places.
pub(crate) fn plugin(places: &[(&str, &str)]) -> Vec<u8> {
    let known = |place: &str| HARMLESS.iter().any(|(name, _)| *name == place);
    assert!(places.iter().all(|(place, _)| known(place)), "no such place");
    let mut text = PLUGIN.to_owned();
    for (place, harmless) in HARMLESS {
        let own = places.iter().find(|(name, _)| name == place);
        text = text.replace(&format!("{{{place}}}"), own.map_or(harmless, |(_, own)| own));
    }
    component(&text)
}

/// A plugin with a core module of its own, instantiated `times` times before its hook is called.
pub(crate) fn beside(fields: &str, times: usize) -> Vec<u8> {
    let instances = "(core instance (instantiate $beside))".repeat(times);
    plugin(&[("component", &format!("(core module $beside {fields}) {instances}"))])
}

/// The bytes of a component from its text.
pub(crate) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}
