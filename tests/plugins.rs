//! The plugin `env-file` as a component in the hook host: what it asks a machine to be, and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cove::egress::Policy;
use cove::hooks::{
    Asked, Ceiling, GitValues, HookError, HookHost, HookInputs, HookOutcome, HookSettings,
    MachineView, Purpose, SignatureRules,
};
use cove::id::PluginId;
use cove::wire::rpc::{GrantHook, MachinePlan, NetMode};

/// What the plugin asks for.
const NEEDS: [&str; 2] = ["host-files.read:env-file", "machine.env:@variables"];
const FILE: &str = "export URL=https://api.example.org\nTOKEN='t0ken-marker'\nOTHER=0ther-marker\n";

/// A user with the plugin and a file of variables.
struct User {
    folder: tempfile::TempDir,
    host: HookHost,
    inputs: HookInputs,
}

impl User {
    /// The user names these variables, and grants these needs.
    async fn new(variables: &[&str], needs: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("guest.env"), FILE).expect("written");
        let settings = HookSettings {
            standard_folder: path("standard"),
            registry_folder: path("plugins"),
            cache_folder: target().join("test-plugin-cache"),
            state_folder: path("state"),
            log_folder: path("log"),
            compiler: PathBuf::from(env!("CARGO_BIN_EXE_coved")),
            grants: Vec::new(),
            ceiling: Ceiling::default(),
            signatures: SignatureRules::default(),
            disabled: BTreeSet::new(),
        };
        let host = HookHost::open(settings).await.expect("the engine starts");
        // Where `scripts/build-plugins.sh --examples` puts it.
        host.install(&target().join("test-plugins/env-file")).await.expect("installed");
        let plugin: PluginId = "env-file".parse().expect("an id");
        let mapped = ("env-file".to_owned(), vec!["~/guest.env".to_owned()]);
        let grant = GrantHook {
            plugin: plugin.clone(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            host_files: BTreeMap::from([mapped]),
            release: None,
        };
        host.grant(grant).await.expect("granted");
        let variables = variables.iter().map(|name| toml::Value::from(*name)).collect::<Vec<_>>();
        let table = toml::Table::from_iter([("variables".to_owned(), variables.into())]);
        let inputs = HookInputs {
            purpose: Purpose::Act,
            machine: Some(machine()),
            home: folder.path().to_owned(),
            host_files: BTreeMap::new(),
            git: GitValues::default(),
            settings: BTreeMap::from([(plugin, table)]),
        };
        Self { folder, host, inputs }
    }

    async fn run(&self) -> Result<(Asked, Vec<HookOutcome>), HookError> {
        self.host.configure_machine(&self.inputs).await
    }

    /// What is said when it fails.
    async fn failure(&self) -> String {
        self.run().await.expect_err("it must fail").to_string()
    }
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder")
}

fn machine() -> MachineView {
    MachineView {
        id: "0123456789ab".parse().expect("an id"),
        name: "web".parse().expect("a name"),
        plan: MachinePlan {
            image: "default".parse().expect("a name"),
            vcpu: 2,
            memory_mib: 512,
            disk_bytes: 1 << 30,
            root_disk_bytes: 1 << 30,
            net: NetMode::None,
            egress: Policy::default(),
        },
        labels: BTreeMap::new(),
        workspace: None,
    }
}

#[tokio::test]
async fn only_named_variables_go_in_and_no_value_is_told() {
    let user = User::new(&["URL", "TOKEN", "SALT"], &NEEDS).await;
    let (asked, hooks) = user.run().await.expect("it works");
    let env: Vec<_> =
        asked.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("TOKEN", "t0ken-marker"), ("URL", "https://api.example.org")]);
    let log = format!("{:?} {:?}", hooks[0].log, hooks[0].lines);
    assert!(log.contains("`SALT` is not in") && !log.contains("marker"), "{log}");
}

#[tokio::test]
async fn a_withheld_need_and_a_missing_file_are_said() {
    let failure = User::new(&["TOKEN"], &NEEDS[1..]).await.failure().await;
    assert!(failure.contains("not granted") && failure.contains("env-file"), "{failure}");
    let failure = User::new(&["TOKEN"], &NEEDS[..1]).await.failure().await;
    assert!(failure.contains("machine.env"), "{failure}");
    let user = User::new(&["TOKEN"], &NEEDS).await;
    fs::remove_file(user.folder.path().join("guest.env")).expect("removed");
    let failure = user.failure().await;
    assert!(failure.contains("--map env-file=PATH"), "{failure}");
}

#[tokio::test]
async fn a_malformed_file_and_a_reserved_name_are_refused_without_the_secret() {
    let user = User::new(&["TOKEN"], &NEEDS).await;
    let malformed = "URL=x\nTOKEN='t0ken-marker\n";
    fs::write(user.folder.path().join("guest.env"), malformed).expect("written");
    let failure = user.failure().await;
    assert!(failure.contains("after the line of `URL`"), "{failure}");
    assert!(!failure.contains("marker"), "{failure}");
    let user = User::new(&["PATH"], &NEEDS).await;
    fs::write(user.folder.path().join("guest.env"), "PATH=/marker\n").expect("written");
    let failure = user.failure().await;
    assert!(failure.contains("PATH") && !failure.contains("marker"), "{failure}");
}
