//! What is in a guest's file systems: keys, identity, chosen files; what stays there over a stop and a
//! start, and its modes; an image that brings its own init.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{PUBLIC_KEY, Who, World, as_everybody, tool};

/// A file and a folder of the user's that go in.
const SYNC: &str = r#"
[[file_sync]]
host = "~/.tokens/api"
guest = "~/.config/api/token"
mode = "0640"

[[file_sync]]
host = "~/.tools"
guest = "~/.tools"
"#;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A user with files that go in.
fn world(who: Who) -> World {
    let world = World::new(who);
    let home = &world.user_home;
    fs::create_dir_all(home.join(".tokens")).expect("made");
    fs::create_dir_all(home.join(".tools/bin")).expect("made");
    for (path, content, mode) in [
        (".tokens/api", "token one\n", 0o600),
        (".tools/bin/sing", "#!/bin/sh\necho la la\n", 0o755),
        (".tools/readme", "read me\n", 0o644),
    ] {
        fs::write(home.join(path), content).expect("written");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(home.join(path), permissions).expect("set");
    }
    world.configure(SYNC);
    world
}

as_everybody!(item_01_data_written_then_stop_then_start_is_still_there);

fn item_01_data_written_then_stop_then_start_is_still_there(who: Who) {
    let world = world(who);
    let vm = world.start("keeper", &[]);
    first_boot(&world);

    // On the work disk and on the root's overlay; written, not synced.
    let write = "echo home > /root/marker; echo root > /etc/marker; mkdir -p /opt/deep; \
                 echo deep > /opt/deep/file; rm /etc/motd; \
                 echo '[user]\n\temail = guest@example.org' >> /root/.gitconfig; \
                 echo 'ssh-ed25519 AAAAguest guest' >> /root/.ssh/authorized_keys";
    world.guest("keeper", write);
    world.cove(["stop", "keeper"]).success();
    let stopped = world.json(["show", "keeper", "--json"]);
    assert_eq!(stopped["state"], "stopped");
    assert!(stopped.get("pid").is_none(), "{stopped}");
    world.check_disks(&vm);
    world.cove(["exec", "keeper", "--", "true"]).status(125).says("kind: conflict");

    fs::write(world.user_home.join(".tokens/api"), "token two\n").expect("written");
    world.cove(["start", "keeper"]).success();
    let second = world.json(["show", "keeper", "--json"]);
    assert_ne!(second["boot_id"], vm["boot_id"]);
    let read = "cat /root/marker /etc/marker /opt/deep/file; test -e /etc/motd || echo gone; \
                cat ~/.config/api/token; git config --global user.email; \
                grep -c . ~/.ssh/authorized_keys; test -e /root/root || echo none";
    let keys = world.guest("keeper", "grep -v '^#' ~/.ssh/authorized_keys");
    assert_eq!(keys.matches(PUBLIC_KEY).count(), 1, "{keys}");
    assert!(keys.contains("AAAAguest"), "what the guest added is kept: {keys}");
    let said = world.guest("keeper", read);
    let mut lines = said.lines();
    for expected in ["home", "root", "deep", "gone", "token two", "guest@example.org"] {
        assert_eq!(lines.next(), Some(expected), "{said}");
    }
    assert!(said.ends_with("none\n"), "{said}");

    own_init(&world);
    world.cove(["stop", "keeper"]).success();
    assert_eq!(world.json(["show", "keeper", "--json"])["state"], "stopped");
    world.finish();
}

/// What a new guest has: keys, identity, chosen files.
fn first_boot(world: &World) {
    let modes = "stat -c '%a %U:%G %n' ~ ~/.ssh ~/.ssh/authorized_keys ~/.config/api/token \
                 ~/.tools/bin/sing ~/.tools/readme";
    let expected = "700 root:root /root\n700 root:root /root/.ssh\n\
                    600 root:root /root/.ssh/authorized_keys\n640 root:root /root/.config/api/token\n\
                    755 root:root /root/.tools/bin/sing\n644 root:root /root/.tools/readme\n";
    assert_eq!(world.guest("keeper", modes), expected);
    let keys = world.guest("keeper", "cat ~/.ssh/authorized_keys");
    assert_eq!(keys.lines().filter(|line| *line == PUBLIC_KEY).count(), 1, "{keys}");
    let contents = "cat ~/.config/api/token ~/.tools/readme; ~/.tools/bin/sing; \
                    git config --global user.name; git config --global user.email; \
                    hostname; test -e /root/root || echo none; ls -A ~/.ssh";
    let expected = "token one\nread me\nla la\nAda Lövelace\nada@example.org\nkeeper\nnone\n\
                    authorized_keys\n";
    assert_eq!(world.guest("keeper", contents), expected);

    let before = now();
    let guest: u64 = world.guest("keeper", "date +%s").trim().parse().expect("a number");
    assert!((before.saturating_sub(5)..=now() + 5).contains(&guest), "{guest} is not {before}");
    let entropy = world.guest("keeper", "timeout 5 head -c 16 /dev/random | wc -c");
    assert_eq!(entropy, "16\n");
}

