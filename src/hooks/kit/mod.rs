//! The conformance kit behind `cove hook test`: runs a plugin again and again on made-up inputs and looks at
//! what becomes of it when things go wrong.
//!
//! It runs in the process of the command, with the same engine, handles and limits as in the daemon, and
//! compiles in a process of its own as the daemon does. No daemon knows of it, and nothing of the user's is
//! read but the plugin's folder: the home, its files, git values and the guest are made up, by `test.toml`
//! beside the manifest or by the kit.

mod cases;
mod fixtures;
mod golden;
#[cfg(test)]
mod tests;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::cases::Bench;
use self::fixtures::Fixtures;
use super::contract::{Contract, KNOWN};
use super::engine::Machine;
use super::error::HookError;
use super::files::Component;
use super::inputs::SignatureRules;
use super::manifest::Manifest;
use super::package::{Package, read_manifest};
use super::plugin::{Loaded, Loader};
use super::problem::Problem;
use crate::id::Digest;
use crate::report::{Explain, Kind};
use crate::wire::rpc::HookPoint;

/// How a plugin is tested.
#[derive(Debug, Clone)]
pub struct KitOptions {
    /// The plugin's folder, or a file in it.
    pub plugin: PathBuf,
    /// The program that compiles when it is called with [`super::compiler::ARGUMENT`]: `coved`.
    pub compiler: PathBuf,
    /// What the plugin is expected to do.
    pub golden: Option<PathBuf>,
    /// Whether that is written anew instead of compared.
    pub update: bool,
    /// The folder in which a folder for made-up files is made.
    pub scratch: PathBuf,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct KitReport {
    /// The plugin, or the name of its folder.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The digest of its component.
    pub component: Option<Digest>,
    /// What was tried, in order.
    pub cases: Vec<KitCase>,
}

/// One thing that was tried.
#[derive(Debug, Clone)]
pub struct KitCase {
    /// What, in a few words.
    pub name: String,
    /// The hook point, where it is about one.
    pub point: Option<HookPoint>,
    /// How it went.
    pub verdict: KitVerdict,
    /// How long it took.
    pub took: Duration,
    /// What the plugin logged, where it was let do its work.
    pub log: Vec<String>,
}

/// How a case went. The texts are sentences without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KitVerdict {
    /// Well. What was measured or seen, if anything.
    Passed(Option<String>),
    /// Not well, and why.
    Failed(String),
}

impl KitReport {
    /// How many cases failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.cases.iter().filter(|case| matches!(case.verdict, KitVerdict::Failed(_))).count()
    }
}

/// Why a plugin could not be tested.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// There is no such folder or file.
    #[error("`{}` is no plugin", path.display())]
    NoPlugin {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The made-up inputs are wrong.
    #[error("`{}`: {reason}", path.display())]
    Fixtures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The engine.
    #[error("the plugin cannot be tried here")]
    Engine(#[source] HookError),
}

impl Explain for KitError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPlugin { .. } => Kind::NotFound,
            Self::Fixtures { .. } => Kind::Invalid,
            Self::File { .. } => Kind::Failed,
            Self::Engine(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoPlugin { .. } => {
                Some("name the folder with `plugin.toml` and the component in it".to_owned())
            }
            Self::Fixtures { .. } | Self::File { .. } => None,
            Self::Engine(error) => error.hint(),
        }
    }
}

/// Tests a plugin.
///
/// # Errors
/// When it is not there, its inputs cannot be made up, or a file cannot be read or written. What is wrong with
/// the plugin is in the report.
pub async fn test(options: &KitOptions) -> Result<KitReport, KitError> {
    test_for(options, KNOWN).await
}

/// The same for these versions of the contract.
pub(super) async fn test_for(
    options: &KitOptions,
    contracts: &'static [&'static dyn Contract],
) -> Result<KitReport, KitError> {
    let folder = folder(&options.plugin)?;
    let began = Instant::now();
    // As they are read when it is installed.
    let package = Package::read_folder(&folder, &SignatureRules::default());
    let mut report = empty_report(&folder, package.as_ref().ok());
    let scratch = scratch(&options.scratch)?;
    let machine = tokio::task::spawn_blocking(move || Machine::new(contracts)).await;
    let machine = machine.map_err(|error| KitError::Engine(HookError::Engine(Box::new(error))))?;
    let machine = machine.map_err(KitError::Engine)?;
    let loader = Loader {
        machine: &machine,
        cache_folder: &scratch.path().join("compiled"),
        compiler: &options.compiler,
    };
    let loaded = match package {
        Ok(package) => load(&loader, package).await,
        Err(problem) => Err(problem),
    };
    let verdict = match &loaded {
        Ok(_) => KitVerdict::Passed(None),
        Err(problem) => KitVerdict::Failed(format!("{problem}; {}", problem.hint())),
    };
    report.cases.push(KitCase {
        name: "manifest, imports and world".to_owned(),
        point: None,
        verdict,
        took: began.elapsed(),
        log: Vec::new(),
    });
    let Ok((loaded, manifest)) = loaded else {
        return Ok(report);
    };
    let fixtures = Fixtures::make(&folder, scratch.path(), &manifest)?;
    let bench = Bench { loaded: Arc::new(loaded), manifest, fixtures };
    report.cases.extend(bench.all(options).await?);
    Ok(report)
}

/// The folder of a plugin that was named by it or by a file in it.
fn folder(path: &Path) -> Result<PathBuf, KitError> {
    let missing = || KitError::NoPlugin { path: path.to_owned() };
    let path = std::fs::canonicalize(path).map_err(|_| missing())?;
    let folder = match path.is_dir() {
        true => path.clone(),
        false => path.parent().map(Path::to_owned).unwrap_or_default(),
    };
    match folder.join("plugin.toml").is_file() {
        true => Ok(folder),
        false => Err(missing()),
    }
}

/// A report about the plugin in a folder, whatever that is called while it is worked on.
fn empty_report(folder: &Path, package: Option<&Package>) -> KitReport {
    // Of a plugin that cannot be used the manifest alone may be well.
    let manifest = match package {
        Some(package) => Some(package.manifest.clone()),
        None => read_manifest(folder).ok().map(|(_, manifest)| manifest),
    };
    let called = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    KitReport {
        plugin: manifest.as_ref().map_or_else(called, |manifest| manifest.id.to_string()),
        version: manifest.map_or("?".into(), |manifest| manifest.version),
        component: package.map(|package| package.digest.clone()),
        cases: Vec::new(),
    }
}

async fn load(loader: &Loader<'_>, package: Package) -> Result<(Loaded, Manifest), Problem> {
    let path = package.component_path();
    let Package { manifest, component: bytes, digest, .. } = package;
    let loaded = loader.load(Component { path, bytes }, &manifest, &digest).await?;
    Ok((loaded, manifest))
}

/// A folder that goes with the test, in one that is there or can be made.
fn scratch(folder: &Path) -> Result<tempfile::TempDir, KitError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| tempfile::Builder::new().prefix("hook-test-").tempdir_in(folder));
    made.map_err(|source| KitError::File { path: folder.to_owned(), source })
}
