//! What a component imports, call by call over the handles.

use wasmtime::component::Resource;

use super::bindings::cove::hooks::{
    git_config, guest, host_files, log, machine, machine_request, settings, state, types, work_disk,
};
use crate::hooks::guest::{GuestOutput, GuestProgram};
use crate::hooks::handles::{
    CallError, FileWriter, GitConfig, GuestHandle, HostFile, HostFiles, Machine, MachineRequest,
    PluginState, Settings, WorkDisk,
};
use crate::hooks::log::LogLevel;
use crate::hooks::refusal::Refusal;
use crate::hooks::source::EntryKind;
use crate::hooks::state::State;
use crate::wire::guest::BlockPlace;

type Call<T> = Result<T, CallError>;
type Look<T> = wasmtime::Result<T>;

impl types::Host for State {
    fn convert_error(&mut self, error: CallError) -> Look<types::Error> {
        let Refusal { code, message, wanted: _ } = self.refuse(error)?;
        Ok(types::Error { code: code.to_owned(), message, retryable: false })
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> Look<()> {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warning => LogLevel::Warning,
            log::Level::Error => LogLevel::Error,
        };
        self.write_log(level, &message)
    }
}

impl machine::Host for State {}

impl machine::HostMachine for State {
    fn id(&mut self, machine: Resource<Machine>) -> Look<String> {
        Ok(self.machine(&machine)?.id.to_string())
    }

    fn name(&mut self, machine: Resource<Machine>) -> Look<String> {
        Ok(self.machine(&machine)?.name.to_string())
    }

    fn image(&mut self, machine: Resource<Machine>) -> Look<String> {
        Ok(self.machine(&machine)?.plan.image.to_string())
    }

    fn processors(&mut self, machine: Resource<Machine>) -> Look<u32> {
        Ok(self.machine(&machine)?.plan.vcpu)
    }

    fn memory_mib(&mut self, machine: Resource<Machine>) -> Look<u64> {
        Ok(self.machine(&machine)?.plan.memory_mib)
    }

    fn disk_bytes(&mut self, machine: Resource<Machine>) -> Look<u64> {
        Ok(self.machine(&machine)?.plan.disk_bytes)
    }

    fn network(&mut self, machine: Resource<Machine>) -> Look<String> {
        Ok(self.machine(&machine)?.plan.net.as_str().to_owned())
    }

    fn egress(&mut self, machine: Resource<Machine>) -> Look<String> {
        Ok(self.machine(&machine)?.plan.egress.mode.as_str().to_owned())
    }

