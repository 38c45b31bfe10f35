//! Files and trees copied into a guest and out of it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{QUICK, Who, World, tool};
use crate::watch;

/// Prints kind, permission bits, time of change to the nanosecond and target of everything in a tree.
const LOOK: &str = r"find . -printf '%y %m %T@ %l %p\0' | sort -z";

fn at(world: &World, path: &str) -> PathBuf {
    world.folder().join("files").join(path)
}

fn word(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A tree with what is awkward: modes, times, links, odd names, an empty folder.
fn tree(world: &World) -> PathBuf {
    let tree = at(world, "tree");
    fs::create_dir_all(tree.join("deep/er/empty")).expect("made");
    let odd = format!("{}\n'\"ä", "n".repeat(249));
    fs::write(tree.join("deep").join(odd), "odd").expect("written");
    fs::write(tree.join("run.sh"), "#!/bin/sh\necho ran\n").expect("written");
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o750)).expect("set");
    fs::set_permissions(tree.join("deep/er"), fs::Permissions::from_mode(0o711)).expect("set");
    symlink("deep/er", tree.join("link")).expect("linked");
    symlink("/nowhere", tree.join("broken link")).expect("linked");
    for path in ["run.sh", "link", "deep/er", "deep"] {
        let path = tree.join(path);
        let time = "2001-02-03 04:05:06.123456789 UTC";
        tool("touch", &["-h", "-d", time, word(&path)], &[]).success();
    }
    tree
}

/// What [`LOOK`] prints of a tree.
fn look(folder: &Path) -> String {
    let script = format!("cd '{}' && {LOOK}", word(folder));
    tool("sh", &["-c", &script], &[]).success().stdout
}

#[test]
fn files_and_trees_are_copied_both_ways() {
    let world = World::new(Who::Caller);
    fs::create_dir_all(at(&world, "back")).expect("made");
    let tree = tree(&world);
    let vm = world.start("web", &[]);
    let cp = |from: &str, to: &str| world.cove(["cp", from, to]);

    // A tree there and back: into a folder under its own name, and to a name.
    cp(word(&tree), "web:").success().prints("");
    cp("web:~/tree", word(&at(&world, "back"))).success().prints("");
    cp("web:tree", word(&at(&world, "named"))).success();
    for copy in ["back/tree", "named"] {
        let copy = at(&world, copy);
        assert_eq!(look(&copy), look(&tree));
        tool("diff", &["-r", "--no-dereference", word(&tree), word(&copy)], &[]).success();
    }
    assert_eq!(world.guest("web", "stat -c '%a %U' tree/run.sh && tree/run.sh"), "750 root\nran\n");
    // Nothing is merged, nothing is lost.
    cp(word(&tree), "web:").status(4).says("folders are not merged").says("`web:` is as it was");
    cp("web:tree", word(&at(&world, "back"))).status(4).says("folders are not merged");
    cp("web:tree/run.sh", word(&at(&world, "back/tree"))).success();
    cp("web:tree", word(&at(&world, "named/run.sh"))).status(4).says("is a file");

    bytes(&world);
    sparse(&world);

    // The home's own disk, reached by another mount, into which nothing of the home can be renamed.
    world.guest("web", "mkdir -p bound /mnt/bound && mount --bind bound /mnt/bound");
    cp(word(&tree), "web:/mnt/bound/").success();
    assert_eq!(world.guest("web", "bound/tree/run.sh; ls -A bound"), "ran\ntree\n");

    // What is not there, on either side.
    let nothing = at(&world, "nothing");
    cp("web:nothing", word(&nothing)).status(3).says("/root/nothing").says("the VM");
    cp("web:tree", word(&nothing.join("x"))).status(3).says("this host").says("nothing");
    cp(word(&nothing), "web:").status(3).says("this host");
    cp(word(&tree), "web:/nothing/x").status(3).says("the VM").says("/nothing");
    cp("nobody:x", word(&nothing)).status(3).says("nobody");
    assert!(!nothing.exists());
    // Devices, pipes and sockets stay where they are.
    let make = "mkdir special && cd special && mkfifo pipe && mknod null c 1 3 && touch file";
    world.guest("web", make);
    cp("web:special", word(&at(&world, "back"))).success().says("left out 2 special files");
    assert_eq!(fs::read_dir(at(&world, "back/special")).expect("readable").count(), 1);
    cp("web:/dev/null", word(&nothing)).status(2).says("neither file, folder nor link");

    let left = r"find / /root -xdev \( -name '.cove-cp-*' -o -name .cove-staging \)";
    assert_eq!(world.guest("web", left), "");
    world.cove(["stop", "web"]).success();
    from_rest(&world, &tree);
    world.cove(["start", "web"]).success();
    from_a_killed_machine(&world, &vm);
    a_disk_that_is_read_stays(&world);
    world.finish();
}

