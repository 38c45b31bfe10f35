//! `settings`: the plugin's own table of the configuration, and its check against the manifest.

use std::collections::BTreeMap;

use toml::{Table, Value};
use wasmtime::component::Resource;

use super::CallError;
use crate::hooks::manifest::SettingType;
use crate::hooks::refusal::Refusal;
use crate::hooks::state::State;

/// The settings of one plugin.
#[derive(Debug)]
pub struct Settings {
    schema: BTreeMap<String, SettingType>,
    table: Table,
}

impl Settings {
    /// Checks a table against a manifest.
    ///
    /// # Errors
    /// A sentence about the first key that does not fit.
    pub(in crate::hooks) fn new(
        schema: BTreeMap<String, SettingType>,
        table: Table,
    ) -> Result<Self, String> {
        for (key, value) in &table {
            let shown = key.escape_debug();
            let fits = match schema.get(key) {
                None if schema.is_empty() => return Err("it has no settings".into()),
                None => {
                    let known: Vec<_> =
                        schema.keys().map(|key| format!("`{}`", key.escape_debug())).collect();
                    let known = known.join(", ");
                    return Err(format!("`{shown}` is unknown; there is {known}"));
                }
                Some(SettingType::Text) => value.is_str(),
                Some(SettingType::Texts) => {
                    value.as_array().is_some_and(|list| list.iter().all(Value::is_str))
                }
                Some(SettingType::Number) => value.is_integer(),
                Some(SettingType::Flag) => value.is_bool(),
            };
            if !fits {
                let wanted = match schema[key] {
                    SettingType::Text => "a text",
                    SettingType::Texts => "a list of texts",
                    SettingType::Number => "a whole number",
                    SettingType::Flag => "`true` or `false`",
                };
                return Err(format!("`{shown}` must be {wanted}"));
            }
        }
        Ok(Self { schema, table })
    }

    /// The value of a key that the manifest says to be of this type.
    fn get(&self, key: &str, wanted: SettingType) -> Result<Option<&Value>, Refusal> {
        match self.schema.get(key) {
            Some(declared) if *declared == wanted => Ok(self.table.get(key)),
            Some(_) => {
                let message = format!("setting `{key}` has another type in the manifest");
                Err(Refusal::new("wrong-type", message))
            }
            None => {
                let key: String = key.chars().take(80).flat_map(char::escape_debug).collect();
                let message = format!("there is no setting `{key}` in the manifest");
                Err(Refusal::new("not-found", message))
            }
        }
    }
}

impl State {
    fn setting(
        &mut self,
        settings: &Resource<Settings>,
        key: &str,
        wanted: SettingType,
    ) -> Result<Option<&Value>, CallError> {
        Ok(self.reach(settings)?.get(key, wanted)?)
    }

    pub(in crate::hooks) fn setting_text(
        &mut self,
        settings: &Resource<Settings>,
        key: &str,
    ) -> Result<Option<String>, CallError> {
        let value = self.setting(settings, key, SettingType::Text)?;
        Ok(value.and_then(Value::as_str).map(str::to_owned))
    }

    pub(in crate::hooks) fn setting_texts(
        &mut self,
        settings: &Resource<Settings>,
        key: &str,
    ) -> Result<Option<Vec<String>>, CallError> {
        let value = self.setting(settings, key, SettingType::Texts)?;
        let texts =
            |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(value.and_then(Value::as_array).map(texts))
    }

    pub(in crate::hooks) fn setting_number(
        &mut self,
        settings: &Resource<Settings>,
        key: &str,
    ) -> Result<Option<i64>, CallError> {
        let value = self.setting(settings, key, SettingType::Number)?;
        Ok(value.and_then(Value::as_integer))
    }

    pub(in crate::hooks) fn setting_flag(
        &mut self,
        settings: &Resource<Settings>,
        key: &str,
    ) -> Result<Option<bool>, CallError> {
        let value = self.setting(settings, key, SettingType::Flag)?;
        Ok(value.and_then(Value::as_bool))
    }

    pub(in crate::hooks) fn settings_json(
        &mut self,
        settings: &Resource<Settings>,
    ) -> wasmtime::Result<String> {
        let table = &self.look(settings)?.table;
        Ok(serde_json::to_string(table).expect("checked settings are plain data"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_what_the_manifest_says() {
        let schema = BTreeMap::from([
            ("name".to_owned(), SettingType::Text),
            ("keys".to_owned(), SettingType::Texts),
        ]);
        for (text, expected) in [
            ("name = 'a'\nkeys = ['b', 'c']", Ok(())),
            ("", Ok(())),
            ("nam = 'a'", Err("`nam` is unknown; there is `keys`, `name`")),
            ("name = 1", Err("`name` must be a text")),
            ("keys = ['a', 1]", Err("`keys` must be a list of texts")),
        ] {
            let table = text.parse().expect("it is TOML");
            let result = Settings::new(schema.clone(), table).map(drop);
            assert_eq!(result, expected.map_err(str::to_owned), "{text}");
        }
    }
}
