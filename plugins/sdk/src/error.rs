//! Errors: made of a text by `?`, and with what was being done in front.

use std::fmt;

use crate::Error;

/// What a hook returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The word of an error that a plugin made of a text.
const FAILED: &str = "failed";

impl Error {
    /// An error of the plugin's own: a word for programs and a sentence for people, which says what to do.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable: false }
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(FAILED, message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::new(FAILED, message)
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::new("bad-argument", error.to_string())
    }
}

impl From<std::string::FromUtf8Error> for Error {
    fn from(error: std::string::FromUtf8Error) -> Self {
        error.utf8_error().into()
    }
}

/// Says what was being done when something did not work.
pub trait Context<T> {
    /// Puts a sentence in front of the error's.
    ///
    /// # Errors
    /// The same as before, with the sentence.
    fn context(self, doing: impl fmt::Display) -> Result<T>;

    /// The same for a sentence that takes work to make.
    ///
    /// # Errors
    /// The same as before, with the sentence.
    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.with_context(|| doing)
    }

    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            Error { message: format!("{}: {}", doing(), error.message), ..error }
        })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.with_context(|| doing)
    }

    fn with_context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.ok_or_else(|| doing().to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_an_error() {
        let failing = || -> Result<()> { Err("no cheese")? };
        let error = failing().expect_err("it fails");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("failed", "no cheese"));
        assert!(!error.retryable);
    }

    #[test]
    fn context_comes_first_and_keeps_the_rest() {
        let busy = Error { retryable: true, ..Error::new("unavailable", "the cellar is locked") };
        let error = Err::<(), _>(busy).context("fetching wine").expect_err("it fails");
        assert_eq!(error.message, "fetching wine: the cellar is locked");
        assert_eq!(error.code, "unavailable");
        assert!(error.retryable);
        let missing = None::<u8>.with_context(|| format!("{} is missing", "wine"));
        assert_eq!(missing.expect_err("it fails").message, "wine is missing");
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let error = String::from_utf8(vec![0xff]).context("`x`").expect_err("it fails");
        assert!(error.message.starts_with("`x`: invalid utf-8"), "{}", error.message);
    }
}
