//! The options with which ssh reaches a VM, as lines of its configuration.
//!
//! Three readers take paths apart that are in them: ssh itself, which expands `%` everywhere and `${NAME}` in
//! some places; the shell that runs `ProxyCommand`; and ssh once more for `KnownHostsCommand`, which has no
//! shell. What one of them cannot be made to take as it is is refused.

use std::path::Path;

use crate::config::{Paths, passed_on};
use crate::report::{Kind, Report};

use super::{OwnKey, SUFFIX};

/// The variables that say which daemon is meant, besides those of a desktop session.
const VARIABLES: [&str; 2] = ["COVE_HOME", "COVE_CACHE"];

/// Finds a program, with variables before it. In `KnownHostsCommand` the path of a program must be whole.
const ENV: &str = "/usr/bin/env";

/// Where the programs and the key lie, as text that all readers take.
#[derive(Debug)]
pub(super) struct Place {
    /// Assignments of variables.
    variables: Vec<String>,
    /// The program `cove`.
    program: String,
    /// Cove's own key.
    key: String,
}

impl Place {
    /// Of this program, with these paths and this environment.
    ///
    /// # Errors
    /// When a path has something in it that cannot be written down for ssh.
    pub(super) fn of(paths: &Paths) -> Result<Self, Report> {
        let given = VARIABLES.iter().filter_map(|&name| Some((name, passed_on(name)?)));
        let variables = given
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| Ok(format!("{name}={}", writable(Path::new(&value))?)));
        let variables = variables.collect::<Result<Vec<_>, Report>>()?;
        let program = writable(&paths.programs.join("cove"))?;
        if program.contains('=') && !variables.is_empty() {
            // `env` would take it for one more variable.
            return Err(unwritable(Path::new(&program), "`=`"));
        }
        Ok(Self { variables, program, key: writable(&OwnKey::path(paths))? })
    }

    /// The command that runs `cove` with these words.
    fn command(&self, words: &[&str]) -> Vec<String> {
        let variables = self.variables.iter().cloned();
        let env = (!self.variables.is_empty()).then(|| ENV.to_owned());
        let words = words.iter().map(|&word| word.to_owned());
        env.into_iter().chain(variables).chain([self.program.clone()]).chain(words).collect()
    }
}

/// What a guest gets to use of the user's ssh agent.
#[derive(Debug)]
pub(super) enum Agent {
    /// Nothing: it stays at home.
    AtHome,
    /// What listens at this socket, as text that ssh takes.
    At(String),
}

impl Agent {
    /// What listens at this socket.
    ///
    /// # Errors
    /// When the path has something in it that cannot be written down for ssh.
    pub(super) fn at(socket: &Path) -> Result<Self, Report> {
        Ok(Self::At(writable(socket)?))
    }
}

/// Keys and values. They hold for every host whose name ends with `.cove` and has no `'` in it, which a
/// shell would read in `ProxyCommand`.
pub(super) fn of(place: &Place, agent: &Agent) -> Vec<(&'static str, String)> {
    let proxy: &[&str] = match agent {
        Agent::AtHome => &["proxy", "--"],
        Agent::At(_) => &["proxy", "--forward-agent", "--"],
    };
    let proxy = place.command(proxy);
    let proxy: Vec<_> = proxy.iter().map(|word| for_shell(word)).collect();
    let known = place.command(&["proxy", "--known-hosts", "--"]);
    let (program, words) = known.split_first().expect("a command has a program");
    // Only what follows the program is expanded.
    let words: Vec<_> = words.iter().map(|word| quoted(&word.replace('%', "%%"))).collect();
    let fixed = |key, value: &str| (key, value.to_owned());
    let mut options = vec![
        fixed("User", "root"),
        ("ProxyCommand", format!("{} '%h'", proxy.join(" "))),
        ("KnownHostsCommand", format!("{} {} %h", quoted(program), words.join(" "))),
        fixed("UserKnownHostsFile", "/dev/null"),
        fixed("GlobalKnownHostsFile", "/dev/null"),
        fixed("StrictHostKeyChecking", "yes"),
        fixed("HostKeyAlgorithms", "ssh-ed25519"),
        fixed("UpdateHostKeys", "no"),
        fixed("PreferredAuthentications", "publickey"),
        ("IdentityFile", quoted(&place.key.replace('%', "%%"))),
        fixed("IdentitiesOnly", "yes"),
    ];
    match agent {
        Agent::AtHome => options.push(fixed("ForwardAgent", "no")),
        // Of a connection that others share nobody could say who has asked for a signature.
        Agent::At(socket) => options.extend([
            ("ForwardAgent", quoted(&socket.replace('%', "%%"))),
            fixed("ControlPath", "none"),
        ]),
    }
    options
}

