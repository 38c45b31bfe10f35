//! The command line: one file per command, and what they share.
//!
//! A client of the RPC like any other: it knows the wire types and the client, and nothing of VMs'
//! insides. It never ends the process itself; [`main`] returns the exit status.
//!
//! stdout carries data only, stderr progress and messages. `run`, `exec` and `ssh` show the exit status of the
//! remote command and 125 for every failure of their own; all other commands show the status of the
//! failure's kind (`report::Kind::exit_status`). Nothing is coloured, so colour cannot carry meaning.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

use crate::report::Kind;
use crate::wire::rpc::{VmRestart, VmStart};

use failure::{Failure, Statuses};

mod batch;
mod bench;
mod completion;
mod config;
mod connect;
mod console;
mod cp;
mod create;
mod daemon;
mod delete;
mod doctor;
mod events;
mod exec;
mod failure;
mod forward;
mod help;
mod hook;
mod image;
mod kernel;
mod kill;
mod list;
mod logs;
mod machine;
mod net;
mod op;
mod operation;
mod output;
mod ports;
mod progress;
mod proxy;
mod prune;
mod repository;
mod run;
mod session;
mod set;
mod show;
mod signals;
mod ssh;
mod start;
mod stats;
mod stdio;
mod stop;
mod terminal;
mod touch;
mod typing;
mod version;
mod workspace;

/// The exit status when the reader of stdout went away: what a shell shows for SIGPIPE.
const STDOUT_CLOSED: u8 = 128 + 13;

/// A private Linux machine for a developer or a coding agent, in about a second.
#[derive(Debug, Parser)]
#[command(
    name = "cove",
    version,
    color = clap::ColorChoice::Never,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a VM, start it, and open a shell in it or run a command
    Run(Box<run::Arguments>),
    /// Make a VM without starting it
    Create(create::Arguments),
    /// Start VMs
    Start(start::Arguments),
    /// Stop VMs: their guests power off
    Stop(stop::Arguments),
    /// Stop VMs that run, then start them: another boot
    Restart(start::Arguments),
    /// Stop VMs at once, as if their power was cut
    Kill(kill::Arguments),
    /// Delete VMs with their disks
    Delete(delete::Arguments),
    /// Delete the VMs that are not running
    Prune(prune::Arguments),
    /// Say that VMs are being used, so that they do not stop by themselves
    Touch(touch::Arguments),
    /// Change what a VM is: processors, memory, disk, labels, when it stops by itself, what it may reach
    Set(set::Arguments),
    /// List VMs
    #[command(visible_aliases = ["ls", "ps"])]
    List(list::Arguments),
    /// Show one VM
    Show(show::Arguments),
    /// Show what VMs use, on the host and inside
    Stats(stats::Arguments),
    /// List the sockets in a VM that wait for others, with their programs
    Ports(ports::Arguments),
    /// Have ports of a VM at ports of this host until Ctrl-C
    Forward(forward::Arguments),
    /// Run a command, or a shell, in a running VM; detached with `-d`
    Exec(exec::Arguments),
    /// Copy a file or a folder out of a running VM, or into it
    Cp(cp::Arguments),
    /// Open an ssh session in a running VM, with the ssh of this host
    Ssh(ssh::Arguments),
    /// Print what lets ssh, scp, rsync, git and editors find VMs as NAME.cove, or put it into ~/.ssh/config
    SshConfig(ssh::config::Arguments),
    /// Join stdin and stdout with an ssh server in a VM: what ssh runs as its ProxyCommand
    Proxy(proxy::Arguments),
    /// Show the console of a VM
    Logs(logs::Arguments),
    /// Show what has happened to VMs, operations and hooks
    Events(events::Arguments),
    /// Show the console of a VM as it is written, until the VM stops
    Console(console::Arguments),
    /// Take work out of VMs, and see what has changed there
    #[command(subcommand)]
    Workspace(workspace::Command),
    /// Say and see what a VM may reach, and what it was refused
    #[command(subcommand)]
    Net(net::Command),
    /// Look at operations: long pieces of work
    #[command(subcommand)]
    Op(op::Command),
    /// Check whether this host can run VMs
    Doctor(doctor::Arguments),
    /// Look at hooks, install and grant them: plugins that decide what enters a guest
    #[command(subcommand)]
    Hook(hook::Command),
    /// Look at images
    #[command(subcommand)]
    Image(image::Command),
    /// Look at kernels
    #[command(subcommand)]
    Kernel(kernel::Command),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Start, stop and look at the daemon
    #[command(subcommand)]
    Daemon(daemon::Command),
    /// Measure how fast cove is here, beside the bare monitor
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print the script that completes cove's commands and VM names in a shell
    Completion(completion::Arguments),
    /// Print the version
    Version(version::Arguments),
    /// Print help on a command, or the tree of all commands
    Help(help::Arguments),
}

