//! `git-config`: granted keys of the user's git configuration.

use std::collections::BTreeMap;

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::bindings::git_config;
use crate::hooks::needs::git_key;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;

/// The granted keys with their values.
#[derive(Debug)]
pub struct GitConfig(pub(in crate::hooks) BTreeMap<String, Option<String>>);

impl git_config::Host for State {}

impl git_config::HostGitConfig for State {
    fn keys(&mut self, git: Resource<GitConfig>) -> wasmtime::Result<Vec<String>> {
        self.count_call()?;
        Ok(self.table.get(&git)?.0.keys().cloned().collect())
    }

    fn get(&mut self, git: Resource<GitConfig>, key: String) -> Result<Option<String>, CallError> {
        self.count_call()?;
        match self.table.get(&git)?.0.get(&git_key(&key)) {
            Some(value) => Ok(value.clone()),
            None => Err(Refusal::not_granted(&format!("git-config:{key}")).into()),
        }
    }

    fn drop(&mut self, git: Resource<GitConfig>) -> wasmtime::Result<()> {
        self.table.delete(git)?;
        Ok(())
    }
}
