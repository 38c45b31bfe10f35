//! Another program in the place of this one.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Has this process become another program, with its environment, its streams and its terminal. Comes back
/// only with the reason why that could not be.
#[expect(clippy::disallowed_methods, reason = "one wrapper of a program that takes our place")]
pub fn replaced_by(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Error {
    std::process::Command::new(program).args(arguments).exec()
}
