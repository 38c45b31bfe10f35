//! From the console's socket into the ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::id::VmId;
use crate::task::blocking;
use crate::vmm::console::Ring;

/// Reads until the monitor ends. When the ring cannot be written (the disk is full) the guest's output
/// is dropped, and said so once: a console must never hold up a guest.
pub(super) async fn run(
    vm: VmId,
    mut console: UnixStream,
    mut ring: Ring,
    printed: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut failed = false;
    loop {
        let read = match console.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        printed.fetch_add(read as u64, Ordering::Relaxed);
        let text = buffer[..read].to_vec();
        let append = move || {
            let appended = ring.append(&text);
            (ring, appended)
        };
        let appended;
        (ring, appended) = blocking(append).await;
        match appended {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                tracing::warn!(%vm, %error, "the console's output is being dropped");
                failed = true;
            }
            Err(_) => {}
        }
    }
}
