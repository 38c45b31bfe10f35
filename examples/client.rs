//! A client of the daemon: lists VMs, makes one, follows what happens, runs a command in it, prints the
//! command's output, and deletes the VM.
//!
//! ```sh
//! cove daemon start
//! cargo run --no-default-features --features client --example client -- "$COVE_HOME/run/coved.sock"
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::path::Path;
use std::process::ExitCode;

use cove::report::{Report, escape_control};
use cove::rpc::client::Client;
use cove::wire::rpc::{
    CreateVm, DeleteVm, EventQuery, EventSubscription, ExecVm, Happening, NetMode, OpSubscription,
    OperationEnd, OperationRef, Page, VmCreate, VmDelete, VmList,
};

/// The most that is kept of the command's output, in bytes.
const MOST: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(socket) = std::env::args_os().nth(1) else {
        eprintln!("usage: client SOCKET");
        return ExitCode::from(2);
    };
    match run(Path::new(&socket)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("error: {}", escape_control(&report.one_line()));
            report.hint.inspect(|hint| eprintln!("hint: {}", escape_control(hint)));
            ExitCode::from(report.kind.exit_status())
        }
    }
}

async fn run(socket: &Path) -> Result<(), Report> {
    let client = Client::connect(socket).await.map_err(|error| Report::of(&error))?;
    let page = client.call::<VmList>(Page::default()).await?;
    println!("{} VMs", page.vms.len());

    let mut events = client.subscribe::<EventSubscription>(EventQuery::default()).await?;
    let vm = create(&client).await?;
    let program = ExecVm {
        vm: vm.clone(),
        argv: ["uname", "-sm"].map(str::to_owned).into(),
        env: std::collections::BTreeMap::new(),
        cwd: None,
        tty: None,
    };
    let output = client.output(program, MOST).await?;
    println!("status {}", output.status.shell_status());
    println!("stdout {}", escape_control(String::from_utf8_lossy(&output.stdout).trim_end()));

    client.call::<VmDelete>(DeleteVm::whatever(&vm)).await?;
    // What has happened meanwhile, up to the end of this VM.
    while let Some(event) = events.next().await {
        let event = event?;
        match event.what {
            Happening::VmState { vm_name, state, .. } => println!("event {vm_name} {state:?}"),
            Happening::VmDeleted { vm: deleted, vm_name } if deleted.as_str() == vm => {
                println!("event {vm_name} deleted");
                break;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes a VM that goes away with this program, follows its start, and returns its id.
async fn create(client: &Client) -> Result<String, Report> {
    let wanted = CreateVm { net: Some(NetMode::None), lease: true, ..CreateVm::default() };
    let operation = client.call::<VmCreate>(wanted).await?;
    let reference = OperationRef { operation: operation.id };
    let mut progress = client.subscribe::<OpSubscription>(reference).await?;
    let mut shown = 0;
    while let Some(now) = progress.next().await {
        let now = now?;
        for stage in now.stages.iter().skip(shown) {
            println!("stage {}", stage.name);
        }
        shown = now.stages.len();
        match now.end {
            None => {}
            Some(OperationEnd::Done { vm }) => return Ok(vm.id.to_string()),
            Some(OperationEnd::Failed { error, .. }) => return Err(error),
        }
    }
    Err(Report::new(cove::report::Kind::Unreachable, "the daemon ended before the start did"))
}
