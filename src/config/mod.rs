//! The only reader of configuration files and of the environment. Unknown keys are errors.
//!
//! Everything else receives values. The file is `config.toml` in `COVE_HOME`, or in the XDG
//! configuration folder where `COVE_HOME` is not set. A file that is not there means all defaults.

mod bridge;
mod environment;
mod file_sync;
mod hooks;
mod net;
mod paths;
mod rpc;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::egress::MAX_RULES;
use crate::id::ImageName;
use crate::report::{Explain, Kind};
use crate::size::Size;
use crate::wire::rpc::NetMode;

pub use bridge::{BridgeConfig, machine_id};
pub use environment::{ClientEnvironment, daemon_environment, log_filter, passed_on, search_path};
pub use file_sync::FileSync;
pub use hooks::{GrantConfig, HooksConfig, SignerConfig};
pub use net::NetConfig;
pub use paths::Paths;
pub use rpc::{LoopbackAddress, NotLoopback, RpcConfig};

/// The configuration in force: the file's values with the defaults for what it leaves out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What a VM gets when its maker does not say.
    pub vm: VmDefaults,
    /// What it may reach when its maker does not say.
    pub net: NetConfig,
    /// How monitors are run.
    pub monitor: MonitorConfig,
    /// How repositories go in.
    pub workspace: WorkspaceConfig,
    /// The settings of the `ssh-key` hook.
    pub ssh_key: SshKeyConfig,
    /// The settings of the `git-identity` hook.
    pub git_identity: GitIdentityConfig,
    /// The settings of the `file-sync` hook: what goes where.
    pub file_sync: Vec<FileSync>,
    /// Hooks beyond the standard ones.
    pub hooks: HooksConfig,
    /// Where the daemon can be reached besides its socket.
    pub rpc: RpcConfig,
}

/// `[vm]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmDefaults {
    /// The image.
    pub image: ImageName,
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory.
    pub memory: Size,
    /// The work disk, mounted at the home. It is sparse.
    pub disk: Size,
    /// The overlay disk under everything else. It is sparse.
    pub root_disk: Size,
    /// Nothing is started while less than this is free where the disks of VMs lie.
    pub keep_free: Size,
    /// The network.
    pub net: NetMode,
}

impl Default for VmDefaults {
    fn default() -> Self {
        Self {
            image: "default".parse().expect("a valid name"),
            vcpu: 2,
            memory: Size::from_bytes(512 << 20),
            disk: Size::from_bytes(16 << 30),
            root_disk: Size::from_bytes(8 << 30),
            keep_free: Size::from_bytes(256 << 20),
            net: NetMode::User,
        }
    }
}

/// `[monitor]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorConfig {
    /// QEMU: a name to find in the path, or a path.
    pub qemu: PathBuf,
    /// The program that emulates vsock where the kernel cannot: a name, a path, or empty for the one
    /// that set-up installed.
    pub vhost_device_vsock: PathBuf,
    /// How processors run.
    pub accel: AccelChoice,
    /// A guest that shows no sign of life for so many seconds is started once more.
    pub life_seconds: u64,
    /// A guest must answer within so many seconds.
    pub boot_seconds: u64,
    /// A guest that is asked to stop is killed after so many seconds.
    pub stop_seconds: u64,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            qemu: "qemu-system-x86_64".into(),
            vhost_device_vsock: PathBuf::new(),
            accel: AccelChoice::Auto,
            life_seconds: 45,
            boot_seconds: 180,
            stop_seconds: 20,
        }
    }
}

/// How virtual processors are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccelChoice {
    /// The best that really boots a guest here.
    Auto,
    /// The kernel's hypervisor.
    Kvm,
    /// Emulation.
    Tcg,
}

/// `[workspace]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceConfig {
    /// How many commits of history go in.
    pub depth: u32,
}

impl Default for WorkspaceConfig {
    fn default() -> Self {
        Self { depth: 50 }
    }
}

/// `[ssh_key]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshKeyConfig {
    /// Public key files; `*` and `?` match.
    pub files: Vec<String>,
    /// Also the keys that the user's ssh agent holds.
    pub agent: bool,
}

impl Default for SshKeyConfig {
    fn default() -> Self {
        Self { files: vec!["~/.ssh/*.pub".to_owned()], agent: true }
    }
}

/// `[git_identity]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitIdentityConfig {
    /// Keys of the user's git configuration that go in, besides `user.name` and `user.email`.
    pub keys: Vec<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there but cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration `{}` is wrong", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An entry of `[[file_sync]]` is wrong.
    #[error("`[[file_sync]]` entry {number} (host `{host}`) in `{}`: {problem}", path.display())]
    FileSync {
        /// The file.
        path: PathBuf,
        /// Which entry, from 1.
        number: usize,
        /// Its host path, so that it can be found.
        host: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// `[net]` has more rules than a VM may have.
    #[error("`allow` of `[net]` in `{}` has {count} rules, and a VM may have {MAX_RULES}", path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// There is no home folder.
    #[error("neither COVE_HOME nor HOME says where to keep anything")]
    NoHome,
    /// A variable holds a relative path.
    #[error("{variable} is `{value}`, which is not an absolute path")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
}

