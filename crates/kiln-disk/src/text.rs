//! The text in which layers are kept and trees are hashed.
//!
//! ```text
//! kiln layer 1
//! d 755 0 0 1700000000 /
//! f 4755 0 0 1700000000 /usr/bin/su 84360 DIGEST security.capability=0100000200...
//! h /usr/bin/sudoedit /usr/bin/sudo
//! l 777 0 0 1700000000 /bin usr/bin
//! - /etc/motd
//! ```
//!
//! One change a line, in the order of the bytes of their paths: what it is, mode (octal), owner, group, time of modification
//! (seconds since 1970), path, then what the kind needs, then extended attributes with hexadecimal values. Kinds:
//!
//! | letter | what | after the path |
//! |---|---|---|
//! | `d`, `o` | directory; opaque directory | |
//! | `f` | regular file | size, SHA-256 of the content |
//! | `l` | symbolic link | target |
//! | `c`, `b` | character, block device | major, minor |
//! | `p`, `s` | named pipe, socket | |
//! | `h` | one more name of a file: path, the file's first name | |
//! | `-` | gone: path | |
//!
//! Of paths, targets and names of attributes every byte that is not a visible character of ASCII, and the backslash, is
//! written as `\xHH`. A tree is the same text, of all its layers as one, with `kiln tree 1` at its head.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use kiln_model::digest::Sha256;

use crate::layer::{Change, Layer, Node, NodeKind, PathBytes, parent};

const LAYER_HEADER: &str = "kiln layer 1\n";

/// The text is no layer.
#[derive(Debug, thiserror::Error)]
#[error("read a layer: line {line}: {message}")]
pub struct LayerError {
    /// Counted from 1.
    line: usize,
    message: String,
}

impl Layer {
    /// The layer as text: equal layers, equal bytes.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = LAYER_HEADER.to_owned();
        for (path, change) in &self.changes {
            match change {
                Change::Node(node) => write_node(&mut text, letter(&node.kind), path, node),
                Change::Opaque(node) => write_node(&mut text, 'o', path, node),
                Change::HardLink { to } => write_link(&mut text, path, to),
                Change::Gone => {
                    text.push_str("- ");
                    write_path(&mut text, path);
                }
            }
            text.push('\n');
        }
        text
    }

    /// Reads what [`Layer::to_text`] wrote.
    ///
    /// # Errors
    /// If the text is of another form, or does not say what a directory could hold: parents are directories, paths lead
    /// nowhere else, further names are those of files.
    pub fn parse(text: &str) -> Result<Self, LayerError> {
        let error = |line, message: &str| LayerError { line, message: message.to_owned() };
        let lines = text.strip_prefix(LAYER_HEADER).ok_or_else(|| error(1, "not `kiln layer 1`"))?;
        let mut changes: Vec<(PathBytes, Change)> = Vec::new();
        for (number, line) in (2..).zip(lines.split_terminator('\n')) {
            let (path, change) = parse_line(line).map_err(|message| error(number, message))?;
            if changes.last().is_some_and(|(last, _)| *last >= path) {
                return Err(error(number, "not in order"));
            }
            changes.push((path, change));
        }
        let layer = Self { changes: changes.into_iter().collect() };
        layer.check()?;
        Ok(layer)
    }

    /// Whether each path has its place.
    fn check(&self) -> Result<(), LayerError> {
        for (line, (path, change)) in (2..).zip(&self.changes) {
            let parent = parent(path).map(|parent| self.changes.get(parent).and_then(Change::node));
            let message = match (parent, change) {
                (None, Change::Node(node) | Change::Opaque(node)) if !node.is_directory() => "the root is no directory",
                (None, Change::HardLink { .. } | Change::Gone) => "the root is no directory",
                (Some(None), _) => "its directory is not in the layer",
                (Some(Some(parent)), _) if !parent.is_directory() => "it is not in a directory",
                (_, Change::HardLink { to }) if !self.is_first_name(to, path) => "not a name of a file before it",
                _ => continue,
            };
            return Err(LayerError { line, message: message.to_owned() });
        }
        Ok(())
    }

    fn is_first_name(&self, first: &[u8], other: &[u8]) -> bool {
        let node = self.changes.get(first).and_then(Change::node);
        first < other && node.is_some_and(|node| !node.is_directory())
    }
}

/// Adds a file's line, without its end.
pub(crate) fn write_node(text: &mut String, letter: char, path: &[u8], node: &Node) {
    let Node { kind, mode, uid, gid, modified, attributes } = node;
    // Writing to a string cannot fail.
    let _ = write!(text, "{letter} {mode:o} {uid} {gid} {modified} ");
    write_path(text, path);
    match kind {
        NodeKind::File { size_bytes, sha256 } => {
            let _ = write!(text, " {size_bytes} ");
            write_hexadecimal(text, sha256.as_bytes());
        }
        NodeKind::Symlink { target } => {
            text.push(' ');
            write_escaped(text, target);
        }
        NodeKind::CharacterDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
            let _ = write!(text, " {major} {minor}");
        }
        NodeKind::Directory | NodeKind::Fifo | NodeKind::Socket => {}
    }
    for (name, value) in attributes {
        text.push(' ');
        write_escaped(text, name);
        text.push('=');
        write_hexadecimal(text, value);
    }
}

