//! `[[file_sync]]`: files and folders of the host that go into every guest.

use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSync {
    /// The file or folder of the host: absolute, or below the home with `~/`.
    pub host: String,
    /// Where it goes in the guest: below the home, with `~/`.
    pub guest: String,
    /// Permission bits of files, octal; 0600 when not given. Files in a folder keep their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

impl FileSync {
    /// Says what is wrong with the entry.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.host.is_empty() {
            return Err("`host` is empty");
        }
        if !self.host.starts_with('/') && !self.host.starts_with("~/") {
            return Err("`host` must be absolute or start with `~/`");
        }
        if self.guest.is_empty() {
            return Err("`guest` is empty");
        }
        let Some(below) = self.guest.strip_prefix("~/") else {
            return Err("`guest` must start with `~/`: files go below the home only");
        };
        if below.is_empty() || below.split('/').any(|part| part.is_empty() || part == ".") {
            return Err("`guest` must name a path below the home");
        }
        if below.split('/').any(|part| part == "..") {
            return Err("`guest` must not have `..`");
        }
        match self.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8)) {
            None => Ok(()),
            Some(Err(_)) => Err("`mode` must be octal, such as \"0600\""),
            Some(Ok(bits)) if bits > 0o777 => Err("`mode` must lie in 0000 to 0777"),
            Some(Ok(_)) => Ok(()),
        }
    }

    /// The guest path relative to the home.
    #[must_use]
    pub fn below_home(&self) -> &str {
        self.guest.strip_prefix("~/").unwrap_or(&self.guest)
    }

    /// The permission bits of files, where the entry says them.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(self.mode.as_deref()?, 8).ok()
    }
}
