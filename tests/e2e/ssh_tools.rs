//! What goes through ssh once `cove ssh-config --install` has told it of VMs: scp, sftp, rsync, git, and many
//! sessions with forwards on one connection, as editors have them.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use nix::sys::signal::Signal;

use crate::harness::{QUICK, Ran, Who, World, as_everybody, tool};
use crate::ssh::{servers, with_account};
use crate::watch::until;

/// Finds a program of the host.
const ENV: &str = "/usr/bin/env";

/// Runs a program of the host as the world's user.
fn host(world: &World, words: &[&str]) -> Ran {
    world.companion(ENV, words.iter().copied()).run()
}

as_everybody!(the_tools_that_stand_on_ssh_work);

fn the_tools_that_stand_on_ssh_work(who: Who) {
    let mut world = World::new(who);
    world.start("web", &["--net", "user"]);
    if with_account(&mut world).is_err() {
        return world.finish();
    }
    let config = world.user_home.join(".ssh/config");
    fs::write(&config, "Host web.cove\n    User nobody\n").expect("written");
    world.cove(["ssh-config", "--install"]).success().says(".ssh/config");
    host(&world, &["ssh", "web.cove", "hostname"]).success().prints("web\n");
    host(&world, &["ssh", "WEB.cove", "id -un"]).success().prints("root\n");
    host(&world, &["ssh", "none.cove", "true"]).status(255).says("there is no VM `none`");
    // No part of a host's name is for a shell to read.
    let evil = "ssh://x'$(touch${IFS}made)'.cove/r";
    assert_ne!(host(&world, &["git", "ls-remote", evil]).status, 0);
    assert!(!world.folder().join("made").exists());

    copies(&world);
    git(&world);
    one_connection(&world);

    world.cove(["ssh-config", "--uninstall"]).success();
    let left = fs::read_to_string(&config).expect("there");
    assert_eq!(left, "Host web.cove\n    User nobody\n");
    world.finish();
}

