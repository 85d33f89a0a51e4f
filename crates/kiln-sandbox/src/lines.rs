//! Bytes of a program's output become lines of text.

use std::collections::VecDeque;

/// Longer lines are cut: a program that never ends its line must not fill our memory.
pub const LINE_BYTES_MAX: usize = 8192;

/// How many of the last lines are kept for the error of a command that fails.
pub const LAST_LINES: usize = 20;

/// What ends a line that was cut.
const CUT: &str = " [cut]";

/// Splits output into lines and keeps the last of them.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    unfinished: Vec<u8>,
    cut: bool,
    last: VecDeque<String>,
}

impl Lines {
    /// Takes more output and hands each line that it ends to `on_line`.
    pub(crate) fn take(&mut self, mut bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.extend(line);
            self.end_line(on_line);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes);
    }

    /// The output is over: hands over a last line that was never ended, and returns the last lines.
    pub(crate) fn finish(mut self, on_line: &mut dyn FnMut(&str)) -> Vec<String> {
        if !self.unfinished.is_empty() {
            self.end_line(on_line);
        }
        self.last.into()
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.unfinished.len();
        self.cut |= bytes.len() > room;
        self.unfinished.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end_line(&mut self, on_line: &mut dyn FnMut(&str)) {
        let bytes = self.unfinished.strip_suffix(b"\r").unwrap_or(&self.unfinished);
        let mut line = String::from_utf8_lossy(bytes).into_owned();
        if self.cut {
            line.push_str(CUT);
        }
        self.unfinished.clear();
        self.cut = false;
        on_line(&line);
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let mut all = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.take(chunk, &mut |line| all.push(line.to_owned()));
        }
        let last = lines.finish(&mut |line| all.push(line.to_owned()));
        (all, last)
    }

    #[test]
    fn lines_are_whole_whatever_the_chunks() {
        assert_eq!(split(&[b"a\nb", b"c \r\n", b"\n", b"end"]).0, ["a", "bc ", "", "end"]);
        assert_eq!(split(&[b""]).0, [""; 0]);
        assert_eq!(split(&[b"\xff\xfe x\n"]).0, ["\u{fffd}\u{fffd} x"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; 3 * LINE_BYTES_MAX];
        let (all, _) = split(&[&long, &long, b"\nshort\n"]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].len(), LINE_BYTES_MAX + CUT.len());
        assert_eq!(all[1], "short");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        let (all, last) = split(&[text.as_bytes()]);
        assert_eq!(all.len(), 100);
        assert_eq!(last, all[100 - LAST_LINES..]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(split(&[&bytes]), split(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