impl Command {
    fn statuses(&self) -> Statuses {
        match self {
            Self::Run(_) | Self::Ssh(_) => Statuses::OfRemote,
            Self::Exec(arguments) => arguments.statuses(),
            Self::Create(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::Restart(_)
            | Self::Kill(_)
            | Self::Delete(_)
            | Self::Prune(_)
            | Self::Touch(_)
            | Self::Set(_)
            | Self::List(_)
            | Self::Show(_)
            | Self::Stats(_)
            | Self::Ports(_)
            | Self::Forward(_)
            | Self::Cp(_)
            | Self::SshConfig(_)
            | Self::Proxy(_)
            | Self::Logs(_)
            | Self::Events(_)
            | Self::Console(_)
            | Self::Workspace(_)
            | Self::Net(_)
            | Self::Op(_)
            | Self::Doctor(_)
            | Self::Hook(_)
            | Self::Image(_)
            | Self::Kernel(_)
            | Self::Config(_)
            | Self::Daemon(_)
            | Self::Bench(_)
            | Self::Completion(_)
            | Self::Version(_)
            | Self::Help(_) => Statuses::OfKind,
        }
    }

    async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Run(arguments) => arguments.run().await,
            Self::Create(arguments) => arguments.run().await,
            Self::Start(arguments) => arguments.run::<VmStart>().await,
            Self::Stop(arguments) => arguments.run().await,
            Self::Restart(arguments) => arguments.run::<VmRestart>().await,
            Self::Kill(arguments) => arguments.run().await,
            Self::Delete(arguments) => arguments.run().await,
            Self::Prune(arguments) => arguments.run().await,
            Self::Touch(arguments) => arguments.run().await,
            Self::Set(arguments) => arguments.run().await,
            Self::List(arguments) => arguments.run().await,
            Self::Show(arguments) => arguments.run().await,
            Self::Stats(arguments) => arguments.run().await,
            Self::Ports(arguments) => arguments.run().await,
            Self::Forward(arguments) => arguments.run().await,
            Self::Exec(arguments) => arguments.run().await,
            Self::Cp(arguments) => arguments.run().await,
            Self::Ssh(arguments) => arguments.run().await,
            Self::SshConfig(arguments) => arguments.run(),
            Self::Proxy(arguments) => arguments.run().await,
            Self::Logs(arguments) => arguments.run().await,
            Self::Events(arguments) => arguments.run().await,
            Self::Console(arguments) => arguments.run().await,
            Self::Workspace(command) => command.run().await,
            Self::Net(command) => command.run().await,
            Self::Op(command) => command.run().await,
            Self::Doctor(arguments) => arguments.run().await,
            Self::Hook(command) => command.run().await,
            Self::Image(command) => command.run().await,
            Self::Kernel(command) => command.run().await,
            Self::Config(command) => command.run().await,
            Self::Daemon(command) => command.run().await,
            Self::Bench(command) => command.run().await,
            Self::Completion(arguments) => arguments.run(),
            Self::Version(arguments) => arguments.run(),
            Self::Help(arguments) => arguments.run(&Arguments::command()),
        }
    }
}

/// Runs the command line with these arguments (the program's name first) and returns its exit status.
/// To be called before any thread is made: shells ask for completions through the environment.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match completion::answer(&arguments, Arguments::command) {
        Ok(completion::Asked::No) => {}
        Ok(completion::Asked::AndAnswered) => return 0,
        Err(error) => return usage(&error, Statuses::OfKind),
    }
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error, statuses_of(&arguments)),
    };
    let statuses = parsed.command.statuses();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failure::show(&output::failed("cannot start", &error), statuses),
    };
    let ended = runtime.block_on(parsed.command.run());
    // A read of stdin that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(status) => status,
        Err(failure) => failed(&failure, statuses),
    }
}

fn failed(failure: &Failure, statuses: Statuses) -> u8 {
    match failure {
        Failure::StdoutClosed => STDOUT_CLOSED,
        Failure::Interrupted => Kind::Cancelled.exit_status(),
        Failure::Report(report) => failure::show(report, statuses),
    }
}

/// Which exit statuses a command line shows that could not be parsed.
fn statuses_of(arguments: &[OsString]) -> Statuses {
    let argument = |place: usize| arguments.get(place).and_then(|argument| argument.to_str());
    match (argument(1), argument(2)) {
        (Some("exec"), Some("list")) => Statuses::OfKind,
        (Some("run" | "exec" | "ssh"), _) => Statuses::OfRemote,
        (Some(_) | None, _) => Statuses::OfKind,
    }
}

/// Shows what clap has to say: help and version on stdout, wrong usage on stderr.
fn usage(error: &clap::Error, statuses: Statuses) -> u8 {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return match output::print(&text) {
            Ok(()) => 0,
            Err(failure) => failed(&failure, statuses),
        };
    }
    output::say(text.trim_end());
    match statuses {
        Statuses::OfKind => {}
        Statuses::OfRemote => output::say("\nkind: invalid"),
    }
    failure::status(Kind::Invalid, statuses)
}

#[cfg(test)]
mod tests;
