//! ssh into real guests, with the host's own OpenSSH: the guests have no network.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{QUICK, Who, World, as_everybody, skipped, tool};
use crate::watch::until;

/// Gives the world's user an account, in a namespace of the commands that follow: ssh asks the host's accounts
/// for the user's home, not `HOME`. Says why not, where that cannot be.
pub(crate) fn with_account(world: &mut World) -> Result<(), ()> {
    if !nix::unistd::geteuid().is_root() {
        skipped("only root can put an account into the place of the user's own");
        return Err(());
    }
    let (id, home) = (world.who.id(), world.user_home.display());
    let accounts = world.folder().join("passwd");
    fs::write(&accounts, format!("ada:x:{id}:{id}::{home}:/bin/sh\n")).expect("written");
    let script = format!("mount --bind '{}' /etc/passwd && exec \"$@\"", accounts.display());
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    world.prefix = words.map(str::to_owned).into();
    Ok(())
}

/// How many ssh servers a guest has, counted without one.
pub(crate) fn servers(world: &World, vm: &str) -> usize {
    let count = world.guest(vm, "pgrep -x sshd | wc -l");
    count.trim().parse().expect("a number")
}

as_everybody!(ssh_reaches_a_guest_without_a_network);

fn ssh_reaches_a_guest_without_a_network(who: Who) {
    let mut world = World::new(who);
    let variable = "GREETING=a \"b\"  'c' \\ # $d %h";
    world.start("web", &["--env", variable]);
    if with_account(&mut world).is_err() {
        return world.finish();
    }
    let own = world.user_home.join(".ssh");
    let before = world.fingerprint(&own);

    let ssh = |arguments: &[&str]| world.cove([&["ssh", "web", "--"], arguments].concat());
    let first = ssh(&["true"]).success();
    assert_eq!((first.stdout.as_str(), first.stderr.as_str()), ("", ""), "{}", first.told());
    ssh(&["exit 42"]).status(42).prints("");
    ssh(&["echo out; echo err >&2"]).success().prints("out\n").says("err");
    // As ssh has it: words are joined, and the guest's shell reads them.
    ssh(&["printf", "'%s|'", "'a  b'", "\"$HOME\"", "ü"]).success().prints("a  b|/root|ü|");
    let told = ssh(&["pwd; printenv GREETING LANG; id -un; cat /proc/sys/kernel/hostname"]);
    let greeting = variable.split_once('=').expect("a value").1;
    told.success().prints(&format!("/root\n{greeting}\nC.UTF-8\nroot\nweb\n"));
    let terminal = ssh(&["-tt", "tty; echo $TERM"]).success();
    assert!(terminal.stdout.starts_with("/dev/pts/"), "{}", terminal.told());
    assert!(terminal.stdout.contains("dumb"), "{}", terminal.told());

    let mut noise = vec![0; 8 << 20];
    getrandom::fill(&mut noise).expect("random bytes");
    let cat = world.command(["ssh", "web", "--", "cat"]).stdin(noise.clone()).run().success();
    assert!(cat.bytes == noise, "{} bytes came back, and not the same", cat.bytes.len());

    no_agent_is_forwarded(&world);
    if matches!(who, Who::Caller) {
        a_named_key_is_used_and_written_down(&mut world);
    }
    a_killed_ssh_leaves_nothing(&world);
    assert_eq!(world.fingerprint(&own), before, "the user's own files of ssh");
    let key = fs::metadata(world.home.join("ssh/id_ed25519")).expect("cove's own key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    // Neither needs cove's key where the user's own is there (the hook has put it in), nor is it written.
    let keys = world.guest("web", "cat /root/.ssh/authorized_keys; grep -rl 'cove$' /etc/ssh || :");
    assert!(keys.contains("nobody@example") && keys.matches("ssh-ed25519").count() == 1, "{keys}");
    world.finish();
}

/// Not even when ssh is asked to, for as long as nobody said so to cove.
fn no_agent_is_forwarded(world: &World) {
    let socket = world.folder().join("agent");
    // An agent that is there and answers nothing: ssh goes on without its keys, and asks for forwarding.
    let agent = UnixListener::bind(&socket).expect("bound");
    drop(std::thread::spawn(move || agent.incoming().for_each(drop)));
    let ask = "echo ${SSH_AUTH_SOCK-none}";
    let mut command = world.command(["ssh", "web", "--", "-A", ask]).into_command();
    let output = command.env("SSH_AUTH_SOCK", &socket).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "none\n", "{output:?}");
}

