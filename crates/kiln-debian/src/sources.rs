//! apt's sources: the one-line format (`sources.list`) and deb822 (`*.sources`), as sources.list(5) has them.
//!
//! Read to learn from the host which mirrors it uses; whose signatures it believes is not asked. Hosts' files may be
//! odd, so nothing here gives up: what can be understood is an entry, what cannot is a [`Problem`] with its file and
//! line. Source packages (`deb-src`), `cdrom:` and disabled entries are left out silently: they are in order, and of no
//! use here.

use std::fmt;

use crate::deb822::{Deb822Error, Field, Paragraph, Paragraphs};

/// What the files say, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Where packages come from.
    pub entries: Vec<SourceEntry>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
}

/// One line of `sources.list`, or one paragraph of a `.sources` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// As the caller named it.
    pub file: String,
    /// Where the entry begins; the first line is 1.
    pub line: usize,
    /// Mirrors, as written, without a slash at the end.
    pub uris: Vec<String>,
    /// `trixie`, `trixie-updates`; a path that ends with a slash is a flat repository.
    pub suites: Vec<String>,
    /// Empty for a flat repository.
    pub components: Vec<String>,
    /// Only for these; empty for what apt is configured for.
    pub architectures: Vec<String>,
}

/// Something in a file that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As the caller named it.
    pub file: String,
    /// The first line is 1.
    pub line: usize,
    /// A lower-case fragment.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for Problem {}

impl Sources {
    /// Adds what a file says. The name decides the format, as for apt: `.sources` is deb822, all else one line each.
    pub fn add(&mut self, file: &str, bytes: &[u8]) {
        if file.ends_with(".sources") { self.add_deb822(file, bytes) } else { self.add_lines(file, bytes) }
    }

    /// Adds the entries of a text in the one-line format.
    pub fn add_lines(&mut self, file: &str, bytes: &[u8]) {
        for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
            let parsed = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned()).and_then(parse_line);
            match parsed {
                Ok(None) => {}
                Ok(Some(entry)) => self.push(SourceEntry { file: file.to_owned(), line: number, ..entry }),
                Err(message) => self.problem(file, number, message),
            }
        }
    }

    /// Adds the entries of a text in deb822.
    pub fn add_deb822(&mut self, file: &str, bytes: &[u8]) {
        for paragraph in Paragraphs::with_comments(bytes) {
            let (line, parsed) = match &paragraph {
                Ok(paragraph) => (paragraph.line(), parse_paragraph(paragraph)),
                Err(error) => (error.line(), Err(without_line(error))),
            };
            match parsed {
                Ok(None) => {}
                Ok(Some(entry)) => self.push(SourceEntry { file: file.to_owned(), line, ..entry }),
                Err(message) => self.problem(file, line, message),
            }
        }
    }

    /// Keeps an entry whose mirrors are of use; `cdrom:` is not.
    fn push(&mut self, mut entry: SourceEntry) {
        entry.uris.retain(|uri| !uri.starts_with("cdrom:"));
        if !entry.uris.is_empty() {
            self.entries.push(entry);
        }
    }

    fn problem(&mut self, file: &str, line: usize, message: String) {
        self.problems.push(Problem { file: file.to_owned(), line, message });
    }
}

/// What an error says behind its line, which a [`Problem`] has already.
fn without_line(error: &Deb822Error) -> String {
    let message = error.to_string();
    message.split_once(": ").map_or(message.as_str(), |(_, reason)| reason).to_owned()
}

/// `deb [option=value ...] uri suite [component ...]`; nothing for comments and source packages.
fn parse_line(line: &str) -> Result<Option<SourceEntry>, String> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let Some((kind, rest)) = line.split_once([' ', '\t']) else {
        return if line.is_empty() { Ok(None) } else { Err(format!("`{line}` alone is no source")) };
    };
    match kind {
        "deb" => {}
        "deb-src" => return Ok(None),
        other => return Err(format!("unknown kind of source `{other}`: `deb` and `deb-src` are known")),
    }
    let (options, rest) = split_options(rest.trim_start())?;
    let words = split_words(rest)?;
    let [uri, suite, components @ ..] = words.as_slice() else {
        return Err("a source needs a URI and a suite".to_owned());
    };
    let mut entry = new_entry(vec![uri.clone()], vec![suite.clone()], components.to_vec())?;
    for option in options {
        add_option(&mut entry, option)?;
    }
    Ok(Some(entry))
}

/// What stands in the square brackets, and what follows them.
fn split_options(text: &str) -> Result<(Vec<&str>, &str), String> {
    let Some(rest) = text.strip_prefix('[') else { return Ok((Vec::new(), text)) };
    let (options, rest) = rest.split_once(']').ok_or("the options have no `]`")?;
    Ok((options.split_ascii_whitespace().collect(), rest))
}

