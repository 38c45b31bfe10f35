//! Archives, and modules in the order in which they depend on each other.

use super::*;

/// A minimal ELF object with a `.modinfo` section, as a kernel module has one.
fn module(information: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let (info_at, names_at) = (64, 64 + information.len());
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [1_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [0_u64, 0, sections_at as u64] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 0, 0, 64, 3, 2] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(information);
    elf.extend_from_slice(names);
    elf.resize(sections_at, 0);
    let mut section = |name: u32, kind: u32, at: usize, size: usize| {
        for half in [name, kind] {
            elf.extend_from_slice(&half.to_le_bytes());
        }
        for word in [0, 0, at as u64, size as u64, 0, 1, 0] {
            elf.extend_from_slice(&word.to_le_bytes());
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, info_at, information.len());
    section(10, 3, names_at, names.len());
    elf
}

/// A kernel's modules: what guests need, with dependencies, dashes and folders as kernels have them.
fn kernel() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("tempdir");
    let files: [(&str, &str); 9] = [
        ("drivers/virtio_mmio.ko", "virtio,virtio_ring"),
        ("drivers/virtio.ko", ""),
        ("drivers/virtio_ring.ko", "virtio"),
        ("net/vmw_vsock_virtio_transport.ko", "virtio,vsock"),
        ("net/vsock.ko", ""),
        ("virtio-blk.ko", "virtio"),
        ("fs/ext4.ko", "jbd2,crc16"),
        ("fs/overlay.ko", ""),
        ("virtio_net.ko", "virtio-ring"),
    ];
    for (name, depends) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, module(format!("license=GPL\0depends={depends}\0").as_bytes()))
            .expect("written");
    }
    fs::write(
        folder.path().join("modules.builtin"),
        "kernel/fs/jbd2/jbd2.ko\nkernel/lib/crc16.ko\n",
    )
    .expect("written");
    folder
}

fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(archive).expect("an entry");
        if reader.entry().is_trailer() {
            return found;
        }
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        let mut content = Vec::new();
        io::Read::read_to_end(&mut reader, &mut content).expect("reads");
        found.push((name, mode, content));
        archive = reader.finish().expect("the next entry");
    }
}

#[test]
fn modules_come_behind_what_they_depend_on() {
    let kernel = kernel();
    let archive = base(b"the agent", kernel.path()).expect("made");
    let entries = entries(&archive);
    let find = |name: &str| entries.iter().find(|entry| entry.0 == name).expect(name);
    assert_eq!(find("init").1, 0o100_755);
    assert_eq!(find("init").2, b"the agent");
    assert_eq!(find("dev/console").1, 0o020_600);
    assert_eq!(
        String::from_utf8_lossy(&find("modules/index").2),
        "virtio.ko\nvirtio_ring.ko\nvirtio_mmio.ko\nvsock.ko\nvmw_vsock_virtio_transport.ko\n\
         virtio_blk.ko\next4.ko\noverlay.ko\nvirtio_net.ko\n"
    );
    assert_eq!(base(b"the agent", kernel.path()).expect("made"), archive, "the same bytes again");
}

#[test]
fn a_missing_module_is_named() {
    let kernel = kernel();
    fs::remove_file(kernel.path().join("net/vsock.ko")).expect("removed");
    let error = base(b"", kernel.path()).expect_err("refused");
    assert!(error.to_string().ends_with("has no module `vsock`"), "{error}");
    fs::write(kernel.path().join("net/vsock.ko"), "no module").expect("written");
    let error = base(b"", kernel.path()).expect_err("refused");
    assert!(error.to_string().ends_with("vsock.ko` is not a kernel module"), "{error}");
}

#[test]
fn signatures_are_left_out() {
    let mut signed = b"code".to_vec();
    signed.extend_from_slice(b"signature");
    signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    signed.extend_from_slice(SIGNATURE_MARKER);
    let cases: [(&[u8], usize); 4] = [
        (&signed, 4),
        (b"no signature", 12),
        (SIGNATURE_MARKER, SIGNATURE_MARKER.len()),
        (&signed[5..], signed.len() - 5),
    ];
    for (content, length) in cases {
        assert_eq!(without_signature(content), length, "{content:?}");
    }
}

#[test]
fn the_initrd_of_a_boot_ends_with_its_key_and_is_private() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (shared, out) = (folder.path().join("base"), folder.path().join("initrd"));
    fs::write(&shared, b"12345").expect("written");
    let (key, boot_id) = (BootKey::random(), BootId::random());
    boot_initrd(&shared, &out, &key, &boot_id, BootMode::Machine).expect("made");
    let initrd = fs::read(&out).expect("read");
    assert_eq!(&initrd[..8], b"12345\0\0\0");
    let entries = entries(&initrd[8..]);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].0.as_str(), entries[0].1), ("cove/boot.json", 0o100_600));
    let boot: BootFile = serde_json::from_slice(&entries[0].2).expect("parses");
    assert_eq!(BootKey::from_hex(&boot.key), Some(key.clone()));
    assert_eq!(boot.boot_id, boot_id);
    assert_eq!(boot.seed.len(), 128);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&out).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = boot_initrd(&shared, &out, &key, &boot_id, BootMode::Probe);
    assert!(again.is_err(), "a file that is there is never written over");
}

#[test]
fn an_agent_that_needs_a_loader_is_refused() {
    let kernel = kernel();
    // This test is such a program.
    let program = std::env::current_exe().expect("its path");
    let program = fs::read(program).expect("readable");
    let refused = base(&program, kernel.path());
    assert!(matches!(refused, Err(InitramfsError::AgentNotStatic)), "{refused:?}");
}
