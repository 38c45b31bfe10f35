//! Whether this host can give a VM a network: each need tried, not guessed.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::bridge::{Bridge, ForwardingProblem};
use super::{keeper, namespace, nftables, uplink};
use crate::process::{Tool, ToolError, find_program};
use crate::report::Report;

/// Each need is checked within this time.
const DEADLINE: Duration = Duration::from_secs(20);

/// One need of `--net user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is needed: `pasta`, `/dev/net/tun`, `user namespaces`, `nftables`.
    pub need: &'static str,
    /// What was found, or what is wrong.
    pub found: Result<String, NetProblem>,
}

/// A need that the host does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetProblem {
    /// What is wrong, as one sentence.
    pub what: String,
    /// How to mend it, as one sentence.
    pub fix: String,
}

/// Checks every need.
pub(crate) async fn all(coved: &Path, path: &OsStr) -> Vec<Check> {
    let (pasta, trial) = tokio::join!(version(uplink::PROGRAM, "passt", path), trial(coved, path));
    let device = device(namespace::open_tun().map(drop));
    let mut checks = vec![
        Check { need: uplink::PROGRAM, found: pasta },
        Check { need: namespace::TUN, found: device },
    ];
    // The trial needs the device: its failure says nothing of its own while that is missing.
    if checks[1].found.is_ok() {
        checks.push(trial);
    }
    checks
}

/// Whether VMs can be on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BridgeCheck {
    /// They can.
    Good(String),
    /// They can, and reach nothing but the host: somebody else's rules drop the rest.
    Cut {
        /// What does, as one sentence.
        what: String,
        /// How to mend it, as one sentence.
        fix: String,
    },
    /// They cannot.
    None(Report),
}

/// Looks, and makes nothing.
pub(crate) async fn bridge(bridge: &Bridge) -> BridgeCheck {
    match bridge.check().await {
        Ok(None) => BridgeCheck::Good(format!("`{}` can be had", bridge.setup().name())),
        Ok(Some(ForwardingProblem { what, fix })) => BridgeCheck::Cut { what, fix },
        Err(report) => BridgeCheck::None(report),
    }
}

/// Looks for every need that shows without trying it.
pub(crate) fn at_hand(path: &OsStr) -> Vec<Check> {
    let found = |program: &str, package: &str| match find_program(Path::new(program), path) {
        Some(found) => Ok(found.display().to_string()),
        None => Err(missing(program, package)),
    };
    vec![Check { need: uplink::PROGRAM, found: found(uplink::PROGRAM, "passt") }, device_at_hand()]
}

/// The same of what every network needs.
pub(crate) fn device_at_hand() -> Check {
    Check { need: namespace::TUN, found: device(namespace::open_tun().map(drop)) }
}

fn missing(program: &str, package: &str) -> NetProblem {
    NetProblem {
        what: format!("`{program}` is not installed"),
        fix: format!("install it: `sudo apt-get install {package}`"),
    }
}

async fn version(program: &str, package: &str, path: &OsStr) -> Result<String, NetProblem> {
    let tool = Tool::new(program).arg("--version").env("PATH", path).deadline(DEADLINE);
    match tool.run().await {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let first = text.lines().next().unwrap_or(program).trim();
            // Debian 12's pasta says so of itself.
            Ok(first.replace("unknown version", "is there, without a version of its own"))
        }
        Err(ToolError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(missing(program, package))
        }
        Err(error) => Err(NetProblem {
            what: one_line(&error),
            fix: format!("install it again: `sudo apt-get install --reinstall {package}`"),
        }),
    }
}

fn device(opened: io::Result<()>) -> Result<String, NetProblem> {
    let device = namespace::TUN;
    opened.map(|()| "can be opened".to_owned()).map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("open it to everybody, as udev does on Debian: `sudo chmod 0666 {device}`")
            }
            _ => "load the kernel's module for it: `sudo modprobe tun`".to_owned(),
        };
        NetProblem { what: format!("`{device}` cannot be opened: {error}"), fix }
    })
}