/// Adds the line of one more name, without its end.
pub(crate) fn write_link(text: &mut String, path: &[u8], to: &[u8]) {
    text.push_str("h ");
    write_path(text, path);
    text.push(' ');
    write_path(text, to);
}

/// The letter of a kind; an opaque directory has its own.
pub(crate) fn letter(kind: &NodeKind) -> char {
    match kind {
        NodeKind::Directory => 'd',
        NodeKind::File { .. } => 'f',
        NodeKind::Symlink { .. } => 'l',
        NodeKind::CharacterDevice { .. } => 'c',
        NodeKind::BlockDevice { .. } => 'b',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    }
}

fn write_path(text: &mut String, path: &[u8]) {
    text.push('/');
    write_escaped(text, path);
}

fn write_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\\' => text.push_str(r"\x5c"),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => {
                text.push_str(r"\x");
                write_hexadecimal(text, &[*byte]);
            }
        }
    }
}

fn write_hexadecimal(text: &mut String, bytes: &[u8]) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// What is wrong with a line.
type Wrong = &'static str;

/// The fields of one line that are not read yet.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a str, Wrong> {
        self.0.next().ok_or("too short")
    }

    fn number<T: FromStr>(&mut self) -> Result<T, Wrong> {
        self.next()?.parse().map_err(|_| "not a number")
    }

    fn path(&mut self) -> Result<PathBytes, Wrong> {
        let path = unescape(self.next()?.strip_prefix('/').ok_or("not a path")?)?;
        let bad = |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.contains(&0);
        if !path.is_empty() && path.split(|byte| *byte == b'/').any(bad) {
            return Err("a path that leads elsewhere");
        }
        Ok(path)
    }

    fn attributes(self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Wrong> {
        self.0.map(attribute).collect()
    }
}

fn parse_line(line: &str) -> Result<(PathBytes, Change), Wrong> {
    let mut fields = Fields(line.split(' '));
    let letter = fields.next()?;
    let bare = match letter {
        "h" => Some((fields.path()?, Change::HardLink { to: fields.path()? })),
        "-" => Some((fields.path()?, Change::Gone)),
        _ => None,
    };
    match bare {
        Some(_) if fields.0.next().is_some() => Err("too long"),
        Some(change) => Ok(change),
        None => parse_node(letter, fields),
    }
}

fn parse_node(letter: &str, mut fields: Fields<'_>) -> Result<(PathBytes, Change), Wrong> {
    let mode = u32::from_str_radix(fields.next()?, 8).ok().filter(|mode| *mode <= 0o7777).ok_or("not a mode")?;
    let (uid, gid, modified) = (fields.number()?, fields.number()?, fields.number()?);
    let path = fields.path()?;
    let kind = parse_kind(letter, &mut fields)?;
    let node = Node { kind, mode, uid, gid, modified, attributes: fields.attributes()? };
    Ok((path, if letter == "o" { Change::Opaque(node) } else { Change::Node(node) }))
}

fn parse_kind(letter: &str, fields: &mut Fields<'_>) -> Result<NodeKind, Wrong> {
    Ok(match letter {
        "d" | "o" => NodeKind::Directory,
        "f" => NodeKind::File { size_bytes: fields.number()?, sha256: digest(fields.next()?)? },
        "l" => NodeKind::Symlink { target: unescape(fields.next()?)? },
        "c" => NodeKind::CharacterDevice { major: fields.number()?, minor: fields.number()? },
        "b" => NodeKind::BlockDevice { major: fields.number()?, minor: fields.number()? },
        "p" => NodeKind::Fifo,
        "s" => NodeKind::Socket,
        _ => return Err("not a kind of file"),
    })
}

fn digest(text: &str) -> Result<Sha256, Wrong> {
    text.parse().map_err(|_| "not a digest")
}

fn attribute(field: &str) -> Result<(Vec<u8>, Vec<u8>), Wrong> {
    let (name, value) = field.rsplit_once('=').ok_or("not an attribute")?;
    let value = value.as_bytes();
    let pairs = value.chunks(2).map(|pair| hexadecimal(pair).ok_or("not hexadecimal"));
    Ok((unescape(name)?, pairs.collect::<Result<_, _>>()?))
}

fn unescape(text: &str) -> Result<Vec<u8>, Wrong> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match first {
            b'\\' => {
                let [b'x', high, low, after @ ..] = after else { return Err("not an escape") };
                bytes.push(hexadecimal(&[*high, *low]).ok_or("not an escape")?);
                after
            }
            byte => {
                bytes.push(*byte);
                after
            }
        };
    }
    Ok(bytes)
}

fn hexadecimal(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(*high)? << 4 | value(*low)?)
}
