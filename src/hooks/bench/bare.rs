//! The floor: a bare loop of wasmtime that runs the same component on the same engine, with host functions
//! that do nothing, and with no limit, no record and no plan.

use wasmtime::component::{
    Component, HasSelf, Instance, InstancePre, Linker, Resource, ResourceTable,
};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/0.2.0",
        world: "prepare-work-disk-plugin",
        exports: { default: async },
    });
}

use bindings::PrepareWorkDiskPlugin as Plugin;
use bindings::cove::hooks::{
    git_config, host_files, log, machine, settings, state, types, work_disk,
};
use bindings::exports::cove::hooks::prepare_work_disk::GuestIndices;

/// The data of a bare store.
struct Nobody {
    wasi: WasiCtx,
    table: ResourceTable,
    /// How many keys the git configuration has.
    keys: u32,
}

impl WasiView for Nobody {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A component in the bare loop.
pub(super) struct Bare {
    pre: InstancePre<Nobody>,
    hook: GuestIndices,
}

impl Bare {
    pub(super) fn new(component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(component.engine());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        Plugin::add_to_linker::<Nobody, HasSelf<Nobody>>(&mut linker, |nobody| nobody)?;
        let pre = linker.instantiate_pre(component)?;
        let hook = GuestIndices::new(&pre)?;
        Ok(Self { pre, hook })
    }

    fn store(&self, keys: u32) -> Store<Nobody> {
        let wasi = WasiCtx::builder().build();
        let nobody = Nobody { wasi, table: ResourceTable::new(), keys };
        let mut store = Store::new(self.pre.engine(), nobody);
        // The code is compiled to look at it, so it must be somewhere.
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }

    /// A store with an instance.
    pub(super) async fn instantiate(&self) -> wasmtime::Result<()> {
        let mut store = self.store(0);
        self.instance(&mut store).await.map(drop)
    }

    async fn instance(&self, store: &mut Store<Nobody>) -> wasmtime::Result<Instance> {
        self.pre.instantiate_async(store).await
    }

