//! Why a VM has no network.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::names::host::BindError;
use super::nftables;
use crate::egress::BadName;
use crate::process::ServantOutput;
use crate::report::{Explain, Kind, Report, escape_control};
use crate::vm::ledger::LedgerError;

/// What a program said about its failure: a chain of sentences, fit for a terminal.
#[derive(Debug)]
pub struct Said {
    text: String,
    source: Option<Box<Said>>,
}

impl Said {
    /// The sentences, outermost first; `None` when there are none.
    pub(crate) fn chain(sentences: impl IntoIterator<Item = String>) -> Option<Self> {
        let sentences: Vec<String> = sentences.into_iter().collect();
        sentences.into_iter().rev().fold(None, |inner, text| {
            Some(Self { text: escape_control(&text), source: inner.map(Box::new) })
        })
    }

    /// What a servant has printed.
    pub(crate) fn by(output: &ServantOutput) -> Self {
        // pasta of 2023 complains of a missing system logger, about every line that it logs.
        let noise = |line: &&str| !(line.starts_with("Failed to send") && line.ends_with("syslog"));
        let lines: Vec<String> = output.text().lines().filter(noise).map(str::to_owned).collect();
        let text = match lines.join("\n") {
            said if said.is_empty() => "it said nothing".to_owned(),
            said => escape_control(&said),
        };
        Self { text, source: None }
    }

    /// What was said after these words, if they were said.
    fn after(&self, words: &str) -> Option<Self> {
        let (_, rest) = self.text.split_once(words)?;
        Some(Self { text: rest.trim_start_matches(": ").to_owned(), source: None })
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Said {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Why a network could not be started, taken over or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Without the host's addresses they cannot be refused, so no network is made.
    #[error("the host's own addresses were not known within {} s", deadline.as_secs())]
    HostAddresses {
        /// How long they were waited for.
        deadline: Duration,
    },
    /// A process could not be written down, so it was not made or not kept.
    #[error("cannot write down the network's processes")]
    Ledger(#[source] LedgerError),
    /// The keeper's socket.
    #[error("cannot use the network's socket in `{}`", folder.display())]
    Socket {
        /// The VM's folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ended that should have stayed.
    #[error("the {what} ended at once")]
    Ended {
        /// Which one it is.
        what: &'static str,
        /// What it said.
        #[source]
        said: Said,
    },
    /// The kernel lacks what every network is made with.
    #[error("{}", nftables::MISSING)]
    NoNftables {
        /// What the keeper said about it.
        #[source]
        said: Said,
    },
    /// The keeper could not do what it was asked.
    #[error("the network keeper could not {step}")]
    Keeper {
        /// What it was asked.
        step: &'static str,
        /// Why.
        #[source]
        said: Option<Said>,
    },
    /// The connection to the keeper broke.
    #[error("cannot talk to the network keeper")]
    Connection(#[source] io::Error),
    /// A step took too long.
    #[error("the network keeper could not {step} within {} s", deadline.as_secs())]
    TimedOut {
        /// What was waited for.
        step: &'static str,
        /// How long.
        deadline: Duration,
        /// What the process in question has said so far.
        #[source]
        said: Said,
    },
    /// The keeper did not answer.
    #[error("the network keeper did not {step} within {} s", deadline.as_secs())]
    Silent {
        /// What it was asked.
        step: &'static str,
        /// How long.
        deadline: Duration,
    },
    /// What was asked about is neither a name nor an address.
    #[error("`{}` is neither an address nor a full host name", escape_control(host))]
    Host {
        /// The text.
        host: String,
        /// Why it is no name.
        #[source]
        source: BadName,
    },
    /// The bridge refused.
    #[error("{message}")]
    Bridge {
        /// What happened.
        message: String,
        /// Which class.
        kind: Kind,
        /// What to do.
        hint: Option<String>,
        /// Why.
        #[source]
        said: Option<Said>,
    },
    /// The resolver of a bridge could not be had.
    #[error("cannot answer questions about names on the bridge")]
    Resolver(#[source] BindError),
    /// The start failed, and so did undoing it.
    #[error("the network could not be started, and {left}")]
    Undo {
        /// What is left.
        left: String,
        /// Why it could not be started.
        #[source]
        source: Box<NetError>,
    },
}

impl From<Report> for NetError {
    fn from(report: Report) -> Self {
        let Report { message, kind, hint, cause, .. } = report;
        Self::Bridge { message, kind, hint, said: Said::chain(cause) }
    }
}

impl NetError {
    /// A program ended that should have stayed, with these words.
    pub(super) fn ended(what: &'static str, said: Said) -> Self {
        match said.after(nftables::MISSING) {
            Some(said) => Self::NoNftables { said },
            None => Self::Ended { what, said },
        }
    }

    /// Whether a policy that was not set for this reason is surely not in force: its keeper refused it, or
    /// was not told. After a connection that broke or a silence it may be, or come to be.
    #[must_use]
    pub fn leaves_the_policy(&self) -> bool {
        matches!(self, Self::Keeper { .. } | Self::Socket { .. })
    }
}

impl Explain for NetError {
    fn kind(&self) -> Kind {
        match self {
            Self::TimedOut { .. } | Self::HostAddresses { .. } | Self::Silent { .. } => {
                Kind::TimedOut
            }
            Self::Host { .. } => Kind::Invalid,
            Self::Undo { source, .. } => source.kind(),
            Self::Bridge { kind, .. } => *kind,
            Self::Resolver(error) if error.is_taken() => Kind::Conflict,
            Self::Ledger(_)
            | Self::Socket { .. }
            | Self::Start { .. }
            | Self::Ended { .. }
            | Self::NoNftables { .. }
            | Self::Keeper { .. }
            | Self::Resolver(_)
            | Self::Connection(_) => Kind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let doctor =
            "`cove doctor` says what the host lacks; `--net none` starts the VM without a network";
        match self {
            Self::Start { .. }
            | Self::Ended { .. }
            | Self::Keeper { .. }
            | Self::TimedOut { .. } => Some(doctor.to_owned()),
            Self::NoNftables { .. } => Some(nftables::FIX.to_owned()),
            Self::Undo { source, .. } => source.hint(),
            Self::Bridge { hint, .. } => hint.clone(),
            Self::Resolver(error) if error.is_taken() => Some(
                "end the program that has that port, or give `[net.bridge]` another `range4`"
                    .to_owned(),
            ),
            Self::HostAddresses { .. } => Some("the daemon's log says why".to_owned()),
            Self::Silent { .. } => {
                Some("`cove stop` and `cove start` give the VM another network".to_owned())
            }
            Self::Host { .. } => Some("ask about `example.org` or `192.0.2.7`".to_owned()),
            Self::Ledger(_) | Self::Socket { .. } | Self::Resolver(_) | Self::Connection(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_found_no_nftables_is_told_from_others_by_its_last_words() {
        let said = |text: String| Said { text, source: None };
        let words = format!("{}: Protocol not supported", nftables::MISSING);
        let error = NetError::ended("network keeper", said(words));
        assert_eq!(error.to_string(), nftables::MISSING);
        assert_eq!(crate::report::causes(&error), ["Protocol not supported"]);
        assert!(error.hint().is_some_and(|hint| hint.contains("`sudo modprobe -a nf_tables")));
        let other = NetError::ended("network keeper", said("no luck today".to_owned()));
        assert_eq!(other.to_string(), "the network keeper ended at once");
    }
}
