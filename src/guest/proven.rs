//! Connections to agents that have been proven and wait for a request.
//!
//! ```text
//!  a program ends, a copy is made ── give ──▶ waiting ── take ──▶ the next program or copy
//!                                                │ UNUSED, or others have its place
//!                                                ▼
//!                                             closed
//! ```
//!
//! A new connection and its proof cost a guest that is emulated more than a short program does. A boot has
//! connections of its own: they are proven with its key.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::dial::Stream;
use crate::id::BootId;
use crate::task::Tasks;

/// Most connections that wait for one boot: commands that come one after the other need one.
const MAX_PER_BOOT: usize = 2;

/// Most connections that wait. Each is a descriptor of the daemon.
const MAX_WAITING: usize = 64;

/// How long one may wait. So long it holds a descriptor of the daemon, also when its machine is gone.
const UNUSED: Duration = Duration::from_secs(60);

/// The connections that wait. Clones share them.
#[derive(Clone)]
pub struct Proven {
    waiting: Arc<Mutex<Waiting>>,
    tasks: Tasks,
}

#[derive(Default)]
struct Waiting {
    /// The one that has waited longest comes first.
    connections: VecDeque<Connection>,
    /// Whether a task closes those that wait too long.
    watched: bool,
}

struct Connection {
    boot: BootId,
    since: Instant,
    stream: Stream,
}

impl Proven {
    /// None yet. What they need in the background is done in `tasks`.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self { waiting: Arc::default(), tasks }
    }

    /// The connection to this boot that was used last, if there is one whose other end is there, as far as is known, and
    /// has said nothing.
    pub(super) fn take(&self, boot: &BootId) -> Option<Stream> {
        loop {
            let mut stream = self.waiting().take(boot)?;
            if is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Lets a connection to this boot wait, on which nothing is under way. Outside of a runtime, where nobody would
    /// close it again, it is closed at once.
    pub(super) fn give(&self, boot: BootId, stream: Stream) {
        if Handle::try_current().is_err() {
            return;
        }
        let watched = {
            let mut waiting = self.waiting();
            waiting.add(Connection { boot, since: Instant::now(), stream });
            std::mem::replace(&mut waiting.watched, true)
        };
        if !watched {
            self.tasks.spawn_until_shutdown("unused connections", self.clone().watch());
        }
    }

    /// Closes those that wait too long, as long as any wait.
    async fn watch(self) {
        loop {
            let next = self.waiting().close_unused(Instant::now());
            let Some(next) = next else { return };
            sleep_until(next).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proven").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Waiting {
    fn take(&mut self, boot: &BootId) -> Option<Stream> {
        let at = self.connections.iter().rposition(|waiting| waiting.boot == *boot)?;
        self.connections.remove(at).map(|waiting| waiting.stream)
    }

    /// Adds one; those that have waited longest make room for it.
    fn add(&mut self, connection: Connection) {
        let boot = &connection.boot;
        let same = self.connections.iter().filter(|waiting| waiting.boot == *boot).count();
        if same >= MAX_PER_BOOT
            && let Some(oldest) = self.connections.iter().position(|waiting| waiting.boot == *boot)
        {
            self.connections.remove(oldest);
        }
        if self.connections.len() >= MAX_WAITING {
            self.connections.pop_front();
        }
        self.connections.push_back(connection);
    }

    /// Closes those that have waited too long by now. Returns when to look again; nobody watches when that is never.
    fn close_unused(&mut self, now: Instant) -> Option<Instant> {
        while self.connections.pop_front_if(|oldest| oldest.since + UNUSED <= now).is_some() {}
        let next = self.connections.front().map(|oldest| oldest.since + UNUSED);
        self.watched = next.is_some();
        next
    }
}

/// Whether the other end is there and has said nothing. Asked without the bound on a task's turns, which would look
/// like silence.
fn is_quiet(stream: &mut Stream) -> bool {
    unconstrained(stream.read(&mut [0])).now_or_never().is_none()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Lets a new connection wait, and returns its other end.
    fn give(proven: &Proven, boot: &BootId) -> DuplexStream {
        let (ours, theirs) = duplex(64);
        proven.give(boot.clone(), Box::new(ours));
        theirs
    }

    fn proven() -> Proven {
        Proven::new(Tasks::default())
    }

    /// Whether the daemon has closed a connection.
    fn is_closed(theirs: &mut DuplexStream) -> bool {
        theirs.read(&mut [0]).now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_last_one_is_taken_first_and_each_once() {
        let (proven, boot) = (proven(), BootId::random());
        assert!(proven.take(&boot).is_none());
        let (mut first, mut last) = (give(&proven, &boot), give(&proven, &boot));
        assert!(proven.take(&BootId::random()).is_none(), "it is another boot's");
        for theirs in [&mut last, &mut first] {
            let mut ours = proven.take(&boot).expect("one waits");
            ours.write_all(b"x").await.expect("written");
            assert_eq!(theirs.read_u8().await.expect("it is this one"), b'x');
        }
        assert!(proven.take(&boot).is_none());
    }

    #[tokio::test]
    async fn one_that_is_closed_or_speaks_unasked_is_not_used() {
        let (proven, boot) = (proven(), BootId::random());
        let mut quiet = give(&proven, &boot);
        drop(give(&proven, &boot));
        let mut ours = proven.take(&boot).expect("the quiet one");
        ours.write_all(b"x").await.expect("written");
        assert_eq!(quiet.read_u8().await.expect("read"), b'x');

        let mut loud = give(&proven, &boot);
        loud.write_all(b"!").await.expect("written");
        assert!(proven.take(&boot).is_none());
        assert!(is_closed(&mut loud));
    }

    #[tokio::test]
    async fn the_oldest_make_room() {
        let (proven, boot) = (proven(), BootId::random());
        let mut ends: Vec<_> = (0..=MAX_PER_BOOT).map(|_| give(&proven, &boot)).collect();
        let closed: Vec<_> = ends.iter_mut().map(is_closed).collect();
        assert_eq!(closed, [true, false, false]);
        let mut others: Vec<_> =
            (0..MAX_WAITING - 1).map(|_| give(&proven, &BootId::random())).collect();
        assert!(is_closed(&mut ends[1]) && !is_closed(&mut ends[2]));
        assert!(!others.iter_mut().any(is_closed));
        assert_eq!(proven.waiting().connections.len(), MAX_WAITING);
    }

    #[tokio::test(start_paused = true)]
    async fn none_waits_longer_than_it_may() {
        let (proven, boot) = (proven(), BootId::random());
        let mut first = give(&proven, &boot);
        tokio::time::sleep(UNUSED / 2).await;
        let mut second = give(&proven, &boot);
        for theirs in [&mut first, &mut second] {
            let given = Instant::now();
            assert_eq!(theirs.read(&mut [0]).await.expect("its end"), 0);
            assert!(given.elapsed().abs_diff(UNUSED / 2) < Duration::from_secs(1));
        }
        // And once more, when nobody watches any more.
        let mut third = give(&proven, &boot);
        let given = Instant::now();
        assert_eq!(third.read(&mut [0]).await.expect("its end"), 0);
        assert!(given.elapsed().abs_diff(UNUSED) < Duration::from_secs(1));
    }

    #[test]
    fn outside_of_a_runtime_none_waits() {
        let (proven, boot) = (proven(), BootId::random());
        let mut theirs = give(&proven, &boot);
        assert!(is_closed(&mut theirs) && proven.take(&boot).is_none());
    }
}
