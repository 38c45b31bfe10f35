//! The daemon's log: one line per event, into one file that is turned over at a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which the log becomes `coved.log.1` and a new one is begun: days of ordinary life.
const TURN_AT: u64 = 8 << 20;

/// Starts logging into `path`. Where the file cannot be opened, lines go to stderr.
pub fn start(path: &Path, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter);
    if let Some(folder) = path.parent() {
        // Failing shows in the next line, which falls back.
        std::fs::create_dir_all(folder).unwrap_or_default();
    }
    // A second subscriber in one process is a test's: the first one stays.
    match LogFile::open(path) {
        Ok(file) => builder.with_writer(file).try_init().unwrap_or_default(),
        Err(_) => builder.with_writer(io::stderr).try_init().unwrap_or_default(),
    }
}

struct LogFile {
    path: PathBuf,
    open: Mutex<(File, u64)>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open: Mutex::new(open(path)?) })
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// One line on its way into the file.
struct Line<'a>(&'a LogFile);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open_file =
            self.0.open.lock().map_err(|_| io::Error::other("a log line panicked"))?;
        if open_file.1 > TURN_AT {
            let mut old = self.0.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.0.path, old)?;
            *open_file = open(&self.0.path)?;
        }
        let written = open_file.0.write(bytes)?;
        open_file.1 += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_turned_over_at_its_bound() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("coved.log");
        let log = LogFile::open(&path).expect("opens");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            log.make_writer().write_all(&line).expect("written");
        }
        let sizes: Vec<_> = ["coved.log", "coved.log.1"]
            .map(|name| std::fs::metadata(folder.path().join(name)).expect("there").len())
            .into();
        assert!(sizes.iter().all(|size| *size <= TURN_AT + (2 << 20)), "{sizes:?}");
    }
}
