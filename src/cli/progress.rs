//! Progress on stderr: of operations, one live line each on a terminal and plain lines otherwise; of copies, one
//! live line on a terminal.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::wire::rpc::Operation;

use super::output;

/// How often a live line is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// The live lines of one command.
#[derive(Debug, Default)]
pub(super) struct Progress(MultiProgress);

impl Progress {
    /// A view of one more operation.
    pub(super) fn view(&self) -> View<'_> {
        // Draws nothing when stderr is no terminal.
        let bar = self.0.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        bar.set_style(style.expect("the template is constant and valid"));
        bar.enable_steady_tick(TICK);
        View { progress: self, bar, notes: 0 }
    }

    fn say(&self, line: &str) {
        self.0.suspend(|| output::say(line));
    }
}

/// What is shown of one operation. Dropping it takes its live line away.
#[derive(Debug)]
pub(super) struct View<'a> {
    progress: &'a Progress,
    bar: ProgressBar,
    /// How many notes have been shown.
    notes: usize,
}

impl View<'_> {
    /// Shows where the operation is, and its new notes.
    pub(super) fn update(&mut self, operation: &Operation) {
        for note in operation.notes.iter().skip(self.notes) {
            let note = format!("note: {}: {note}", operation.vm_name);
            self.progress.say(&output::one_line(&note));
        }
        self.notes = self.notes.max(operation.notes.len());
        self.bar.set_message(output::one_line(&doing(operation)));
    }

    /// Shows one line that stays.
    pub(super) fn say(&self, line: &str) {
        self.progress.say(line);
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What is shown of bytes that are on their way. Dropping it takes its live line away.
#[derive(Debug)]
pub(super) struct Transfer(ProgressBar);

impl Transfer {
    /// A live line, of which nothing is drawn when stderr is no terminal.
    pub(super) fn begin(what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}: {bytes} ({bytes_per_sec})");
        bar.set_style(style.expect("the template is constant and valid"));
        bar.set_message(output::one_line(what));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So many more bytes are through.
    pub(super) fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// What an operation is doing now: `web: boot, hooks`.
pub(super) fn doing(operation: &Operation) -> String {
    let running = operation.stages.iter().filter(|stage| stage.took_us.is_none());
    let running: Vec<&str> = running.map(|stage| stage.name.as_str()).collect();
    match running.as_slice() {
        [] => format!("{}: {}", operation.vm_name, operation.action),
        running => format!("{}: {}", operation.vm_name, running.join(", ")),
    }
}

/// How long an operation took, by its stages.
pub(super) fn took(operation: &Operation) -> Duration {
    let ends = operation.stages.iter();
    let ends = ends.filter_map(|stage| stage.began_us.checked_add(stage.took_us?));
    Duration::from_micros(ends.max().unwrap_or(0))
}
