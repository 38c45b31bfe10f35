//! ssh servers for one connection: what they are run with, and for whom there is none.

use super::world::World;
use super::{Daemon, daemon, run, wish};
use crate::keys::KeyPair;
use crate::report::Kind;
use crate::wire::rpc::{CreateVm, SshVm};

fn ssh(authorized_key: Option<&str>) -> SshVm {
    let authorized_key = authorized_key.map(str::to_owned);
    SshVm { vm: "web".to_owned(), authorized_key, forward_agent: false }
}

async fn refused(daemon: &Daemon, wanted: &SshVm) -> Kind {
    daemon.vms.ssh(wanted).await.err().expect("refused").kind
}

#[test]
fn sessions_have_the_variables_of_commands_and_begin_in_the_home() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        let env = [("OWN".to_owned(), "the user's".to_owned())].into();
        daemon.vms.create(CreateVm { env, ..wish("web") }, None).await.expect("made");
        let key = KeyPair::new("me").expect("made").public;
        let (target, left_out) = daemon.vms.ssh(&ssh(Some(&key))).await.expect("it runs");
        drop(target.open().await.expect("it answers"));
        let command = world.host().commands.pop().expect("it was run");
        assert_eq!((command.cwd, command.tty, left_out), (None, None, Vec::new()));
        let variables = command.argv.iter().find(|word| word.starts_with("SetEnv="));
        let variables = variables.expect("there are some");
        // The plugin's, and of one that both give the user's.
        assert!(variables.contains("\"BOOT=1\""), "{variables}");
        assert!(variables.contains("\"OWN=the user's\""), "{variables}");
        assert!(command.argv.iter().any(|word| word.ends_with(key.trim_end_matches(" me"))));
        assert!(command.argv.contains(&"AllowAgentForwarding=no".to_owned()));
        let with_agent = SshVm { forward_agent: true, ..ssh(Some(&key)) };
        let (target, _) = daemon.vms.ssh(&with_agent).await.expect("it runs");
        drop(target.open().await.expect("it answers"));
        let command = world.host().commands.pop().expect("it was run");
        assert!(command.argv.contains(&"AllowAgentForwarding=yes".to_owned()));
    });
}

#[test]
fn there_is_none_for_a_machine_that_does_not_run_or_a_key_that_is_none() {
    run(async {
        let world = World::default();
        let daemon = daemon(&world, None);
        assert_eq!(refused(&daemon, &ssh(None)).await, Kind::NotFound);
        let made = CreateVm { start: Some(false), ..wish("web") };
        daemon.vms.create(made, None).await.expect("made");
        assert_eq!(refused(&daemon, &ssh(None)).await, Kind::Conflict);
        for bad in ["", "ssh-ed25519", "command=\"x\" ssh-ed25519 AAAA", "-----BEGIN"] {
            assert_eq!(refused(&daemon, &ssh(Some(bad))).await, Kind::Invalid, "{bad}");
        }
        let shown = daemon.vms.show("web").expect("there").ssh_host_key.expect("a key");
        assert!(shown.starts_with("ssh-ed25519 ") && !shown.contains('\n'), "{shown}");
    });
}
