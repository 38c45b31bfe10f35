//! Guests and repositories in memory.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::SinkExt as _;
use tokio::io::AsyncReadExt as _;
use tokio_util::codec::Framed;

use super::fault::PORT_DEADLINE;
use super::ports::Sim;
use super::world::folder;
use crate::id::{BootId, VmId};
use crate::report::{Kind, Report};
use crate::vm::plan::WorkDiskPlan;
use crate::vm::ports::{
    ByteStream, Checkout, Guest, GuestSystem, GuestTrees, NotTaken, PackedCheckout, PortResult,
    SurveyTake, TreeWrite,
};
use crate::wire::frame::{Frame, FrameCodec};
use crate::wire::guest::{
    CopyFiles, Exec, FileSystemStats, GuestStats, Health, Listening, ListeningSocket, Protocol,
    Reply, Setup, TreeChange,
};
use crate::wire::relay::relay;
use crate::wire::rpc::{VmWorkspace, WorkspaceMode, WorkspacePlan};
use crate::wire::survey::ListedBy;

/// How much one byte stream of a guest holds.
pub(super) const STREAM: usize = 64 * 1024;

/// The guest of one boot.
pub(crate) struct SimGuest {
    pub(super) sim: Sim,
    pub(super) vm: VmId,
    pub(super) boot: BootId,
}

impl SimGuest {
    /// Its monitor, when the guest answers. One that stands still does not, until a deadline.
    pub(super) async fn monitor(&self) -> PortResult<crate::process::ProcessId> {
        let mut stall = self.sim.world.watch_stall(&self.vm);
        let answers = tokio::time::timeout(PORT_DEADLINE, stall.wait_for(Option::is_none)).await;
        if answers.is_err() {
            return Err(Report::new(Kind::TimedOut, "the guest does not answer"));
        }
        let monitors = self.sim.world.monitors_of(&self.vm);
        let gone = || Report::new(Kind::Failed, "the guest does not answer");
        monitors.first().copied().ok_or_else(gone)
    }

    fn now(&self) -> Health {
        Health { boot_id: self.boot.clone(), ready: true, uptime_ms: 1 }
    }
}

#[async_trait]
impl GuestSystem for SimGuest {
    async fn stats(&self) -> PortResult<GuestStats> {
        let stats = async {
            self.monitor().await?;
            let disk = FileSystemStats { bytes: 1 << 30, available_bytes: 1 << 29 };
            Ok(GuestStats {
                uptime_ms: 1,
                load_1m: 0.5,
                load_5m: 0.25,
                load_15m: 0.0,
                memory_bytes: 256 << 20,
                memory_available_bytes: 128 << 20,
                work_disk: disk,
                root_disk: disk,
            })
        };
        self.sim.call("guest.stats", stats).await
    }

    async fn listening(&self) -> PortResult<Listening> {
        let listening = async {
            self.monitor().await?;
            let socket = ListeningSocket {
                protocol: Protocol::Tcp,
                port: 8080,
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                pid: Some(7),
                program: Some("httpd".to_owned()),
            };
            Ok(Listening { sockets: vec![socket], more: false })
        };
        self.sim.call("guest.listening", listening).await
    }

    async fn grow_work_disk(&self, bytes: u64) -> PortResult<()> {
        let grow = async {
            self.monitor().await?;
            let mut host = self.sim.world.host();
            let disk = host.disks.get_mut(&folder(&self.vm)).expect("the disk is there");
            if disk.seen < bytes {
                return Err(Report::new(Kind::Failed, "the device does not grow"));
            }
            disk.system = disk.seen;
            Ok(())
        };
        self.sim.call("guest.grow_work_disk", grow).await
    }

    async fn set_clock(&self) -> PortResult<()> {
        let set = async { self.monitor().await.map(|_| ()) };
        self.sim.call("guest.set_clock", set).await
    }
}

#[async_trait]
impl Guest for SimGuest {
    async fn wait_answering(&self, deadline: Duration) -> PortResult<Health> {
        let wait = async {
            let behaviour = self.sim.world.host().behaviour;
            if !behaviour.silent {
                self.sim.world.host().printed += 1;
            }
            if behaviour.never_answers || behaviour.silent {
                tokio::time::sleep(deadline).await;
                return Err(Report::new(Kind::TimedOut, "no answer"));
            }
            self.monitor().await.map(|_| self.now())
        };
        self.sim.call("guest.wait_answering", wait).await
    }

    async fn health(&self) -> PortResult<Health> {
        self.sim.call("guest.health", async { self.monitor().await.map(|_| self.now()) }).await
    }

