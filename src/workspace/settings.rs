//! What git in a guest has to be told when what is in it is brought up to date. Its configuration is its own and stays,
//! but for what belongs to the index and to the submodules that come.

use super::inspection::Inspection;
use crate::wire::rpc::WorkspaceMode;

/// Whether files are left out of the working tree, and how the patterns are read that say which.
const SPARSE: &str = "core.sparseCheckout";
const CONE: &str = "core.sparseCheckoutCone";

/// An entry of git's configuration in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose configuration: a git folder below that of the repository, or empty for the repository's own.
    pub place: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// When it is written.
    pub when: When,
}

/// When an entry is written into a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Unless it says so already.
    Always,
    /// Where it says something else.
    Otherwise,
    /// Where it says nothing.
    Missing,
}

impl Setting {
    /// Whether it is to be written where the configuration has this value, or none.
    #[must_use]
    pub fn is_wanted(&self, there: Option<&str>) -> bool {
        match (self.when, there) {
            (When::Always | When::Missing, None) => true,
            (When::Otherwise, None) | (When::Missing, Some(_)) => false,
            (When::Always | When::Otherwise, Some(there)) => {
                !there.eq_ignore_ascii_case(&self.value)
            }
        }
    }
}

/// What git is to be told of what was inspected, where the git of submodules at these places goes in.
pub(super) fn of(inspection: &Inspection, goes_in: impl Fn(&str) -> bool) -> Vec<Setting> {
    let own = |key: &str, value: &str, when| Setting {
        place: String::new(),
        key: key.to_owned(),
        value: value.to_owned(),
        when,
    };
    let mut settings = match inspection.mode {
        WorkspaceMode::Full => Vec::new(),
        WorkspaceMode::Metadata if inspection.head.commit.is_none() => Vec::new(),
        // As `absent` makes it.
        WorkspaceMode::Metadata => {
            vec![own(SPARSE, "true", When::Always), own(CONE, "false", When::Always)]
        }
        WorkspaceMode::Shallow => match (carried(inspection, SPARSE), carried(inspection, CONE)) {
            (Some(true), cone) => {
                let cone = match cone {
                    Some(cone) => own(CONE, &cone.to_string(), When::Always),
                    None => own(CONE, "false", When::Otherwise),
                };
                vec![own(SPARSE, "true", When::Always), cone]
            }
            (Some(false) | None, _) => vec![own(SPARSE, "false", When::Otherwise)],
        },
    };
    if inspection.mode == WorkspaceMode::Shallow {
        for submodule in inspection.submodules.iter().filter(|inside| goes_in(&inside.place)) {
            let entries = submodule.entries().map(|(key, value)| Setting {
                place: submodule.above.clone(),
                key,
                value,
                when: When::Missing,
            });
            settings.extend(entries);
        }
    }
    settings
}

/// What the source's configuration says, where it says something.
fn carried(inspection: &Inspection, key: &str) -> Option<bool> {
    let mut carried = inspection.configuration.carried.iter();
    let (_, value) = carried.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
    let says = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    Some(["true", "yes", "on", "1"].into_iter().any(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_of_its_own_stays() {
        let cases = [
            (When::Always, [true, false, true]),
            (When::Otherwise, [false, false, true]),
            (When::Missing, [true, false, false]),
        ];
        for (when, expected) in cases {
            let (place, key, value) = (String::new(), CONE.to_owned(), "true".to_owned());
            let setting = Setting { place, key, value, when };
            let wanted = [None, Some("True"), Some("false")].map(|there| setting.is_wanted(there));
            assert_eq!(wanted, expected, "{when:?}");
        }
    }
}
