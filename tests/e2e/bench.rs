//! Benchmarks whose daemon is their own, or that have none: that they measure, and leave nothing. Figures are
//! for reading.

use std::fs;
use std::path::Path;

use crate::corpus;
use crate::harness::{Who, World, as_everybody};

as_everybody!(hooks_are_measured_beside_their_floor);

fn hooks_are_measured_beside_their_floor(who: Who) {
    let world = World::new(who);
    let found = world.json(["bench", "hooks", "--runs", "20", "--json"]);
    assert_eq!(found["runs"], 20, "{found}");
    let parts = ["instantiate", "host_call", "load", "start"].map(|part| &found[part]);
    for measured in std::iter::once(&found).chain(parts) {
        for side in ["cove", "floor"] {
            let [p50, p95] = ["p50_ms", "p95_ms"].map(|key| measured[side][key].as_f64());
            assert!(p50 >= Some(0.0) && p95 >= p50, "{side} of {measured}");
        }
        assert!(measured["ratio"].is_number() || measured["floor"]["p50_ms"] == 0.0, "{measured}");
    }
    // The file's bytes never are in the plugin's memory.
    let import = &found["import"];
    let [with, without, file] = ["memory_with", "memory_without", "file_bytes"]
        .map(|key| import[key].as_u64().expect("a size"));
    assert!(without > 0 && with.saturating_sub(without) < file, "{import}");
    assert_eq!(file, 64 << 10);
    let table = world.cove(["bench", "hooks", "--runs", "1"]).success().stdout;
    assert!(table.contains("full call: cove"), "{table}");
    world.finish();
}

as_everybody!(the_rpc_is_measured_beside_its_floors_and_nothing_is_left);

fn the_rpc_is_measured_beside_its_floors_and_nothing_is_left(who: Who) {
    let world = World::new(who);
    let endless = endless_plugin(&world);
    let arguments = ["bench", "rpc", "--runs", "20", "--idle", "0", "--json", "--beside", &endless];
    let found = world.json(arguments);
    let responsive = &found["responsive"];
    assert_eq!(responsive["plugin"], "hostile", "{responsive}");
    assert!(responsive["hooks"].as_u64() >= Some(3), "{responsive}");
    for when in ["rest", "beside"] {
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|key| responsive[when][key].as_f64());
        assert!(p50 > Some(0.0) && p99 >= p50, "{responsive}");
    }
    assert!(responsive["ratio_p99"].as_f64() > Some(0.0), "{responsive}");
    assert_eq!(found["runs"], 20, "{found}");
    for measured in [&found, &found["list"], &found["page"]] {
        for side in ["cove", "floor"] {
            let [p50, p95] = ["p50_ms", "p95_ms"].map(|key| measured[side][key].as_f64());
            assert!(p50 > Some(0.0) && p95 >= p50, "{side} of {measured}");
        }
        assert!(measured["ratio"].as_f64() > Some(0.0), "{measured}");
    }
    // 500 VMs of the 10,000.
    assert!(found["page"]["bytes"].as_u64() > Some(500 * 300), "{found}");
    let left = fs::read_dir(world.home.join("scratch")).expect("its folder").count();
    assert_eq!(left, 0, "the daemon's folder is gone, so its daemon is");
    world.finish();
}

/// The path of a plugin that never ends by itself.
fn endless_plugin(world: &World) -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let (built, folder) = (corpus::built(target), world.folder().join("endless"));
    fs::create_dir(&folder).expect("made");
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(built.join(file), folder.join(file)).expect("copied");
    }
    fs::write(folder.join("test.toml"), "[settings]\nmisbehaviour = 'loop'\n").expect("written");
    folder.display().to_string()
}
