//! `state`: what a plugin remembers from one call to the next.
//!
//! A call sees a copy and writes to it. The copy is handed back when the call ends well, and whoever began
//! the call decides whether it is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::limits;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;

/// Keys with their values.
pub type Remembered = BTreeMap<String, Vec<u8>>;

/// The copy of one call.
#[derive(Debug, Clone, Default)]
pub struct PluginState {
    pub(in crate::hooks) granted: bool,
    pub(in crate::hooks) copy: Arc<Mutex<Remembered>>,
}

impl PluginState {
    /// What is remembered now.
    pub(in crate::hooks) fn take(&self) -> Remembered {
        std::mem::take(&mut *self.copy.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn check(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > limits::STATE_KEY_BYTES {
        let limit = limits::STATE_KEY_BYTES;
        return Err(Refusal::new("bad-argument", format!("a key has 1 to {limit} bytes")));
    }
    Ok(())
}

impl State {
    /// Does something with the copy, where the plugin may.
    fn remembering<T>(
        &mut self,
        state: &Resource<PluginState>,
        what: impl FnOnce(&mut Remembered) -> Result<T, Refusal>,
    ) -> Result<T, CallError> {
        let state = self.look(state)?;
        if !state.granted {
            return Err(Refusal::not_granted("state").into());
        }
        let mut copy = state.copy.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(what(&mut copy)?)
    }

    pub(in crate::hooks) fn state_keys(
        &mut self,
        state: &Resource<PluginState>,
    ) -> Result<Vec<String>, CallError> {
        self.remembering(state, |copy| Ok(copy.keys().cloned().collect()))
    }

    pub(in crate::hooks) fn state_get(
        &mut self,
        state: &Resource<PluginState>,
        key: &str,
    ) -> Result<Option<Vec<u8>>, CallError> {
        self.remembering(state, |copy| Ok(copy.get(key).cloned()))
    }

    pub(in crate::hooks) fn state_set(
        &mut self,
        state: &Resource<PluginState>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), CallError> {
        self.remembering(state, |copy| {
            check(&key)?;
            if copy.len() >= limits::STATE_KEYS && !copy.contains_key(&key) {
                let limit = limits::STATE_KEYS;
                let message = format!("a plugin remembers at most {limit} keys");
                return Err(Refusal::new("too-many", message));
            }
            let others = copy.iter().filter(|(other, _)| **other != key);
            let others: usize = others.map(|(key, value)| key.len() + value.len()).sum();
            if others + key.len() + value.len() > limits::STATE_BYTES {
                let limit = limits::STATE_BYTES;
                let message = format!("a plugin remembers at most {limit} bytes");
                return Err(Refusal::new("too-large", message));
            }
            copy.insert(key, value);
            Ok(())
        })
    }

    pub(in crate::hooks) fn state_remove(
        &mut self,
        state: &Resource<PluginState>,
        key: &str,
    ) -> Result<(), CallError> {
        self.remembering(state, |copy| {
            copy.remove(key);
            Ok(())
        })
    }
}
