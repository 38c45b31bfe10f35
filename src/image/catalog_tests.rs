//! Tests of the catalog with real files.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::catalog::Images;
use super::error::ImageError;
use super::testing::{World, write};
use crate::id::{Digest, ImageName};
use crate::report::{Explain, Kind};

fn name(text: &str) -> ImageName {
    text.parse().expect("a name")
}

#[test]
fn an_entry_is_linked_into_the_home_and_outlives_the_cache() {
    let world = World::new();
    let (image, kernel) = world.default_entries("1");
    world.name_defaults(&image, &kernel);
    let images = world.images();
    let found = images.resolve(&name("default")).expect("resolved");
    assert_eq!((&found.digest, found.bytes), (&image, 7));
    let in_cache = world.path("cache/images").join(image.as_str()).join("root.ext4");
    let inode = |path| fs::metadata(path).expect("metadata").ino();
    assert_eq!(inode(&found.path), inode(&in_cache), "a hard link");

    fs::remove_dir_all(world.path("cache")).expect("the cache is emptied");
    assert_eq!(images.resolve(&name("default")).expect("still there"), found);
    let kernel_files = images.kernel().expect("still there");
    assert_eq!(kernel_files.digest, kernel);
    assert!(kernel_files.modules.join("kernel/fs/overlayfs/overlay.ko").is_file());
    assert_eq!(images.list_images().expect("listed").len(), 1);
    assert_eq!(images.list_kernels().expect("listed").len(), 1);
}

#[test]
fn a_new_default_takes_over_and_the_old_image_stays_for_its_vms() {
    let world = World::new();
    let (old_image, old_kernel) = world.default_entries("1");
    world.name_defaults(&old_image, &old_kernel);
    let images = world.images();
    let old = images.resolve(&name("default")).expect("resolved");
    let (new_image, new_kernel) = world.default_entries("2");
    world.name_defaults(&new_image, &new_kernel);
    assert_eq!(images.resolve(&name("default")).expect("resolved").digest, new_image);
    assert_eq!(images.image(&old_image).expect("kept"), old);
    let releases: Vec<_> = images.list_kernels().expect("listed");
    let releases: Vec<_> = releases.iter().map(|kernel| kernel.release.as_str()).collect();
    assert_eq!(releases, ["6.2-cloud", "6.1-cloud"]);
}

#[test]
fn a_cache_that_lost_its_files_is_no_cache() {
    let world = World::new();
    let (image, kernel) = world.default_entries("1");
    world.name_defaults(&image, &kernel);
    let images = world.images();
    images.kernel().expect("resolved");
    let (new_image, new_kernel) = world.default_entries("2");
    world.name_defaults(&new_image, &new_kernel);
    fs::remove_dir_all(world.path("cache/images")).expect("half emptied");
    assert_eq!(images.kernel().expect("the old one").digest, kernel);
    assert_eq!(images.resolve(&name("default")).expect("the old one").digest, image);
}

#[test]
fn without_setup_the_hint_is_to_run_it() {
    let world = World::new();
    for error in [
        world.images().resolve(&name("default")).expect_err("nothing there"),
        world.images().kernel().expect_err("nothing there"),
    ] {
        assert!(matches!(error, ImageError::NoDefault { .. }), "{error:?}");
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.hint().is_some_and(|hint| hint.contains("scripts/setup.sh")));
    }
    assert!(!world.path("home").exists(), "asking makes nothing");
    assert!(world.images().list_images().expect("listed").is_empty());
    assert!(world.images().list_kernels().expect("listed").is_empty());
}

#[test]
fn an_unknown_name_lists_those_there_are() {
    let world = World::new();
    let (image, kernel) = world.default_entries("1");
    world.name_defaults(&image, &kernel);
    let error = world.images().resolve(&name("alpine")).expect_err("unknown");
    assert_eq!(error.to_string(), "there is no image `alpine`");
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.hint().as_deref(), Some("There is `default`."));
    let gone = world.images().image(&Digest::of(b"nothing")).expect_err("gone");
    assert!(matches!(gone, ImageError::Gone { what: "image", .. }), "{gone:?}");
}

type Damage = fn(&World, &Digest, &Digest);

/// What is said of an entry, and what was done to it.
const DAMAGES: [(&str, Damage); 5] = [
    ("it has 3 bytes instead of 7", |world, image, _| {
        write(&world.path("cache/images").join(image.as_str()).join("root.ext4"), b"cut");
    }),
    ("`image.json` is missing", |world, image, _| {
        let path = world.path("cache/images").join(image.as_str()).join("image.json");
        fs::remove_file(path).expect("removed");
    }),
    ("it is empty", |world, _, kernel| {
        write(&world.path("cache/kernels").join(kernel.as_str()).join("vmlinuz"), b"");
    }),
    ("its manifest speaks of", |world, image, _| {
        let folder = world.path("cache/images").join(image.as_str());
        let text = fs::read_to_string(folder.join("image.json")).expect("read");
        let other = Digest::of(b"other");
        write(&folder.join("image.json"), text.replace(image.as_str(), other.as_str()).as_bytes());
    }),
    ("is no manifest", |world, _, kernel| {
        let path = world.path("cache/kernels").join(kernel.as_str()).join("kernel.json");
        write(&path, br#"{"digest": 1, "surprise": true}"#);
    }),
];

#[test]
fn damage_is_named() {
    for (expected, damage) in DAMAGES {
        let world = World::new();
        let (image, kernel) = world.default_entries("1");
        world.name_defaults(&image, &kernel);
        damage(&world, &image, &kernel);
        let images = world.images();
        let result = images.resolve(&name("default")).map(drop).and(images.kernel().map(drop));
        let error = result.expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--refresh")), "{error}");
    }
}

#[test]
fn unknown_keys_of_a_manifest_are_errors() {
    let world = World::new();
    write(
        &world.path("cache/default.json"),
        br#"{"image": {"name": "default", "digest": "x", "more": 1}, "kernel": {}}"#,
    );
    let error = world.images().kernel().expect_err("refused");
    assert!(matches!(error, ImageError::Manifest { .. }), "{error:?}");
}

#[test]
fn concurrent_first_uses_agree() {
    let world = World::new();
    let (image, kernel) = world.default_entries("1");
    world.name_defaults(&image, &kernel);
    // Each thread has a value of its own, as processes have: only the lock file joins them.
    let found: Vec<_> = std::thread::scope(|scope| {
        let start = |_| {
            let images: Images = world.images();
            scope.spawn(move || {
                let image = images.resolve(&name("default")).expect("resolved");
                (image, images.kernel().expect("resolved"))
            })
        };
        let threads: Vec<_> = (0..8).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(found.iter().all(|pair| *pair == found[0]));
    let entries = fs::read_dir(world.path("home/images")).expect("readable").count();
    assert_eq!(entries, 2, "the image and the lock, nothing unfinished");
}
