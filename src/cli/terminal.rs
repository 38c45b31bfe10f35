//! The user's terminal: whether there is one, its size, and raw mode that is restored on every way out.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Once;

use crossterm::terminal;

use crate::report::Report;
use crate::wire::guest::TtySize;

use super::output;

/// The size of a terminal that does not know its own.
const FALLBACK: TtySize = TtySize { cols: 80, rows: 24 };

/// Whether both stdin and stdout are terminals, so that a pseudo-terminal in the guest makes sense.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Whether somebody can be asked: stdin is a terminal, and so is stderr, where the question goes.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that only `y` or `yes` answers with yes.
///
/// # Errors
/// When the answer cannot be read.
pub(super) async fn confirm(question: &str) -> Result<bool, Report> {
    let asked = write!(io::stderr().lock(), "{question} [y/N] ");
    asked.map_err(|error| output::failed("cannot ask", &error))?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.expect("reading a line does not panic");
    let answer = answer.map_err(|error| output::failed("cannot read the answer", &error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The size of the terminal.
pub(super) fn size() -> TtySize {
    match terminal::size() {
        Ok((cols, rows)) if cols > 0 && rows > 0 => TtySize { cols, rows },
        Ok(_) | Err(_) => FALLBACK,
    }
}

/// Raw mode: every key goes to the guest. Dropping it restores the terminal; a panic restores it before
/// its message is printed.
#[derive(Debug)]
pub(super) struct RawMode(());

impl RawMode {
    /// Enters it.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub(super) fn enter() -> Result<Self, Report> {
        static PANIC_HOOK: Once = Once::new();
        PANIC_HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                terminal::disable_raw_mode().ok();
                before(panic);
            }));
        });
        let entered = terminal::enable_raw_mode();
        entered.map_err(|error| output::failed("cannot set the terminal to raw mode", &error))?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing more can be done when the terminal is gone.
        terminal::disable_raw_mode().ok();
    }
}