/// Words apart by white space, except inside square brackets: `cdrom:[Debian 13 DVD]/` is one word.
fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = vec![String::new()];
    let mut in_brackets = false;
    for character in text.chars() {
        in_brackets = character == '[' || in_brackets && character != ']';
        match words.last_mut() {
            Some(word) if in_brackets || !character.is_ascii_whitespace() => word.push(character),
            _ => words.push(String::new()),
        }
    }
    words.retain(|word| !word.is_empty());
    if in_brackets { Err("a `[` has no `]`".to_owned()) } else { Ok(words) }
}

fn add_option(entry: &mut SourceEntry, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').ok_or_else(|| format!("the option `{option}` has no `=`"))?;
    // Not `arch+=`, `arch-=`, `lang=`, `signed-by=`...: nothing that changes where packages are.
    if name.eq_ignore_ascii_case("arch") {
        entry.architectures = value.split(',').map(str::to_owned).collect();
    }
    Ok(())
}

/// A paragraph of a `.sources` file; nothing for disabled ones and source packages.
fn parse_paragraph(paragraph: &Paragraph<'_>) -> Result<Option<SourceEntry>, String> {
    if matches!(text(paragraph, "Enabled")?, Some(value) if !parse_yes(&value)?) {
        return Ok(None);
    }
    let kinds = words(paragraph, "Types")?;
    if kinds.is_empty() {
        return Err("the paragraph has no `Types`".to_owned());
    }
    if let Some(other) = kinds.iter().find(|kind| !matches!(kind.as_str(), "deb" | "deb-src")) {
        return Err(format!("unknown kind of source `{other}`: `deb` and `deb-src` are known"));
    }
    if !kinds.iter().any(|kind| kind == "deb") {
        return Ok(None);
    }
    let (uris, suites) = (words(paragraph, "URIs")?, words(paragraph, "Suites")?);
    if uris.is_empty() || suites.is_empty() {
        return Err("a source needs `URIs` and `Suites`".to_owned());
    }
    let mut entry = new_entry(uris, suites, words(paragraph, "Components")?)?;
    entry.architectures = words(paragraph, "Architectures")?;
    Ok(Some(entry))
}

fn new_entry(uris: Vec<String>, suites: Vec<String>, components: Vec<String>) -> Result<SourceEntry, String> {
    for suite in &suites {
        match (suite.ends_with('/'), components.is_empty()) {
            (true, false) => return Err(format!("the flat repository `{suite}` must have no components")),
            (false, true) => return Err(format!("the suite `{suite}` has no components")),
            _ => {}
        }
    }
    if let Some(uri) = uris.iter().find(|uri| !uri.contains(':')) {
        return Err(format!("`{uri}` is not a URI"));
    }
    let uris = uris.iter().map(|uri| uri.trim_end_matches('/').to_owned()).collect();
    let (file, line, architectures) = (String::new(), 0, Vec::new());
    Ok(SourceEntry { file, line, uris, suites, components, architectures })
}

fn parse_yes(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "with" | "on" | "enable" | "1" => Ok(true),
        "no" | "false" | "without" | "off" | "disable" | "0" => Ok(false),
        _ => Err(format!("`{value}` is neither `yes` nor `no`")),
    }
}

fn text(paragraph: &Paragraph<'_>, name: &str) -> Result<Option<String>, String> {
    let text = paragraph.text(name).map_err(|error| without_line(&error))?;
    Ok(text.map(str::to_owned))
}

fn words(paragraph: &Paragraph<'_>, name: &str) -> Result<Vec<String>, String> {
    let Some(field) = paragraph.field(name) else { return Ok(Vec::new()) };
    field.text().map_err(|error| without_line(&error))?;
    Ok(lines(field).iter().flat_map(|line| line.split_ascii_whitespace()).map(str::to_owned).collect())
}

