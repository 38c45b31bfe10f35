//! The daemon.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use cove::config::{Paths, log_filter, search_path};
use cove::report::{Explain, Report};
use cove::{daemon, disk, hooks, net, process};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == net::keeper::ARGUMENT => net::keeper::main(arguments),
        Some(first) if first == hooks::compiler::ARGUMENT => hooks::compiler::main(arguments),
        Some(first) if first == disk::reader::ARGUMENT => disk::reader::main(arguments),
        Some(first) if first == "--ready-fd" => serve(arguments.next()),
        None => serve(None),
        Some(_) => {
            tell("usage: coved [--ready-fd NUMBER]");
            ExitCode::from(2)
        }
    }
}

/// Runs the daemon in the foreground. Whoever started it hears on a descriptor that it is ready, or why
/// it is not: one byte `1`, or a report in JSON.
fn serve(ready: Option<OsString>) -> ExitCode {
    let number = ready.and_then(|number| number.to_str()?.parse().ok());
    let mut ready = number.and_then(|number| process::inherited(number).ok()).map(File::from);
    let failed = |report: &Report, ready: &mut Option<File>| {
        match ready {
            // Nobody may be listening any more; the exit status says it too.
            Some(ready) => serde_json::to_writer(ready, report).unwrap_or_default(),
            None => tell(&format!("coved: {}", report.one_line())),
        }
        ExitCode::from(report.kind.exit_status())
    };
    let paths = match Paths::from_environment() {
        Ok(paths) => paths,
        Err(error) => return failed(&Report::of(&error), &mut ready),
    };
    match run(paths, &mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => failed(&report, &mut ready),
    }
}

fn run(paths: Paths, ready: &mut Option<File>) -> Result<(), Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Report::new(cove::report::Kind::Failed, error.to_string()))?;
    runtime.block_on(async {
        daemon::raise_descriptor_limit();
        // Before anything is written there, the log included.
        let home = daemon::take_home(&paths.home).map_err(|error| Report::of(&error))?;
        daemon::log::start(&paths.log, &log_filter());
        let built = daemon::build(home, paths, search_path()).await;
        let daemon = built.map_err(|error| explained(&error))?;
        daemon::end_on_signals(&daemon.tasks());
        if let Some(mut ready) = ready.take() {
            // A client that has gone away does not need to know.
            ready.write_all(b"1").unwrap_or_default();
        }
        daemon.run().await;
        Ok(())
    })
}

fn explained(error: &impl Explain) -> Report {
    let report = Report::of(error);
    tracing::error!(error = report.one_line(), "cannot start");
    report
}

#[expect(clippy::print_stderr, reason = "a daemon run by hand speaks to its terminal")]
fn tell(text: &str) {
    eprintln!("{text}");
}