/// Everything that a keeper does, once, in namespaces that end with it.
async fn trial(coved: &Path, path: &OsStr) -> Check {
    let tool = Tool::new(coved).args([keeper::ARGUMENT, keeper::TRIAL]);
    let tool = tool.env("PATH", path).deadline(DEADLINE);
    tried(tool.run().await.map(drop))
}

fn tried(ended: Result<(), ToolError>) -> Check {
    let (need, found) = match ended {
        Ok(()) => ("user namespaces", Ok("a namespace with a TAP device and rules can be made")),
        // In a namespace, so those can be made.
        Err(ToolError::Failed { stderr, .. }) if stderr.contains(nftables::MISSING) => {
            let what = crate::report::escape_control(stderr.trim());
            ("nftables", Err((what, nftables::FIX.to_owned())))
        }
        Err(error) => {
            let fix = fix_of_namespaces(|switch| std::fs::read_to_string(switch).ok());
            ("user namespaces", Err((one_line(&error), fix)))
        }
    };
    let found = found.map(str::to_owned).map_err(|(what, fix)| NetProblem { what, fix });
    Check { need, found }
}

/// The switches with which hosts forbid user namespaces, the value that forbids, and the way out.
const FORBIDDING: [(&str, &str, &str); 3] = [
    ("/proc/sys/user/max_user_namespaces", "0", "`sudo sysctl user.max_user_namespaces=10000`"),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "`sudo sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
];

fn fix_of_namespaces(read: impl Fn(&str) -> Option<String>) -> String {
    let forbidding = FORBIDDING
        .iter()
        .find(|(switch, value, _)| read(switch).is_some_and(|now| now.trim() == *value));
    match forbidding {
        Some((_, _, way_out)) => format!("allow user namespaces: {way_out}"),
        None => {
            "allow this user to make user namespaces, and the kernel to load `tun`, `nf_tables`, \
                 `nf_conntrack`, `nf_nat` and `nfnetlink_log`"
                .to_owned()
        }
    }
}

fn one_line(error: &ToolError) -> String {
    crate::report::escape_control(&crate::report::with_causes(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_kernel_without_nftables_is_a_need_of_its_own() {
        let ended = |stderr: String| {
            let (program, status) = ("coved net-keeper".to_owned(), ExitStatus::from_raw(256));
            Err(ToolError::Failed { program, status, stderr })
        };
        let check = tried(ended(format!("{}: not supported\n", nftables::MISSING)));
        assert_eq!(check.need, "nftables");
        let problem = check.found.expect_err("a problem");
        assert_eq!(problem.what, format!("{}: not supported", nftables::MISSING));
        assert_eq!(problem.fix, nftables::FIX);
        let check = tried(ended("cannot make a user and network namespace".to_owned()));
        assert!(check.need == "user namespaces" && check.found.is_err());
    }

    #[test]
    fn a_device_that_may_not_be_opened_comes_with_its_command() {
        let denied = device(Err(io::Error::from_raw_os_error(nix::libc::EACCES)));
        let problem = denied.expect_err("a problem");
        assert!(problem.what.starts_with("`/dev/net/tun` cannot be opened: Permission denied"));
        assert!(problem.fix.ends_with("`sudo chmod 0666 /dev/net/tun`"), "{}", problem.fix);
        let missing = device(Err(io::Error::from_raw_os_error(nix::libc::ENOENT)));
        assert!(missing.expect_err("a problem").fix.ends_with("`sudo modprobe tun`"));
    }

    #[test]
    fn the_switch_that_forbids_is_named() {
        for (switch, value, way_out) in FORBIDDING {
            let only = |asked: &str| (asked == switch).then(|| format!("{value}\n"));
            assert_eq!(fix_of_namespaces(only), format!("allow user namespaces: {way_out}"));
        }
        assert!(fix_of_namespaces(|_| None).contains("nf_tables"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_package() {
        let problem = version("pasta", "passt", OsStr::new("/nonexistent")).await;
        let problem = problem.expect_err("a problem");
        assert_eq!(problem.what, "`pasta` is not installed");
        assert_eq!(problem.fix, "install it: `sudo apt-get install passt`");
    }
}