    async fn set_up(&self, _: Setup, _: WorkDiskPlan) -> PortResult<()> {
        self.sim.call("guest.set_up", async { self.monitor().await.map(drop) }).await
    }

    async fn exec(&self, exec: &Exec) -> PortResult<Box<dyn ByteStream>> {
        let run = async {
            self.monitor().await?;
            self.sim.world.host().commands.push(exec.clone());
            let (ours, theirs) = tokio::io::duplex(STREAM);
            self.sim.program(exec, theirs);
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        };
        self.sim.call("guest.exec", run).await
    }

    async fn connect(&self, port: u16) -> PortResult<Box<dyn ByteStream>> {
        let connect = async {
            self.monitor().await?;
            self.sim.world.host().connected.push(port);
            let (ours, theirs) = tokio::io::duplex(STREAM);
            // As an agent does it, with a program behind the port that gives back what it gets.
            self.sim.forward(theirs);
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        };
        self.sim.call("guest.connect", connect).await
    }

    async fn power_off(&self) -> PortResult<()> {
        let power_off = async {
            let monitor = self.monitor().await?;
            if !self.sim.world.host().behaviour.ignores_power_off {
                self.sim.world.end(monitor);
            }
            Ok(())
        };
        self.sim.call("guest.power_off", power_off).await
    }
}

#[async_trait]
impl GuestTrees for SimGuest {
    async fn receive_tree(
        &self,
        _: &str,
        _: TreeChange,
        _: TreeWrite,
    ) -> Result<Vec<u8>, NotTaken> {
        let receive = async { self.monitor().await.map(|_| Vec::new()) };
        self.sim.call("guest.receive_tree", receive).await.map_err(NotTaken::unheard)
    }

    async fn survey(&self, _: &str, _: ListedBy, _: Vec<u8>, _: SurveyTake) -> PortResult<()> {
        self.sim.call("guest.survey", async { self.monitor().await.map(drop) }).await
    }

    async fn copy(&self, files: &CopyFiles) -> PortResult<Box<dyn ByteStream>> {
        let copy = async {
            self.monitor().await?;
            self.sim.world.host().copied.push(files.clone());
            let (ours, theirs) = tokio::io::duplex(STREAM);
            // A guest that gives back what it gets.
            self.sim.echo(theirs);
            Ok(Box::new(ours) as Box<dyn ByteStream>)
        };
        self.sim.call("guest.copy", copy).await
    }
}

impl Sim {
    fn forward(&self, stream: tokio::io::DuplexStream) {
        let (mut near, program) = tokio::io::duplex(STREAM);
        self.echo(program);
        crate::task::Tasks::default().spawn("forward", async move {
            let mut frames = Framed::new(stream, FrameCodec::default());
            frames.send(Frame::control(&Reply::Connected).expect("fits")).await.ok();
            relay(&mut frames, &mut near).await.ok();
        });
    }

    pub(super) fn echo(&self, stream: tokio::io::DuplexStream) {
        crate::task::Tasks::default().spawn("echo", async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let mut bytes = Vec::new();
            read.read_to_end(&mut bytes).await.expect("a pipe in memory reads");
            tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.ok();
            tokio::io::AsyncWriteExt::shutdown(&mut write).await.ok();
        });
    }
}

/// A repository.
pub(crate) struct SimCheckout {
    pub(super) sim: Sim,
    pub(super) path: String,
}

#[async_trait]
impl Checkout for SimCheckout {
    fn plan(&self) -> WorkspacePlan {
        WorkspacePlan {
            source_path: self.path.clone(),
            guest_path: "repo".to_owned(),
            base_commit: None,
            origin: None,
            files: vec!["README".to_owned()],
            bytes: 6,
            untracked_left_out: 0,
        }
    }

    fn record(&self) -> VmWorkspace {
        VmWorkspace {
            guest_path: "/root/repo".to_owned(),
            source_path: self.path.clone(),
            base_commit: None,
            mode: WorkspaceMode::Shallow,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec!["1 untracked file stays out".to_owned()]
    }

    async fn pack(&self) -> PortResult<Box<dyn PackedCheckout>> {
        let pack = async { Ok(Box::new(Packed(self.sim.clone())) as Box<dyn PackedCheckout>) };
        self.sim.call("checkout.pack", pack).await
    }
}

struct Packed(Sim);

#[async_trait]
impl PackedCheckout for Packed {
    async fn deliver(self: Box<Self>, guest: &dyn Guest, _: &Path) -> PortResult<()> {
        let deliver = guest.receive_tree("repo", TreeChange::Make, Box::new(|_| Ok(())));
        let deliver = async {
            deliver.await?;
            Ok(())
        };
        self.0.call("checkout.deliver", deliver).await
    }
}
