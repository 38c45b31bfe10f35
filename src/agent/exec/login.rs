//! Who programs run as: the image's user 0, as its `/etc/passwd` says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How much of `/etc/passwd` is read: it belongs to the guest and may be anything.
const MAX_PASSWD: u64 = 1 << 20;

/// What a login shell finds in `PATH`.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The terminal that is assumed where the host does not say.
const TERM: &str = "xterm-256color";

/// The login user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The home, where the work disk is mounted.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

impl Login {
    /// User 0 of the image whose root is at `root`; what the image does not say sensibly is `root`,
    /// `/root` and `/bin/sh`.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let mut text = Vec::new();
        let read = File::open(root.join("etc/passwd"))
            .and_then(|file| file.take(MAX_PASSWD).read_to_end(&mut text));
        if read.is_err() {
            text.clear();
        }
        let mut login = Self::from_passwd(&String::from_utf8_lossy(&text));
        let shell = root.join(login.shell.trim_start_matches('/'));
        if !std::fs::metadata(shell).is_ok_and(|shell| shell.permissions().mode() & 0o111 != 0) {
            "/bin/sh".clone_into(&mut login.shell);
        }
        login
    }

    fn from_passwd(text: &str) -> Self {
        let fields = text
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.len() == 7 && fields[2] == "0");
        let field = |number: usize, default: &str| {
            let value = fields.as_ref().map_or("", |fields| fields[number]);
            if value.is_empty() { default.to_owned() } else { value.to_owned() }
        };
        let absolute = |value: String, default: &str| {
            let plain = value.starts_with('/') && !value.split('/').any(|part| part == "..");
            if plain && !value.trim_matches('/').is_empty() { value } else { default.to_owned() }
        };
        Self {
            user: field(0, "root"),
            home: absolute(field(5, "/root"), "/root"),
            shell: absolute(field(6, "/bin/sh"), "/bin/sh"),
        }
    }

    /// The environment of a login.
    #[must_use]
    pub fn environment(&self, terminal: Terminal) -> Vec<(&'static str, &str)> {
        let mut environment = vec![
            ("HOME", self.home.as_str()),
            ("USER", &self.user),
            ("LOGNAME", &self.user),
            ("SHELL", &self.shell),
            ("PATH", PATH),
            ("LANG", "C.UTF-8"),
        ];
        if terminal == Terminal::Yes {
            environment.push(("TERM", TERM));
        }
        environment
    }

    /// The first argument of a login shell: its name behind a dash.
    #[must_use]
    pub fn shell_name(&self) -> String {
        let name = self.shell.rsplit('/').next().unwrap_or("sh");
        format!("-{name}")
    }
}

/// Whether a program has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// It has.
    Yes,
    /// It has pipes.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_password_files_give_a_usable_login() {
        let cases = [
            ("", ("root", "/root", "/bin/sh")),
            (
                "x:x:1:1::/x:/x\nadmin:x:0:0::/home/admin:/bin/zsh\n",
                ("admin", "/home/admin", "/bin/zsh"),
            ),
            ("root:x:0:0:root:/root:\n", ("root", "/root", "/bin/sh")),
            ("root:x:0:0:root:/:sh\n", ("root", "/root", "/bin/sh")),
            ("root:x:0:0:root:/a/../..:/bin/bash\n", ("root", "/root", "/bin/bash")),
            ("root:x:0\n", ("root", "/root", "/bin/sh")),
        ];
        for (text, (user, home, shell)) in cases {
            let expected =
                Login { user: user.to_owned(), home: home.to_owned(), shell: shell.to_owned() };
            assert_eq!(Login::from_passwd(text), expected, "{text:?}");
        }
    }
}
