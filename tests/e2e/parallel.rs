//! Many things at once, most of which boot no guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{BOOT, QUICK, Who, World, as_everybody, tool};
use crate::watch;

as_everybody!(item_08_many_deletes_in_parallel);

fn item_08_many_deletes_in_parallel(who: Who) {
    const VMS: usize = 24;
    let world = World::new(who);
    world.cove(["daemon", "start"]).success();
    let names: Vec<String> = (0..VMS).map(|number| format!("doomed-{number}")).collect();
    let makers = names.iter().map(|name| world.command(["create", "--name", name]).spawn());
    let makers: Vec<_> = makers.collect();
    makers.into_iter().for_each(|maker| drop(maker.wait().success()));
    let ids: Vec<_> = world.vm_folders();
    assert_eq!(ids.len(), VMS);

    // Some by one command, some by one each, some by two who do not know of each other.
    let (one, rest) = names.split_at(VMS / 2);
    let (each, twice) = rest.split_at(VMS / 4);
    let backwards: Vec<&str> = one.iter().rev().map(String::as_str).collect();
    let bulk = world.command([&["delete"][..], &backwards].concat()).spawn();
    let delete = |name: &String| world.command(["delete", name]).spawn();
    let singles: Vec<_> = each.iter().map(delete).collect();
    let pairs: Vec<_> = twice.iter().map(|name| [delete(name), delete(name)]).collect();
    bulk.wait().success().prints(&(backwards.join("\n") + "\n"));
    for (name, single) in each.iter().zip(singles) {
        single.wait().success().prints(&format!("{name}\n"));
    }
    for pair in pairs {
        let mut statuses = pair.map(|delete| delete.wait().status);
        statuses.sort_unstable();
        assert!(statuses[0] == 0 && [0, 3].contains(&statuses[1]), "{statuses:?}");
    }
    world.assert_no_vm(&ids);
    world.finish();
}

/// A folder with a program that writes a line into the file for every call of the tool that it stands for.
fn counted(world: &World, tool: &str, calls: &Path) -> String {
    let folder = world.folder().join("counted");
    let program = folder.join(tool);
    fs::create_dir(&folder).expect("made");
    let (folder, calls) = (folder.display().to_string(), calls.display());
    let script = format!(
        "#!/bin/sh\necho called >> {calls}\nPATH=${{PATH#{folder}:}}\nexec {tool} \"$@\"\n"
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    folder
}

as_everybody!(item_10_concurrent_creates_on_a_cold_store_build_the_image_once);

fn item_10_concurrent_creates_on_a_cold_store_build_the_image_once(who: Who) {
    const VMS: usize = 8;
    let mut world = World::new(who);
    let calls = world.folder().join("calls");
    fs::write(&calls, "").expect("written");
    let folder = counted(&world, "mke2fs", &calls);
    let path = format!("PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin");
    world.prefix = ["env".to_owned(), path].into();
    world.cove(["daemon", "start"]).success();
    for shelf in ["images", "kernels", "initramfs", "seeds"] {
        assert_eq!(entries(&world.home.join(shelf)), [""; 0], "the store is cold");
    }
    let makers: Vec<_> = (0..VMS).map(|_| world.command(["create"]).spawn()).collect();
    makers.into_iter().for_each(|maker| drop(maker.wait().success()));
    assert_eq!(world.vm_folders().len(), VMS);
    // The two disks of a machine are of two sizes.
    assert_eq!(fs::read_to_string(&calls).expect("readable"), "called\ncalled\n");
    for (shelf, count) in [("images", 1), ("kernels", 1), ("initramfs", 1), ("seeds", 2)] {
        let made = entries(&world.home.join(shelf));
        assert_eq!(made.len(), count, "{shelf}: {made:?}");
    }
    let vms = world.json(["list", "--json"]);
    let kernels = vms.as_array().expect("a list").iter().map(|vm| &vm["kernel"]);
    assert!(kernels.clone().all(|kernel| Some(kernel) == kernels.clone().next()), "{vms}");
    world.finish();
}

/// What lies in a folder but its lock; nothing when it is not there.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into());
    names.filter(|name: &String| name != ".lock").collect()
}

as_everybody!(item_30_stop_delete_and_list_stay_fast_while_an_import_runs);

fn item_30_stop_delete_and_list_stay_fast_while_an_import_runs(who: Who) {
    let world = World::new(who);
    let repository = world.repo();
    let mut large = vec![0; 96 << 20];
    getrandom::fill(&mut large).expect("random bytes");
    fs::write(repository.path.join("verses/three.txt"), large).expect("written");
    let before = world.fingerprint(&repository.path);
    world.start("other", &[]);
    world.cove(["create", "--name", "third"]).success();

    let import = world.command(["run", "-d", "--name", "busy", repository.arg()]).spawn();
    let vm = watch::state(&world, "busy", "starting");
    let operation = watch::until("the import runs", BOOT, || {
        let operations = world.json(["op", "list", "--json"]);
        let mut operations = operations.as_array().expect("a list").clone().into_iter();
        let busy = operations.find(|one| one["vm"] == vm["id"])?;
        let stages = busy["stages"].as_array().expect("a list");
        stages.iter().any(|stage| stage["name"] == "workspace").then_some(busy)
    });
    // From here on it cannot end: nothing that waited for it would.
    let monitor = watch::monitor(&world, &vm).to_string();
    tool("kill", &["-STOP", &monitor], &[]).success();
    let quick = |arguments: &[&str]| world.command(arguments).deadline(QUICK).run().success();
    quick(&["list", "--json"]);
    quick(&["show", "busy", "--json"]);
    quick(&["stop", "other"]).prints("other\n");
    quick(&["delete", "other", "third"]).prints("other\nthird\n");
    let id = operation["id"].as_str().expect("an id");
    let running = world.json(["op", "show", id, "--json"]);
    let stage = running["stages"].as_array().and_then(|stages| stages.last()).expect("a stage");
    assert_eq!((&running["end"], &stage["name"]), (&serde_json::Value::Null, &"workspace".into()));
    assert!(stage["took_us"].is_null(), "the import was under way all the time: {running}");
    // Nor does the delete of that very VM wait for it.
    quick(&["delete", "busy"]).prints("busy\n");
    import.wait().status(125).says("is being killed or deleted");
    assert!(world.fingerprint(&repository.path) == before, "the source is as it was");
    world.assert_no_vm(&[watch::id(&vm)]);
    world.finish();
}
