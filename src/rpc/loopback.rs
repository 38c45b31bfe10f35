//! A port of the loopback beside the Unix socket, for programs that cannot open one. Off by default.
//!
//! Anybody on this host can connect to a port, and so can every page in the user's browser. So whoever asks
//! has to show a token that only the daemon's user can read; the `Host` has to be a loopback's, so that a
//! name that somebody points at 127.0.0.1 leads nowhere (DNS rebinding); and an `Origin`, which browsers
//! send, has to be that same host.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode, header};
use jsonrpsee::server::{HttpBody, HttpResponse};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;

use super::front::refuse;
use super::server::ServeError;
use super::streams::Request;
use crate::wire::proof::nonce;

/// The length of a token: 256 random bits in hexadecimal.
const TOKEN_LENGTH: usize = 64;

/// The port's owner.
#[derive(Debug)]
pub struct Loopback {
    listener: TcpListener,
    gate: Arc<Gate>,
}

impl Loopback {
    /// Listens on an address of the loopback. The token is in the file `token`, which is made, with mode
    /// 0600, unless there is one that nobody else can have read or written.
    ///
    /// # Errors
    /// When the address is none of the loopback or taken, or the token cannot be read or made.
    pub async fn listen(address: SocketAddr, token: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Port { address, source };
        if !address.ip().is_loopback() {
            return Err(failed(io::ErrorKind::AddrNotAvailable.into()));
        }
        let secret = take_token(token)
            .map_err(|source| ServeError::Token { path: token.to_owned(), source })?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, gate: Arc::new(Gate { token: secret, address }) })
    }

    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// The address and port it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.gate.address
    }
}

/// Who may ask on the port.
pub(super) struct Gate {
    token: String,
    address: SocketAddr,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Gate {
    /// The answer to a request that is refused.
    pub(super) fn refusal(&self, request: &Request) -> Option<HttpResponse<HttpBody>> {
        let (status, why) = self.problem(request.headers())?;
        tracing::warn!(why, "refused a request on the loopback's port");
        let mut refusal = refuse(status, why);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = http::HeaderValue::from_static("Bearer");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        Some(refusal)
    }

    fn problem(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let host = match only(headers, header::HOST) {
            Ok(Some(host)) if self.is_own(host) => host,
            _ => return Some((StatusCode::FORBIDDEN, "the `Host` is none of this daemon's")),
        };
        match only(headers, header::ORIGIN) {
            Ok(None) => {}
            Ok(Some(origin)) if origin.strip_prefix("http://") == Some(host) => {}
            _ => return Some((StatusCode::FORBIDDEN, "the `Origin` is not this daemon")),
        }
        let shown = match only(headers, header::AUTHORIZATION) {
            Ok(Some(shown)) => shown.split_once(' ').unwrap_or_default(),
            _ => ("", ""),
        };
        let is_bearer = shown.0.eq_ignore_ascii_case("bearer");
        let same = self.token.as_bytes().ct_eq(shown.1.trim().as_bytes());
        if is_bearer && bool::from(same) {
            return None;
        }
        Some((StatusCode::UNAUTHORIZED, "show the daemon's token: `Authorization: Bearer TOKEN`"))
    }

    fn is_own(&self, host: &str) -> bool {
        let names = ["localhost", "127.0.0.1", "[::1]"]
            .map(|name| format!("{name}:{}", self.address.port()));
        let own = self.address.to_string();
        names.iter().chain([&own]).any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// A header that must not be there twice: which of them counts is a matter of taste.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// The token in this file, which is made where there is none that is ours alone.
fn take_token(path: &Path) -> io::Result<String> {
    match read_token(path) {
        Ok(Some(token)) => return Ok(token),
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = nonce();
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    std::fs::remove_file(&fresh).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(token.as_bytes())?;
    std::fs::rename(&fresh, path)?;
    Ok(token)
}

/// The token, if the file holds one and has been private.
fn read_token(path: &Path) -> io::Result<Option<String>> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !metadata.is_file() || !is_ours || metadata.mode() & 0o077 != 0 {
        return Ok(None);
    }
    let mut token = String::new();
    file.take(TOKEN_LENGTH as u64 + 1).read_to_string(&mut token)?;
    let is_token = token.len() == TOKEN_LENGTH && token.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(is_token.then_some(token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_stays_as_long_as_it_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let first = take_token(&path).expect("made");
        assert_eq!(first.len(), TOKEN_LENGTH);
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        assert_eq!(take_token(&path).expect("read"), first);
        let public = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, public).expect("ours");
        let second = take_token(&path).expect("made anew");
        assert_ne!(second, first);
        std::fs::write(&path, "too short").expect("written");
        let third = take_token(&path).expect("made anew");
        assert!(third != second && take_token(&path).expect("read") == third);
        let left: Vec<_> = folder.path().read_dir().expect("readable").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