/// The section of a configuration file with these options, which ends where it ends: lines after it are
/// about all hosts again.
pub(super) fn section(place: &Place) -> String {
    let options =
        of(place, &Agent::AtHome).into_iter().map(|(key, value)| format!("    {key} {value}\n"));
    let options: String = options.collect();
    format!("Host *{SUFFIX} \"!*'*\"\n{options}Match all\n")
}

/// A path as text, when ssh can be made to take it as it is.
fn writable(path: &Path) -> Result<String, Report> {
    let text = path.to_str().ok_or_else(|| unwritable(path, "bytes that are no UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(unwritable(path, "control characters"));
    }
    if text.contains("${") {
        return Err(unwritable(path, "`${`"));
    }
    Ok(text.to_owned())
}

fn unwritable(path: &Path, what: &str) -> Report {
    let message = format!("`{}` has {what} in it, which ssh cannot be told", path.display());
    Report::new(Kind::Invalid, message).with_hint("put cove, or its COVE_HOME, somewhere else")
}

/// A word for the shell, after ssh has expanded `%`.
fn for_shell(word: &str) -> String {
    let word = word.replace('%', "%%");
    shlex::try_quote(&word).expect("it has no NUL, which is a control character").into_owned()
}

/// A word that ssh reads back, whatever is in it.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', r"\\").replace('"', r#"\""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &str, home: Option<&str>) -> Place {
        Place {
            variables: home.map(|home| format!("COVE_HOME={home}")).into_iter().collect(),
            program: format!("{folder}/cove"),
            key: format!("{}/ssh/id_ed25519", home.unwrap_or("/home/ada/.local/state/cove")),
        }
    }

    #[test]
    fn the_section_is_known() {
        insta::assert_snapshot!(section(&place("/opt/cove", None)), @r#"
        Host *.cove "!*'*"
            User root
            ProxyCommand /opt/cove/cove proxy -- '%h'
            KnownHostsCommand "/opt/cove/cove" "proxy" "--known-hosts" "--" %h
            UserKnownHostsFile /dev/null
            GlobalKnownHostsFile /dev/null
            StrictHostKeyChecking yes
            HostKeyAlgorithms ssh-ed25519
            UpdateHostKeys no
            PreferredAuthentications publickey
            IdentityFile "/home/ada/.local/state/cove/ssh/id_ed25519"
            IdentitiesOnly yes
            ForwardAgent no
        Match all
        "#);
    }

    #[test]
    fn paths_are_written_for_each_of_their_readers() {
        let place = place("/opt/it's 5%", Some("/home/a \"b\"\\c"));
        let options = of(&place, &Agent::AtHome);
        let value = |key| &options.iter().find(|(name, _)| *name == key).expect("there").1;
        assert_eq!(
            value("ProxyCommand"),
            r#"/usr/bin/env "COVE_HOME=/home/a \"b\"\\c" "/opt/it's 5%%/cove" proxy -- '%h'"#
        );
        assert_eq!(
            value("KnownHostsCommand"),
            r#""/usr/bin/env" "COVE_HOME=/home/a \"b\"\\c" "/opt/it's 5%%/cove" "proxy" "--known-hosts" "--" %h"#
        );
        assert_eq!(value("IdentityFile"), r#""/home/a \"b\"\\c/ssh/id_ed25519""#);
    }

    #[test]
    fn an_agent_is_forwarded_where_there_is_one_for_the_guest() {
        let agent = Agent::at(Path::new("/tmp/a 5%/agent")).expect("ssh takes it");
        let options = of(&place("/opt/cove", None), &agent);
        let values = |key| options.iter().filter(move |(name, _)| *name == key);
        let values = |key| values(key).map(|(_, value)| value.as_str()).collect::<Vec<_>>();
        assert_eq!(values("ForwardAgent"), [r#""/tmp/a 5%%/agent""#]);
        assert_eq!(values("ControlPath"), ["none"]);
        assert_eq!(values("ProxyCommand"), ["/opt/cove/cove proxy --forward-agent -- '%h'"]);
        let at_home = of(&place("/opt/cove", None), &Agent::AtHome);
        assert!(at_home.contains(&("ForwardAgent", "no".to_owned())), "{at_home:?}");
        Agent::at(Path::new("/tmp/${HOME}")).expect_err("ssh would expand it");
    }

    #[test]
    fn what_ssh_cannot_be_told_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        for bad in [&b"/a\nb"[..], b"/a/${HOME}", b"/\xff", b"/a\x7f"] {
            let report =
                writable(Path::new(std::ffi::OsStr::from_bytes(bad))).expect_err("refused");
            assert!(report.kind == Kind::Invalid && report.hint.is_some(), "{report:?}");
        }
        assert_eq!(writable(Path::new("/a $b ü")).expect("taken"), "/a $b ü");
    }
}
