//! Where a template mentions names: the engine tells which names it reads, but neither in which line, nor whether the
//! template itself asks if they are there.
//!
//! Not a parser: it looks for words in tags, and leaves texts in quotes, comments and attributes out.

/// A name in a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention<'a> {
    pub(super) name: &'a str,
    /// The first is 1.
    pub(super) line: usize,
    /// Whether it is asked here if the name has a value.
    pub(super) guarded: bool,
}

/// The tags of templates: how they begin and end, and whether code is in them.
const TAGS: [(&str, &str, bool); 3] = [("{{", "}}", true), ("{%", "%}", true), ("{#", "#}", false)];

/// All names that are mentioned, in order.
pub(super) fn mentions(text: &str) -> Vec<Mention<'_>> {
    let mut found = Vec::new();
    let mut position = 0;
    while let Some((start, end, is_code)) = next_tag(text, position) {
        if is_code {
            in_tag(text, start, end, &mut found);
        }
        position = end;
    }
    found
}

/// The next tag's inside: where it begins, where it ends, and whether it is code.
fn next_tag(text: &str, from: usize) -> Option<(usize, usize, bool)> {
    let rest = text.get(from..)?;
    let tags = TAGS.iter().filter_map(|(open, close, is_code)| Some((rest.find(open)?, close, is_code)));
    let (offset, close, is_code) = tags.min()?;
    let start = from + offset + 2;
    let length = text.get(start..)?.find(close);
    Some((start, length.map_or(text.len(), |length| start + length), *is_code))
}

fn in_tag<'a>(text: &'a str, start: usize, end: usize, found: &mut Vec<Mention<'a>>) {
    let code = text.get(start..end).unwrap_or_default();
    let mut quote = None;
    let mut before = ' ';
    let mut rest = code;
    while let Some(character) = rest.chars().next() {
        let length = if quote.is_none() && is_first(character) { word(rest).len() } else { character.len_utf8() };
        let (head, tail) = rest.split_at(length);
        match quote {
            Some(open) if character == open && before != '\\' => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None if is_first(character) && before != '.' && !before.is_ascii_digit() => {
                let line = text.get(..end - tail.len()).unwrap_or_default().matches('\n').count() + 1;
                found.push(Mention { name: head, line, guarded: is_guarded(tail) });
            }
            None => {}
        }
        if quote.is_some() || !character.is_whitespace() {
            before = character;
        }
        rest = tail;
    }
}

fn is_first(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

/// The word that the text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Whether what follows a name asks if it has a value.
fn is_guarded(rest: &str) -> bool {
    let rest = rest.trim_start();
    if let Some(filter) = rest.strip_prefix('|') {
        return matches!(word(filter.trim_start()), "default" | "d");
    }
    let mut words = rest.split_whitespace();
    let second = (words.next() == Some("is")).then(|| words.next()).flatten();
    let test = if second == Some("not") { words.next() } else { second };
    matches!(test.map(word), Some("defined" | "undefined"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[(&str, usize, bool)]) {
        let found: Vec<_> = mentions(text).iter().map(|it| (it.name, it.line, it.guarded)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_in_tags() {
        check("A {{ B }}\n{# C #}\n{{ D.e['f'] + \"g\" }}", &[("B", 1, false), ("D", 3, false)]);
        check("{{\nA\n}}", &[("A", 2, false)]);
        check("{{ A . b }}{{ 'it\\'s B' }}{{ C", &[("A", 1, false), ("C", 1, false)]);
    }

    #[test]
    fn guards() {
        let guard = |text: &str| mentions(text).first().is_some_and(|mention| mention.guarded);
        for text in [
            "{{ A|d('x') }}",
            "{{ A | default }}",
            "{% A is defined %}",
            "{{ A is not defined}}",
            "{% A  is undefined) %}",
        ] {
            assert!(guard(text), "{text}");
        }
        for text in ["{{ A }}", "{{ A | upper }}", "{{ A is string }}", "{{ A.b is defined }}", "{{ A | defaulted }}"] {
            assert!(!guard(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_to_its_end(text in "(\\{\\{|\\{%|%\\}|\\}\\}|\\{#|[a-z.'\"\\\\ é\n]){0,30}") {
            for mention in mentions(&text) {
                prop_assert!(mention.line <= text.matches('\n').count() + 1);
            }
        }
    }
}
