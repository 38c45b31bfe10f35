//! `cove ports`: the sockets in a guest that wait for others, with their programs.

use crate::wire::guest::{Listening, ListeningSocket, Protocol};
use crate::wire::rpc::{VmPorts, VmRef};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::output::{Format, say, table};

/// Arguments of `cove ports`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let listening = client.call::<VmPorts>(VmRef { vm: self.vm }).await?;
        self.format.print(&listening, render)?;
        if listening.more {
            say("note: there are more than these");
        }
        Ok(0)
    }
}

/// The sockets as a table. Names of programs are the guest's; the table escapes them.
pub(super) fn render(listening: &Listening) -> String {
    let row = |socket: &ListeningSocket| {
        let nothing = || "-".to_owned();
        let protocol = match socket.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        [
            protocol.to_owned(),
            socket.address.to_string(),
            socket.port.to_string(),
            socket.pid.map_or_else(nothing, |pid| pid.to_string()),
            socket.program.clone().unwrap_or_else(nothing),
        ]
    };
    table(["PROTOCOL", "ADDRESS", "PORT", "PROCESS", "PROGRAM"], listening.sockets.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_cannot_speak_to_the_terminal() {
        let socket = |program: Option<&str>| ListeningSocket {
            protocol: Protocol::Tcp,
            port: 80,
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            pid: program.map(|_| 7),
            program: program.map(str::to_owned),
        };
        let sockets = vec![socket(Some("\u{1b}[2Jht\ntpd")), socket(None)];
        insta::assert_snapshot!(render(&Listening { sockets, more: false }), @r"
        PROTOCOL  ADDRESS  PORT  PROCESS  PROGRAM
        tcp       0.0.0.0  80    7        \u{1b}[2Jht\ntpd
        tcp       0.0.0.0  80    -        -
        ");
    }
}
