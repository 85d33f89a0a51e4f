//! Configuration files: the control file `conffiles` (deb-conffiles(5)) and the field `Conffiles` of the status.

use std::fmt::Write as _;

use super::list::{to_name, to_path};
use super::{DatabaseError, lines};

/// What stands for the digest of a conffile that was unpacked and not configured yet.
pub const NEW: &str = "newconffile";

/// One line of the control file `conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its path.
    pub path: Vec<u8>,
    /// It is not in the package, and goes when the package is upgraded.
    pub remove_on_upgrade: bool,
}

/// One line of the field `Conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conffile {
    /// Its path.
    pub path: Vec<u8>,
    /// MD5 of the distributed version that was installed last, in hexadecimal; or [`NEW`].
    pub digest: String,
    /// The package does not have it any more.
    pub obsolete: bool,
    /// It goes when the package is upgraded.
    pub remove_on_upgrade: bool,
}

/// Reads the control file `conffiles` as dpkg does (`deb_parse_conffiles` in `src/main/unpack.c`).
///
/// # Errors
/// For what dpkg refuses: relative names, unknown flags, a last line without its end.
pub fn parse_control(text: &[u8]) -> Result<Vec<Declared>, DatabaseError> {
    let mut declared = Vec::new();
    for (line, written) in lines(text) {
        let wrong = |reason| DatabaseError { file: "conffiles", line, reason };
        let written = written.trim_ascii_end();
        let (flag, name) = match written.first() {
            None => continue,
            Some(b'/') => (&b""[..], written),
            Some(_) => {
                let space = written.iter().position(|byte| *byte == b' ');
                let (flag, name) =
                    space.map(|space| written.split_at(space)).ok_or_else(|| wrong("a name is absolute"))?;
                (flag, name.get(1..).unwrap_or_default())
            }
        };
        match (flag, name.starts_with(b"/")) {
            (b"" | b"remove-on-upgrade", true) => {
                declared.push(Declared { path: to_path(name).to_vec(), remove_on_upgrade: !flag.is_empty() });
            }
            (_, false) => return Err(wrong("a name is absolute")),
            (_, true) => return Err(wrong("the only flag there is is remove-on-upgrade")),
        }
    }
    if text.last().is_some_and(|byte| *byte != b'\n') {
        let line = lines(text).count();
        return Err(DatabaseError { file: "conffiles", line, reason: "it is not ended" });
    }
    Ok(declared)
}

/// Reads the value of the field `Conffiles`; lines that make no sense are passed over.
#[must_use]
pub fn parse_field(value: &[u8]) -> Vec<Conffile> {
    lines(value).filter_map(|(_, line)| parse_line(line.trim_ascii())).collect()
}

/// `NAME DIGEST [obsolete] [remove-on-upgrade]`, where the name may have spaces.
fn parse_line(line: &[u8]) -> Option<Conffile> {
    let (line, remove_on_upgrade) = without(line, b" remove-on-upgrade");
    let (line, obsolete) = without(line, b" obsolete");
    let space = line.iter().rposition(|byte| *byte == b' ')?;
    let (name, digest) = line.split_at(space);
    let digest = String::from_utf8(digest.trim_ascii_start().to_vec()).ok()?;
    Some(Conffile { path: to_path(name).to_vec(), digest, obsolete, remove_on_upgrade })
}

fn without<'a>(line: &'a [u8], flag: &[u8]) -> (&'a [u8], bool) {
    line.strip_suffix(flag).map_or((line, false), |line| (line, true))
}

/// The value of the field `Conffiles`: as in the file, with a line feed first.
#[must_use]
pub fn print_field(conffiles: &[Conffile]) -> Vec<u8> {
    let mut text = Vec::new();
    for Conffile { path, digest, obsolete, remove_on_upgrade } in conffiles {
        text.extend(b"\n ");
        text.extend(to_name(path));
        let mut rest = String::new();
        // Writing to a string cannot fail.
        let _ = write!(rest, " {digest}");
        rest.push_str(if *obsolete { " obsolete" } else { "" });
        rest.push_str(if *remove_on_upgrade { " remove-on-upgrade" } else { "" });
        text.extend(rest.into_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Paths, each with `-` before it if it is to be removed; or the error.
    fn check(text: &str, expected: &str) {
        let shown = |declared: &Declared| {
            let sign = if declared.remove_on_upgrade { "-" } else { "" };
            format!("{sign}{}", String::from_utf8_lossy(&declared.path))
        };
        let found = match parse_control(text.as_bytes()) {
            Ok(declared) => declared.iter().map(shown).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn the_control_file() {
        check("", "");
        check("/etc/a\n/etc/b  \n\n/etc/c\n", "etc/a etc/b etc/c");
        check("remove-on-upgrade /etc/a\n/etc/b c\n", "-etc/a etc/b c");
        check("etc/a\n", "line 1 of conffiles: a name is absolute");
        check("/etc/a\nremove-on-upgrade etc/a\n", "line 2 of conffiles: a name is absolute");
        check("keep /etc/a\n", "line 1 of conffiles: the only flag there is is remove-on-upgrade");
        check("/etc/a", "line 1 of conffiles: it is not ended");
    }

    #[test]
    fn the_field() {
        let value = b"\n /etc/a d41d8cd98f00b204e9800998ecf8427e\n /etc/b c newconffile\n /etc/d 00 obsolete\n \
            /etc/e newconffile remove-on-upgrade\n /etc/f 00 obsolete remove-on-upgrade";
        let conffiles = parse_field(value);
        assert_eq!(conffiles.len(), 5);
        assert_eq!(conffiles[1].path, b"etc/b c");
        assert_eq!(conffiles[1].digest, NEW);
        assert!(conffiles[2].obsolete && !conffiles[2].remove_on_upgrade);
        assert!(conffiles[4].obsolete && conffiles[4].remove_on_upgrade);
        assert_eq!(print_field(&conffiles), value);
    }

    proptest! {
        #[test]
        fn fields_come_back(names in prop::collection::vec("[a-z][a-z/ ]{0,8}[a-z]", 0..4), flags in 0_u8..4) {
            let conffiles: Vec<Conffile> = names
                .into_iter()
                .map(|name| Conffile {
                    path: name.into_bytes(),
                    digest: NEW.to_owned(),
                    obsolete: flags & 1 != 0,
                    remove_on_upgrade: flags & 2 != 0,
                })
                .collect();
            prop_assert_eq!(parse_field(&print_field(&conffiles)), conffiles);
        }

        #[test]
        fn any_text_gives_an_answer(text: Vec<u8>) {
            let _ = (parse_control(&text), parse_field(&text));
        }
    }
}
