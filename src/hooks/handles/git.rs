//! `git-config`: granted keys of the user's git configuration.

use std::collections::BTreeMap;

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::needs::git_key;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;

/// The granted keys with their values.
#[derive(Debug)]
pub struct GitConfig(pub(in crate::hooks) BTreeMap<String, Option<String>>);

impl State {
    pub(in crate::hooks) fn git_keys(
        &mut self,
        git: &Resource<GitConfig>,
    ) -> wasmtime::Result<Vec<String>> {
        Ok(self.look(git)?.0.keys().cloned().collect())
    }

    pub(in crate::hooks) fn git_value(
        &mut self,
        git: &Resource<GitConfig>,
        key: &str,
    ) -> Result<Option<String>, CallError> {
        match self.look(git)?.0.get(&git_key(key)) {
            Some(value) => Ok(value.clone()),
            None => Err(Refusal::not_granted(&format!("git-config:{key}")).into()),
        }
    }
}