#[test]
fn item_19_absolute_links_of_an_image_are_fine_and_escapes_are_not() {
    let world = World::new(Who::Caller);
    fs::create_dir_all(at(&world, "back")).expect("made");
    world.start("web", &[]);
    let cp = |from: &str, to: &str| world.cove(["cp", from, to]);

    // One of the image's own: it leads on inside the guest, and is a link like any other when it is copied.
    let awk = world.guest("web", "readlink /usr/bin/awk && awk 'BEGIN { print \"ran\" }'");
    let target = awk.strip_suffix("\nran\n").expect("it is a link, and runs");
    assert!(target.starts_with('/'), "{target}");
    cp("web:/usr/bin/awk", word(&at(&world, "back"))).success().prints("");
    assert_eq!(fs::read_link(at(&world, "back/awk")).expect("a link"), Path::new(target));

    // Whatever climbs, whoever reads: it is the guest's `/etc`, or nothing.
    let make = "ln -s /etc absolute && ln -s ../../../../../../../../etc climbing && \
                mkdir tree && ln -s ../../../../../../../../etc tree/climbing";
    world.guest("web", make);
    for link in ["absolute", "climbing", "tree/climbing"] {
        let copy = at(&world, "back/hostname");
        cp(&format!("web:{link}/hostname"), word(&copy)).success();
        assert_eq!(fs::read_to_string(&copy).expect("read"), "web\n", "{link}");
        cp(word(&copy), &format!("web:{link}/came")).success();
        assert_eq!(world.guest("web", "cat /etc/came && rm /etc/came"), "web\n", "{link}");
    }
    assert!(!Path::new("/etc/came").exists());
    cp("web:tree", word(&at(&world, "back"))).success();
    assert!(at(&world, "back/tree/climbing").is_symlink());
    world.cove(["stop", "web"]).success();
    for link in ["absolute", "climbing", "tree/climbing"] {
        let refused = cp(&format!("web:{link}/hostname"), word(&at(&world, "nothing"))).status(2);
        refused.says("not in the home").says("cove start web");
    }
    assert!(!at(&world, "nothing").exists());
    world.finish();
}

/// The same comes out of a machine that was stopped, by a reader of its disk.
fn from_rest(world: &World, tree: &Path) {
    let cp = |from: &str, to: &str| world.cove(["cp", from, to]);
    let still = at(world, "still");
    cp("web:tree", word(&still)).success().prints("");
    assert_eq!(look(&still), look(tree));
    tool("diff", &["-r", "--no-dereference", word(tree), word(&still)], &[]).success();
    cp("web:/root/tree/../sparse", word(&at(world, "still sparse"))).success();
    let sparse = fs::metadata(at(world, "still sparse")).expect("there");
    assert!(sparse.len() == 32 << 20 && sparse.blocks() < 1024, "{} blocks", sparse.blocks());
    cp("web:special", word(&at(world, "still special"))).success().says("left out 2 special files");
    let nothing = at(world, "nothing");
    cp("web:nothing", word(&nothing)).status(3).says("there is no `/root/nothing`");
    let elsewhere = cp("web:/opt/data/random", word(&nothing)).status(2);
    elsewhere.says("not in the home").says("cove start web");
    cp("web:tree/../../etc", word(&nothing)).status(2).says("not in the home");
    cp(word(tree), "web:more").status(4).says("is not running").says("cove start web");
    assert!(!nothing.exists());
}

