//! What is written where: data to stdout, messages to stderr, tables and sizes as people read them.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::report::{Kind, Report, escape_control};
use crate::size::Size;

use super::failure::Failure;

/// The flag of every command that prints data.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Format {
    /// Print one JSON value
    #[arg(long)]
    pub(super) json: bool,
}

impl Format {
    /// Prints `value` as JSON, or the text that stands for it.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn print<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if !self.json {
            return print(&text(value));
        }
        let json = serde_json::to_string_pretty(value);
        let json = json.map_err(|error| failed("cannot write the answer as JSON", &error))?;
        print(&json)
    }
}

/// Writes data to stdout, ending in a newline unless it is empty.
///
/// # Errors
/// When stdout is closed or cannot be written.
pub(super) fn print(data: &str) -> Result<(), Failure> {
    write(data.as_bytes())?;
    if data.is_empty() || data.ends_with('\n') {
        return Ok(());
    }
    write(b"\n")
}

/// Writes data to stdout as it is.
///
/// # Errors
/// When stdout is closed or cannot be written.
pub(super) fn write(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(data).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::StdoutClosed,
        _ => failed("cannot write to stdout", &error).into(),
    })
}

/// Writes a message to stderr. That nobody reads it is no failure.
pub(super) fn say(message: &str) {
    writeln!(io::stderr().lock(), "{message}").ok();
}

/// Writes what the user should know to stderr.
pub(super) fn tell(notes: &[String]) {
    for note in notes {
        say(&format!("note: {}", one_line(note)));
    }
}

/// A failure of the host.
pub(super) fn failed(message: &str, error: &dyn std::error::Error) -> Report {
    Report::new(Kind::Failed, message).with_cause(error)
}

/// A table without lines. Cells are escaped: images and plugins may have named what is in them.
pub(super) fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| one_line(&cell))));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair a line.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{name:width$}  {}", one_line(value)).trim_end().to_owned()
    };
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Text that may be hostile, on one line.
pub(super) fn one_line(text: &str) -> String {
    escape_control(text).replace('\n', "\\n").replace('\t', " ")
}

/// A size in the largest unit that says it in whole numbers, or rounded to MiB.
pub(super) fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    let rounded = if bytes >= MIB { bytes / MIB * MIB } else { bytes };
    Size::from_bytes(rounded).to_string()
}

/// How long ago an RFC 3339 time was, in the largest unit; the time itself if it is not one.
pub(super) fn age(time: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else {
        return time.to_owned();
    };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(
        || format!("{seconds}s"),
        |(length, unit)| format!("{}{unit}", seconds / length),
    )
}
