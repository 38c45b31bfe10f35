//! Methods about workspaces, and the byte stream of an export.

use std::fs::File;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::methods::{Catalog, add};
use crate::report::Report;
use crate::wire::frame::{Frame, FrameCodec, MAX_PAYLOAD};
use crate::wire::guest::Reply;
use crate::wire::rpc;

/// How long a client may take to put an export into a safe place once it has all of it.
const SAFE: Duration = Duration::from_secs(600);

/// What the daemon does with workspaces.
#[async_trait]
pub trait WorkspaceRuns: Send + Sync {
    /// Begins to put a repository into a VM that runs.
    async fn prepare(&self, wanted: rpc::WorkspacePrepare) -> Result<rpc::Operation, Report>;
    /// Makes an export.
    async fn export(&self, wanted: rpc::WorkspaceExport) -> Result<Exported, Report>;
    /// Puts the work into the source repository, or says what that would write there.
    async fn apply(&self, wanted: rpc::WorkspaceApply) -> Result<rpc::WorkspaceApplied, Report>;
    /// How a workspace is.
    async fn state(&self, wanted: &str) -> Result<rpc::WorkspaceState, Report>;
}

/// An export that was made.
pub struct Exported {
    /// What is to be read of it.
    pub stream: ExportStream,
    /// The tree that was seen in the guest.
    pub tree: String,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The bytes of an export.
pub struct ExportStream {
    /// The file that has them, at its beginning.
    pub file: File,
    /// How many there are.
    pub bytes: u64,
    /// Writes down that the client has them.
    pub taken: BoxFuture<'static, Result<(), Report>>,
}

impl ExportStream {
    /// Carries them to the client, and hears whether it has them.
    pub(super) async fn carry(
        self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    ) -> io::Result<()> {
        let mut frames = Framed::new(client, FrameCodec::default());
        let mut file = tokio::fs::File::from_std(self.file);
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(MAX_PAYLOAD / 2);
            let read = file.read_buf(&mut (&mut buffer).limit(MAX_PAYLOAD / 2)).await?;
            if read == 0 {
                break;
            }
            frames.send(Frame::Data(buffer.split().freeze())).await?;
        }
        frames.send(Frame::DataEnd).await?;
        let said = timeout(SAFE, frames.next()).await?;
        match said.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))? {
            Frame::DataEnd => {}
            other => return Err(io::Error::other(format!("a {} frame came", other.name()))),
        }
        let reply = match self.taken.await {
            Ok(()) => Reply::Done,
            Err(report) => {
                let step = "write down that this was exported".to_owned();
                Reply::Failed { step, message: report.one_line() }
            }
        };
        frames.send(Frame::control(&reply)?).await
    }
}

pub(super) fn add_all(module: &mut Catalog) {
    add::<rpc::VmWorkspacePrepare, _, _>(module, |context, wanted, _| async move {
        context.services.workspaces.prepare(wanted).await
    });
    add::<rpc::VmWorkspaceExport, _, _>(module, |context, wanted, _| async move {
        let exported = context.services.workspaces.export(wanted).await?;
        let (bytes, tree, notes) = (exported.stream.bytes, exported.tree, exported.notes);
        let ticket = context.tickets.give(exported.stream).ticket;
        Ok(rpc::WorkspaceExported { ticket, bytes, tree, notes })
    });
    add::<rpc::VmWorkspaceApply, _, _>(module, |context, wanted, _| async move {
        context.services.workspaces.apply(wanted).await
    });
    add::<rpc::VmWorkspaceStatus, _, _>(module, |context, wanted, _| async move {
        context.services.workspaces.state(&wanted.vm).await
    });
}
