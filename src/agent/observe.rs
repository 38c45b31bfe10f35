//! Looking at the guest the agent runs in: how busy it is, and who listens in it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use procfs::net::{TcpState, tcp, tcp6, udp, udp6};
use procfs::process::{FDTarget, all_processes};
use procfs::{Current, LoadAverage, Meminfo, ProcError, ProcResult};

use super::failure::{During, Failure};
use crate::wire::guest::{
    FileSystemStats, GuestStats, Listening, ListeningSocket, MAX_SOCKETS, Protocol,
};

/// How many processes, and how many open files of one, are looked at for the owners of sockets.
const MAX_PROCESSES: usize = 4096;
const MAX_FILES: usize = 65_536;

/// How busy and how full the guest is, whose home lies on the work disk.
///
/// # Errors
/// Names what could not be read.
pub fn stats(home: &Path, uptime_ms: u64) -> Result<GuestStats, Failure> {
    let load = LoadAverage::current().during("read the load")?;
    let memory = Meminfo::current().during("read the memory's state")?;
    Ok(GuestStats {
        uptime_ms,
        load_1m: load.one,
        load_5m: load.five,
        load_15m: load.fifteen,
        memory_bytes: memory.mem_total,
        memory_available_bytes: memory.mem_available.unwrap_or(memory.mem_free),
        work_disk: file_system(home)?,
        root_disk: file_system(Path::new("/"))?,
    })
}

fn file_system(place: &Path) -> Result<FileSystemStats, Failure> {
    let there = statvfs(place).during(format!("look at `{}`", place.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(there.fragment_size());
    Ok(FileSystemStats {
        bytes: bytes(there.blocks()),
        available_bytes: bytes(there.blocks_available()),
    })
}

/// The sockets that wait for others, with the programs that have them open.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub fn listening() -> Result<Listening, Failure> {
    let mut found = Vec::new();
    for table in [tcp(), tcp6()] {
        let table = present(table).during("read the table of TCP sockets")?;
        let listens = table.into_iter().filter(|entry| entry.state == TcpState::Listen);
        found
            .extend(listens.map(|entry| (socket(Protocol::Tcp, entry.local_address), entry.inode)));
    }
    for table in [udp(), udp6()] {
        let table = present(table).during("read the table of UDP sockets")?;
        let bound = table.into_iter().filter(|entry| entry.remote_address.port() == 0);
        found.extend(bound.map(|entry| (socket(Protocol::Udp, entry.local_address), entry.inode)));
    }
    found.sort_unstable();
    let more = found.len() > MAX_SOCKETS;
    found.truncate(MAX_SOCKETS);
    let owners = owners(found.iter().map(|(_, inode)| *inode));
    let sockets = found.into_iter().map(|(socket, inode)| match owners.get(&inode) {
        Some(Some((pid, program))) => {
            ListeningSocket { pid: Some(*pid), program: Some(program.clone()), ..socket }
        }
        Some(None) | None => socket,
    });
    Ok(Listening { sockets: sockets.collect(), more })
}

/// A kernel without IPv6 has no tables of it.
fn present<T>(table: ProcResult<Vec<T>>) -> ProcResult<Vec<T>> {
    match table {
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        Err(ProcError::Io(error, _)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        table => table,
    }
}

fn socket(protocol: Protocol, address: SocketAddr) -> ListeningSocket {
    let (port, address) = (address.port(), address.ip());
    ListeningSocket { protocol, port, address, pid: None, program: None }
}

/// Which process has each of these sockets open, by inode. Processes come and go meanwhile: one that
/// cannot be looked at is left out.
fn owners(inodes: impl Iterator<Item = u64>) -> HashMap<u64, Option<(i32, String)>> {
    let mut owners: HashMap<_, _> = inodes.map(|inode| (inode, None)).collect();
    let mut open = owners.len();
    let processes = all_processes().into_iter().flatten().flatten().take(MAX_PROCESSES);
    for process in processes {
        if open == 0 {
            break;
        }
        let files = process.fd().into_iter().flatten().flatten().take(MAX_FILES);
        for file in files {
            let FDTarget::Socket(inode) = file.target else { continue };
            if let Some(owner @ None) = owners.get_mut(&inode)
                && let Ok(stat) = process.stat()
            {
                *owner = Some((process.pid, stat.comm));
                open -= 1;
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_with_its_program() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let bound = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let connected = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = bound.local_addr().expect("bound");
        connected.connect(address).expect("connects");
        let found = listening().expect("reads").sockets;
        let own = i32::try_from(std::process::id()).expect("a pid");
        let find = |protocol, port| {
            found.iter().find(|socket| socket.protocol == protocol && socket.port == port)
        };
        let tcp = find(Protocol::Tcp, listener.local_addr().expect("bound").port());
        let tcp = tcp.expect("it listens");
        assert_eq!((tcp.pid, tcp.address.is_loopback()), (Some(own), true));
        assert!(tcp.program.as_ref().is_some_and(|name| !name.is_empty()));
        assert_eq!(find(Protocol::Udp, address.port()).and_then(|udp| udp.pid), Some(own));
        let port = connected.local_addr().expect("bound").port();
        assert_eq!(find(Protocol::Udp, port), None, "it waits for one other only");
    }

    #[test]
    fn stats_are_those_of_the_kernel() {
        let stats = stats(&std::env::temp_dir(), 7).expect("reads");
        assert_eq!(stats.uptime_ms, 7);
        assert!(stats.memory_available_bytes <= stats.memory_bytes && stats.memory_bytes > 0);
        assert!(stats.work_disk.available_bytes <= stats.work_disk.bytes);
        assert!(stats.root_disk.bytes > 0 && stats.load_1m >= 0.0);
        let error = super::stats(Path::new("/nowhere"), 7).expect_err("not there");
        assert_eq!(error.step, "look at `/nowhere`");
    }
}
