//! What went wrong in the guest, and during which step.

use std::error::Error;

use crate::wire::guest::TreeFailure;

/// A failed step. Goes to the host as `Reply::Failed`, and at boot to the console as one line.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct Failure {
    /// What was being done.
    pub step: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure whose cause is a sentence.
    pub fn new(step: impl Into<String>, why: impl Into<String>) -> Self {
        Self { step: step.into(), source: why.into().into() }
    }

    /// The chain of causes on one line, without the step.
    #[must_use]
    pub fn message(&self) -> String {
        let mut causes = crate::report::causes(self);
        // Libraries repeat their source in their own text; readers need it once.
        causes.dedup_by(|inner, outer| outer.ends_with(inner.as_str()));
        causes.join(": ")
    }
}

/// A tree that was not taken. Goes to the host as `Reply::TreeFailed`.
#[derive(Debug)]
pub struct NotTaken {
    /// What is known of it.
    pub reason: TreeFailure,
    /// Why.
    pub failure: Failure,
}

impl NotTaken {
    /// One of which nothing is in its place, nor comes there later.
    #[must_use]
    pub fn untouched(failure: Failure) -> Self {
        Self { reason: TreeFailure::Untouched, failure }
    }
}

/// Where a failure may lie behind the moment in which a tree took effect, nothing is said of it.
impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> Self {
        Self { reason: TreeFailure::Unknown, failure }
    }
}

/// Names the step during which an error happened.
pub trait During<T> {
    /// Turns the error into a failure of `step`.
    ///
    /// # Errors
    /// The same as before, named.
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), source: error.into() })
    }
}
