//! `rpc.discover`: an OpenRPC document, made of the types that the methods are made of.
//!
//! Whatever is added to the catalog is described here, so that nothing can be answered that the document
//! does not list. Subscriptions are two methods each; OpenRPC has no word for them, so what they tell is
//! under `x-subscription`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::wire::rpc::{Method, Subscription};

/// The version of the OpenRPC specification.
const OPENRPC: &str = "1.3.2";

/// Where schemas lie that more than one method uses.
const SCHEMAS: &str = "/components/schemas";

/// The document, while it is made.
#[derive(Debug)]
pub(super) struct Document {
    methods: Vec<Value>,
    /// What clients may send: fields with a default may be left out.
    sent: SchemaGenerator,
    /// What clients get: fields that are always there are required.
    got: SchemaGenerator,
}

impl Default for Document {
    fn default() -> Self {
        let settings = || {
            let settings = SchemaSettings::draft2020_12();
            settings.with(|settings| settings.definitions_path = SCHEMAS.into())
        };
        Self {
            methods: Vec::new(),
            sent: settings().for_deserialize().into_generator(),
            got: settings().for_serialize().into_generator(),
        }
    }
}

impl Document {
    /// Describes a method.
    pub(super) fn method<M: Method<Params: JsonSchema, Reply: JsonSchema>>(&mut self) {
        let result = self.got.subschema_for::<M::Reply>();
        let method = json!({
            "name": M::NAME,
            "summary": M::SUMMARY.trim(),
            "paramStructure": "by-name",
            "params": parameters(&M::Params::json_schema(&mut self.sent)),
            "result": {"name": "result", "schema": result},
        });
        self.methods.push(method);
    }

    /// Describes a subscription.
    pub(super) fn subscription<S: Subscription<Params: JsonSchema, Event: JsonSchema>>(&mut self) {
        let event = self.got.subschema_for::<S::Event>();
        let id = json!({"type": ["integer", "string"]});
        self.methods.push(json!({
            "name": S::SUBSCRIBE,
            "summary": S::SUMMARY.trim(),
            "description": "On a WebSocket only. The end is told by a notification with `error`.",
            "paramStructure": "by-name",
            "params": parameters(&S::Params::json_schema(&mut self.sent)),
            "result": {"name": "subscription", "schema": id},
            "x-subscription": {"event": S::EVENT, "unsubscribe": S::UNSUBSCRIBE, "schema": event},
        }));
        self.methods.push(json!({
            "name": S::UNSUBSCRIBE,
            "summary": format!("Ends a subscription of `{}`.", S::SUBSCRIBE),
            "description": "On the WebSocket of the subscription only.",
            "paramStructure": "by-position",
            "params": [{"name": "subscription", "required": true, "schema": id}],
            "result": {"name": "ended", "schema": {"type": "boolean"}},
        }));
    }

    /// The document of everything that was added.
    pub(super) fn finish(&mut self) -> Value {
        let mut schemas = self.got.take_definitions(true);
        for (name, schema) in self.sent.take_definitions(true) {
            let other = schemas.insert(name, schema.clone());
            // Two names for one type are easy to give; this would be two types under one name.
            assert!(other.is_none_or(|other| other == schema), "clients send what they get");
        }
        let mut methods = std::mem::take(&mut self.methods);
        methods.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        json!({
            "openrpc": OPENRPC,
            "info": {
                "title": "cove",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Private Linux machines for developers and coding agents.",
            },
            "methods": methods,
            "components": {"schemas": schemas},
        })
    }
}

/// The parameters of a method: the properties of the object that they are.
fn parameters(schema: &Schema) -> Vec<Value> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({
            "name": name,
            "required": required.is_some_and(|required| required.contains(&json!(name))),
            "schema": schema,
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.iter().map(parameter).collect()
}