    /// A whole call, with a git configuration of so many keys.
    pub(super) async fn call(&self, keys: u32) -> wasmtime::Result<()> {
        let mut store = self.store(keys);
        let instance = self.instance(&mut store).await?;
        let hook = self.hook.load(&mut store, &instance)?;
        let said = hook.call_run(
            &mut store,
            Resource::new_borrow(1),
            Resource::new_borrow(2),
            Resource::new_borrow(3),
            Resource::new_borrow(4),
            Resource::new_borrow(5),
            Resource::new_borrow(6),
        );
        said.await?.map_err(|error| wasmtime::Error::msg(error.message))
    }
}

/// Loads compiled code from a file, as the bare loop does it.
#[expect(unsafe_code, reason = "the floor of loading what the cache has just been seen to hold")]
pub(super) fn load(engine: &Engine, file: &std::path::Path) -> wasmtime::Result<()> {
    // SAFETY: the file was written by the benchmark itself, from code that its own compiler made, into a
    // folder that only this user can write.
    let component = unsafe { Component::deserialize_file(engine, file) }?;
    Bare::new(&component).map(drop)
}

type Answer<T> = Result<T, types::Error>;

impl types::Host for Nobody {}
impl machine::Host for Nobody {}
impl host_files::Host for Nobody {}
impl work_disk::Host for Nobody {}
impl git_config::Host for Nobody {}
impl settings::Host for Nobody {}
impl state::Host for Nobody {}

impl log::Host for Nobody {
    fn log(&mut self, _: log::Level, _: String) {}
}

impl machine::HostMachine for Nobody {
    fn id(&mut self, _: Resource<machine::Machine>) -> String {
        String::new()
    }
    fn name(&mut self, _: Resource<machine::Machine>) -> String {
        String::new()
    }
    fn image(&mut self, _: Resource<machine::Machine>) -> String {
        String::new()
    }
    fn processors(&mut self, _: Resource<machine::Machine>) -> u32 {
        0
    }
    fn memory_mib(&mut self, _: Resource<machine::Machine>) -> u64 {
        0
    }
    fn disk_bytes(&mut self, _: Resource<machine::Machine>) -> u64 {
        0
    }
    fn network(&mut self, _: Resource<machine::Machine>) -> String {
        String::new()
    }
    fn egress(&mut self, _: Resource<machine::Machine>) -> String {
        String::new()
    }
    fn labels(&mut self, _: Resource<machine::Machine>) -> Vec<(String, String)> {
        Vec::new()
    }
    fn workspace(&mut self, _: Resource<machine::Machine>) -> Option<String> {
        None
    }
    fn drop(&mut self, _: Resource<machine::Machine>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl host_files::HostHostFiles for Nobody {
    fn entries(
        &mut self,
        _: Resource<host_files::HostFiles>,
        _: String,
    ) -> Answer<Vec<Resource<host_files::HostFile>>> {
        Ok(Vec::new())
    }
    fn drop(&mut self, _: Resource<host_files::HostFiles>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl host_files::HostHostFile for Nobody {
    fn label(&mut self, _: Resource<host_files::HostFile>) -> String {
        String::new()
    }
    fn path(&mut self, _: Resource<host_files::HostFile>) -> String {
        String::new()
    }
    fn kind(&mut self, _: Resource<host_files::HostFile>) -> host_files::Kind {
        host_files::Kind::Missing
    }
    fn size(&mut self, _: Resource<host_files::HostFile>) -> u64 {
        0
    }
    fn mode(&mut self, _: Resource<host_files::HostFile>) -> u32 {
        0
    }
    fn guest_path(&mut self, _: Resource<host_files::HostFile>) -> Option<String> {
        None
    }
    fn guest_mode(&mut self, _: Resource<host_files::HostFile>) -> Option<u32> {
        None
    }
    fn read(&mut self, _: Resource<host_files::HostFile>, _: u64, _: u32) -> Answer<Vec<u8>> {
        Ok(Vec::new())
    }
    fn drop(&mut self, _: Resource<host_files::HostFile>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl work_disk::HostWorkDisk for Nobody {
    fn make_directory(
        &mut self,
        _: Resource<work_disk::WorkDisk>,
        _: String,
        _: u32,
    ) -> Answer<()> {
        Ok(())
    }
    fn write_file(
        &mut self,
        _: Resource<work_disk::WorkDisk>,
        _: String,
        _: u32,
        _: Vec<u8>,
    ) -> Answer<()> {
        Ok(())
    }
    fn create(
        &mut self,
        _: Resource<work_disk::WorkDisk>,
        _: String,
        _: u32,
    ) -> Answer<Resource<work_disk::FileWriter>> {
        Ok(Resource::new_own(7))
    }
    fn import_file(
        &mut self,
        _: Resource<work_disk::WorkDisk>,
        _: String,
        _: u32,
        _: Resource<host_files::HostFile>,
    ) -> Answer<()> {
        Ok(())
    }
    fn ensure_block(
        &mut self,
        _: Resource<work_disk::WorkDisk>,
        _: String,
        _: u32,
        _: String,
        _: String,
        _: work_disk::Place,
    ) -> Answer<()> {
        Ok(())
    }
    fn remove(&mut self, _: Resource<work_disk::WorkDisk>, _: String) -> Answer<()> {
        Ok(())
    }
    fn symlink(&mut self, _: Resource<work_disk::WorkDisk>, _: String, _: String) -> Answer<()> {
        Ok(())
    }
    fn drop(&mut self, _: Resource<work_disk::WorkDisk>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl work_disk::HostFileWriter for Nobody {
    fn write(&mut self, _: Resource<work_disk::FileWriter>, _: Vec<u8>) -> Answer<()> {
        Ok(())
    }
    fn finish(&mut self, _: Resource<work_disk::FileWriter>) -> Answer<()> {
        Ok(())
    }
    fn drop(&mut self, _: Resource<work_disk::FileWriter>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl git_config::HostGitConfig for Nobody {
    fn keys(&mut self, _: Resource<git_config::GitConfig>) -> Vec<String> {
        (0..self.keys).map(super::key).collect()
    }
    fn get(&mut self, _: Resource<git_config::GitConfig>, _: String) -> Answer<Option<String>> {
        Ok(Some(super::VALUE.to_owned()))
    }
    fn drop(&mut self, _: Resource<git_config::GitConfig>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl settings::HostSettings for Nobody {
    fn text(&mut self, _: Resource<settings::Settings>, _: String) -> Answer<Option<String>> {
        Ok(None)
    }
    fn texts(&mut self, _: Resource<settings::Settings>, _: String) -> Answer<Option<Vec<String>>> {
        Ok(None)
    }
    fn number(&mut self, _: Resource<settings::Settings>, _: String) -> Answer<Option<i64>> {
        Ok(None)
    }
    fn flag(&mut self, _: Resource<settings::Settings>, _: String) -> Answer<Option<bool>> {
        Ok(None)
    }
    fn json(&mut self, _: Resource<settings::Settings>) -> String {
        "{}".to_owned()
    }
    fn drop(&mut self, _: Resource<settings::Settings>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl state::HostState for Nobody {
    fn keys(&mut self, _: Resource<state::State>) -> Answer<Vec<String>> {
        Ok(Vec::new())
    }
    fn get(&mut self, _: Resource<state::State>, _: String) -> Answer<Option<Vec<u8>>> {
        Ok(None)
    }
    fn set(&mut self, _: Resource<state::State>, _: String, _: Vec<u8>) -> Answer<()> {
        Ok(())
    }
    fn remove(&mut self, _: Resource<state::State>, _: String) -> Answer<()> {
        Ok(())
    }
    fn drop(&mut self, _: Resource<state::State>) -> wasmtime::Result<()> {
        Ok(())
    }
}
