//! The JSON schema of `kiln.toml`, made from the parser's own shapes, so that editors know what the parser knows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::format::{Format, PACKAGE_REQUEST, PATH};
use super::shape::{FRAGMENT, Kind, ROOT, Shape};

/// The JSON schema (draft 2020-12) of `kiln.toml`; `#/$defs/fragment` is that of a file in `kiln.d`.
///
/// It is committed as `crates/kiln-model/schema/kiln.schema.json`, which `cargo xtask generate` writes.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = BTreeMap::new();
    define(&FRAGMENT, &mut definitions);
    let mut schema = table(&ROOT, &mut definitions);
    let definitions: Map<String, Value> =
        definitions.into_iter().map(|(name, definition)| (name.to_owned(), definition)).collect();
    if let Some(entries) = schema.as_object_mut() {
        entries.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        entries.insert("title".to_owned(), json!("kiln.toml"));
        entries.insert("$defs".to_owned(), definitions.into());
    }
    sorted(schema)
}

type Definitions = BTreeMap<&'static str, Value>;

/// Adds the definition of a table and of those in it; the same shape is described once.
fn define(shape: &'static Shape, definitions: &mut Definitions) -> Value {
    if !definitions.contains_key(shape.name) {
        let definition = table(shape, definitions);
        definitions.insert(shape.name, definition);
    }
    json!({ "$ref": format!("#/$defs/{}", shape.name) })
}

fn table(shape: &'static Shape, definitions: &mut Definitions) -> Value {
    let properties: Map<String, Value> =
        shape.keys.iter().map(|key| (key.name.to_owned(), described(&key.kind, key.doc, definitions))).collect();
    let required: Vec<&str> = shape.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut table = json!({
        "type": "object",
        "title": shape.name,
        "description": shape.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if !shape.one_of.is_empty() {
        let choices: Vec<Value> = shape.one_of.iter().map(|key| json!({ "required": [key] })).collect();
        table["oneOf"] = choices.into();
    }
    table
}

fn described(kind: &'static Kind, doc: &str, definitions: &mut Definitions) -> Value {
    let mut value = value(kind, definitions);
    value["description"] = doc.into();
    value
}

fn value(kind: &'static Kind, definitions: &mut Definitions) -> Value {
    match kind {
        Kind::Text(format) => text(format),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { minimum, maximum } => json!({ "type": "integer", "minimum": minimum, "maximum": maximum }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Source(_) => text(&PATH),
        Kind::Package => text(&PACKAGE_REQUEST),
        Kind::List { of, minimum } => list(value(of, definitions), *minimum),
        Kind::Table(shape) => define(shape, definitions),
        Kind::Tables(shape) => list(define(shape, definitions), 0),
        Kind::Variants(shapes) => {
            let variants: Vec<Value> = shapes.iter().map(|shape| define(shape, definitions)).collect();
            list(json!({ "oneOf": variants }), 0)
        }
        Kind::Map { key, value: of, minimum } => json!({
            "type": "object",
            "propertyNames": { "pattern": key.pattern },
            "additionalProperties": value(of, definitions),
            "minProperties": minimum,
        }),
        Kind::Anything => json!({}),
    }
}

fn text(format: &Format) -> Value {
    json!({ "type": "string", "pattern": format.pattern, "examples": [format.example] })
}

fn list(items: Value, minimum: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": minimum })
}

/// The same value with the keys of every object in order: whether serde_json keeps insertion order depends on what
/// else is built with it, and the committed file must not.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries: BTreeMap<String, Value> =
                entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}
