//! Made-up inputs: what `test.toml` says, and something for everything else that a manifest asks for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::KitError;
use crate::egress::{Mode, Policy};
use crate::hooks::guest::{GuestOutput, GuestProgram, GuestPrograms};
use crate::hooks::handles::Remembered;
use crate::hooks::inputs::{GitValues, MachineView};
use crate::hooks::manifest::{Manifest, SettingType};
use crate::hooks::needs::{NeedKind, git_key};
use crate::hooks::paths;
use crate::hooks::source::{HostFilesSource, HostPath};
use crate::wire::rpc::{MachinePlan, NetMode};

/// The file beside the manifest.
const FILE: &str = "test.toml";

/// What a plugin gets to see in its tests.
pub(super) struct Fixtures {
    pub(super) home: PathBuf,
    pub(super) machine: MachineView,
    pub(super) sources: BTreeMap<String, HostFilesSource>,
    pub(super) git: GitValues,
    pub(super) settings: toml::Table,
    pub(super) remembered: Remembered,
    pub(super) programs: Vec<Program>,
}

/// `test.toml`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    machine: RawMachine,
    #[serde(default)]
    file: Vec<RawFile>,
    #[serde(default)]
    git: BTreeMap<String, String>,
    #[serde(default)]
    settings: toml::Table,
    #[serde(default)]
    remembered: BTreeMap<String, String>,
    #[serde(default)]
    program: Vec<Program>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMachine {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    workspace: Option<String>,
}

/// One file of the made-up home.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    /// The logical name that it stands behind.
    name: String,
    /// Its path below the home.
    path: String,
    /// What is in it.
    text: Option<String>,
    /// The same as hexadecimal digits.
    hex: Option<String>,
    /// Its permission bits.
    mode: Option<String>,
    /// Where the operator wants it in the guest.
    guest: Option<String>,
    /// Map the folder that it is in, at this path below the home, instead of the file itself.
    folder: Option<String>,
}

/// What a program of the made-up guest answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    name: String,
    #[serde(default)]
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

