//! Whether a value is what its key may hold: type, range, words, format, files that must be there.

use toml::de::DeValue;

use super::decode::{Value, integer};
use super::format::Refusal;
use super::package::RequestKind;
use super::path::{self, Wanted};
use super::shape::{Kind, quoted};
use crate::diagnostic::nearest;

/// Notes everything that is wrong with a value by itself; tables in it are checked when they are opened. `label` is
/// what people call the value: `` `packages` ``.
pub(crate) fn check(value: &Value<'_>, kind: &Kind, label: &str) {
    let wrong = match (kind, value.spanned.get_ref()) {
        (Kind::Text(format), DeValue::String(text)) => (format.check)(text).err(),
        (Kind::Choice(words), DeValue::String(text)) => check_choice(text, words, label).err(),
        (Kind::Source(wanted), DeValue::String(text)) => path::find(value.context.files, text, *wanted).err(),
        (Kind::Package, DeValue::String(text)) => check_package(value, text).err(),
        (Kind::Integer { minimum, maximum }, DeValue::Integer(number)) => {
            let right = integer(number).is_some_and(|number| (*minimum..=*maximum).contains(&number));
            (!right).then(|| Refusal::new(format!("{label} must be {}, not {number}", kind.noun())))
        }
        (Kind::List { of, minimum }, DeValue::Array(items)) => check_list(value, of, label, items.len() < *minimum),
        (Kind::Tables(_) | Kind::Variants(_), DeValue::Array(_)) => check_tables(value, label),
        (Kind::Map { .. }, DeValue::Table(_)) => check_map(value, kind, label),
        (Kind::Anything, _) => check_json(value),
        (Kind::Boolean, DeValue::Boolean(_)) | (Kind::Table(_), DeValue::Table(_)) => None,
        (_, found) => Some(wrong_type(kind, found, label)),
    };
    if let Some(refusal) = wrong {
        value.refuse(refusal);
    }
}

fn check_choice(text: &str, words: &'static [&'static str], label: &str) -> Result<(), Refusal> {
    if words.contains(&text) {
        return Ok(());
    }
    let refusal = Refusal::new(format!("{label} must be one of {}, not \"{text}\"", quoted(words)));
    Err(refusal.maybe_hint(nearest(text, words.iter().copied()).map(|near| format!("did you mean \"{near}\"?"))))
}

fn check_package(value: &Value<'_>, text: &str) -> Result<(), Refusal> {
    let one_file = Wanted { file: true, directory: false, pattern: false };
    match text.parse::<RequestKind>()? {
        RequestKind::File(path) => path::find(value.context.files, path.as_str(), one_file).map(drop),
        RequestKind::Named { .. } | RequestKind::Url(_) => Ok(()),
    }
}

fn check_list(value: &Value<'_>, of: &Kind, label: &str, too_short: bool) -> Option<Refusal> {
    value.items().iter().for_each(|item| check(item, of, &format!("an entry of {label}")));
    too_short.then(|| Refusal::new(format!("{label} is empty")))
}

fn check_tables(value: &Value<'_>, label: &str) -> Option<Refusal> {
    let is_table = |item: &Value<'_>| item.spanned.get_ref().is_table();
    let wrong = value.items().into_iter().find(|item| !is_table(item))?;
    let found = type_noun(wrong.spanned.get_ref());
    wrong.refuse(Refusal::new(format!("an entry of {label} must be a table, not {found}")));
    None
}

fn check_map(value: &Value<'_>, kind: &Kind, label: &str) -> Option<Refusal> {
    let Kind::Map { key, value: of, minimum } = kind else { return None };
    let entries = value.entries();
    for entry in &entries {
        if let Err(refusal) = (key.check)(entry.name) {
            entry.refuse(refusal);
        }
        check(&entry.value, of, &format!("`{}.{}`", label.trim_matches('`'), entry.name));
    }
    (entries.len() < *minimum).then(|| Refusal::new(format!("{label} is empty")))
}

/// Dates, infinities and what is no number have no form in JSON, which the tools of a step are given.
fn check_json(value: &Value<'_>) -> Option<Refusal> {
    value.items().iter().chain(value.entries().iter().map(|entry| &entry.value)).for_each(|inner| {
        if let Some(refusal) = check_json(inner) {
            inner.refuse(refusal);
        }
    });
    match value.spanned.get_ref() {
        DeValue::Datetime(_) => Some(Refusal::new("a date cannot be handed on").hint("write it in quotes")),
        DeValue::Integer(_) if value.json().is_none() => Some(Refusal::new("this integer does not fit in 64 bits")),
        DeValue::Float(_) if value.json().is_none() => Some(Refusal::new("this number is not finite")),
        _ => None,
    }
}

fn wrong_type(kind: &Kind, found: &DeValue<'_>, label: &str) -> Refusal {
    let refusal = Refusal::new(format!("{label} must be {}, not {}", kind.noun(), type_noun(found)));
    refusal.maybe_hint(rewritten(kind, found))
}

/// How to write the same value in the type that is wanted, where that is only a matter of quotes or brackets.
fn rewritten(kind: &Kind, found: &DeValue<'_>) -> Option<String> {
    match (kind, found) {
        (Kind::List { .. }, DeValue::String(text)) => Some(format!("write [\"{text}\"]")),
        (Kind::Boolean, DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
            Some(format!("write {text}"))
        }
        (Kind::Integer { .. }, DeValue::String(text)) => text.parse().ok().map(|number: i64| format!("write {number}")),
        (Kind::Text(format), _) => {
            let text = unquoted(found)?;
            (format.check)(&text).map_or_else(|refusal| refusal.hint, |()| Some(format!("write \"{text}\"")))
        }
        _ => None,
    }
}

/// A value that was meant as text, and lacks its quotes.
fn unquoted(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn type_noun(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
