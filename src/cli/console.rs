//! `cove console`: the console of a VM as it is written. To look at only: in the images that set-up makes
//! nothing reads it, and `cove exec -t` is the way to type.

use crate::report::{Kind, Report};
use crate::wire::rpc::{LogQuery, VmLogs, VmRef, VmShow};

use super::completion::vm_names;
use super::connect::connect;
use super::failure::Failure;
use super::logs::{Text, Until, show};

/// How many lines of what was written before are shown.
const LINES: usize = 20;

/// Arguments of `cove console`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(add = vm_names())]
    vm: String,
    /// Print what the guest writes as it is, control characters included
    #[arg(long)]
    raw: bool,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        let client = connect().await?;
        let vm = client.call::<VmShow>(VmRef { vm: self.vm }).await?;
        if vm.state.is_at_rest() {
            let name = &vm.name;
            let message = format!("the VM `{name}` is not running");
            return Err(Report::new(Kind::Conflict, message)
                .with_hint(format!("`cove logs {name}` shows what it wrote"))
                .into());
        }
        let query = LogQuery { vm: vm.id.to_string(), from: None };
        let mut logs = client.call::<VmLogs>(query).await?;
        logs.text = last_lines(&logs.text, LINES).to_owned();
        logs.lost = 0;
        let text = if self.raw { Text::Raw } else { Text::escaped() };
        show(&client, &vm, logs, text, Until::Stopped).await?;
        Ok(0)
    }
}

/// The last lines of a text, the one that has not ended included.
fn last_lines(text: &str, count: usize) -> &str {
    let ends = text.trim_end_matches('\n').rmatch_indices('\n');
    let start = ends.map(|(at, _)| at + 1).nth(count - 1);
    &text[start.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("", 2), "");
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a\n");
        assert_eq!(last_lines("ä\nö\n", 1), "ö\n");
    }
}
