//! Text that nobody meant: damaged, cut, spliced. Every mistake must be shown, at a place that is there.

use proptest::prelude::*;

use kiln_model::diagnostic::Diagnostics;

use super::{EVERYTHING, SHOP, parse};

/// What a mistake must be to be of use.
fn check_mistakes(texts: &[(&str, &str)]) {
    let Err(Diagnostics(diagnostics)) = parse(texts) else { return };
    assert!(!diagnostics.is_empty());
    for diagnostic in &diagnostics {
        let (_, text) = texts.iter().find(|(name, _)| *name == diagnostic.file).unwrap();
        let line = text.split('\n').nth(diagnostic.line - 1).unwrap().trim_end_matches('\r');
        assert_eq!(diagnostic.snippet, line);
        assert!(diagnostic.column >= 1 && diagnostic.column <= line.chars().count() + 1, "{diagnostic}");
        assert!(diagnostic.width >= 1 && !diagnostic.message.is_empty(), "{diagnostic}");
        assert!(!diagnostic.message.contains('\n') && !diagnostic.message.ends_with('.'), "{diagnostic}");
    }
    let order = |diagnostic: &kiln_model::diagnostic::Diagnostic| {
        (texts.iter().position(|(name, _)| *name == diagnostic.file), diagnostic.line, diagnostic.column)
    };
    assert!(diagnostics.is_sorted_by_key(order));
}

fn check_text(text: &str) {
    check_mistakes(&[("kiln.toml", text)]);
    check_mistakes(&[("kiln.toml", SHOP), ("kiln.d/other.toml", text)]);
}

const PIECES: [&str; 22] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "\"",
    "'''",
    "\"\"\"",
    "=",
    ",",
    "\n",
    "#",
    ".",
    "\\",
    "\u{0}",
    "\u{feff}",
    "é",
    "[class.web]\n",
    "from = \"web\"\n",
    "step = []\n",
    "9999999999999999999999",
];

/// A change to a text: at a place (in thousandths), take away some bytes and put something in.
#[derive(Debug, Clone)]
struct Edit {
    place: usize,
    removed: usize,
    inserted: Vec<u8>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let piece = prop_oneof![
        prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
        (0..EVERYTHING.len(), 0..200_usize).prop_map(|(start, length)| EVERYTHING.as_bytes()[start..]
            .iter()
            .copied()
            .take(length)
            .collect()),
    ];
    (0..1000_usize, prop_oneof![0..4_usize, 0..200_usize], piece).prop_map(|(place, removed, inserted)| Edit {
        place,
        removed,
        inserted,
    })
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for Edit { place, removed, inserted } in edits {
        let start = bytes.len() * place / 1000;
        let end = (start + removed).min(bytes.len());
        bytes.splice(start..end, inserted.iter().copied());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn edited_examples(edits in prop::collection::vec(edit(), 1..6), large in any::<bool>()) {
        check_text(&edited(if large { EVERYTHING } else { SHOP }, &edits));
    }

    #[test]
    fn lines_in_any_order(lines in prop::collection::vec(prop::sample::select(EVERYTHING.lines().collect::<Vec<_>>()), 0..40)) {
        check_text(&lines.join("\n"));
    }

    #[test]
    fn any_characters(text in prop_oneof![".*", "[\\[\\]{}='\"a-z.,# \n]{0,80}"]) {
        check_text(&text);
    }
}

#[test]
fn every_truncation() {
    for text in [SHOP, EVERYTHING] {
        (0..text.len())
            .filter(|end| text.is_char_boundary(*end))
            .for_each(|end| check_mistakes(&[("kiln.toml", &text[..end])]));
    }
}

#[test]
fn every_line_left_out_or_doubled() {
    let lines: Vec<&str> = EVERYTHING.lines().collect();
    for index in 0..lines.len() {
        let without = [&lines[..index], &lines[index + 1..]].concat();
        let doubled = [&lines[..=index], &lines[index..]].concat();
        check_mistakes(&[("kiln.toml", &without.join("\n"))]);
        check_mistakes(&[("kiln.toml", &doubled.join("\r\n"))]);
    }
}

#[test]
fn depth_is_limited() {
    check_text(&format!("{}a = 1\n", "a.".repeat(100_000)));
    check_text(&format!("a = {}", "[".repeat(100_000)));
    check_text(&format!("a = {}", "{a=".repeat(100_000)));
    check_text(&format!("[{}a]\n", "a.".repeat(100_000)));
}

#[test]
fn long_ancestries_are_followed() {
    let mut text = "[factory]\nname = \"deep\"\n[distribution.d]\nfamily = \"debian\"\nsuite = \"sid\"\n".to_owned();
    text += "[class.c0]\ndistribution = \"d\"\nrecommends = true\n";
    for index in 1..300 {
        text += &format!("[class.c{index}]\nfrom = \"c{}\"\n", index - 1);
    }
    let spec = parse(&[("kiln.toml", &text)]).unwrap();
    let last = &spec.classes["c299"];
    assert_eq!(spec.lineage(last).len(), 300);
    assert!(spec.recommends(last) && spec.distribution_of(last).is_some());
}
