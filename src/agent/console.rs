//! The guest's console: one line at a time, for the host's ring and for people who read it.

use std::io::Write;

use crate::report::escape_control;

/// Writes one line. Where there is no console nobody can be told.
pub fn line(text: &str) {
    let line = format!("{}\n", escape_control(text).replace('\n', " "));
    std::io::stderr().write_all(line.as_bytes()).ok();
}