/// An image with its own init, a shell script behind an absolute link: it becomes PID 1 at the next start.
fn own_init(world: &World) {
    let init = "rm -f /sbin/init; printf '#!/bin/sh\\nwhile :; do sleep 1; done\\n' > /opt/init; \
                chmod 755 /opt/init; ln -s /opt/init /sbin/init";
    world.guest("keeper", init);
    world.cove(["stop", "keeper"]).success();
    world.cove(["start", "keeper"]).success();
    let first = world.guest("keeper", "tr '\\0' ' ' < /proc/1/cmdline; echo; cat /root/marker");
    assert_eq!(first, "/bin/sh /sbin/init \nhome\n");
}

/// What is made in the guest, beside what comes in: all types that a mode can say, and its other bits.
const KINDS: &str = "mkdir -p kinds && cd kinds && touch plain setuid && mkdir shared && mkfifo pipe && \
    mknod character c 1 3 && mknod block b 7 0 && ln -s plain link && ln plain hard && \
    perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(\"socket\"))' && \
    chmod 4755 setuid && chmod 1777 shared && chmod 640 plain && chmod 600 pipe";

as_everybody!(item_21_modes_keep_their_type_bits_and_disks_are_clean);

fn item_21_modes_keep_their_type_bits_and_disks_are_clean(who: Who) {
    let world = world(who);
    let repository = world.repo();
    let vm = world.start("modes", &[repository.arg()]);
    for home in ["/root", "/opt"] {
        world.guest("modes", &format!("cd {home} && {KINDS}"));
    }
    let look = "cd /root && find song .config .tools .ssh kinds /opt/kinds -not -path '*/.git/*' \
                -printf '%M %p %l\n' | sort -k 2";
    let before = world.guest("modes", look);
    for expected in [
        "-rwxr-xr-x song/run.sh ",
        "lrwxrwxrwx song/link README.md",
        "-rw-r--r-- song/README.md ",
        "drwxr-xr-x song/verses ",
        "-rw-r----- .config/api/token ",
        "-rwxr-xr-x .tools/bin/sing ",
        "-rw------- .ssh/authorized_keys ",
        "-rwsr-xr-x kinds/setuid ",
        "drwxrwxrwt kinds/shared ",
        "prw------- kinds/pipe ",
        "srwxr-xr-x kinds/socket ",
        "lrwxrwxrwx kinds/link plain",
        "-rw-r----- /opt/kinds/hard ",
    ] {
        assert!(before.lines().any(|line| line == expected), "no `{expected}` in\n{before}");
    }
    assert!(before.contains("\ncrw-") && before.contains("\nbrw-"), "{before}");

    // Power that goes costs nothing that was synced, and no file system.
    world.guest("modes", "sync");
    world.cove(["kill", "modes"]).success();
    world.cove(["start", "modes"]).success();
    assert_eq!(world.guest("modes", look), before);
    world.cove(["stop", "modes"]).success();
    world.check_disks(&vm);
    // As the host sees them, which never mounts them: the type is in the inode, not in the name alone.
    let path = world.vm_folder(&vm).join("work.ext4");
    for (file, kind, mode) in [
        ("song/run.sh", "regular", "0755"),
        ("song/link", "symlink", "0777"),
        ("song/verses", "directory", "0755"),
        ("kinds/setuid", "regular", "04755"),
        ("kinds/pipe", "FIFO", "0600"),
        ("kinds/socket", "socket", "0755"),
    ] {
        let ask = format!("stat /{file}");
        let said = tool("debugfs", &["-R", &ask, path.to_str().expect("UTF-8")], &[]).success();
        let line = said.stdout.lines().next().expect("a line").to_owned();
        let said: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((said[3], said[5]), (kind, mode), "{file}: {line}");
    }
    repository.is_as_it_was_made();
    world.finish();
}
