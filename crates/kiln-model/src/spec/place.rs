//! Where in the spec something is written, kept so that errors found much later can show the very line.

use std::fmt;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, Source};

/// A range of a spec's text: file, line, column and the line itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the text: `kiln.toml`.
    pub file: String,
    /// First line is 1.
    pub line: usize,
    /// In characters; first column is 1.
    pub column: usize,
    /// The line itself, without its line break.
    pub snippet: String,
    /// How many characters of the line are meant; at least 1.
    pub width: usize,
}

impl Place {
    /// A mistake here: `message` is a lower-case sentence fragment, without full stop.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            message: message.into(),
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            snippet: self.snippet.clone(),
            width: self.width,
            hint: None,
        }
    }
}

impl fmt::Display for Place {
    /// `kiln.toml:12`, for a sentence that mentions a second place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A source with its lines counted once, so that a thousand places cost a thousand look-ups and not a thousand scans.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    /// Position among the sources: mistakes are shown in this order.
    pub(crate) index: usize,
    pub(crate) source: &'a Source,
    /// Byte offset of each line's first byte; never empty.
    line_starts: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(index: usize, source: &'a Source) -> Self {
        let breaks = source.text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { index, source, line_starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Line of the byte `offset`; the first is 0.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset) - 1
    }

    /// A line without its line break; the first is 0, and there is nothing after the last.
    pub(crate) fn line_text(&self, line: usize) -> &'a str {
        let text = self.source.text.as_str();
        let start = self.line_starts.get(line).copied().unwrap_or(text.len());
        let end = self.line_starts.get(line + 1).map_or(text.len(), |next| next - 1);
        text[start..end.max(start)].trim_end_matches('\r')
    }

    /// The place of a byte range; one outside the text is its end.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let text = &self.source.text;
        let line = self.line(span.start.min(text.len()));
        let line_start = self.line_starts[line];
        let snippet = self.line_text(line);
        let line_end = line_start + snippet.len();
        let start = text.floor_char_boundary(span.start.clamp(line_start, line_end));
        let end = text.floor_char_boundary(span.end.clamp(start, line_end));
        Place {
            file: self.source.name.clone(),
            line: line + 1,
            column: text[line_start..start].chars().count() + 1,
            snippet: snippet.to_owned(),
            width: text[start..end].chars().count().max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_diagnostics(text in "([a-z]|é|\n|\t){0,30}", start in 0..40_usize, width in 0..9_usize) {
            let source = Source { name: "kiln.toml".to_owned(), text };
            let place = Text::new(0, &source).place(start..start + width);
            prop_assert_eq!(place.diagnostic("m"), Diagnostic::at(&source, start..start + width, "m"));
        }
    }

    #[test]
    fn carriage_returns_are_not_shown() {
        let source = Source { name: "kiln.toml".to_owned(), text: "ab\r\ncd\r\n".to_owned() };
        let place = Text::new(0, &source).place(4..9);
        assert_eq!((place.line, place.column, place.snippet.as_str(), place.width), (2, 1, "cd", 2));
    }
}