/// The lines of a field that are not comments.
fn lines(field: &Field<'_>) -> Vec<String> {
    let raw = field.value.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"#"));
    raw.map(|line| String::from_utf8_lossy(line).trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One line an entry: `line: uris suites components [architectures]`; then the problems.
    fn show(sources: &Sources) -> String {
        let entry = |entry: &SourceEntry| {
            let SourceEntry { line, uris, suites, components, architectures, .. } = entry;
            let list = |words: &[String]| words.join(",");
            let mut shown = format!("{line}: {} {} {}", list(uris), list(suites), list(components));
            if !architectures.is_empty() {
                shown += &format!(" [{}]", list(architectures));
            }
            shown
        };
        let entries = sources.entries.iter().map(entry);
        entries.chain(sources.problems.iter().map(Problem::to_string)).collect::<Vec<_>>().join("\n")
    }

    fn check(file: &str, text: &str, expected: &str) {
        let mut sources = Sources::default();
        sources.add(file, text.as_bytes());
        assert_eq!(show(&sources), expected, "{text}");
    }

    #[test]
    fn lines() {
        let check = |text, expected| check("sources.list", text, expected);
        check("", "");
        check("# comment\n\n", "");
        check("deb http://mirror.example/debian trixie main", "1: http://mirror.example/debian trixie main");
        check(
            "\n  deb\thttp://mirror.example/debian/  trixie  main contrib # why\r\n",
            "2: http://mirror.example/debian trixie main,contrib",
        );
        check(
            "deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/a.gpg] https://mirror.example trixie main",
            "1: https://mirror.example trixie main [amd64,arm64]",
        );
        check("deb [ trusted=yes lang=none ] file:/srv/mirror ./", "1: file:/srv/mirror ./ ");
        check("deb-src http://mirror.example/debian trixie main", "");
        check("deb cdrom:[Debian GNU/Linux 13 _Trixie_ - DVD 1]/ trixie main", "");
    }

    #[test]
    fn odd_lines_do_not_hide_the_others() {
        check(
            "sources.list",
            "rpm http://mirror.example x y\n\
             deb http://mirror.example/debian trixie main\n\
             deb\n\
             deb http://mirror.example/debian\n\
             deb http://mirror.example/debian trixie\n\
             deb http://mirror.example/debian ./ main\n\
             deb [arch=amd64 http://mirror.example trixie main\n\
             deb [arch] http://mirror.example trixie main\n\
             deb mirror.example trixie main\n\
             deb http://[::1 trixie main\n",
            "2: http://mirror.example/debian trixie main\n\
             sources.list:1: unknown kind of source `rpm`: `deb` and `deb-src` are known\n\
             sources.list:3: `deb` alone is no source\n\
             sources.list:4: a source needs a URI and a suite\n\
             sources.list:5: the suite `trixie` has no components\n\
             sources.list:6: the flat repository `./` must have no components\n\
             sources.list:7: the options have no `]`\n\
             sources.list:8: the option `arch` has no `=`\n\
             sources.list:9: `mirror.example` is not a URI\n\
             sources.list:10: a `[` has no `]`",
        );
        let mut sources = Sources::default();
        sources.add("a.list", b"\xff\ndeb http://mirror.example/debian trixie main\n");
        assert_eq!(show(&sources), "2: http://mirror.example/debian trixie main\na.list:1: the line is not UTF-8");
    }

    const PARAGRAPHS: &str = "\
# The host's own.
Types: deb deb-src
URIs: http://mirror.example/debian/ http://other.example/debian
# http://snapshot.example/archive
Suites: trixie
 trixie-updates
Components: main
#  contrib
 non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

types: deb
uris: http://mirror.example/debian-security
suites: trixie-security
components: main
architectures: amd64
Trusted: yes
";

    #[test]
    fn paragraphs() {
        check(
            "debian.sources",
            PARAGRAPHS,
            "2: http://mirror.example/debian,http://other.example/debian trixie,trixie-updates main,non-free-firmware\n\
             12: http://mirror.example/debian-security trixie-security main [amd64]",
        );
    }

    #[test]
    fn what_is_disabled_is_left_out() {
        let of = |first: &str| format!("{first}\nURIs: http://mirror.example\nSuites: x\nComponents: main\n");
        let entry = "1: http://mirror.example x main";
        check("a.sources", &of("Enabled: no\nTypes: deb"), "");
        check("a.sources", &of("Enabled: yes\nTypes: deb"), entry);
        check("a.sources", &of("Types: deb-src"), "");
        check("a.sources", &of("Types: deb"), entry);
    }

    #[test]
    fn odd_paragraphs_do_not_hide_the_others() {
        check(
            "a.sources",
            "Types: deb\nnonsense\n\nTypes: rpm\n\nURIs: http://mirror.example\n\nTypes: deb\nURIs: http://mirror.example\n\n\
             Types: deb\nEnabled: maybe\n\nTypes: deb\nURIs: http://mirror.example\nSuites: x\nComponents: main\n",
            "14: http://mirror.example x main\n\
             a.sources:2: expected `Name: value`, found `nonsense`\n\
             a.sources:4: unknown kind of source `rpm`: `deb` and `deb-src` are known\n\
             a.sources:6: the paragraph has no `Types`\n\
             a.sources:8: a source needs `URIs` and `Suites`\n\
             a.sources:11: `maybe` is neither `yes` nor `no`",
        );
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0..PARAGRAPHS.len(), with in any::<u8>()) {
            let mut bytes = PARAGRAPHS.as_bytes().to_vec();
            bytes[at] = with;
            let mut sources = Sources::default();
            sources.add("a.sources", &bytes);
            sources.add("a.list", &bytes);
        }

        #[test]
        fn any_line_can_be_read(line in "deb [\\[\\]a-z=, #:/]{0,40}") {
            let mut sources = Sources::default();
            sources.add("a.list", line.as_bytes());
            prop_assert!(sources.entries.len() + sources.problems.len() <= 1);
        }
    }
}
