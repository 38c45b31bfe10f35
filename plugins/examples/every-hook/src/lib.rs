//! Plugin `every-hook`: at each hook point it does the steps that its setting of that name lists. The tests
//! drive it; it also shows every handle in use.
//!
//! | step | what it does |
//! |---|---|
//! | `say TEXT` | answers with a line (`preflight`), else logs a warning |
//! | `pass TEXT`, `warn TEXT`, `bad TEXT` | a finding (`doctor`), with advice |
//! | `env NAME=VALUE`, `label NAME=VALUE`, `forward HOST:GUEST`, `egress NAME` | a wish |
//! | `write PATH=TEXT` | stages a file |
//! | `shell SCRIPT`, `run PROGRAM` | runs it in the guest and logs what it prints as a warning |
//! | `flood NUMBER` | runs `sh` so often |
//! | `remember KEY=VALUE`, `count KEY`, `forget KEY` | its state |
//! | `try STEP` | does it, and logs its error as a warning instead of failing |
//! | `fail TEXT`, `panic TEXT`, `spin` | fails in that way |
//!
//! In a step `{vm}` is the machine's name.

use cove_plugin_sdk::{
    Cleanup, Command, ConfigureMachine, Context, Doctor, Error, Finding, Guest, Machine,
    MachineRequest, PostStart, PreStop, Preflight, PrepareWorkDisk, Result, Settings, State, Verdict,
    WorkDisk, plugin, warning,
};

plugin! {
    preflight = preflight,
    configure_machine = configure_machine,
    prepare_work_disk = prepare_work_disk,
    post_start = post_start,
    pre_stop = pre_stop,
    cleanup = cleanup,
    doctor = doctor,
}

/// The handles of one call, as far as it has them, and its answer.
#[derive(Default)]
struct Hands<'a> {
    machine: Option<&'a Machine>,
    request: Option<&'a MachineRequest>,
    disk: Option<&'a WorkDisk>,
    guest: Option<&'a Guest>,
    state: Option<&'a State>,
    lines: Option<Vec<String>>,
    findings: Vec<Finding>,
}

fn preflight(call: &Preflight) -> Result<Vec<String>> {
    let hands = Hands { lines: Some(Vec::new()), machine: Some(call.machine), ..Hands::default() };
    Ok(hands.take_steps("preflight", call.settings)?.lines.unwrap_or_default())
}

fn configure_machine(call: &ConfigureMachine) -> Result<()> {
    let hands = Hands {
        machine: Some(call.machine),
        request: Some(call.request),
        state: Some(call.state),
        ..Hands::default()
    };
    hands.take_steps("configure-machine", call.settings).map(drop)
}

fn prepare_work_disk(call: &PrepareWorkDisk) -> Result<()> {
    let hands = Hands {
        machine: Some(call.machine),
        disk: Some(call.disk),
        state: Some(call.state),
        ..Hands::default()
    };
    hands.take_steps("prepare-work-disk", call.settings).map(drop)
}

fn post_start(call: &PostStart) -> Result<()> {
    let hands = Hands {
        machine: Some(call.machine),
        guest: Some(call.guest),
        state: Some(call.state),
        ..Hands::default()
    };
    hands.take_steps("post-start", call.settings).map(drop)
}

fn pre_stop(call: &PreStop) -> Result<()> {
    let hands =
        Hands { machine: Some(call.machine), state: Some(call.state), ..Hands::default() };
    hands.take_steps("pre-stop", call.settings).map(drop)
}

fn cleanup(call: &Cleanup) -> Result<()> {
    let hands =
        Hands { machine: Some(call.machine), state: Some(call.state), ..Hands::default() };
    hands.take_steps("cleanup", call.settings).map(drop)
}

fn doctor(call: &Doctor) -> Result<Vec<Finding>> {
    Ok(Hands::default().take_steps("doctor", call.settings)?.findings)
}

impl Hands<'_> {
    fn take_steps(mut self, point: &str, settings: &Settings) -> Result<Self> {
        for step in settings.texts(point)?.unwrap_or_default() {
            let name = self.machine.map(Machine::name).unwrap_or_default();
            self.step(&step.replace("{vm}", &name))?;
        }
        Ok(self)
    }

    fn step(&mut self, step: &str) -> Result<()> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "say" => self.say(rest),
            "pass" => self.find(Verdict::Pass, rest),
            "warn" => self.find(Verdict::Warn, rest),
            "bad" => self.find(Verdict::Fail, rest),
            "env" | "label" | "forward" | "egress" => return self.wish(verb, rest),
            "write" => {
                let (path, text) = pair(rest, '=')?;
                return self.disk.context("no disk here")?.write_file(path, 0o644, text.as_bytes());
            }
            "shell" => return self.run(&Command::new("sh").arguments(["-c", rest])),
            "run" => return self.run(&Command::new(rest)),
            "flood" => {
                for _ in 0..rest.parse().unwrap_or(0) {
                    Command::new("sh").output(self.guest.context("no guest here")?)?;
                }
            }
            "remember" | "count" | "forget" => return self.remember(verb, rest),
            "try" => {
                if let Err(Error { code, message, .. }) = self.step(rest) {
                    warning!("{code}: {message}");
                }
            }
            "fail" => return Err(Error::new("asked-for", rest)),
            "panic" => panic!("{rest}"),
            "spin" => loop {
                std::hint::black_box(());
            },
            other => return Err(format!("there is no step `{other}`").into()),
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        match &mut self.lines {
            Some(lines) => lines.push(text.to_owned()),
            None => warning!("{text}"),
        }
    }

    fn find(&mut self, verdict: Verdict, text: &str) {
        let advice = Some(format!("about {text}"));
        self.findings.push(Finding { verdict, found: text.to_owned(), advice });
    }

    fn wish(&self, verb: &str, rest: &str) -> Result<()> {
        let request = self.request.context("no request here")?;
        match verb {
            "env" => pair(rest, '=').and_then(|(name, value)| request.set_env(name, value)),
            "label" => pair(rest, '=').and_then(|(name, value)| request.set_label(name, value)),
            "forward" => {
                let (host, guest) = pair(rest, ':')?;
                let port = |text: &str| text.parse().map_err(|_| Error::new("failed", "no port"));
                request.forward(port(host)?, port(guest)?)
            }
            _ => request.allow_egress(rest),
        }
    }

    fn run(&self, command: &Command) -> Result<()> {
        let output = command.output(self.guest.context("no guest here")?)?;
        let text = String::from_utf8_lossy(&output.stdout);
        warning!("{}: {}", output.status, text.trim_end());
        Ok(())
    }

    fn remember(&self, verb: &str, rest: &str) -> Result<()> {
        let state = self.state.context("no state here")?;
        match verb {
            "remember" => pair(rest, '=').and_then(|(key, value)| state.set(key, value.as_bytes())),
            "count" => {
                let before = state.get(rest)?.and_then(|text| String::from_utf8(text).ok());
                let before: u64 = before.and_then(|text| text.parse().ok()).unwrap_or(0);
                state.set(rest, (before + 1).to_string().as_bytes())
            }
            _ => state.remove(rest),
        }
    }
}

fn pair(text: &str, between: char) -> Result<(&str, &str)> {
    text.split_once(between).with_context(|| format!("`{text}` has no `{between}`"))
}
