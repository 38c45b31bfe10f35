//! How much clients may ask for: every bound of the server in one place.

/// The bounds of one server. The default is what the daemon runs with; tests set smaller ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once, byte streams and idle ones included: hundreds of `exec` on one machine,
    /// little enough to be held in memory.
    pub connections: u32,
    /// The same on the port of the loopback. Counted apart: anybody on this host can connect there, and
    /// must not keep the daemon's user from the socket by it.
    pub loopback: u32,
    /// Subscriptions of one connection.
    pub subscriptions: u32,
    /// Bytes of a request, or of a batch of them: an environment of the largest size allowed fits.
    pub request: u32,
    /// Bytes of a response, or of those to a batch: a page of VMs, or a console's ring, escaped.
    pub response: u32,
    /// Requests in one batch.
    pub batch: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            loopback: 64,
            subscriptions: 64,
            request: 10 << 20,
            response: 32 << 20,
            batch: 1000,
        }
    }
}
