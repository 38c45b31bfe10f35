//! Where things lie.
//!
//! All state of a daemon lies under one folder when `COVE_HOME` is set; otherwise in the XDG folders.
//! What can be made again lies in `COVE_CACHE` and serves every `COVE_HOME`.

use std::path::PathBuf;

use super::ConfigError;
use super::environment::variable;

/// The places of one daemon and its clients.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Database, VMs, images, kernels, logs.
    pub home: PathBuf,
    /// The socket of the daemon.
    pub socket: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// Default kernel and image, tools, verdicts.
    pub cache: PathBuf,
    /// The user's plugins.
    pub plugins: PathBuf,
    /// The daemon's log.
    pub log: PathBuf,
    /// The database.
    pub database: PathBuf,
    /// The user's home folder.
    pub user_home: PathBuf,
    /// The folder of the running program: its companions lie beside it.
    pub programs: PathBuf,
}

impl Paths {
    /// Reads `COVE_HOME`, `COVE_CACHE`, `HOME` and the XDG variables.
    ///
    /// # Errors
    /// When there is no home folder, or a variable holds a relative path.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let user_home = absolute("HOME")?;
        let xdg = |variable, fallback: &str| -> Result<PathBuf, ConfigError> {
            if let Some(folder) = absolute(variable)? {
                return Ok(folder.join("cove"));
            }
            let home = user_home.as_ref().ok_or(ConfigError::NoHome)?;
            Ok(home.join(fallback).join("cove"))
        };
        let cache = match absolute("COVE_CACHE")? {
            Some(cache) => cache,
            None => xdg("XDG_CACHE_HOME", ".cache")?,
        };
        let programs = std::env::current_exe().ok();
        let programs = programs.as_deref().and_then(|path| path.parent()).map(PathBuf::from);
        let programs = programs.unwrap_or_else(|| PathBuf::from("/usr/bin"));
        let user_home_or_root = user_home.clone().unwrap_or_else(|| PathBuf::from("/"));
        let one_folder = |home| Self::one_folder(home, cache, user_home_or_root, programs);
        if let Some(home) = absolute("COVE_HOME")? {
            return Ok(one_folder(home));
        }
        let home = xdg("XDG_STATE_HOME", ".local/state")?;
        let config = xdg("XDG_CONFIG_HOME", ".config")?.join("config.toml");
        let plugins = xdg("XDG_DATA_HOME", ".local/share")?.join("plugins");
        let paths = Self { config, plugins, ..one_folder(home) };
        Ok(match absolute("XDG_RUNTIME_DIR")? {
            Some(runtime) => Self { socket: runtime.join("cove/coved.sock"), ..paths },
            None => paths,
        })
    }

    /// The places of another daemon, with everything but the cache in one folder, as with `COVE_HOME`.
    #[must_use]
    pub fn of_another(&self, home: PathBuf) -> Self {
        Self::one_folder(home, self.cache.clone(), self.user_home.clone(), self.programs.clone())
    }

    fn one_folder(home: PathBuf, cache: PathBuf, user_home: PathBuf, programs: PathBuf) -> Self {
        Self {
            socket: home.join("run/coved.sock"),
            config: home.join("config.toml"),
            plugins: home.join("plugins"),
            log: home.join("coved.log"),
            database: home.join("cove.db"),
            home,
            cache,
            user_home,
            programs,
        }
    }

    /// The token that programs show on the port of the loopback.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.home.join("rpc-token")
    }

    /// The folder of the VMs, one below it for each.
    #[must_use]
    pub fn vms(&self) -> PathBuf {
        self.home.join("vms")
    }

    /// Where consoles of VMs are kept that were deleted without having become reachable.
    #[must_use]
    pub fn consoles(&self) -> PathBuf {
        self.home.join("consoles")
    }
}

fn absolute(name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    match variable(name).map(PathBuf::from) {
        Some(path) if path.is_absolute() => Ok(Some(path)),
        Some(path) => {
            Err(ConfigError::Relative { variable: name, value: path.display().to_string() })
        }
        None => Ok(None),
    }
}
