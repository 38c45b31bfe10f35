//! The seam: a made-up version 0.3.0, its adapter over the same handles, a component made for it, and both
//! versions side by side in one start.

use std::fs;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, Resource};

use super::{Answer, Call, Contract, Exports, KNOWN, PluginError, v0_2::V0_2};
use crate::hooks::handles::{CallError, WorkDisk};
use crate::hooks::host::HookHost;
use crate::hooks::log::LogLevel;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;
use crate::hooks::tests_support::{User, lines};
use crate::report::Explain as _;
use crate::wire::rpc::{HookEntry, HookPoint, HookRunQuery};

mod bindings {
    wasmtime::component::bindgen!({
        path: "src/hooks/contract/tests/0.3.0",
        world: "plugin",
        imports: { default: trappable },
        exports: { default: async },
        trappable_error_type: {
            "cove:hooks/types.error" => crate::hooks::handles::CallError,
        },
        with: {
            "cove:hooks/work-disk.work-disk": crate::hooks::handles::WorkDisk,
        },
    });
}

use bindings::cove::hooks::{log, types, work_disk};
use bindings::exports::cove::hooks::prepare_work_disk;

/// The made-up version.
struct V0_3;

/// What a cove would have that knows both.
const BOTH: &[&dyn Contract] = &[&V0_2, &V0_3];

impl Contract for V0_3 {
    fn version(&self) -> &'static str {
        "0.3.0"
    }

    fn offers(&self) -> &'static [&'static str] {
        &["types", "log", "work-disk"]
    }

    fn add_to_linker(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        bindings::Plugin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
    }

    fn exports(
        &self,
        component: &InstancePre<State>,
        points: &[HookPoint],
    ) -> wasmtime::Result<Box<dyn Exports>> {
        assert_eq!(points, [HookPoint::PrepareWorkDisk]);
        Ok(Box::new(Hook(prepare_work_disk::GuestIndices::new(component)?)))
    }
}

/// The one hook of a component.
struct Hook(prepare_work_disk::GuestIndices);

impl Exports for Hook {
    fn call<'a>(
        &'a self,
        store: &'a mut Store<State>,
        instance: &'a Instance,
        call: Call,
    ) -> BoxFuture<'a, wasmtime::Result<Result<Answer, PluginError>>> {
        async move {
            let Call::PrepareWorkDisk(_, disk, ..) = call else {
                panic!("the component has no other hook");
            };
            let hook = self.0.load(&mut *store, instance)?;
            let said = hook.call_run(store, disk).await?;
            let error = |types::Error { code, message, .. }| PluginError { code, message };
            Ok(said.map(|()| Answer::Nothing).map_err(error))
        }
        .boxed()
    }
}

impl types::Host for State {
    fn convert_error(&mut self, error: CallError) -> wasmtime::Result<types::Error> {
        let Refusal { code, message, .. } = self.refuse(error)?;
        Ok(types::Error { code: code.to_owned(), message, retryable: false })
    }
}

impl log::Host for State {
    fn say(&mut self, message: String) -> wasmtime::Result<()> {
        self.write_log(LogLevel::Warning, &message)
    }
}

impl work_disk::Host for State {}

impl work_disk::HostWorkDisk for State {
    fn write(
        &mut self,
        disk: Resource<WorkDisk>,
        path: String,
        content: Vec<u8>,
        mode: Option<u32>,
    ) -> Result<(), CallError> {
        self.disk_write_file(&disk, &path, mode.unwrap_or(0o600), content)
    }

    fn drop(&mut self, disk: Resource<WorkDisk>) -> wasmtime::Result<()> {
        self.let_go(disk)
    }
}

