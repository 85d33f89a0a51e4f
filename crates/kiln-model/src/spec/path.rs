//! Paths in the factory and in the image; patterns of file names, as a shell knows them.
//!
//! Nothing outside the factory can be named: no absolute path, no `..`. What a link inside it points at is for those
//! who open files to refuse.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::files::{FileKind, Files};
use super::format::Refusal;
use super::place::Place;
use crate::diagnostic::nearest;

/// A file or directory of the factory that the spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryPath {
    /// Relative to the factory, without `.` and `..`.
    pub path: Utf8PathBuf,
    /// Where it is named.
    pub place: Place,
}

/// The files and directories of the factory that the spec names by a path or by a pattern; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryPaths {
    /// The path or pattern, relative to the factory, without `.` and `..`.
    pub pattern: Utf8PathBuf,
    /// The path itself, or what the pattern matches, in order of their bytes.
    pub paths: Vec<Utf8PathBuf>,
    /// Where it is written.
    pub place: Place,
}

/// What a key that names a path accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) file: bool,
    pub(crate) directory: bool,
    pub(crate) pattern: bool,
}

/// How many names a hint lists before it becomes a wall.
const NAMES_SHOWN_MAX: usize = 6;

/// A path relative to the factory, without `.`; refused where it would leave the factory, or name it whole.
pub(crate) fn inside(text: &str) -> Result<Utf8PathBuf, Refusal> {
    if text.contains(|character: char| character.is_control()) {
        return Err(Refusal::new(format!("`{}` holds a control character", text.escape_debug())));
    }
    let leaves = |message: &str| {
        Err(Refusal::new(format!("`{text}` {message}"))
            .hint("paths are relative to kiln.toml; bring the file into the factory"))
    };
    let mut path = Utf8PathBuf::new();
    for component in Utf8Path::new(text).components() {
        match component {
            Utf8Component::Normal(name) => path.push(name),
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir if path.as_str().is_empty() => return leaves("leaves the factory"),
            Utf8Component::ParentDir => {
                return Err(Refusal::new(format!("`{text}` goes up")).hint("write it without `..`"));
            }
            Utf8Component::RootDir | Utf8Component::Prefix(_) => return leaves("is an absolute path"),
        }
    }
    match path.as_str().is_empty() {
        true => Err(Refusal::new(format!("`{text}` names no file of the factory"))),
        false => Ok(path),
    }
}

/// A path in the image: absolute, without `.` and `..`.
pub(crate) fn absolute(text: &str) -> Result<Utf8PathBuf, Refusal> {
    if text.contains(|character: char| character.is_control()) {
        return Err(Refusal::new(format!("`{}` holds a control character", text.escape_debug())));
    }
    if !text.starts_with('/') {
        return Err(Refusal::new(format!("`{text}` is not an absolute path")).hint(format!("write /{text}")));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Refusal::new(format!("`{text}` goes up")).hint("write it without `..`"));
    }
    Ok(Utf8Path::new(text).components().filter(|component| *component != Utf8Component::CurDir).collect())
}

/// What `text` names in the factory, in order; refused, with the likely cure, where that is nothing or the wrong thing.
pub(crate) fn find(files: &dyn Files, text: &str, wanted: Wanted) -> Result<Vec<Utf8PathBuf>, Refusal> {
    let path = inside(text)?;
    if !is_pattern(path.as_str()) {
        check_kind(files, &path, wanted)?;
        return Ok(vec![path]);
    }
    if !wanted.pattern {
        return Err(Refusal::new(format!("`{text}` is a pattern, where one path is needed")));
    }
    let paths = matches(files, &path)?;
    paths.iter().try_for_each(|path| check_kind(files, path, wanted))?;
    match paths.is_empty() {
        true => Err(Refusal::new(format!("`{text}` matches no file")).maybe_hint(siblings(files, &path))),
        false => Ok(paths),
    }
}

fn check_kind(files: &dyn Files, path: &Utf8Path, wanted: Wanted) -> Result<(), Refusal> {
    match files.kind(path) {
        Some(FileKind::File) if wanted.file => Ok(()),
        Some(FileKind::Directory) if wanted.directory => Ok(()),
        Some(FileKind::File) => Err(Refusal::new(format!("`{path}` is a file, not a directory"))),
        Some(FileKind::Directory) => Err(Refusal::new(format!("`{path}` is a directory, not a file"))),
        None => Err(Refusal::new(format!("there is no `{path}` in the factory")).maybe_hint(similar(files, path))),
    }
}

