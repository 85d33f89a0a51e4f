//! TOML syntax: a text becomes values with their byte ranges, and every syntax error that tells something.
//!
//! The parser goes on after an error. One forgotten bracket then makes an error of every line that follows; only the
//! first inside each value is shown, with the line on which that value begins.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::decode::{Context, Scope, Value};
use super::format::Refusal;
use super::place::Text;

/// One text of the spec, as far as it is TOML.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a Text<'a>,
    root: Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a text; syntax errors go to the context.
    pub(crate) fn read(text: &'a Text<'a>, context: &Context<'_>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(&text.source.text);
        let root = root.into_inner();
        let mut values = Vec::new();
        collect_values(text, &root, &mut values);
        errors.iter().for_each(|error| mark_broken(text, error, &values, context));
        for error in first_in_each(errors, &values) {
            let span = error.span().unwrap_or_default();
            context.add(Scope::Syntax, &text.place(span.clone()), refusal(text, &error, span, &values));
        }
        Self { text, root: Spanned::new(0..0, DeValue::Table(root)) }
    }

    /// The table that is the whole text.
    pub(crate) fn root(&'a self, context: &'a Context<'a>) -> Value<'a> {
        Value { context, text: self.text, spanned: &self.root }
    }
}

/// An error makes its section doubtful, and all those that the list or table with the error swallows.
fn mark_broken(text: &Text<'_>, error: &Error, values: &[Range<usize>], context: &Context<'_>) {
    let span = error.span().unwrap_or_default();
    let whole = enclosing(span.clone(), values).cloned().unwrap_or(span);
    let lines = text.line(whole.start)..=text.line(whole.end);
    context.add_broken(text, section_start(text, *lines.start()));
    lines.filter(|line| starts_section(text, *line)).for_each(|line| context.add_broken(text, line));
}

/// The byte ranges of the lists and inline tables of a table and the tables in it; what is in them is not looked into.
fn collect_values(text: &Text<'_>, table: &DeTable<'_>, values: &mut Vec<Range<usize>>) {
    for value in table.values() {
        match value.get_ref() {
            DeValue::Table(inner) if !is_inline(text, value) => collect_values(text, inner, values),
            DeValue::Array(items) if is_list_of_headers(value, items) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables.for_each(|table| collect_values(text, table, values));
            }
            DeValue::Table(_) | DeValue::Array(_) => values.push(value.span()),
            _ => {}
        }
    }
}

fn is_inline(text: &Text<'_>, table: &Spanned<DeValue<'_>>) -> bool {
    text.source.text.as_bytes().get(table.span().start) == Some(&b'{')
}

/// The parser gives a list made of `[[headers]]` the range of its first header.
fn is_list_of_headers(list: &Spanned<DeValue<'_>>, items: &[Spanned<DeValue<'_>>]) -> bool {
    items.first().is_some_and(|first| first.span() == list.span())
}

fn first_in_each(mut errors: Vec<Error>, values: &[Range<usize>]) -> Vec<Error> {
    errors.sort_by_key(|error| error.span().map(|span| (span.start, span.end)));
    let mut seen: Vec<&Range<usize>> = Vec::new();
    errors.retain(|error| match enclosing(error.span().unwrap_or_default(), values) {
        Some(value) if seen.contains(&value) => false,
        Some(value) => {
            seen.push(value);
            true
        }
        None => true,
    });
    errors
}

fn enclosing(span: Range<usize>, values: &[Range<usize>]) -> Option<&Range<usize>> {
    values.iter().find(|value| value.start < span.start && span.start <= value.end)
}

fn refusal(text: &Text<'_>, error: &Error, span: Range<usize>, values: &[Range<usize>]) -> Refusal {
    if error.message() == "duplicate key" {
        let name = text.source.text.get(span.clone()).unwrap_or_default();
        return Refusal::new(format!("`{name}` is defined twice")).maybe_hint(defined_before(text, span.start, name));
    }
    if error.message().starts_with("string values must be quoted") {
        let value = text.source.text.get(span.clone()).unwrap_or_default().trim();
        return match value.is_empty() {
            true => Refusal::new("there is no value"),
            false => Refusal::new("text must be in quotes").hint(format!("write \"{value}\"")),
        };
    }
    let begin = enclosing(span.clone(), values).map(|value| text.line(value.start));
    let hint = begin.filter(|begin| *begin < text.line(span.start));
    Refusal::new(error.message())
        .maybe_hint(hint.map(|line| format!("what begins on line {} is still open here", line + 1)))
}

/// Where the header or key at `offset` is written before: in a text that repeats itself, the same words.
fn defined_before(text: &Text<'_>, offset: usize, name: &str) -> Option<String> {
    let line = text.line(offset);
    let (header, section) = (header(text.line_text(line)), section_start(text, line));
    let earlier = match header {
        Some(header) => (0..line).find(|earlier| self::header(text.line_text(*earlier)) == Some(header))?,
        None => (section..line).find(|earlier| key(text.line_text(*earlier)) == Some(name))?,
    };
    Some(format!("it is also on line {}", earlier + 1))
}

/// The line of the header above `line`, or the first; lines are counted from 0.
pub(crate) fn section_start(text: &Text<'_>, line: usize) -> usize {
    (0..=line).rev().find(|line| starts_section(text, *line)).unwrap_or(0)
}

fn starts_section(text: &Text<'_>, line: usize) -> bool {
    text.line_text(line).starts_with('[')
}

fn header(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('[')?.split_once(']').map(|(header, _)| header.trim())
}

fn key(line: &str) -> Option<&str> {
    line.split_once('=').map(|(key, _)| key.trim())
}
