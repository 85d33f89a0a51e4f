//! The JSON schema and the parser, tested against each other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{EVERYTHING, SHOP, parse_one};

fn committed() -> Value {
    serde_json::from_str(include_str!("../../schema/kiln.schema.json")).unwrap()
}

fn from_toml(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

#[test]
fn committed_schema_is_current() {
    assert!(committed() == kiln_model::spec::schema(), "schema/kiln.schema.json is old: run `cargo xtask generate`");
}

#[test]
fn committed_schema_is_a_schema() {
    assert!(jsonschema::meta::is_valid(&committed()));
}

#[test]
fn both_accept_the_examples() {
    let validator = jsonschema::validator_for(&committed()).unwrap();
    for text in [SHOP, EVERYTHING, "factory.name = \"a\""] {
        assert_eq!(parse_one(text).map(drop), Ok(()));
        let errors: Vec<_> = validator.iter_errors(&from_toml(text)).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0]);
    }
}

#[test]
fn every_table_and_key_says_what_it_is_for() {
    fn check(schema: &Value, path: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|doc| doc.ends_with('.')), "{path}.{key}");
        }
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            assert!(definition["description"].as_str().is_some_and(|doc| doc.ends_with('.')), "{name}");
            check(definition, name);
        }
    }
    check(&committed(), "");
}

/// The keys of every definition that the value uses, as `definition.key`.
fn used_keys(value: &Value, schema: &Value, root: &Value, used: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return used_keys(value, &root["$defs"][reference.trim_start_matches("#/$defs/")], root, used);
    }
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        if jsonschema::is_valid(&with_definitions(variant, root), value) && variant.get("$ref").is_some() {
            used_keys(value, variant, root, used);
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        if let Some(property) = schema["properties"].get(key) {
            used.insert(format!("{}.{key}", schema["title"].as_str().unwrap()));
            used_keys(inner, property, root, used);
        } else if let Some(property) = schema.get("additionalProperties") {
            used_keys(inner, property, root, used);
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        used_keys(inner, &schema["items"], root, used);
    }
}

fn with_definitions(schema: &Value, root: &Value) -> Value {
    let mut schema = schema.clone();
    schema["$defs"] = root["$defs"].clone();
    schema
}

#[test]
fn the_large_example_uses_every_key() {
    let schema = committed();
    let mut used = BTreeSet::new();
    used_keys(&from_toml(EVERYTHING), &schema, &schema, &mut used);
    let definitions = schema["$defs"].as_object().unwrap().iter().filter(|(name, _)| *name != "fragment");
    let all: BTreeSet<String> = definitions
        .flat_map(|(name, definition)| {
            definition["properties"].as_object().unwrap().keys().map(move |key| format!("{name}.{key}"))
        })
        .collect();
    assert_eq!(all.difference(&used).collect::<Vec<_>>(), [""; 0]);
}

/// Every path to a value inside `value`, the whole first.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let inner =
        children.iter().flat_map(|(key, child)| pointers(child).into_iter().map(move |rest| format!("/{key}{rest}")));
    std::iter::once(String::new()).chain(inner).collect()
}

/// The example with one thing wrong, in every way and at every place.
fn mutations(example: &Value) -> Vec<(String, Value)> {
    let replacements =
        [json!("zz zz"), json!("zz"), json!(7), json!(-1), json!(true), json!(1.5), json!([]), json!({})];
    let mut mutations = Vec::new();
    for pointer in pointers(example).into_iter().filter(|pointer| !pointer.is_empty()) {
        for replacement in &replacements {
            let mut mutated = example.clone();
            *mutated.pointer_mut(&pointer).unwrap() = replacement.clone();
            mutations.push((format!("{pointer} = {replacement}"), mutated));
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut without = example.clone();
        match without.pointer_mut(parent).unwrap() {
            Value::Object(entries) => drop(entries.remove(key)),
            Value::Array(items) => drop(items.remove(key.parse().unwrap())),
            _ => {}
        }
        mutations.push((format!("without {pointer}"), without));
    }
    for pointer in pointers(example) {
        let mut with = example.clone();
        if let Some(entries) = with.pointer_mut(&pointer).unwrap().as_object_mut() {
            entries.insert("zzz".to_owned(), json!({ "zzz": 1 }));
            mutations.push((format!("{pointer}/zzz = {{ zzz = 1 }}"), with));
        }
    }
    mutations
}

/// Whether a mistake is one of structure, which a schema can see.
fn is_structural(message: &str) -> bool {
    let words =
        ["unknown key", " must be ", "lacks the key", " has neither ", " has both ", "does nothing", " is empty"];
    words.iter().any(|word| message.contains(word))
}

fn check_agreement(example: &str) -> (usize, usize) {
    let validator = jsonschema::validator_for(&committed()).unwrap();
    let (mut refused, mut structural) = (0, 0);
    for (what, mutated) in mutations(&from_toml(example)) {
        let text = toml::to_string(&mutated).unwrap();
        let mistakes = parse_one(&text).err().map(|diagnostics| diagnostics.0).unwrap_or_default();
        if !validator.is_valid(&mutated) {
            refused += 1;
            assert!(!mistakes.is_empty(), "only the schema refuses: {what}");
        } else if let Some(mistake) = mistakes.iter().find(|mistake| is_structural(&mistake.message)) {
            panic!("only the parser refuses: {what}\n{mistake}");
        }
        structural += usize::from(mistakes.iter().any(|mistake| is_structural(&mistake.message)));
    }
    (refused, structural)
}

#[test]
fn both_refuse_the_same_structures() {
    for example in [SHOP, EVERYTHING] {
        let (refused, structural) = check_agreement(example);
        assert!(refused > 100 && structural > 100, "too little was tried: {refused} {structural}");
    }
}

#[test]
fn fragments_have_their_own_schema() {
    let fragment = json!({ "$ref": "#/$defs/fragment" });
    let validator = jsonschema::validator_for(&with_definitions(&fragment, &committed())).unwrap();
    assert!(validator.is_valid(&json!({ "class": { "a": { "distribution": "trixie" } } })));
    assert!(!validator.is_valid(&json!({ "environment": {} })));
}