/// What a missing path was probably meant to be, or what there is instead.
fn similar(files: &dyn Files, path: &Utf8Path) -> Option<String> {
    let missing = path.ancestors().take_while(|part| files.kind(part).is_none()).last()?;
    let parent = missing.parent()?;
    let names = files.list(parent);
    match nearest(missing.file_name()?, names.iter().map(String::as_str)) {
        Some(name) => Some(format!("did you mean `{}`?", parent.join(name))),
        None => siblings(files, missing),
    }
}

/// The names beside `path`, if any: `site has index.html, style.css`.
fn siblings(files: &dyn Files, path: &Utf8Path) -> Option<String> {
    let parent = path.ancestors().skip(1).find(|parent| files.kind(parent) == Some(FileKind::Directory))?;
    let mut names = files.list(parent);
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    let more = if names.len() > NAMES_SHOWN_MAX { ", ..." } else { "" };
    names.truncate(NAMES_SHOWN_MAX);
    let place = if parent.as_str().is_empty() { "the factory".to_owned() } else { format!("`{parent}`") };
    (!names.is_empty()).then(|| format!("{place} has {}{more}", names.join(", ")))
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Everything in the factory that `pattern` matches, component by component, in order of bytes. As in a shell, no
/// wildcard matches a name's leading dot.
fn matches(files: &dyn Files, pattern: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Refusal> {
    let mut found = vec![Utf8PathBuf::new()];
    for component in pattern.iter() {
        let glob = Glob::parse(component)?;
        found = found.iter().flat_map(|parent| glob.entries(files, parent)).collect();
    }
    found.sort_unstable();
    Ok(found)
}

/// A pattern for one name.
#[derive(Debug)]
struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug)]
enum Token {
    Character(char),
    AnyCharacter,
    AnyText,
    OneOf { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains("**") {
            return Err(Refusal::new(format!("`{text}` is not a pattern"))
                .hint("name the directory: all that is in it comes along"));
        }
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' => Token::AnyText,
                '?' => Token::AnyCharacter,
                '[' => one_of(&mut rest).ok_or_else(|| {
                    Refusal::new(format!("`{text}` has a `[` without its `]`")).hint("write [[] for the character `[`")
                })?,
                other => Token::Character(other),
            });
        }
        Ok(Self { tokens })
    }

    /// What in the directory `parent` has a name that matches.
    fn entries(&self, files: &dyn Files, parent: &Utf8Path) -> Vec<Utf8PathBuf> {
        files.list(parent).into_iter().filter(|name| self.matches(name)).map(|name| parent.join(name)).collect()
    }

    fn matches(&self, name: &str) -> bool {
        let hidden = name.starts_with('.');
        let wants_hidden = matches!(self.tokens.first(), Some(Token::Character('.')));
        (!hidden || wants_hidden) && self.matches_text(&name.chars().collect::<Vec<_>>())
    }

    /// Takes the shortest text for each `*` and lengthens only the latest on failure, which never has to be undone
    /// further: the time is at most the product of both lengths.
    fn matches_text(&self, text: &[char]) -> bool {
        let (mut token, mut character) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.tokens.get(token), text.get(character)) {
                (None, None) => return true,
                (Some(Token::AnyText), _) => {
                    retry = Some((token + 1, character));
                    token += 1;
                }
                (Some(wanted), Some(found)) if wanted.accepts(*found) => {
                    token += 1;
                    character += 1;
                }
                _ => match retry {
                    Some((after, from)) if from < text.len() => {
                        retry = Some((after, from + 1));
                        (token, character) = (after, from + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl Token {
    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Character(wanted) => *wanted == character,
            Self::AnyCharacter | Self::AnyText => true,
            Self::OneOf { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *negated
            }
        }
    }
}

/// Reads a set of characters after its `[`: `abc]`, `a-z]`, `!a-z]`; a `]` in first place stands for itself.
fn one_of(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut ranges: Vec<(char, char)> = Vec::new();
    loop {
        match rest.next()? {
            ']' if !ranges.is_empty() => return Some(Token::OneOf { negated, ranges }),
            first if rest.as_str().starts_with('-') && !rest.as_str().starts_with("-]") => {
                rest.next();
                ranges.push((first, rest.next()?));
            }
            character => ranges.push((character, character)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::files::Listing;
    use super::*;

    const ANYTHING: Wanted = Wanted { file: true, directory: true, pattern: true };
    const ONE_FILE: Wanted = Wanted { file: true, directory: false, pattern: false };

    fn check(text: &str, wanted: Wanted, expected: &str) {
        let factory = Listing::new([
            "site/index.html",
            "site/about.html",
            "site/.hidden.html",
            "checks/web.yaml",
            "checks/db.yaml",
            "dist/shop_1.2_amd64.deb",
            "many/1",
            "many/2",
            "many/3",
            "many/4",
            "many/5",
            "many/6",
            "many/7",
        ]);
        let found = match find(&factory, text, wanted) {
            Ok(paths) => paths.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(" "),
            Err(Refusal { message, hint: Some(hint) }) => format!("{message} / {hint}"),
            Err(Refusal { message, hint: None }) => message,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn paths() {
        check("site", ANYTHING, "site");
        check("./site//index.html", ONE_FILE, "site/index.html");
        check("site", ONE_FILE, "`site` is a directory, not a file");
        check("site/index.html", Wanted { file: false, ..ANYTHING }, "`site/index.html` is a file, not a directory");
        let bring = "paths are relative to kiln.toml; bring the file into the factory";
        check("../site", ANYTHING, &format!("`../site` leaves the factory / {bring}"));
        check("/etc/passwd", ANYTHING, &format!("`/etc/passwd` is an absolute path / {bring}"));
        check("site/../checks", ANYTHING, "`site/../checks` goes up / write it without `..`");
        check("", ANYTHING, "`` names no file of the factory");
        check("./.", ANYTHING, "`./.` names no file of the factory");
        check("a\0b", ANYTHING, r"`a\0b` holds a control character");
    }

    #[test]
    fn missing_paths_get_suggestions() {
        check("sites", ANYTHING, "there is no `sites` in the factory / did you mean `site`?");
        check(
            "site/indx.html",
            ANYTHING,
            "there is no `site/indx.html` in the factory / did you mean `site/index.html`?",
        );
        check("chekcs/web.yaml", ANYTHING, "there is no `chekcs/web.yaml` in the factory / did you mean `checks`?");
        check("checks/zzzzzz", ANYTHING, "there is no `checks/zzzzzz` in the factory / `checks` has db.yaml, web.yaml");
        check("zzzzzz", ANYTHING, "there is no `zzzzzz` in the factory / the factory has checks, dist, many, site");
        check("many/zzzz", ANYTHING, "there is no `many/zzzz` in the factory / `many` has 1, 2, 3, 4, 5, 6, ...");
    }

    #[test]
    fn patterns() {
        check("site/*.html", ANYTHING, "site/about.html site/index.html");
        check("*/w?b.yaml", ANYTHING, "checks/web.yaml");
        check("checks/[a-d]*", ANYTHING, "checks/db.yaml");
        check("checks/[!a-d]*", ANYTHING, "checks/web.yaml");
        check("site/.*", ANYTHING, "site/.hidden.html");
        check("*", ONE_FILE, "`*` is a pattern, where one path is needed");
        check("*", Wanted { pattern: true, ..ONE_FILE }, "`checks` is a directory, not a file");
        check("site/*.css", ANYTHING, "`site/*.css` matches no file / `site` has about.html, index.html");
        check("nowhere/*", ANYTHING, "`nowhere/*` matches no file / the factory has checks, dist, many, site");
        check("site/**", ANYTHING, "`**` is not a pattern / name the directory: all that is in it comes along");
        check("site/[a", ANYTHING, "`[a` has a `[` without its `]` / write [[] for the character `[`");
    }

    #[test]
    fn sets_of_characters() {
        let matches = |pattern: &str, name: &str| Glob::parse(pattern).unwrap().matches(name);
        assert!(matches("[]]", "]") && matches("[a-]", "-") && matches("[[]", "[") && matches("[^a]", "b"));
        assert!(matches("a*b*c", "aXbXbXc") && !matches("a*b*c", "aXbXbX") && matches("*", "x") && !matches("?", "xy"));
        assert!(!matches("*", ".x") && !matches("[.]x", ".x") && matches("[é-ü]", "ö"));
    }

    #[test]
    fn hard_patterns_are_quick() {
        let pattern = Glob::parse(&"*a".repeat(200).replace("**", "*")).unwrap();
        assert!(!pattern.matches(&"a".repeat(150)));
        assert!(!pattern.matches(&"ab".repeat(2000)));
    }

    #[test]
    fn targets() {
        assert_eq!(absolute("/srv//www/./x/"), Ok("/srv/www/x".into()));
        assert_eq!(absolute("/"), Ok("/".into()));
        assert_eq!(absolute("srv").unwrap_err().hint.unwrap(), "write /srv");
        assert_eq!(absolute("/a/../b").unwrap_err().message, "`/a/../b` goes up");
        assert!(absolute("/a\nb").is_err() && absolute("").is_err());
    }

    proptest! {
        #[test]
        fn a_found_path_stays_inside(text in "[a-z./*?\\[\\]!-]{0,20}") {
            let factory = Listing::new(["a/b", "a/c", "b/a"]);
            for path in find(&factory, &text, ANYTHING).unwrap_or_default() {
                prop_assert!(path.is_relative() && !path.iter().any(|part| part == ".." || part == "."));
            }
        }
    }
}