/// A component for version 0.3.0 that writes `hi` to a path and hands on what the host says to that. The
/// module is written by hand after the canonical ABI of the component model.
fn component(path: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
            (import "cove:hooks/log@0.3.0" "say" (func $say (param i32 i32)))
            (import "cove:hooks/work-disk@0.3.0" "[method]work-disk.write"
                (func $write (param i32 i32 i32 i32 i32 i32 i32 i32)))
            (import "cove:hooks/work-disk@0.3.0" "[resource-drop]work-disk" (func $drop (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{path}")
            (data (i32.const 512) "hi")
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                (global.get $free)
                (global.set $free (i32.add (global.get $free) (local.get 3))))
            (func (export "cove:hooks/prepare-work-disk@0.3.0#run") (param $disk i32) (result i32)
                (call $say (i32.const 512) (i32.const 2))
                (call $write (local.get $disk)
                    (i32.const 16) (i32.const {length})
                    (i32.const 512) (i32.const 2)
                    (i32.const 1) (i32.const 0x180)
                    (i32.const 1024))
                (call $drop (local.get $disk))
                (i32.const 1024)))"#,
        length = path.len(),
    );
    let mut module = wat::parse_str(module).expect("it is WebAssembly");
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir("src/hooks/contract/tests/0.3.0").expect("it is WIT");
    let world = resolve.select_world(&[package], Some("plugin")).expect("it has the world");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)
        .expect("it fits the world");
    let mut encoder = wit_component::ComponentEncoder::default();
    let encoder = encoder.module(&module).expect("a module");
    encoder.encode().expect("a component")
}

/// Installs it as a standard plugin that may write below `new/`.
fn install(user: &User, path: &str) {
    let folder = user.settings.standard_folder.join("newer");
    fs::create_dir_all(&folder).expect("made");
    let manifest = "[plugin]\nid = 'newer'\nversion = '1'\napi = 'cove:hooks@0.3'\ncomponent = 'plugin.wasm'\n[hooks.prepare-work-disk]\n[[need]]\nkind = 'work-disk'\npaths = ['new/**']\nreason = 'a test'\n";
    fs::write(folder.join("plugin.toml"), manifest).expect("written");
    fs::write(folder.join("plugin.wasm"), component(path)).expect("written");
}

async fn host(user: &User) -> HookHost {
    HookHost::open_for(user.settings.clone(), BOTH).await.expect("the engine starts")
}

#[tokio::test]
async fn two_versions_run_side_by_side() {
    let user = User::with_hostile_plugin("write");
    install(&user, "new/file");
    let host = host(&user).await;
    let run = host.prepare_work_disk(&user.inputs).await.expect("both run");
    let mut planned = lines(&run.plan.steps);
    planned.sort();
    assert_eq!(planned, ["write_file allowed/file 644 \"x\"", "write_file new/file 600 \"hi\""]);
    let newer = run.hooks.iter().find(|hook| hook.plugin.as_str() == "newer").expect("it ran");
    assert_eq!((newer.for_user(), newer.used.host_calls), (vec!["hi".to_owned()], 2));
    let records = host.runs(HookRunQuery::default()).await.expect("read").records;
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn rights_hold_below_both_adapters() {
    for (new, old, guilty) in [
        ("elsewhere/file", "write", "newer"),
        ("new/../../etc/passwd", "write", "newer"),
        ("new/file", "other-files", "hostile"),
    ] {
        let user = User::with_hostile_plugin(old);
        install(&user, new);
        let host = host(&user).await;
        let error = host.prepare_work_disk(&user.inputs).await.expect_err("refused").to_string();
        assert!(error.starts_with(&format!("plugin `{guilty}` failed in hook")), "{error}");
        assert!(error.contains("(not-granted)") || error.contains("(bad-path)"), "{error}");
        let records = host.runs(HookRunQuery::default()).await.expect("read").records;
        let denied = records.iter().any(|record| match &record.entry {
            HookEntry::Run(run) => {
                run.plugin.as_str() == guilty && run.outcome == "returned" && run.code.is_some()
            }
            _ => false,
        });
        assert!(denied, "{records:?}");
    }
}

#[tokio::test]
async fn a_component_for_a_version_that_this_cove_has_not_is_refused_by_name() {
    let user = User::new();
    install(&user, "new/file");
    let older = HookHost::open_for(user.settings.clone(), KNOWN).await.expect("the engine starts");
    let error = older.check().await.expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("`newer`") && text.contains("`cove:hooks@0.3`"), "{text}");
    assert!(text.contains("this cove has 0.2.0") && error.hint().is_some(), "{text}");
    // Not even with a manifest that lies about it.
    let manifest = user.settings.standard_folder.join("newer/plugin.toml");
    let lie = fs::read_to_string(&manifest).expect("there").replace("@0.3", "@0.2");
    fs::write(&manifest, lie).expect("written");
    let text = older.check().await.expect_err("refused").to_string();
    assert!(text.contains("cove:hooks/work-disk@0.3.0"), "{text}");
}
