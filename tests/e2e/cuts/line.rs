//! The connections between a daemon and one guest, so that they can be cut.
//!
//! ```text
//!  coved ──▶ vsock.sock: this ──▶ vsock.uncut: the machine's vsock device ──▶ agent
//! ```
//!
//! The device's socket gets another name, and this listens under its own: nothing of cove knows.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// One connection that is carried: the daemon's end and the device's.
#[derive(Debug)]
struct Carried {
    ends: [UnixStream; 2],
    over: AtomicBool,
}

impl Carried {
    /// Ends it for both, and returns whether it was still there.
    fn end(&self) -> bool {
        let was_there = !self.over.swap(true, Ordering::SeqCst);
        // The other side may have gone by itself.
        self.ends.iter().for_each(|end| end.shutdown(Shutdown::Both).unwrap_or_default());
        was_there
    }
}

/// What lies between.
#[derive(Debug)]
pub(super) struct Line {
    socket: PathBuf,
    device: PathBuf,
    open: Arc<Mutex<Vec<Arc<Carried>>>>,
}

impl Line {
    /// Lays it between the daemon and the vsock device whose socket is in a VM's folder. It is there until the
    /// test's process ends, or [`Line::lift`].
    pub(super) fn lay(folder: &Path) -> Self {
        let (socket, device) = (folder.join("vsock.sock"), folder.join("vsock.uncut"));
        fs::rename(&socket, &device).expect("the device listens");
        let listener = UnixListener::bind(&socket).expect("bound");
        let line = Self { socket, device, open: Arc::default() };
        let (device, open) = (line.device.clone(), line.open.clone());
        std::thread::spawn(move || {
            for daemon in listener.incoming() {
                // One that cannot be made is refused, as the device would.
                if let Ok(carried) = daemon.and_then(|daemon| carry(daemon, &device)) {
                    let mut open = open.lock().expect("no thread panics");
                    open.retain(|carried| !carried.over.load(Ordering::SeqCst));
                    open.push(carried);
                }
            }
        });
        line
    }

    /// Cuts all connections, and returns how many there were.
    pub(super) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().expect("no thread panics"));
        open.iter().filter(|carried| carried.end()).count()
    }

    /// Takes it away: the machine's own socket is in its place again.
    pub(super) fn lift(&self) {
        fs::rename(&self.device, &self.socket).expect("put back");
    }
}

fn carry(daemon: UnixStream, device: &Path) -> io::Result<Arc<Carried>> {
    let ends = [daemon, UnixStream::connect(device)?];
    let carried = Arc::new(Carried { ends, over: AtomicBool::new(false) });
    for (from, to) in [(0, 1), (1, 0)] {
        let carried = carried.clone();
        std::thread::spawn(move || {
            // However it ends, it has ended.
            io::copy(&mut &carried.ends[from], &mut &carried.ends[to]).ok();
            carried.end();
        });
    }
    Ok(carried)
}
