//! Giving the guest its identity: clock, entropy, names, keys. What is not in its image.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::time::ClockId;

use super::beneath::Beneath;
use super::failure::{During, Failure};
use crate::block;
use crate::wire::guest::{BlockPlace, Network, Setup, SshHostKey};

/// The longest `/etc/hosts` that is kept.
const MAX_HOSTS: u64 = 1 << 20;

/// The marker of cove's lines in `/etc/hosts`.
const HOSTS_MARKER: &str = "cove";

/// How much entropy is taken at once.
const ENTROPY_CHUNK: usize = 512;

/// Sets clock, entropy and hostname of the running kernel.
///
/// # Errors
/// Names what could not be set.
pub fn kernel(setup: &Setup) -> Result<(), Failure> {
    let (seconds, nanoseconds) = (
        setup.unix_time_ns.div_euclid(1_000_000_000),
        setup.unix_time_ns.rem_euclid(1_000_000_000),
    );
    nix::time::clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanoseconds))
        .during("set the clock")?;
    add_entropy(&setup.entropy).during("take the host's entropy")?;
    nix::unistd::sethostname(&setup.hostname).during("set the hostname")
}

/// Writes the identity's files below `root`.
///
/// # Errors
/// Names the file that could not be written.
pub fn files(root: &Beneath, setup: &Setup) -> Result<(), Failure> {
    let write = |path: &str, content: &str, mode| {
        root.replace(Path::new(path), content.as_bytes(), mode).during(format!("write `/{path}`"))
    };
    write("etc/hostname", &format!("{}\n", setup.hostname), 0o644)?;
    hosts(root, &setup.hostname).during("write `/etc/hosts`")?;
    if let Some(Network { resolver, .. }) = &setup.network {
        write("etc/resolv.conf", &format!("nameserver {resolver}\n"), 0o644)?;
    }
    if let Some(SshHostKey { private, public }) = &setup.ssh_host_key {
        write("etc/ssh/ssh_host_ed25519_key", private, 0o600)?;
        write("etc/ssh/ssh_host_ed25519_key.pub", public, 0o644)?;
    }
    Ok(())
}

fn hosts(root: &Beneath, hostname: &str) -> io::Result<()> {
    let path = Path::new("etc/hosts");
    let old = root.read(path, MAX_HOSTS)?;
    let old = old.unwrap_or_else(|| b"127.0.0.1 localhost\n::1 localhost\n".to_vec());
    let names = format!("127.0.1.1 {hostname}\n");
    let new = block::ensure(&old, HOSTS_MARKER, names.as_bytes(), BlockPlace::End)
        .map_err(io::Error::other)?;
    root.replace(path, &new, 0o644)
}

/// Gives hexadecimal random bytes to the kernel and has them counted.
///
/// # Errors
/// When they are not hexadecimal, or the kernel refuses.
pub fn add_entropy(text: &str) -> io::Result<()> {
    let bytes = unhex(text)?;
    let device = File::open("/dev/urandom")?;
    bytes.chunks(ENTROPY_CHUNK).try_for_each(|chunk| add_chunk(&device, chunk))
}

#[expect(unsafe_code, reason = "no library here has the call that counts entropy")]
fn add_chunk(device: &File, chunk: &[u8]) -> io::Result<()> {
    /// `struct rand_pool_info` of `linux/random.h`.
    #[repr(C)]
    struct Pool {
        entropy_bits: libc::c_int,
        bytes: libc::c_int,
        pool: [u8; ENTROPY_CHUNK],
    }
    let length = libc::c_int::try_from(chunk.len()).map_err(io::Error::other)?;
    let mut pool = Pool { entropy_bits: length * 8, bytes: length, pool: [0; ENTROPY_CHUNK] };
    pool.pool[..chunk.len()].copy_from_slice(chunk);
    // `RNDADDENTROPY` is _IOW('R', 3, int[2]).
    let request = nix::request_code_write!(b'R', 3, size_of::<[libc::c_int; 2]>());
    // SAFETY: the call reads the header and `bytes` bytes behind it, all inside `pool`.
    match unsafe { libc::ioctl(device.as_raw_fd(), request as _, &raw const pool) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unhex(text: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is not hexadecimal");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => {
                Ok(digit(*high).ok_or_else(wrong)? << 4 | digit(*low).ok_or_else(wrong)?)
            }
            _ => Err(wrong()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::id::VmId;

    fn setup() -> Setup {
        Setup {
            vm: VmId::random(),
            hostname: "web".to_owned(),
            unix_time_ns: 0,
            entropy: String::new(),
            network: Some(Network {
                mac: "02:00:00:00:00:01".to_owned(),
                address: [10, 0, 2, 15].into(),
                prefix: 24,
                gateway: [10, 0, 2, 2].into(),
                resolver: [10, 0, 2, 3].into(),
                mtu: 1500,
                ipv6: None,
            }),
            ssh_host_key: Some(SshHostKey {
                private: "private\n".to_owned(),
                public: "public\n".to_owned(),
            }),
            steps: 0,
        }
    }

    #[test]
    fn files_are_written_again_without_losing_what_people_added() {
        let root = tempfile::tempdir().expect("tempdir");
        fs::create_dir(root.path().join("etc")).expect("made");
        fs::write(root.path().join("etc/hosts"), "10.1.1.1 mine\n").expect("written");
        fs::write(root.path().join("target"), "kept").expect("written");
        symlink("/target", root.path().join("etc/resolv.conf")).expect("linked");
        let opened = Beneath::open(root.path()).expect("opens");
        for _ in 0..2 {
            files(&opened, &setup()).expect("written");
        }
        let text = |path: &str| fs::read_to_string(root.path().join(path)).expect(path);
        assert_eq!(text("etc/hostname"), "web\n");
        assert_eq!(
            text("etc/hosts"),
            "10.1.1.1 mine\n# >>> cove >>>\n127.0.1.1 web\n# <<< cove <<<\n"
        );
        assert_eq!(text("etc/resolv.conf"), "nameserver 10.0.2.3\n");
        assert_eq!(text("target"), "kept", "a link is replaced, not followed");
        assert_eq!(text("etc/ssh/ssh_host_ed25519_key"), "private\n");
        let key = fs::metadata(root.path().join("etc/ssh/ssh_host_ed25519_key")).expect("there");
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn entropy_is_hexadecimal() {
        assert_eq!(unhex("00ffA5").expect("parses"), [0, 255, 0xa5]);
        assert!(unhex("0").is_err() && unhex("0g").is_err() && unhex("ä").is_err());
    }
}
