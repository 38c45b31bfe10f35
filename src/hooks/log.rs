//! What a plugin says: log lines in a ring, and the tail of its stderr. Both are bounded; what does not
//! fit is dropped and counted, and the plugin does not notice.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::limits;
use crate::report::escape_control;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For whoever looks.
    Info,
    /// For the user.
    Warning,
    /// For the user.
    Error,
}

/// A line that a plugin logged, control characters and line breaks escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// The newest lines of one run.
#[derive(Debug, Default)]
pub(super) struct LogRing {
    lines: VecDeque<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl LogRing {
    pub(super) fn push(&mut self, level: LogLevel, text: &str) {
        let text = shortened(text, limits::LOG_LINE_BYTES);
        self.bytes += text.len();
        self.lines.push_back(LogLine { level, text });
        // An empty line costs its place, too.
        while self.bytes + self.lines.len() * size_of::<LogLine>() > limits::LOG_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            self.dropped += 1;
        }
    }

    /// The lines, oldest first, and how many were dropped before them.
    pub(super) fn finish(self) -> (Vec<LogLine>, u64) {
        (self.lines.into(), self.dropped)
    }
}

/// Text of a plugin, escaped and cut to `limit` bytes. It is one line: a line break in it would let the
/// plugin write lines that look like cove's own, such as `hint: `.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut shown = escape_control(text[..end].trim_end()).replace('\n', "\\n");
    if end < text.len() {
        shown.push('…');
    }
    shown
}

/// The last bytes of stderr. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl StderrTail {
    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &bytes[bytes.len().saturating_sub(limits::STDERR_BYTES)..];
        let over = (tail.len() + kept.len()).saturating_sub(limits::STDERR_BYTES);
        tail.drain(..over);
        tail.extend(kept);
    }

    /// The text, without the advice that Rust's panics end with.
    pub(super) fn text(&self) -> String {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
        let useful = |line: &&str| !line.starts_with("note: run with `RUST_BACKTRACE");
        text.lines().filter(useful).map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// What a panicking program said: from the line with `panicked` on, on one line.
    pub(super) fn panic_text(&self) -> Option<String> {
        let text = self.text();
        let start = text.find("panicked at").unwrap_or(0);
        let lines: Vec<_> = text[start..].lines().map(str::trim).collect();
        let line = lines.join(" ");
        let line = line.strip_prefix("panicked ").unwrap_or(&line).trim();
        (!line.is_empty()).then(|| shortened(line, limits::MESSAGE_BYTES))
    }
}

impl IsTerminal for StderrTail {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for StderrTail {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for StderrTail {
    async fn ready(&mut self) {}
}

impl OutputStream for StderrTail {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limits::STDERR_BYTES)
    }
}

impl AsyncWrite for StderrTail {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_lines_and_counts_the_others() {
        let mut ring = LogRing::default();
        (0..100_000).for_each(|n| ring.push(LogLevel::Info, &format!("line {n}")));
        let (lines, dropped) = ring.finish();
        assert_eq!(lines.last().expect("kept").text, "line 99999");
        assert_eq!(lines.len() as u64 + dropped, 100_000);
        assert!(lines.len() * size_of::<LogLine>() <= limits::LOG_BYTES);
    }

    #[test]
    fn a_line_is_cut_between_characters_and_escaped() {
        let long = "ä".repeat(limits::LOG_LINE_BYTES);
        let cut = shortened(&long, 5);
        assert_eq!(cut, "ää…");
        assert_eq!(shortened("\u{1b}[2J\n", 99), "\\u{1b}[2J");
        assert_eq!(shortened("a\r\nhint: b\n\n", 99), "a\\u{d}\\nhint: b");
    }

    #[test]
    fn stderr_keeps_its_end() {
        let tail = StderrTail::default();
        (0..10_000).for_each(|n| tail.push(format!("noise {n}\n").as_bytes()));
        tail.push(b"\nthread 'main' panicked at lib.rs:1:2:\nno luck\nnote: run with `RUST_BACKTRACE=1`\n");
        assert_eq!(tail.panic_text().as_deref(), Some("at lib.rs:1:2: no luck"));
        assert!(tail.text().len() <= limits::STDERR_BYTES);
    }
}
