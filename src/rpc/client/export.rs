//! Reading an export of a workspace.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};

use super::{ByteStream, Client};
use crate::report::{Kind, Report};
use crate::wire::frame::Frame;
use crate::wire::guest::Reply;
use crate::wire::rpc::{StreamTicket, WorkspaceExported};

/// An export that is being read. Dropped before [`Export::confirm`], the work counts as unexported.
#[derive(Debug)]
pub struct Export(ByteStream);

impl Client {
    /// Opens an export.
    ///
    /// # Errors
    /// When the daemon refuses the ticket or cannot be reached.
    pub async fn open_export(&self, exported: &WorkspaceExported) -> Result<Export, Report> {
        let ticket = StreamTicket { ticket: exported.ticket.clone() };
        Ok(Export(self.open_stream(&ticket).await?))
    }
}

impl Export {
    /// The next bytes; none when that was all.
    ///
    /// # Errors
    /// When the daemon breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Report> {
        let broken = |error: &io::Error| {
            let message = "the export broke off before its end";
            Report::new(Kind::Unreachable, message)
                .with_cause(error)
                .with_hint("the work counts as unexported; export it again")
        };
        let frame = self.0.next().await;
        let frame = frame.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        match frame.map_err(|error| broken(&error))? {
            Frame::Data(bytes) => Ok(Some(bytes)),
            Frame::DataEnd => Ok(None),
            other => Err(broken(&io::Error::other(format!("a {} frame came", other.name())))),
        }
    }

    /// Tells the daemon that all of it is in a safe place, and waits until that is written down.
    ///
    /// # Errors
    /// When it could not be.
    pub async fn confirm(mut self) -> Result<(), Report> {
        let told = async {
            self.0.send(Frame::DataEnd).await?;
            let said = self.0.next().await;
            match said.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?.message()? {
                Reply::Done => Ok(()),
                Reply::Failed { message, .. } => Err(io::Error::other(message)),
                _ => Err(io::Error::other("it answered something else")),
            }
        };
        told.await.map_err(|error: io::Error| {
            let message = "the export is whole, but the daemon did not write down that it was made";
            Report::new(Kind::Failed, message)
                .with_cause(&error)
                .with_hint("the work counts as unexported; export it again")
        })
    }
}
