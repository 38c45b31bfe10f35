//! The ssh server of a guest: `sshd -i` for one connection, on the pipes of a program that is run like any
//! other. So it needs no network, nothing of it is left when the connection is gone, and no ssh server has to
//! run in the guest.
//!
//! What it is run with is said here and nowhere else: it reads no configuration of the guest's.

use std::collections::BTreeMap;

use crate::keys::plain_public;
use crate::report::{Kind, Report};

/// sshd wants a folder that on other systems its start script makes. In a guest nobody does.
const SCRIPT: &str = r#"[ -d /run/sshd ] || mkdir -p -m 755 /run/sshd; exec /usr/sbin/sshd "$@""#;

/// Logs go to stderr, from where `cove proxy` shows them if it never comes to a conversation.
const PROGRAM: [&str; 8] = ["/bin/sh", "-c", SCRIPT, "sshd", "-i", "-e", "-f", "/dev/null"];

/// The settings that are always the same.
///
/// PAM is off: the image's user 0 needs no session of it, and what it would read of the environment is in
/// `SetEnv`. Of the client's variables two are taken: git's protocol version, and whether a terminal has all
/// colours; the client's language is none that the image must have.
const SETTINGS: [&str; 20] = [
    "LogLevel=ERROR",
    "HostKey=/etc/ssh/ssh_host_ed25519_key",
    "PermitRootLogin=prohibit-password",
    "PubkeyAuthentication=yes",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "AuthenticationMethods=publickey",
    "AuthorizedKeysFile=.ssh/authorized_keys",
    "UsePAM=no",
    "UseDNS=no",
    "PidFile=none",
    "PrintMotd=no",
    "PrintLastLog=no",
    "AllowTcpForwarding=yes",
    "AllowStreamLocalForwarding=yes",
    "X11Forwarding=no",
    "PermitUserEnvironment=no",
    "AcceptEnv=GIT_PROTOCOL COLORTERM",
    "MaxSessions=64",
    "Subsystem=sftp internal-sftp",
];

/// Whether sessions may use an agent that ssh forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    /// It stays where it is.
    AtHome,
    /// They may.
    Forwarded,
}

/// What every session has, unless the VM's own variables say otherwise.
const LANGUAGE: (&str, &str) = ("LANG", "C.UTF-8");

/// The longest setting, in bytes: the kernel takes no argument of 128 KiB or more.
const MAX_SETTING: usize = 120 * 1024;

/// A server that is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// The variables for which there is no room.
    pub(super) env_left_out: Vec<String>,
}

/// A server for one connection: with this key beside those that the guest has, and this environment in
/// sessions.
pub(super) fn server(key: Option<&str>, agent: Agent, env: BTreeMap<String, String>) -> Server {
    let (setting, env_left_out) = environment(env);
    let mut settings: Vec<String> = SETTINGS.iter().map(|&setting| setting.to_owned()).collect();
    let agent = match agent {
        Agent::AtHome => "AllowAgentForwarding=no",
        Agent::Forwarded => "AllowAgentForwarding=yes",
    };
    settings.push(agent.to_owned());
    if let Some(key) = key {
        // Nothing is written in the guest, and the key is good for this connection alone.
        settings.push(format!("AuthorizedKeysCommand=/bin/echo {key}"));
        settings.push("AuthorizedKeysCommandUser=root".to_owned());
    }
    settings.push(setting);
    let settings = settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]);
    let argv = PROGRAM.iter().map(|&word| word.to_owned()).chain(settings).collect();
    Server { argv, env_left_out }
}

/// A key as it may stand among the server's settings.
pub(super) fn authorized(key: &str) -> Result<String, Report> {
    plain_public(key).map_err(|error| {
        Report::new(Kind::Invalid, "`authorized_key` is not a public ssh key")
            .with_cause(&error)
            .with_hint("give the line of a file such as `~/.ssh/id_ed25519.pub`")
    })
}

/// One setting with all variables: sshd heeds the first `SetEnv` alone. And what does not fit.
fn environment(mut env: BTreeMap<String, String>) -> (String, Vec<String>) {
    let (language, value) = LANGUAGE;
    env.entry(language.to_owned()).or_insert_with(|| value.to_owned());
    let (mut setting, mut left_out) = ("SetEnv=".to_owned(), Vec::new());
    for (name, value) in env {
        let word = quoted(&format!("{name}={value}"));
        if setting.len() + word.len() < MAX_SETTING {
            setting.push_str(&word);
            setting.push(' ');
        } else {
            left_out.push(name);
        }
    }
    setting.truncate(setting.trim_end_matches(' ').len());
    (setting, left_out)
}

/// A word as sshd reads it back, whatever is in it.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', r"\\").replace('"', r#"\""#))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPair;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn variables_are_one_setting_that_is_read_back_as_they_are() {
        for (given, setting) in [
            (&[][..], r#"SetEnv="LANG=C.UTF-8""#),
            (&[("LANG", "de_DE.UTF-8")], r#"SetEnv="LANG=de_DE.UTF-8""#),
            (
                &[("A", "b c"), ("E", ""), ("Q", "\"'\\ # %h $x"), ("Z", "1\n2")],
                "SetEnv=\"A=b c\" \"E=\" \"LANG=C.UTF-8\" \"Q=\\\"'\\\\ # %h $x\" \"Z=1\n2\"",
            ),
        ] {
            assert_eq!(environment(env(given)), (setting.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn variables_for_which_there_is_no_room_are_named() {
        let long = "x".repeat(32 * 1024 - 1);
        let given = env(&[("A", &long), ("B", &long), ("C", &long), ("D", &long), ("E", "short")]);
        let (setting, left_out) = environment(given);
        assert_eq!(left_out, ["D"]);
        assert!(setting.len() < MAX_SETTING && setting.contains("\"E=short\""));
    }

    #[test]
    fn a_key_is_good_for_one_connection_and_nothing_else_of_its_line_gets_in() {
        let pair = KeyPair::new("-o PermitRootLogin=yes %h").expect("made");
        let key = authorized(&pair.public).expect("a key");
        let with = server(Some(&key), Agent::AtHome, env(&[])).argv;
        let command = with.iter().find(|word| word.starts_with("AuthorizedKeysCommand="));
        assert_eq!(*command.expect("there"), format!("AuthorizedKeysCommand=/bin/echo {key}"));
        let without = server(None, Agent::AtHome, env(&[])).argv;
        assert!(!without.iter().any(|word| word.contains("Command")), "{without:?}");
        let error = authorized("no key").expect_err("refused");
        assert!(error.kind == Kind::Invalid && error.hint.is_some());
    }

    #[test]
    fn every_setting_is_an_option_of_its_own() {
        let argv = server(None, Agent::AtHome, env(&[])).argv;
        let (program, settings) = argv.split_at(PROGRAM.len());
        assert_eq!(program, PROGRAM);
        for pair in settings.chunks(2) {
            let [option, setting] = pair else { panic!("{pair:?}") };
            assert!(option == "-o" && setting.contains('='), "{pair:?}");
        }
    }

    #[test]
    fn an_agent_is_forwarded_only_where_that_is_asked_for() {
        for (agent, expected) in [
            (Agent::AtHome, "AllowAgentForwarding=no"),
            (Agent::Forwarded, "AllowAgentForwarding=yes"),
        ] {
            let argv = server(None, agent, env(&[])).argv;
            let said: Vec<_> = argv.iter().filter(|word| word.contains("AgentForward")).collect();
            assert_eq!(said, [expected]);
        }
    }
}