/// Files and trees both ways, by three programs.
fn copies(world: &World) {
    let (there, back) = (world.folder().join("there"), world.folder().join("back"));
    fs::create_dir_all(there.join("deep")).expect("made");
    fs::create_dir(&back).expect("made");
    fs::write(there.join("run it.sh"), "#!/bin/sh\necho ran\n").expect("written");
    fs::set_permissions(there.join("run it.sh"), fs::Permissions::from_mode(0o750)).expect("set");
    fs::write(there.join("deep/ü"), vec![7; 300_000]).expect("written");
    symlink("deep/ü", there.join("link")).expect("linked");
    let text = |name: &str| world.folder().join(name).to_str().expect("UTF-8").to_owned();

    host(world, &["scp", "-p", &text("there/run it.sh"), "web.cove:"]).success();
    assert_eq!(world.guest("web", "stat -c %a '/root/run it.sh'; './run it.sh'"), "750\nran\n");
    host(world, &["scp", "-p", "web.cove:run it.sh", &text("back/scp.sh")]).success();
    let copied = fs::metadata(back.join("scp.sh")).expect("there");
    assert_eq!((copied.permissions().mode() & 0o777, copied.len()), (0o750, 19));

    fs::write(
        world.folder().join("batch"),
        format!(
            "mkdir sftp\nput \"{}\" sftp/put\nchmod 600 sftp/put\nrename sftp/put sftp/renamed\n\
         get sftp/renamed \"{}\"\nls sftp\n",
            text("there/deep/ü"),
            text("back/sftp"),
        ),
    )
    .expect("written");
    let listed = host(world, &["sftp", "-q", "-b", &text("batch"), "web.cove"]).success();
    assert!(listed.stdout.contains("renamed"), "{}", listed.told());
    assert_eq!(fs::read(back.join("sftp")).expect("there"), vec![7; 300_000]);

    for (from, to) in [
        (text("there") + "/", "web.cove:tree".to_owned()),
        ("web.cove:tree/".to_owned(), text("back/tree")),
    ] {
        host(world, &["rsync", "-a", "--stats", &from, &to]).success();
    }
    let same = tool("diff", &["-r", "--no-dereference", &text("there"), &text("back/tree")], &[]);
    same.success();
    let mode = fs::metadata(back.join("tree/run it.sh")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

fn git(world: &World) {
    let text = |name: &str| world.folder().join(name).to_str().expect("UTF-8").to_owned();
    let (one, two) = (text("one"), text("two"));
    let git = |words: &[&str]| host(world, &[&["git"], words].concat()).success();
    world.guest("web", "git init --quiet --bare --initial-branch=main /root/repo");
    git(&["init", "--quiet", "--initial-branch=main", &one]);
    git(&["-C", &one, "commit", "--quiet", "--allow-empty", "-m", "Begin"]);
    git(&["-C", &one, "remote", "add", "vm", "ssh://web.cove/root/repo"]);
    git(&["-C", &one, "push", "--quiet", "vm", "main"]);
    git(&["clone", "--quiet", "web.cove:repo", &two]);
    git(&["-C", &one, "commit", "--quiet", "--allow-empty", "-m", "Go on"]);
    git(&["-C", &one, "push", "--quiet", "vm", "main"]);
    git(&["-C", &two, "fetch", "--quiet"]);
    git(&["-C", &two, "log", "-1", "--format=%s", "origin/main"]).prints("Go on\n");
    let log = world.guest("web", "git -C /root/repo log --format=%s");
    assert_eq!(log, "Go on\nBegin\n");
}

/// What an editor does: one connection, sessions and files over it, and a port of the guest.
fn one_connection(world: &World) {
    let socket = world.folder().join("master");
    let socket = socket.to_str().expect("UTF-8");
    until("no server is left", QUICK, || (servers(world, "web") == 0).then_some(()));
    let serve = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => \
                 '127.0.0.1', LocalPort => 8080, ReuseAddr => 1) or die; \
                 while (my $c = $s->accept) { print $c 'from the guest'; close $c }";
    world.guest(
        "web",
        &format!("setsid perl -e \"{}\" </dev/null >/dev/null 2>&1 &", serve.replace('$', "\\$")),
    );
    let master = ["ssh", "-N", "-M", "-S", socket, "web.cove"];
    let master = world.companion(ENV, master).spawn();
    let through = |words: &[&str]| host(world, &[&["ssh", "-S", socket], words].concat());
    until("the connection is there", QUICK, || {
        (through(&["-O", "check", "web.cove"]).status == 0).then_some(())
    });

    let sessions: Vec<_> = (0..8)
        .map(|number: usize| {
            let say = format!("sleep 1; echo {number}");
            world.companion(ENV, ["ssh", "-S", socket, "web.cove", &say]).spawn()
        })
        .collect();
    for (number, session) in sessions.into_iter().enumerate() {
        session.wait().success().prints(&format!("{number}\n"));
    }
    assert_eq!(servers(world, "web"), 1);
    let control = format!("ControlPath={socket}");
    let batch = world.folder().join("batch");
    fs::write(&batch, "pwd\n").expect("written");
    let batch = batch.to_str().expect("UTF-8");
    host(world, &["sftp", "-q", "-o", &control, "-b", batch, "web.cove"]).success();

    // Somebody else may take the port meanwhile; nothing else here is at work.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = port.expect("a free port").port();
    let forward = format!("127.0.0.1:{port}:localhost:8080");
    through(&["-O", "forward", "-L", &forward, "web.cove"]).success();
    let mut answer = String::new();
    for _ in 0..3 {
        answer.clear();
        let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("forwarded");
        connection.read_to_string(&mut answer).expect("answered");
        assert_eq!(answer, "from the guest");
    }
    master.signal(Signal::SIGKILL);
    master.wait();
    until("the server is gone", QUICK, || (servers(world, "web") == 0).then_some(()));
}
