//! `docs/kiln.toml.md`: every key of the spec in one page, made from the same JSON schema that editors use.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Tables as people meet them in a spec: heading, definition.
const SECTIONS: &[(&str, &str)] = &[
    ("[factory]", "factory"),
    ("[distribution.NAME]", "distribution"),
    ("[[distribution.NAME.repository]]", "repository"),
    ("[toolbox]", "toolbox"),
    ("[class.NAME]", "class"),
    ("[[class.NAME.step]] copy", "step-copy"),
    ("[[class.NAME.step]] template", "step-template"),
    ("[[class.NAME.step]] user", "step-user"),
    ("[[class.NAME.step]] group", "step-group"),
    ("[[class.NAME.step]] enable", "step-enable"),
    ("[[class.NAME.step]] disable", "step-disable"),
    ("[[class.NAME.step]] mask", "step-mask"),
    ("[[class.NAME.step]] download", "step-download"),
    ("[[class.NAME.step]] shell", "step-shell"),
    ("[[class.NAME.step]] script", "step-script"),
    ("[[class.NAME.step]] ansible", "step-ansible"),
    ("[[class.NAME.step]] puppet", "step-puppet"),
    ("[environment.NAME]", "environment"),
    ("[group.NAME]", "group"),
    ("health = { ... }", "health"),
    ("update = { ... }", "update"),
    ("[group.NAME.in.ENVIRONMENT]", "placement"),
    ("balancer = { ... }", "balancer"),
];

const HEAD: &str = "\
# kiln.toml

Every table and key. Made from the JSON schema (`kiln schema` prints it, for editors); `cargo xtask generate` writes this
page. Bold keys are required. An unknown key is an error; durations and sizes carry units (`15s`, `14d`, `512MiB`).
`kiln.d/*.toml` may hold further `[class.NAME]` and `[group.NAME]` tables.
";

/// The page.
///
/// # Panics
/// If the schema has a definition that this page does not show: then [`SECTIONS`] is to be completed.
pub(crate) fn page(schema: &Value) -> String {
    let definitions = schema["$defs"].as_object().expect("the schema has definitions");
    let shown = |name: &str| name == "fragment" || SECTIONS.iter().any(|(_, definition)| *definition == name);
    let missing: Vec<&String> = definitions.keys().filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "docs/kiln.toml.md does not show {missing:?}");
    SECTIONS.iter().fold(HEAD.to_owned(), |page, (heading, name)| page + &section(heading, &definitions[*name]))
}

fn section(heading: &str, definition: &Value) -> String {
    let mut text = format!("\n## `{heading}`\n\n{}\n", definition["description"].as_str().unwrap_or_default());
    let Some(properties) = definition["properties"].as_object().filter(|properties| !properties.is_empty()) else {
        text.push_str("\nIt has no keys.\n");
        return text;
    };
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    text.push_str("\n| key | value | meaning |\n|---|---|---|\n");
    for (key, property) in properties {
        let name = if required.contains(&key.as_str()) { format!("**`{key}`**") } else { format!("`{key}`") };
        let meaning = property["description"].as_str().unwrap_or_default().replace('|', "\\|");
        let _ = writeln!(text, "| {name} | {} | {meaning} |", value(property).replace('|', "\\|"));
    }
    text
}

/// What a value looks like: its words, its type, an example.
fn value(property: &Value) -> String {
    if let Some(words) = property["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let example = property["examples"].get(0).map(|example| format!(", as `{example}`")).unwrap_or_default();
    match property["type"].as_str() {
        Some("array") => format!("list of {}", value(&property["items"])),
        Some("string") => format!("text{example}"),
        Some("object") => "table".to_owned(),
        Some(other) => format!("{other}{example}"),
        None => alternatives(property.as_object()),
    }
}

fn alternatives(property: Option<&Map<String, Value>>) -> String {
    let several = property.and_then(|property| property.get("oneOf").or_else(|| property.get("anyOf")));
    match several.and_then(Value::as_array) {
        Some(several) if several.iter().all(|one| one.get("$ref").is_none()) => {
            several.iter().map(value).collect::<Vec<_>>().join(" or ")
        }
        _ => "table".to_owned(),
    }
}
