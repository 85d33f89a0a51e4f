//! A mistake in a text that a person wrote, shown the way people look for it: file, line, column, the line, a hint.

use std::fmt;
use std::ops::Range;

/// One text with the name a person knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Path as the user would type it, relative to the factory: `kiln.toml`, `kiln.d/db.toml`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One mistake, its place, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a lower-case sentence fragment, no full stop.
    pub message: String,
    /// Name of the text.
    pub file: String,
    /// First line is 1.
    pub line: usize,
    /// In characters; first column is 1.
    pub column: usize,
    /// The line itself, without its line break.
    pub snippet: String,
    /// How many characters of the line are meant; at least 1.
    pub width: usize,
    /// What to do: a lower-case sentence fragment.
    pub hint: Option<String>,
}

/// All the mistakes found in a set of texts; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostic {
    /// A mistake at the byte range `span` of `source`; a range outside the text points at its end.
    #[must_use]
    pub fn at(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        let text = &source.text;
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_char_boundary(text, span.end).clamp(start, line_end);
        Self {
            message: message.into(),
            file: source.name.clone(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            snippet: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: text[start..end].chars().count().max(1),
            hint: None,
        }
    }

    /// The same mistake, with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    text.floor_char_boundary(index.min(text.len()))
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, file, line, column, snippet, width, hint } = self;
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "error: {message}")?;
        writeln!(f, "{margin}--> {file}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {}", snippet.replace('\t', " "))?;
        write!(f, "{margin} | {}{}", " ".repeat(column - 1), "^".repeat(*width))?;
        if let Some(hint) = hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
impl std::error::Error for Diagnostics {}

/// The candidate a person most likely meant by `word`, if one is near enough to suggest.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "kiln.toml".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn place_is_counted_in_characters() {
        let diagnostic = Diagnostic::at(&source("a\nköln = true\n"), 10..14, "wrong").with_hint("write a number");
        assert_eq!(
            diagnostic.to_string(),
            "error: wrong\n --> kiln.toml:2:8\n  |\n2 | köln = true\n  |        ^^^^\nhint: write a number"
        );
    }

    #[test]
    fn any_span_of_any_text_can_be_shown() {
        for text in ["", "\n", "é", "a\r\nb", "abc"] {
            for start in 0..6 {
                for end in 0..8 {
                    let shown = Diagnostic::at(&source(text), start..end, "m");
                    assert!(shown.line >= 1 && shown.column >= 1 && shown.width >= 1);
                }
            }
        }
    }

    #[test]
    fn nearest_suggests_only_what_is_near() {
        assert_eq!(nearest("pakages", ["packages", "kernel"]), Some("packages"));
        assert_eq!(nearest("form", ["from", "steps"]), Some("from"));
        assert_eq!(nearest("zebra", ["from", "steps"]), None);
    }
}
