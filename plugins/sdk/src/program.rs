//! Programs in the guest, one word after the other.

use crate::{Error, Guest, Output, Result};

/// A program to run in the guest. Needs `guest.run` of its name.
#[derive(Debug)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    folder: Option<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
}

impl Command {
    /// A program by its name, which the guest looks up.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            folder: None,
            environment: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Where it runs, relative to the home; in the home when nothing is said.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<String>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets a variable on top of the guest's environment.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What it reads from its standard input; nothing when nothing is said.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it and waits for its end.
    ///
    /// # Errors
    /// Those of [`Guest::run`]. A program that says no is no error here.
    pub fn output(&self, guest: &Guest) -> Result<Output> {
        let Self { program, arguments, folder, environment, input } = self;
        guest.run(program, arguments, folder.as_deref(), environment, input)
    }

    /// Runs it, and what it printed is returned as text.
    ///
    /// # Errors
    /// `failed` when its status is not 0, with the last line that it wrote to its standard error.
    pub fn success(&self, guest: &Guest) -> Result<String> {
        let output = self.output(guest)?;
        if output.status == 0 {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last =
            complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let message = format!("`{}` ended with status {}: {last}", self.program, output.status);
        Err(Error::new("failed", message))
    }
}
