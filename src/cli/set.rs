//! `cove set`: change what a VM is, and say what needs a restart.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::egress::Mode;
use crate::report::{Kind, Report, escape_control};
use crate::size::Size;
use crate::wire::rpc::{Change, Holds, SetVm, SetVmReply, Setting, Vm, VmSet};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::machine::{Egress, memory, variable};
use super::output::{Format, print, say, size};

/// Arguments of `cove set`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Virtual processors, from its next start on
    #[arg(long, value_name = "COUNT")]
    vcpu: Option<u32>,
    /// Memory, such as 512M or 2G, from its next start on
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<Size>,
    /// Size of the work disk, which only grows; at once, also in a VM that runs
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// Set a label
    #[arg(long, value_name = "K=V", value_parser = variable)]
    label: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "K")]
    remove_label: Vec<String>,
    /// Stop it when nobody has used it for so long, such as 30m or 8h; `off` for never
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    auto_stop_after: Option<u64>,
    /// What it may reach at all; at once, also in a VM that runs
    #[arg(long, value_enum)]
    egress: Option<Egress>,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let format = self.format;
        let reply = connect().await?.call::<VmSet>(self.request()?).await?;
        if format.json {
            format.print(&reply, |_| String::new())?;
            return Ok(0);
        }
        print(&render(&reply))?;
        if reply.changes.is_empty() {
            say("nothing to change: it is like that already");
        }
        if reply.changes.iter().any(|change| change.holds == Holds::AfterRestart) {
            let name = &reply.vm.name;
            say(&format!("hint: `cove restart {name}` brings what does not hold yet"));
        }
        Ok(0)
    }

    fn request(self) -> Result<SetVm, Report> {
        let set = self.label.into_iter().map(|(label, value)| (label, Some(value)));
        let mut labels: BTreeMap<_, _> = set.collect();
        for label in self.remove_label {
            if labels.insert(label.clone(), None).is_some_and(|value| value.is_some()) {
                let message = format!("the label `{label}` cannot be both set and removed");
                return Err(Report::new(Kind::Invalid, message));
            }
        }
        let request = SetVm {
            vm: self.vm,
            vcpu: self.vcpu,
            memory_mib: self.memory.map(Size::mebibytes),
            disk_bytes: self.disk.map(Size::bytes),
            labels,
            auto_stop_after_s: self.auto_stop_after,
            egress: self.egress.map(Egress::mode),
        };
        let nothing = SetVm { vm: request.vm.clone(), ..SetVm::default() };
        if request == nothing {
            return Err(Report::new(Kind::Invalid, "say what is to change")
                .with_hint("`cove help set` lists what can be set"));
        }
        Ok(request)
    }
}

/// Reads a time as people write it, in whole seconds; `off` is 0.
///
/// # Errors
/// When it is none, or shorter than a second.
fn seconds(text: &str) -> Result<u64, String> {
    if text == "off" {
        return Ok(0);
    }
    let time: Result<jiff::SignedDuration, _> = text.parse();
    let seconds = time.ok().and_then(|time| u64::try_from(time.as_secs()).ok());
    let seconds = seconds.filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "write a time such as 90s, 30m or 8h, or `off`".to_owned())
}

/// What has changed, one line each.
pub(super) fn render(reply: &SetVmReply) -> String {
    let mut text = String::new();
    for change in &reply.changes {
        let value = value(change.setting, &reply.vm);
        let since = match change.holds {
            Holds::Now => "",
            Holds::AfterRestart => " after a restart",
        };
        write!(text, "{}: {value}{since}", name(change.setting)).expect("a String can be written");
        if let Change { cause: Some(cause), .. } = change {
            let cause = escape_control(cause).replace('\n', " ");
            write!(text, " ({cause})").expect("a String can be written");
        }
        text.push('\n');
    }
    text
}

