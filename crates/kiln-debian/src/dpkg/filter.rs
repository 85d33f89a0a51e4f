//! Files that are not to be placed: `path-exclude` and `path-include` of dpkg.cfg(5) (`src/main/filters.c`).

/// The filters of a tree, in the order of its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    pattern: Vec<u8>,
    include: bool,
}

impl Filters {
    /// Adds those of one more configuration file: options without dashes, one a line, `#` begins a comment.
    pub fn add(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            let line = line.strip_prefix(b"--").unwrap_or(line);
            let Some(end) = line.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace()) else { continue };
            let (option, value) = line.split_at(end);
            let value = value.trim_ascii_start();
            let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
            let include = match option {
                b"path-include" => true,
                b"path-exclude" => false,
                _ => continue,
            };
            self.0.push(Filter { pattern: unquoted(value).to_vec(), include });
        }
    }

    /// Whether this path is not to be placed. A directory, or a link, that an inclusion may need stays.
    #[must_use]
    pub fn skips(&self, path: &[u8], may_lead_on: bool) -> bool {
        let name = [b"/", path].concat();
        let last = self.0.iter().rev().find(|filter| matches(&filter.pattern, &name));
        let skips = last.is_some_and(|filter| !filter.include);
        skips && !(may_lead_on && self.0.iter().any(|filter| filter.include && leads_to(&name, &filter.pattern)))
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = |quote: u8| value.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    inner(b'"').or_else(|| inner(b'\'')).unwrap_or(value)
}

/// dpkg's rule: the path begins with what stands in the pattern before its first wildcard. It takes in more than needed.
fn leads_to(name: &[u8], pattern: &[u8]) -> bool {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
    let mut fixed = pattern.get(..end).unwrap_or_default();
    while let Some(shorter) = fixed.strip_suffix(b"/") {
        fixed = shorter;
    }
    name.starts_with(fixed)
}

/// fnmatch(3) without flags: wildcards match slashes and leading dots too.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what followed the last `*` does not fit: that `*`, one byte further.
    let (mut at, mut position) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            again = Some((at + 1, position));
            at += 1;
            continue;
        }
        match (step(pattern, at, text.get(position)), again) {
            (Step::Matched, _) => return true,
            (Step::To(next), _) => (at, position) = (next, position + 1),
            (Step::Failed, Some((star, from))) if from < text.len() => {
                (at, position, again) = (star, from + 1, Some((star, from + 1)));
            }
            (Step::Failed, _) => return false,
        }
    }
}

enum Step {
    /// Pattern and text ended together.
    Matched,
    /// The byte fits; the pattern goes on here.
    To(usize),
    Failed,
}

/// Matches one byte of the text, or its end, against the pattern at `at`, where no `*` is.
fn step(pattern: &[u8], at: usize, byte: Option<&u8>) -> Step {
    let fits = |fits: bool, next: usize| if fits { Step::To(next) } else { Step::Failed };
    match (pattern.get(at), byte) {
        (None, None) => Step::Matched,
        (None, _) | (_, None) => Step::Failed,
        (Some(b'?'), Some(_)) => Step::To(at + 1),
        (Some(b'\\'), Some(byte)) => match pattern.get(at + 1) {
            Some(escaped) => fits(escaped == byte, at + 2),
            None => fits(*byte == b'\\', at + 1),
        },
        (Some(b'['), Some(byte)) => match set(pattern, at, *byte) {
            Some((found, next)) => fits(found, next),
            None => fits(*byte == b'[', at + 1),
        },
        (Some(expected), Some(byte)) => fits(expected == byte, at + 1),
    }
}

/// Whether the set that begins at `at` has the byte, and where the pattern goes on; `None` if the set is not closed.
fn set(pattern: &[u8], at: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(at + 1), Some(b'!' | b'^'));
    let first = at + 1 + usize::from(negated);
    let (mut next, mut found) = (first, false);
    loop {
        let from = *pattern.get(next)?;
        if from == b']' && next > first {
            return Some((found != negated, next + 1));
        }
        match (pattern.get(next + 1), pattern.get(next + 2)) {
            (Some(b'-'), Some(to)) if *to != b']' => {
                found |= (from..=*to).contains(&byte);
                next += 3;
            }
            _ => {
                found |= from == byte;
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }

    #[test]
    fn patterns() {
        check("/usr/share/doc/*", "/usr/share/doc/a/copyright", true);
        check("/usr/share/doc/*", "/usr/share/doc", false);
        check("/usr/*/copyright", "/usr/share/doc/a/copyright", true);
        check("/a?c", "/a/c", true);
        check("/[a-c]x", "/bx", true);
        check("/[!a-c]x", "/bx", false);
        check("/[]x]", "/]", true);
        check("/[ab", "/[ab", true);
        check("/\\*", "/*", true);
        check("/\\*", "/a", false);
        check("*", "", true);
        check("**a*b", "xxaxxb", true);
        check("", "a", false);
    }

    fn check_skips(configuration: &str, path: &str, may_lead_on: bool, expected: bool) {
        let mut filters = Filters::default();
        filters.add(configuration.as_bytes());
        assert_eq!(filters.skips(path.as_bytes(), may_lead_on), expected, "{path} with {configuration}");
    }

    #[test]
    fn the_last_match_counts() {
        let documents = "# small\nno-debsig\npath-exclude=/usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n";
        check_skips(documents, "usr/share/doc/a/changelog.gz", false, true);
        check_skips(documents, "usr/share/doc/a/copyright", false, false);
        check_skips(documents, "usr/share/doc/a", true, false);
        check_skips(documents, "usr/bin/a", false, false);
        check_skips("path-exclude=\"/usr/share/man/*\"", "usr/share/man/man1", true, true);
        check_skips("path-include=/a\npath-exclude=/a\n", "a", false, true);
    }

    proptest! {
        #[test]
        fn a_text_matches_itself(text in "[a-z/.]{0,12}") {
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_gives_an_answer(pattern in "[a*?\\[\\]!\\\\-]{0,10}", text in "[a\\[\\]-]{0,10}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_star_matches_anything_between(head in "[a-c]{0,4}", middle in "[a-c]{0,6}", tail in "[a-c]{0,4}") {
            let (pattern, text) = (format!("{head}*{tail}"), format!("{head}{middle}{tail}"));
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
