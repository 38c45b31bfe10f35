//! `cove config`: the configuration in force, as the daemon has read it.

use serde_json::Value;

use crate::wire::rpc::{ConfigShow, Nothing};

use super::connect::connect;
use super::failure::Failure;
use super::output::Format;

/// The commands of `cove config`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the configuration in force
    Show {
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Show { format } => {
                let value = connect().await?.call::<ConfigShow>(Nothing {}).await?;
                format.print(&value, render)?;
                Ok(0)
            }
        }
    }
}

/// The configuration as the file could be written. TOML has no null: what is not set is left out.
pub(super) fn render(value: &Value) -> String {
    let set = without_nulls(value.clone());
    toml::to_string_pretty(&set).unwrap_or_else(|_| format!("{set:#}"))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