impl Fixtures {
    /// Makes them below `scratch`.
    pub(super) fn make(
        plugin: &Path,
        scratch: &Path,
        manifest: &Manifest,
    ) -> Result<Self, KitError> {
        let path = plugin.join(FILE);
        let wrong = |reason: String| KitError::Fixtures { path: path.clone(), reason };
        let raw: Raw = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Raw::default(),
            Err(source) => return Err(KitError::File { path, source }),
        };
        let home = scratch.join("home");
        let mut fixtures = Self {
            machine: machine(raw.machine),
            sources: BTreeMap::new(),
            git: GitValues(
                raw.git.iter().map(|(key, value)| (git_key(key), value.clone())).collect(),
            ),
            settings: raw.settings,
            remembered: raw.remembered.into_iter().map(|(key, text)| (key, text.into())).collect(),
            programs: raw.program,
            home,
        };
        for file in raw.file {
            fixtures.add(file).map_err(|error| match error {
                Wrong::Said(reason) => wrong(reason),
                Wrong::File(path, source) => KitError::File { path, source },
            })?;
        }
        fixtures.fill_in(manifest)?;
        Ok(fixtures)
    }

    fn add(&mut self, file: RawFile) -> Result<(), Wrong> {
        let RawFile { name, path, text, hex, mode, guest, folder } = file;
        paths::check(&path).map_err(|error| Wrong::Said(format!("`{path}`: {error}")))?;
        let content = match (text, hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => crate::id::from_hex(&digits)
                .ok_or_else(|| Wrong::Said(format!("the `hex` of `{path}` is not hexadecimal")))?,
            _ => return Err(Wrong::Said(format!("`{path}` wants one of `text` and `hex`"))),
        };
        let mode = mode.as_deref().map_or(Ok(0o644), |mode| u32::from_str_radix(mode, 8));
        let mode = mode.map_err(|_| Wrong::Said(format!("the `mode` of `{path}` is not octal")))?;
        self.write(&path, &content, mode)?;
        self.map(&name, folder.as_deref().unwrap_or(&path), guest);
        Ok(())
    }

    fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Wrong> {
        let to = self.home.join(path);
        let parent = to.parent().unwrap_or(&self.home);
        let written = fs::create_dir_all(parent)
            .and_then(|()| fs::write(&to, content))
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(mode & 0o777)));
        written.map_err(|source| Wrong::File(to, source))
    }

    fn map(&mut self, name: &str, path: &str, guest: Option<String>) {
        let path = HostPath { path: format!("~/{path}"), guest, mode: None };
        let source = self.sources.entry(name.to_owned());
        let source = source.or_insert_with(|| HostFilesSource::Paths(Vec::new()));
        if let HostFilesSource::Paths(paths) = source
            && !paths.iter().any(|other| other.path == path.path)
        {
            paths.push(path);
        }
    }

    /// Something for each need that nothing was said about.
    fn fill_in(&mut self, manifest: &Manifest) -> Result<(), KitError> {
        let failed = |source| KitError::File { path: self.home.clone(), source };
        fs::create_dir_all(&self.home).map_err(failed)?;
        for (key, kind) in &manifest.settings {
            // A need may stand for all names in a setting.
            if *kind == SettingType::Texts && !self.settings.contains_key(key) {
                self.settings.insert(key.clone(), toml::Value::Array(Vec::new()));
            }
        }
        for (kind, what) in manifest.needs.iter().flat_map(|need| need.named()) {
            match kind {
                NeedKind::ReadHostFiles | NeedKind::ImportHostFiles => {
                    if !self.sources.contains_key(what) {
                        let path = format!("made-up/{what}.txt");
                        let text = format!("a made-up file for {what}\n");
                        self.write(&path, text.as_bytes(), 0o644).map_err(|wrong| match wrong {
                            Wrong::File(path, source) => KitError::File { path, source },
                            Wrong::Said(reason) => {
                                KitError::Fixtures { path: self.home.clone(), reason }
                            }
                        })?;
                        self.map(what, &path, Some(format!("made-up/{what}.txt")));
                    }
                }
                NeedKind::GitConfig if !what.starts_with('@') => {
                    let value = self.git.0.entry(git_key(what));
                    value.or_insert_with(|| format!("made-up {what}"));
                }
                NeedKind::GitConfig
                | NeedKind::WorkDisk
                | NeedKind::Env
                | NeedKind::Label
                | NeedKind::Forward
                | NeedKind::Egress
                | NeedKind::Run
                | NeedKind::State => {}
            }
        }
        Ok(())
    }
}

/// What is wrong with one file.
enum Wrong {
    Said(String),
    File(PathBuf, std::io::Error),
}

fn machine(raw: RawMachine) -> MachineView {
    MachineView {
        id: "0123456789ab".parse().expect("an id"),
        name: "made-up".parse().expect("a name"),
        plan: MachinePlan {
            image: "default".parse().expect("a name"),
            vcpu: 2,
            memory_mib: 512,
            disk_bytes: 16 << 30,
            root_disk_bytes: 8 << 30,
            net: NetMode::User,
            egress: Policy { mode: Mode::Allow, rules: Vec::new() },
        },
        labels: raw.labels,
        workspace: Some(raw.workspace.unwrap_or_else(|| "project".to_owned())),
    }
}

/// A guest in which every program ends well and says nothing, unless `test.toml` knows better.
pub(super) struct MadeUpGuest(pub(super) Vec<Program>);

impl GuestPrograms for MadeUpGuest {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        let known = self.0.iter().find(|known| known.name == program.program);
        let output = known.map_or_else(GuestOutput::default, |known| GuestOutput {
            status: known.status,
            stdout: known.stdout.clone().into_bytes(),
            stderr: known.stderr.clone().into_bytes(),
            truncated: false,
        });
        std::future::ready(Ok(output)).boxed()
    }
}
