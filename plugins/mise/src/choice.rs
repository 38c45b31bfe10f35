//! When tools are installed.

use cove_plugin_sdk::{Error, Result};

/// The setting `enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Where the machine may reach a network.
    Auto,
    /// In every machine.
    Always,
    /// In none.
    Never,
}

impl When {
    /// What the setting says; `auto` when it says nothing.
    ///
    /// # Errors
    /// When it says something else.
    pub(crate) fn of(setting: Option<&str>) -> Result<Self> {
        match setting {
            None | Some("auto") => Ok(Self::Auto),
            Some("always") => Ok(Self::Always),
            Some("never") => Ok(Self::Never),
            Some(other) => {
                let message = format!(
                    "`enabled` of `[hooks.settings.mise]` is `{other}`: it must be `auto`, `always` or `never`"
                );
                Err(Error::new("bad-argument", message))
            }
        }
    }

    /// Whether to install tools in a machine with this network and this policy, or why not.
    pub(crate) fn judge(self, network: &str, egress: &str) -> Result<(), &'static str> {
        match (self, network, egress) {
            (Self::Never, ..) => Err("`enabled` is `never`"),
            (Self::Always, ..) => Ok(()),
            (Self::Auto, "none", _) => Err("the machine has no network"),
            (Self::Auto, _, "closed") => Err("the machine may reach nothing (`--egress closed`)"),
            (Self::Auto, ..) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_way_out_gets_no_tools_unless_it_is_said() {
        for (setting, network, egress, installs) in [
            (None, "user", "open", true),
            (Some("auto"), "bridge", "allow", true),
            (None, "user", "closed", false),
            (None, "none", "open", false),
            (Some("always"), "none", "open", true),
            (Some("always"), "user", "closed", true),
            (Some("never"), "user", "open", false),
        ] {
            let when = When::of(setting).expect("a setting");
            let judged = when.judge(network, egress);
            assert_eq!(judged.is_ok(), installs, "{setting:?} {network} {egress}: {judged:?}");
        }
    }

    #[test]
    fn another_setting_is_named() {
        let message = When::of(Some("sometimes")).expect_err("refused").message;
        assert!(message.contains("`sometimes`") && message.contains("`never`"), "{message}");
    }
}
