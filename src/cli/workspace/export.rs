//! `cove workspace export`: a patch of what was done in a VM, or that applied.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::report::{Kind, Report, escape_control};
use crate::rpc::client::Export;
use crate::wire::rpc::{ApplyHow, ExportWhat, VmWorkspaceExport, WorkspaceExport};

use super::super::completion::vm_names;
use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::{self, say, tell, write};
use super::super::signals::Signals;
use super::apply::{self, Consent};
use super::on_the_way;

/// Arguments of `cove workspace export`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// The difference to this commit of the source repository, instead of to what went in
    #[arg(long, value_name = "COMMIT")]
    base: Option<String>,
    /// Print only the names of what has changed, quoted as git does
    #[arg(long)]
    name_only: bool,
    /// Write to this file, which appears whole or not at all
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the commits made since it went in to this file, as a git bundle
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "name_only", "output"])]
    bundle: Option<PathBuf>,
    /// Print control characters as they are, also on a terminal
    #[arg(long)]
    raw: bool,
    /// Put the work into the files of the source repository, if all that it touches are as they were
    #[arg(long, conflicts_with_all = ["base", "name_only", "output", "bundle", "raw"])]
    apply: bool,
    /// Merge where they are not as they were; what does not fit together is marked in the file
    #[arg(long = "3way", requires = "apply")]
    three_way: bool,
    /// Do not ask
    #[arg(short, long, requires = "apply")]
    yes: bool,
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        if self.apply {
            let client = connect().await?;
            let how = if self.three_way { ApplyHow::ThreeWay } else { ApplyHow::AsItWas };
            let consent = if self.yes { Consent::Given } else { Consent::Ask };
            return apply::run(&client, self.vm, how, consent).await;
        }
        let mut signals = Signals::listen()?;
        tokio::select! {
            // Dropping it leaves nothing behind: the daemon throws its export away, and the new file is removed.
            exported = self.export() => exported.map(|()| 0),
            _ = signals.interruption() => Err(Failure::Interrupted),
        }
    }

    async fn export(&self) -> Result<(), Failure> {
        let what = match (self.name_only, &self.bundle) {
            (_, Some(_)) => ExportWhat::Bundle,
            (true, None) => ExportWhat::Names,
            (false, None) => ExportWhat::Patch,
        };
        let vm = &self.vm;
        let failed = |report| {
            let what = format!("cannot export the work in `{vm}`");
            on_the_way(report, &what, &format!("nothing in `{vm}` was touched"))
        };
        let client = connect().await?;
        let wanted = WorkspaceExport { vm: vm.clone(), base: self.base.clone(), what };
        let exported = client.call::<VmWorkspaceExport>(wanted).await.map_err(failed)?;
        tell(&exported.notes);
        let export = client.open_export(&exported).await.map_err(failed)?;
        let export = match self.output.as_ref().or(self.bundle.as_ref()) {
            Some(file) => to_file(export, file, failed).await?,
            None => to_stdout(export, self.raw || !io::stdout().is_terminal(), failed).await?,
        };
        export.confirm().await.map_err(failed)?;
        if exported.bytes == 0 && what == ExportWhat::Patch {
            say("nothing has changed");
        }
        Ok(())
    }
}

/// What a guest wrote is escaped on terminals, line by line, as it may be of any size.
async fn to_stdout(
    mut export: Export,
    raw: bool,
    broken: impl Fn(Report) -> Report,
) -> Result<Export, Failure> {
    let mut line = Vec::new();
    while let Some(bytes) = export.next().await.map_err(&broken)? {
        if raw {
            put_out(bytes).await?;
            continue;
        }
        let mut escaped = String::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                escaped.push_str(&escape_control(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        }
        put_out(escaped.into()).await?;
    }
    let rest = escape_control(&String::from_utf8_lossy(&line)).into_bytes();
    put_out(rest.into()).await?;
    Ok(export)
}

/// Writes to stdout beside the runtime: whoever is to read may not, and a signal must end that.
async fn put_out(bytes: Bytes) -> Result<(), Failure> {
    let written = tokio::task::spawn_blocking(move || write(&bytes)).await;
    written.map_err(|error| output::failed("cannot write to stdout", &error))?
}

/// The file is beside its place until it is whole and on the disk.
async fn to_file(
    mut export: Export,
    file: &Path,
    broken: impl Fn(Report) -> Report,
) -> Result<Export, Failure> {
    let failed = |error: &dyn std::error::Error| {
        let message = format!("cannot write `{}`", file.display());
        Report::new(Kind::Failed, message)
            .with_cause(error)
            .with_hint("the work counts as unexported; export it to another place")
    };
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".cove-export-")
        .tempfile_in(folder)
        .map_err(|error| failed(&error))?;
    while let Some(bytes) = export.next().await.map_err(&broken)? {
        new.write_all(&bytes).map_err(|error| failed(&error))?;
    }
    new.as_file().sync_all().map_err(|error| failed(&error))?;
    new.persist(file).map_err(|error| failed(&error.error))?;
    keep_name(folder).map_err(|error| failed(&error))?;
    Ok(export)
}

/// Waits until the names in a folder are on the disk, where that can be waited for: some file systems have no such
/// thing, and who may write a folder may not read it.
fn keep_name(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}