/// What is only in the journal of its disk comes out as well, and what was set aside and not written does not.
fn from_a_killed_machine(world: &World, vm: &Value) {
    // The last of many is what a large folder's index was split for; freed blocks are used again.
    let write = "mkdir late && cd late && for n in $(seq 1500); do echo $n >\"file number $n\"; done && \
                 head -c 3000000 /dev/urandom >bytes && sync && rm -r ../tree && \
                 fallocate -l 200000 aside && touch -d '1960-05-04 03:02:01.5 UTC' old && \
                 touch -d '2100-05-04 03:02:01.5 UTC' new && ln -s \"$(seq -s / 99)\" long && \
                 tar -c ../special >packed && truncate -s 4G ../endless && sync && \
                 sha256sum bytes packed aside";
    let sums = world.guest("web", write);
    let there = world.guest("web", &format!("cd late && {LOOK}"));
    watch::end(watch::monitor(world, vm));
    watch::state(world, "web", "stopped");
    let disk = world.vm_folder(vm).join("work.ext4");
    let features = tool("dumpe2fs", &["-h", word(&disk)], &[]).success().stdout;
    assert!(features.contains("needs_recovery"), "{features}");
    let late = at(world, "late");
    world.cove(["cp", "web:late", word(&late)]).success().prints("");
    assert_eq!(look(&late), there);
    let script = format!("cd '{}' && sha256sum bytes packed aside", word(&late));
    assert_eq!(tool("sh", &["-c", &script], &[]).success().stdout, sums);
    world.cove(["cp", "web:tree", word(&at(world, "nothing"))]).status(3).says("/root/tree");
}

/// A machine whose disk is read is neither started nor deleted until that has ended.
fn a_disk_that_is_read_stays(world: &World) {
    let endless = at(world, "endless");
    let under_way = || -> Vec<String> {
        let entries = fs::read_dir(at(world, "")).expect("readable");
        let names = entries.map(|entry| entry.expect("read").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".cove-cp-")).collect()
    };
    let copying = world.command(["cp", "web:endless", word(&endless)]).spawn();
    watch::until("the copy has begun", QUICK, || (!under_way().is_empty()).then_some(()));
    copying.signal(Signal::SIGSTOP);
    for words in [&["delete", "--discard-work", "web"][..], &["start", "web"]] {
        let refused = world.cove(words).status(4);
        let refused = refused.says("files are being copied from the disk of `web`");
        refused.says("end it, or wait until it has ended");
    }
    assert_eq!(world.json(["show", "web", "--json"])["state"], "stopped");
    copying.signal(Signal::SIGINT);
    copying.signal(Signal::SIGCONT);
    copying.wait().status(130).says("is as it was");
    assert_eq!((endless.exists(), under_way()), (false, Vec::new()));
    // It waits for the reader's end.
    world.cove(["delete", "--discard-work", "web"]).success();
}

/// Many random bytes, which replace a file on either side.
fn bytes(world: &World) {
    let random = at(world, "random");
    let make = format!("head -c 20971520 /dev/urandom >'{}'", word(&random));
    tool("sh", &["-c", &make], &[]).success();
    let sum = tool("sha256sum", &[word(&random)], &[]).success().stdout;
    let sum = sum.split(' ').next().expect("a sum").to_owned();
    world.guest("web", "mkdir -p /opt/data && echo old >/opt/data/random");
    world.cove(["cp", word(&random), "web:/opt/data/random"]).success();
    let there = world.guest("web", "sha256sum /opt/data/random; ls -A /opt/data");
    assert_eq!(there, format!("{sum}  /opt/data/random\nrandom\n"));
    let back = at(world, "back/random");
    fs::write(&back, "old").expect("written");
    world.cove(["cp", "web:/opt/data/random", word(&back)]).success();
    let sum_back = tool("sha256sum", &[word(&back)], &[]).success().stdout;
    assert!(sum_back.starts_with(&sum), "{sum_back}");
    assert_eq!(fs::metadata(&back).expect("there").uid(), world.who.id());
}

/// A file with holes has them on either side.
fn sparse(world: &World) {
    let file = fs::File::create(at(world, "sparse")).expect("made");
    file.set_len(32 << 20).expect("set");
    file.write_all_at(b"middle", 16 << 20).expect("written");
    world.cove(["cp", word(&at(world, "sparse")), "web:"]).success();
    let blocks = world.guest("web", "stat -c %b sparse");
    assert!(blocks.trim().parse::<u64>().expect("a number") < 1024, "{blocks}");
    world.cove(["cp", "web:sparse", word(&at(world, "back"))]).success();
    let back = fs::metadata(at(world, "back/sparse")).expect("there");
    assert!(back.len() == 32 << 20 && back.blocks() < 1024, "{} blocks", back.blocks());
    let content = fs::read(at(world, "back/sparse")).expect("read");
    assert_eq!(&content[16 << 20..][..6], b"middle");
}