impl Explain for ConfigError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Failed,
            Self::Parse { .. }
            | Self::FileSync { .. }
            | Self::Rules { .. }
            | Self::NoHome
            | Self::Relative { .. } => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } => Some(format!("make `{}` readable for you", path.display())),
            Self::Parse { path, .. } => {
                Some(format!("correct `{}`; the README lists all keys", path.display()))
            }
            Self::FileSync { .. } => {
                Some("write `guest = \"~/path\"` and `mode = \"0600\"`".to_owned())
            }
            Self::Rules { .. } => Some("`*.example.org` and ranges say more with less".to_owned()),
            Self::NoHome => Some("set COVE_HOME to a folder of yours".to_owned()),
            Self::Relative { variable, .. } => Some(format!("give {variable} an absolute path")),
        }
    }
}

impl Config {
    /// Reads the file, or gives the defaults where there is none.
    ///
    /// # Errors
    /// When the file cannot be read, has unknown keys, or says something impossible.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(ConfigError::Read { path: path.to_owned(), source });
            }
        };
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: source.into(),
        })?;
        for (index, entry) in config.file_sync.iter().enumerate() {
            entry.check().map_err(|problem| ConfigError::FileSync {
                path: path.to_owned(),
                number: index + 1,
                host: entry.host.clone(),
                problem,
            })?;
        }
        let count = config.net.allow.len();
        if count > MAX_RULES {
            return Err(ConfigError::Rules { path: path.to_owned(), count });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Mode, Policy};

    fn check(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(&path).map_err(|error| {
            std::iter::once(error.to_string()).chain(crate::report::causes(&error)).collect()
        })
    }

    #[test]
    fn an_empty_file_means_all_defaults() {
        let config = check("").expect("loads");
        assert_eq!((config.vm.vcpu, config.vm.memory.mebibytes()), (2, 512));
        assert_eq!(config.monitor.accel, AccelChoice::Auto);
    }

    #[test]
    fn unknown_keys_are_errors_that_name_them() {
        for text in ["memroy = 1", "[vm]\nmemroy = \"1G\"", "[monitor]\nqmeu = \"x\""] {
            let error = check(text).expect_err(text);
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn rules_of_new_vms_are_checked_and_named() {
        let config = check("[net]\negress = \"allow\"\nallow = [\"*.example.org:443\"]");
        let policy = config.expect("loads").net.policy();
        assert_eq!(
            (policy.mode, policy.rules[0].to_string()),
            (Mode::Allow, "*.example.org:443".to_owned())
        );
        assert_eq!(check("").expect("loads").net.policy(), Policy::default());
        for (text, problem) in [
            ("allow = [\"example.org\", \"a.*.org\"]", "`a.*.org` is no rule: `*` stands only"),
            ("allow = [\"10.0.0.1/8\"]", "`10.0.0.0/8`"),
            ("egress = \"closed?\"", "unknown variant"),
            ("deny = []", "unknown field"),
        ] {
            let error = check(&format!("[net]\n{text}")).expect_err(text);
            assert!(error.contains(problem) && error.contains("config.toml"), "{text}: {error}");
        }
        let many = vec!["\"example.org\""; MAX_RULES + 1].join(", ");
        let error = check(&format!("[net]\nallow = [{many}]")).expect_err("too many");
        assert!(error.contains("has 257 rules"), "{error}");
    }

    #[test]
    fn the_daemon_listens_on_the_loopback_only_and_only_when_told() {
        assert_eq!(check("").expect("loads").rpc.listen, None);
        let config = check("[rpc]\nlisten = \"127.0.0.1:7777\"").expect("loads");
        assert_eq!(config.rpc.listen.map(|one| one.get().port()), Some(7777));
        let error = check("[rpc]\nlisten = \"0.0.0.0:7777\"").expect_err("everybody");
        assert!(error.contains("`0.0.0.0:7777` is not ADDRESS:PORT of the loopback"), "{error}");
    }

    #[test]
    fn file_sync_entries_are_checked_and_named() {
        for (entry, problem) in [
            ("host = \"~/a\"\nguest = \"\"", "empty"),
            ("host = \"~/a\"\nguest = \"a\"", "start with `~/`"),
            ("host = \"~/a\"\nguest = \"~root/a\"", "start with `~/`"),
            ("host = \"~/a\"\nguest = \"/etc/shadow\"", "start with `~/`"),
            ("host = \"~/a\"\nguest = \"~/../etc\"", "`..`"),
            ("host = \"\"\nguest = \"~/a\"", "empty"),
            ("host = \"a\"\nguest = \"~/a\"", "absolute"),
            ("host = \"~/a\"\nguest = \"~/a\"\nmode = \"0999\"", "octal"),
            ("host = \"~/a\"\nguest = \"~/a\"\nmode = \"rw\"", "octal"),
            ("host = \"~/a\"\nguest = \"~/a\"\nmode = \"04755\"", "0777"),
        ] {
            let error = check(&format!("[[file_sync]]\n{entry}")).expect_err(entry);
            assert!(error.contains(problem) && error.contains("entry 1"), "{entry}: {error}");
        }
        let good = "[[file_sync]]\nhost = \"~/.aws\"\nguest = \"~/.aws\"\nmode = \"0640\"";
        assert_eq!(check(good).expect("loads").file_sync[0].mode_bits(), Some(0o640));
    }
}