    fn labels(&mut self, machine: Resource<Machine>) -> Look<Vec<(String, String)>> {
        let labels = self.machine(&machine)?.labels.iter();
        Ok(labels.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn workspace(&mut self, machine: Resource<Machine>) -> Look<Option<String>> {
        Ok(self.machine(&machine)?.workspace.clone())
    }

    fn drop(&mut self, machine: Resource<Machine>) -> Look<()> {
        self.let_go(machine)
    }
}

impl machine_request::Host for State {}

impl machine_request::HostMachineRequest for State {
    fn set_env(
        &mut self,
        request: Resource<MachineRequest>,
        name: String,
        value: String,
    ) -> Call<()> {
        self.request_env(&request, name, value)
    }

    fn set_label(
        &mut self,
        request: Resource<MachineRequest>,
        name: String,
        value: String,
    ) -> Call<()> {
        self.request_label(&request, name, value)
    }

    fn forward(
        &mut self,
        request: Resource<MachineRequest>,
        host_port: u16,
        guest_port: u16,
    ) -> Call<()> {
        self.request_forward(&request, host_port, guest_port)
    }

    fn allow_egress(&mut self, request: Resource<MachineRequest>, name: String) -> Call<()> {
        self.request_egress(&request, &name)
    }

    fn drop(&mut self, request: Resource<MachineRequest>) -> Look<()> {
        self.let_go(request)
    }
}

impl host_files::Host for State {}

impl host_files::HostHostFiles for State {
    fn entries(
        &mut self,
        files: Resource<HostFiles>,
        name: String,
    ) -> Call<Vec<Resource<HostFile>>> {
        self.host_entries(&files, name)
    }

    fn drop(&mut self, files: Resource<HostFiles>) -> Look<()> {
        self.let_go(files)
    }
}

impl host_files::HostHostFile for State {
    fn label(&mut self, file: Resource<HostFile>) -> Look<String> {
        Ok(self.host_file(&file)?.label.clone())
    }

    fn path(&mut self, file: Resource<HostFile>) -> Look<String> {
        Ok(self.host_file(&file)?.path.clone())
    }

    fn kind(&mut self, file: Resource<HostFile>) -> Look<host_files::Kind> {
        Ok(match self.host_file(&file)?.kind {
            EntryKind::File => host_files::Kind::File,
            EntryKind::Folder => host_files::Kind::Folder,
            EntryKind::Link => host_files::Kind::Link,
            EntryKind::Other => host_files::Kind::Other,
            EntryKind::Missing => host_files::Kind::Missing,
        })
    }

    fn size(&mut self, file: Resource<HostFile>) -> Look<u64> {
        Ok(self.host_file(&file)?.size)
    }

    fn mode(&mut self, file: Resource<HostFile>) -> Look<u32> {
        Ok(self.host_file(&file)?.mode)
    }

    fn guest_path(&mut self, file: Resource<HostFile>) -> Look<Option<String>> {
        Ok(self.host_file(&file)?.guest_path.clone())
    }

    fn guest_mode(&mut self, file: Resource<HostFile>) -> Look<Option<u32>> {
        Ok(self.host_file(&file)?.guest_mode)
    }

    fn read(&mut self, file: Resource<HostFile>, offset: u64, length: u32) -> Call<Vec<u8>> {
        self.host_read(&file, offset, length)
    }

    fn drop(&mut self, file: Resource<HostFile>) -> Look<()> {
        self.let_go(file)
    }
}

impl work_disk::Host for State {}

impl work_disk::HostWorkDisk for State {
    fn make_directory(&mut self, disk: Resource<WorkDisk>, path: String, mode: u32) -> Call<()> {
        self.disk_make_directory(&disk, &path, mode)
    }

    fn write_file(
        &mut self,
        disk: Resource<WorkDisk>,
        path: String,
        mode: u32,
        content: Vec<u8>,
    ) -> Call<()> {
        self.disk_write_file(&disk, &path, mode, content)
    }

    fn create(
        &mut self,
        disk: Resource<WorkDisk>,
        path: String,
        mode: u32,
    ) -> Call<Resource<FileWriter>> {
        self.disk_create(&disk, path, mode)
    }

    fn import_file(
        &mut self,
        disk: Resource<WorkDisk>,
        path: String,
        mode: u32,
        source: Resource<HostFile>,
    ) -> Call<()> {
        self.disk_import_file(&disk, &path, mode, &source)
    }

    fn ensure_block(
        &mut self,
        disk: Resource<WorkDisk>,
        path: String,
        mode: u32,
        marker: String,
        content: String,
        at: work_disk::Place,
    ) -> Call<()> {
        let at = match at {
            work_disk::Place::Start => BlockPlace::Start,
            work_disk::Place::End => BlockPlace::End,
        };
        self.disk_ensure_block(&disk, (&path, mode), (&marker, at), content)
    }

    fn remove(&mut self, disk: Resource<WorkDisk>, path: String) -> Call<()> {
        self.disk_remove(&disk, &path)
    }

    fn symlink(&mut self, disk: Resource<WorkDisk>, path: String, target: String) -> Call<()> {
        self.disk_symlink(&disk, &path, &target)
    }

    fn drop(&mut self, disk: Resource<WorkDisk>) -> Look<()> {
        self.let_go(disk)
    }
}

impl work_disk::HostFileWriter for State {
    fn write(&mut self, writer: Resource<FileWriter>, bytes: Vec<u8>) -> Call<()> {
        self.writer_write(&writer, bytes)
    }

    fn finish(&mut self, writer: Resource<FileWriter>) -> Call<()> {
        self.writer_finish(writer)
    }

    fn drop(&mut self, writer: Resource<FileWriter>) -> Look<()> {
        self.writer_drop(writer)
    }
}

impl git_config::Host for State {}

impl git_config::HostGitConfig for State {
    fn keys(&mut self, git: Resource<GitConfig>) -> Look<Vec<String>> {
        self.git_keys(&git)
    }

    fn get(&mut self, git: Resource<GitConfig>, key: String) -> Call<Option<String>> {
        self.git_value(&git, &key)
    }

    fn drop(&mut self, git: Resource<GitConfig>) -> Look<()> {
        self.let_go(git)
    }
}

impl settings::Host for State {}

impl settings::HostSettings for State {
    fn text(&mut self, settings: Resource<Settings>, key: String) -> Call<Option<String>> {
        self.setting_text(&settings, &key)
    }

    fn texts(&mut self, settings: Resource<Settings>, key: String) -> Call<Option<Vec<String>>> {
        self.setting_texts(&settings, &key)
    }

    fn number(&mut self, settings: Resource<Settings>, key: String) -> Call<Option<i64>> {
        self.setting_number(&settings, &key)
    }

    fn flag(&mut self, settings: Resource<Settings>, key: String) -> Call<Option<bool>> {
        self.setting_flag(&settings, &key)
    }

    fn json(&mut self, settings: Resource<Settings>) -> Look<String> {
        self.settings_json(&settings)
    }

    fn drop(&mut self, settings: Resource<Settings>) -> Look<()> {
        self.let_go(settings)
    }
}

impl state::Host for State {}

impl state::HostState for State {
    fn keys(&mut self, state: Resource<PluginState>) -> Call<Vec<String>> {
        self.state_keys(&state)
    }

    fn get(&mut self, state: Resource<PluginState>, key: String) -> Call<Option<Vec<u8>>> {
        self.state_get(&state, &key)
    }

    fn set(&mut self, state: Resource<PluginState>, key: String, value: Vec<u8>) -> Call<()> {
        self.state_set(&state, key, value)
    }

    fn remove(&mut self, state: Resource<PluginState>, key: String) -> Call<()> {
        self.state_remove(&state, &key)
    }

    fn drop(&mut self, state: Resource<PluginState>) -> Look<()> {
        self.let_go(state)
    }
}

impl guest::Host for State {}

impl guest::HostGuestSystem for State {
    async fn run(
        &mut self,
        guest: Resource<GuestHandle>,
        program: String,
        arguments: Vec<String>,
        folder: Option<String>,
        environment: Vec<(String, String)>,
        input: Vec<u8>,
    ) -> Call<guest::Output> {
        let program = GuestProgram::new(program, arguments, folder, environment, input);
        let GuestOutput { status, stdout, stderr, truncated } =
            self.guest_run(&guest, program).await?;
        Ok(guest::Output { status, stdout, stderr, truncated })
    }

    fn drop(&mut self, guest: Resource<GuestHandle>) -> Look<()> {
        self.let_go(guest)
    }
}