/// With an agent that has two keys, of which the guest may use one.
fn a_named_key_is_used_and_written_down(world: &mut World) {
    let keys = world.folder().join("keys");
    fs::create_dir(&keys).expect("made");
    let path = |name: &str| keys.join(name).to_str().expect("UTF-8").to_owned();
    let (work, home) = (path("work"), path("home"));
    for (comment, key) in [("work", &work), ("home", &home)] {
        let make = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key];
        tool("ssh-keygen", &make, &[]).success();
    }
    // An agent of its own for each command, which ends with it.
    let add = format!(
        "eval $(ssh-agent) >/dev/null && ssh-add -q '{work}' '{home}' && {{ \"$@\"; status=$?; }}; \
         kill $SSH_AGENT_PID; exit $status"
    );
    let before = world.prefix.clone();
    world.prefix.extend(["sh", "-c", &add, "sh"].map(str::to_owned));

    let sign = "ssh-add -L >seen; wc -l <seen; ssh-keygen -Y sign -f seen -n test <seen";
    let public = path("work.pub");
    let signed = world.cove(["ssh", "web", "--ssh-agent", &public, "--", sign]).success();
    let begin = "1\n-----BEGIN SSH SIGNATURE-----\n";
    assert!(signed.stdout.starts_with(begin), "{}", signed.told());
    signed.says("signed for `web` with `work` (SHA256:");
    let record = fs::read_to_string(world.home.join("ssh/signatures.jsonl")).expect("written");
    assert_eq!(record.lines().count(), 1, "{record}");
    assert!(record.contains("\"outcome\":\"signed\"") && record.contains("work"), "{record}");

    let status = world.cove(["ssh", "web", "--ssh-agent", "work", "--", "exit 42"]);
    assert_eq!((status.status, status.stderr.as_str()), (42, ""), "{}", status.told());
    let none = world.cove(["ssh", "web", "--ssh-agent", "none", "--", "true"]).status(125);
    none.says("your ssh agent has no key `none`").says("`home` (SHA256:");
    world.prefix = before;
    let nobody = world.cove(["ssh", "web", "--ssh-agent", "work", "--", "true"]).status(125);
    nobody.says("`SSH_AUTH_SOCK` is not set");
}

fn a_killed_ssh_leaves_nothing(world: &World) {
    let gone = || (servers(world, "web") == 0).then_some(());
    until("no server is left of the sessions before", QUICK, gone);
    for (signal, terminal) in [(Signal::SIGKILL, "-T"), (Signal::SIGTERM, "-tt")] {
        let ssh = world.command(["ssh", "web", "--", terminal, "exec sleep 1000"]).spawn();
        until("it runs", QUICK, || (servers(world, "web") == 1).then_some(()));
        until("so does its command", QUICK, || {
            (world.cove(["exec", "web", "--", "pgrep", "-x", "sleep"]).status == 0).then_some(())
        });
        ssh.signal(signal);
        ssh.wait();
        until("the server is gone", Duration::from_secs(10), gone);
        world.cove(["exec", "web", "--", "pkill", "-x", "sleep"]);
    }
}

as_everybody!(item_23_a_host_key_is_known_and_a_changed_one_refused);

fn item_23_a_host_key_is_known_and_a_changed_one_refused(who: Who) {
    let mut world = World::new(who);
    let first = world.start("web", &[]);
    if with_account(&mut world).is_err() {
        return world.finish();
    }
    world.cove(["ssh", "none", "--", "true"]).status(125).says("there is no VM");
    let shown = world.guest("web", "cat /etc/ssh/ssh_host_ed25519_key.pub");
    assert_eq!(first["ssh_host_key"], shown.trim_end());
    world.cove(["ssh", "web", "--", "true"]).success();

    // Another machine under the same name: no false alarm.
    world.cove(["delete", "web"]).success();
    world.cove(["ssh", "web", "--", "true"]).status(125).says("there is no VM");
    let second = world.start("web", &[]);
    assert_ne!(first["ssh_host_key"], second["ssh_host_key"]);
    let again = world.cove(["ssh", "web", "--", "true"]).success();
    assert_eq!(again.stderr, "", "{}", again.told());

    // Another key in the same machine: no silence, and the same machine with its own key again.
    world.guest("web", "cp -a /etc/ssh /root/kept");
    let make =
        "rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key";
    world.guest("web", make);
    let refused = world.cove(["ssh", "web", "--", "echo in"]).status(255).prints("");
    refused.says("REMOTE HOST IDENTIFICATION HAS CHANGED").says("Host key verification failed");
    world.guest("web", "cp -a /root/kept/. /etc/ssh");
    world.cove(["ssh", "web", "--", "true"]).success();

    // A server that cannot start, and none at all.
    world.guest("web", "rm /etc/ssh/ssh_host_*");
    let told = world.cove(["ssh", "web", "--", "true"]).status(255);
    told.says("the ssh server of `web` ended").says("ssh_host_ed25519_key");
    world.guest("web", "mv /usr/sbin/sshd /usr/sbin/away");
    let told = world.cove(["ssh", "web", "--", "true"]).status(255);
    told.says("there is no ssh server in `web`").says("openssh-server");
    // The next start puts the key back.
    world.cove(["stop", "web"]).success();
    world.cove(["ssh", "web", "--", "true"]).status(125).says("not running").says("cove start web");
    world.cove(["start", "web"]).success();
    world.guest("web", "mv /usr/sbin/away /usr/sbin/sshd");
    world.cove(["ssh", "web", "--", "true"]).success();
    world.finish();
}