/// A setting as it is written.
pub(super) fn name(setting: Setting) -> &'static str {
    match setting {
        Setting::Vcpu => "vcpu",
        Setting::Memory => "memory",
        Setting::Disk => "disk",
        Setting::Labels => "labels",
        Setting::AutoStopAfter => "auto-stop",
        Setting::Egress => "egress",
    }
}

fn value(setting: Setting, vm: &Vm) -> String {
    match setting {
        Setting::Vcpu => vm.vcpu.to_string(),
        Setting::Memory => size(vm.memory_mib.saturating_mul(1 << 20)),
        Setting::Disk => size(vm.disk_bytes),
        Setting::Labels if vm.labels.is_empty() => "none".to_owned(),
        Setting::Labels => {
            let labels = vm.labels.iter().map(|(label, value)| format!("{label}={value}"));
            escape_control(&labels.collect::<Vec<_>>().join(", ")).replace('\n', "\\n")
        }
        Setting::AutoStopAfter => auto_stop(vm.auto_stop_after_s),
        Setting::Egress => vm.net.egress.map_or("none", Mode::as_str).to_owned(),
    }
}

/// A time without use after which a VM is stopped, as it is written.
pub(super) fn auto_stop(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else {
        return "off".to_owned();
    };
    let time = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    format!("after {time:#} without use")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        use clap::{Args as _, FromArgMatches as _};
        let command = Arguments::augment_args(clap::Command::new("set"));
        let parsed = command.try_get_matches_from([&["set"], arguments].concat());
        Arguments::from_arg_matches(&parsed.expect("parses")).expect("parses")
    }

    #[test]
    fn what_is_given_becomes_one_request() {
        let request = parse(&[
            "web",
            "--vcpu",
            "4",
            "--memory",
            "1G",
            "--disk",
            "2G",
            "--label",
            "a=b=c",
            "--remove-label",
            "d",
            "--auto-stop-after",
            "off",
            "--egress",
            "closed",
        ]);
        let labels = [("a".to_owned(), Some("b=c".to_owned())), ("d".to_owned(), None)];
        let expected = SetVm {
            vm: "web".to_owned(),
            vcpu: Some(4),
            memory_mib: Some(1024),
            disk_bytes: Some(2 << 30),
            labels: labels.into(),
            auto_stop_after_s: Some(0),
            egress: Some(Mode::Closed),
        };
        assert_eq!(request.request(), Ok(expected));
        for bad in [&["web"][..], &["web", "--label", "a=b", "--remove-label", "a"]] {
            assert_eq!(parse(bad).request().expect_err("refused").kind, Kind::Invalid);
        }
    }

    #[test]
    fn changes_are_told_with_when_they_hold() {
        let change = |setting, holds, cause: Option<&str>| {
            let cause = cause.map(str::to_owned);
            Change { setting, holds, cause }
        };
        let vm = Vm {
            labels: BTreeMap::from([("a".to_owned(), "\u{1b}[2J".to_owned())]),
            auto_stop_after_s: Some(1800),
            ..crate::cli::tests::vm("web", "aaaaaaaaaaaa")
        };
        let changes = vec![
            change(Setting::Vcpu, Holds::AfterRestart, None),
            change(Setting::Disk, Holds::AfterRestart, Some("the guest did not\u{7} answer")),
            change(Setting::Labels, Holds::Now, None),
            change(Setting::AutoStopAfter, Holds::Now, None),
            change(Setting::Egress, Holds::Now, None),
        ];
        insta::assert_snapshot!(render(&SetVmReply { vm, changes }), @r"
        vcpu: 2 after a restart
        disk: 8G after a restart (the guest did not\u{7} answer)
        labels: a=\u{1b}[2J
        auto-stop: after 30m without use
        egress: open
        ");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in
            [("off", 0), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2h", 7200)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for bad in ["", "30", "0s", "-5m", "10ms", "soon", "\u{1b}[2J"] {
            assert!(seconds(bad).expect_err("refused").contains("30m"), "{bad:?}");
        }
        assert_eq!(auto_stop(Some(5400)), "after 1h 30m without use");
        assert_eq!(auto_stop(None), "off");
    }
}
