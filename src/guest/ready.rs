//! Learning that a guest has begun to listen, without knocking in vain.
//!
//! `vhost-device-vsock` 0.3 stops for ever when a host connects in the moments in which the guest's
//! driver sets up its queues (its event loop ends with an error). So a booting guest is not knocked at:
//! its agent connects to [`READY_PORT`] of the host, which the device turns into a connection to the
//! Unix socket `NAME_1025` beside its own, and Firecracker does the same. A guest that does not announce
//! itself is never knocked at, however long its boot takes beside others: its agent tries again until
//! somebody has come, and the start has a deadline.

use std::io;
use std::time::Duration;

use tokio::net::UnixListener;

use super::dial::Dial;
use crate::process::ShortFolder;
use crate::wire::guest::READY_PORT;

/// How long to wait between attempts where knocking is harmless: the kernel's vsock, and a guest that
/// has announced itself.
const KNOCK: Duration = Duration::from_millis(20);

/// Waits for one guest's announcement.
pub(super) struct Announcement {
    /// The socket, its folder and its name; `None` once there is nothing to wait for.
    expected: Option<(UnixListener, ShortFolder, String)>,
}

impl Announcement {
    /// Listens for the guest that is reached by `dial`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn expect(dial: &Dial) -> io::Result<Self> {
        let expected = match dial {
            Dial::Vsock { .. } => None,
            Dial::Unix { folder, socket } => {
                let folder = ShortFolder::open(folder)?;
                let name = format!("{socket}_{READY_PORT}");
                remove(&folder, &name)?;
                let listener = UnixListener::bind(folder.path_of(&name))?;
                Some((listener, folder, name))
            }
        };
        Ok(Self { expected })
    }

    /// Waits until it is worth to knock.
    pub(super) async fn worth_a_knock(&mut self) {
        match &self.expected {
            None => tokio::time::sleep(KNOCK).await,
            Some((listener, _, _)) => {
                // Descriptors may be short for a moment.
                while listener.accept().await.is_err() {
                    tokio::time::sleep(KNOCK).await;
                }
                self.forget();
            }
        }
    }

    /// Nothing more is taken from the guest here.
    fn forget(&mut self) {
        if let Some((_, folder, name)) = self.expected.take() {
            // A socket that cannot be removed now goes with the VM's folder.
            remove(&folder, &name).ok();
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.forget();
    }
}

fn remove(folder: &ShortFolder, name: &str) -> io::Result<()> {
    match std::fs::remove_file(folder.path_of(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
