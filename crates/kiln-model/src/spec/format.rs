//! The kinds of text that a spec holds: how each is checked, what it looks like, and its pattern in the JSON schema.
//!
//! The check is the rule. The pattern is what an editor can know of it: it accepts whatever the check accepts.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use camino::Utf8PathBuf;

use super::name::{Name, NameError};
use super::package::{self, RequestKind};
use super::path;
use crate::digest::Sha256;
use crate::units::{Duration, Size, UnitError};

/// Why a text is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong: a lower-case sentence fragment.
    pub message: String,
    /// What to do: a lower-case sentence fragment.
    pub hint: Option<String>,
}

/// One kind of text.
#[derive(Debug)]
pub(crate) struct Format {
    /// With its article: `a duration`.
    pub(crate) noun: &'static str,
    /// A value that is right.
    pub(crate) example: &'static str,
    /// A regular expression (ECMA 262, without look-around) that all right values match.
    pub(crate) pattern: &'static str,
    /// Whether a value is right.
    pub(crate) check: fn(&str) -> Result<(), Refusal>,
}

/// Where packages or files come from: an `http`, `https` or `file` URI, kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uri(String);

/// Permission bits of a file, such as `0644`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(u16);

pub(crate) const ANY: Format =
    Format { noun: "text", example: "hello", pattern: r"^[^\u0000]*$", check: check_without_nul };

pub(crate) const SOME_TEXT: Format = Format {
    noun: "text",
    example: "ldconfig",
    pattern: r"[^\s]",
    check: |text| match text.trim().is_empty() {
        true => Err(Refusal::new("this text is empty")),
        false => check_without_nul(text),
    },
};

pub(crate) const NAME: Format =
    Format { noun: "a name", example: "web", pattern: "^[a-z][a-z0-9-]{0,62}$", check: parses::<Name> };

pub(crate) const PACKAGE_NAME: Format = Format {
    noun: "a package name",
    example: "nginx-light",
    pattern: "^[a-z0-9][a-z0-9+.-]+$",
    check: package::check_name,
};

pub(crate) const PACKAGE_REQUEST: Format = Format {
    noun: "a package request",
    example: "nginx-light",
    pattern: r"^([a-z0-9][a-z0-9+.-]+( *\( *(<<|<=|=|>=|>>) *[0-9][A-Za-z0-9.+:~-]* *\)|=[0-9][A-Za-z0-9.+:~-]*)?|.+\.deb)$",
    check: parses::<RequestKind>,
};

pub(crate) const NAMED_REQUEST: Format = Format {
    noun: "a package by name",
    example: "linux-image-cloud-amd64",
    pattern: r"^[a-z0-9][a-z0-9+.-]+( *\( *(<<|<=|=|>=|>>) *[0-9][A-Za-z0-9.+:~-]* *\)|=[0-9][A-Za-z0-9.+:~-]*)?$",
    check: check_named_request,
};

pub(crate) const PATH: Format =
    Format { noun: "a path in the factory", example: "site/index.html", pattern: "^[^/]", check: parses_path };

pub(crate) const TARGET: Format = Format {
    noun: "an absolute path in the image",
    example: "/srv/www",
    pattern: "^/",
    check: |text| path::absolute(text).map(drop),
};

pub(crate) const HTTP_PATH: Format =
    Format { noun: "the path of a URL", example: "/healthz", pattern: r"^/[!-~]*$", check: check_http_path };

pub(crate) const MODE: Format =
    Format { noun: "a mode", example: "0644", pattern: "^[0-7]{3,4}$", check: parses::<Mode> };

pub(crate) const ACCOUNT: Format = Format {
    noun: "the name of a user or group",
    example: "www-data",
    pattern: "^[a-z_][a-z0-9_-]{0,31}$",
    check: check_account,
};

pub(crate) const COMMENT: Format = Format {
    noun: "a comment",
    example: "Shop agent",
    pattern: r"^[^:\u0000-\u001f]*$",
    check: |text| match text.contains(|character: char| character == ':' || character.is_control()) {
        true => Err(Refusal::new("an account's comment has neither `:` nor control characters")),
        false => Ok(()),
    },
};

pub(crate) const UNIT: Format = Format {
    noun: "a systemd unit",
    example: "nginx.service",
    pattern: r"^[A-Za-z0-9:_.\\@-]+\.(service|socket|timer|target|path|mount|automount|swap|slice|device)$",
    check: check_unit,
};

pub(crate) const VARIABLE: Format = Format {
    noun: "the name of a variable",
    example: "GREETING",
    pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
    check: check_variable,
};

pub(crate) const SUITE: Format = Format {
    noun: "a suite",
    example: "trixie",
    pattern: "^[A-Za-z0-9][A-Za-z0-9._+~/-]*$",
    check: |text| check_archive_word(text, "a suite", "trixie"),
};

pub(crate) const COMPONENT: Format = Format {
    noun: "a component",
    example: "main",
    pattern: "^[A-Za-z0-9][A-Za-z0-9._+~/-]*$",
    check: |text| check_archive_word(text, "a component", "main"),
};

pub(crate) const MIRROR: Format = Format {
    noun: "an http, https or file URI",
    example: "https://mirror.example/debian",
    pattern: "^(https?://|file:/)",
    check: check_mirror,
};

pub(crate) const DOWNLOAD: Format = Format {
    noun: "an http, https or file URI",
    example: "https://mirror.example/app.tar.zst",
    pattern: "^(https?://|file:/)",
    check: check_download,
};

pub(crate) const SNAPSHOT: Format = Format {
    noun: "a time in UTC",
    example: "2026-08-01T00:00:00Z",
    pattern: r"^[0-9]{4}(-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}T[0-9]{6})Z$",
    check: |text| timestamp(text).map(drop),
};

pub(crate) const SHA256: Format =
    Format { noun: "a SHA-256 digest", example: EXAMPLE_DIGEST, pattern: "^[0-9A-Fa-f]{64}$", check: check_digest };

const EXAMPLE_DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

pub(crate) const DURATION: Format =
    Format { noun: "a duration", example: "15s", pattern: "^([0-9]+(ms|[dhms]))+$", check: parses::<Duration> };

pub(crate) const POSITIVE_DURATION: Format = Format {
    noun: "a duration",
    example: "15s",
    pattern: "^([0-9]+(ms|[dhms]))+$",
    check: |text| match text.parse::<Duration>()? {
        none if none == Duration::default() => Err(Refusal::new(format!("`{text}` is no time at all"))),
        _ => Ok(()),
    },
};

pub(crate) const SIZE: Format =
    Format { noun: "a size", example: "512MiB", pattern: "^[0-9]+(B|kB|[MGT]B|[KMGT]iB)$", check: parses::<Size> };

pub(crate) const LISTEN: Format = Format {
    noun: "an address and port",
    example: "127.0.0.1:8080",
    pattern: r"^([0-9.]+|\[[0-9A-Za-z:.%]+\]):[0-9]{1,5}$",
    check: check_listen,
};

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with what to do where that is known.
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl From<UnitError> for Refusal {
    fn from(error: UnitError) -> Self {
        Self::new(error.to_string()).hint(error.hint())
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(error.to_string()).hint(error.hint())
    }
}

fn parses<T: FromStr<Err: Into<Refusal>>>(text: &str) -> Result<(), Refusal> {
    text.parse::<T>().map(drop).map_err(Into::into)
}

fn parses_path(text: &str) -> Result<(), Refusal> {
    path::inside(text).map(|_: Utf8PathBuf| ())
}

fn check_without_nul(text: &str) -> Result<(), Refusal> {
    match text.contains('\0') {
        true => Err(Refusal::new("this text holds a NUL character").hint("no program can be given one")),
        false => Ok(()),
    }
}

fn check_named_request(text: &str) -> Result<(), Refusal> {
    match text.parse::<RequestKind>()? {
        RequestKind::Named { .. } => Ok(()),
        RequestKind::File(_) | RequestKind::Url(_) => {
            Err(Refusal::new(format!("`{text}` is a file, where a package's name is needed"))
                .hint("add the file to `packages`, and write its package's name here"))
        }
    }
}

fn check_http_path(text: &str) -> Result<(), Refusal> {
    match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Refusal::new(format!("`{text}` is not the path of a URL"))
            .hint("begin with `/` and leave host and port out: /healthz")),
    }
}

/// As Debian's adduser allows without being asked twice, and shadow at all.
fn check_account(text: &str) -> Result<(), Refusal> {
    let starts = text.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let goes_on = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    match starts && goes_on && text.len() <= 32 {
        true => Ok(()),
        false => Err(Refusal::new(format!("`{text}` cannot name a user or group"))
            .hint("use lower-case letters, digits, `_` and `-`, at most 32, beginning with a letter")),
    }
}

const UNIT_TYPES: [&str; 10] =
    ["service", "socket", "timer", "target", "path", "mount", "automount", "swap", "slice", "device"];

fn check_unit(text: &str) -> Result<(), Refusal> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'\\' | b'@' | b'-');
    let refusal = Refusal::new(format!("`{text}` is not a systemd unit"));
    let known_type = text.rsplit_once('.').filter(|(stem, kind)| !stem.is_empty() && UNIT_TYPES.contains(kind));
    match (text.bytes().all(right), known_type) {
        (true, Some(_)) => Ok(()),
        (true, None) if !text.is_empty() => Err(refusal.hint(format!("write its type too: {text}.service"))),
        _ => Err(refusal.hint("units are named like nginx.service or fstrim.timer")),
    }
}

fn check_variable(text: &str) -> Result<(), Refusal> {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    match starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(()),
        false => Err(Refusal::new(format!("`{text}` cannot name a variable")).hint("use letters, digits and `_`")),
    }
}

/// Suites and components become parts of paths and URIs: they must not climb.
fn check_archive_word(text: &str, noun: &str, example: &str) -> Result<(), Refusal> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'~' | b'/' | b'-');
    let parts = text.split('/').all(|part| part.starts_with(|first: char| first.is_ascii_alphanumeric()));
    match parts && text.bytes().all(right) {
        true => Ok(()),
        false => Err(Refusal::new(format!("`{text}` is not {noun}")).hint(format!("write for instance \"{example}\""))),
    }
}

fn check_digest(text: &str) -> Result<(), Refusal> {
    text.parse::<Sha256>().map(drop).map_err(|error| Refusal::new(error.to_string()))
}

fn check_listen(text: &str) -> Result<(), Refusal> {
    let refusal = Refusal::new(format!("`{text}` is not an address and port"));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(Refusal::new(format!("`{text}` has no port")).hint("ports begin at 1"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(match text.strip_prefix([':', '*']).map(|rest| rest.trim_start_matches(':')) {
            Some(port) => refusal.hint(format!("write 0.0.0.0:{port} for every address of the host")),
            None => refusal.hint("write a numeric address: 127.0.0.1:8080, [::1]:8080"),
        }),
    }
}

fn check_mirror(text: &str) -> Result<(), Refusal> {
    match text.contains(['?', '#']) {
        true => Err(Refusal::new(format!("`{text}` cannot be a mirror")).hint("leave out `?`, `#` and what follows")),
        false => check_uri(text),
    }
}

pub(crate) fn check_download(text: &str) -> Result<(), Refusal> {
    if text.ends_with('/') {
        return Err(Refusal::new(format!("`{text}` names no file")));
    }
    check_uri(text)
}

/// The shape of a URI (RFC 3986, section 3), as far as it can be wrong before anybody connects.
fn check_uri(text: &str) -> Result<(), Refusal> {
    let refusal = Refusal::new(format!("`{text}` is not a URI"));
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`')) {
        return Err(refusal.hint("write spaces and special characters as %20 and so on"));
    }
    if let Some(path) = text.strip_prefix("file:") {
        let local = path.strip_prefix("//").unwrap_or(path);
        return match local.starts_with('/') {
            true => Ok(()),
            false => Err(refusal.hint("a file URI has an absolute path: file:///srv/mirror")),
        };
    }
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err(refusal.hint("begin with https://, http:// or file:///"));
    };
    check_authority(rest.split(['/', '?', '#']).next().unwrap_or_default()).map_err(|hint| refusal.hint(hint))
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let after_bracket = address.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match address[after_bracket..].rsplit_once(':') {
        Some((_, port)) => (&address[..address.len() - port.len() - 1], Some(port)),
        None => (address, None),
    };
    match port.map(str::parse::<u16>) {
        _ if host.is_empty() => Err("it names no host"),
        Some(Ok(0) | Err(_)) => Err("ports go from 1 to 65535"),
        _ => Ok(()),
    }
}

/// `2026-08-01T00:00:00Z` or `20260801T000000Z`: RFC 3339, or the form that snapshot services use in their paths.
pub(crate) fn timestamp(text: &str) -> Result<jiff::Timestamp, Refusal> {
    let shape: String =
        text.chars().map(|character| if character.is_ascii_digit() { '0' } else { character }).collect();
    let known = matches!(shape.as_str(), "0000-00-00T00:00:00Z" | "00000000T000000Z");
    let time = if known { text.parse().ok() } else { None };
    time.ok_or_else(|| {
        Refusal::new(format!("`{text}` is not a time in UTC")).hint("write 2026-08-01T00:00:00Z or 20260801T000000Z")
    })
}

impl Uri {
    /// The URI as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uri {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        check_uri(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mode {
    /// The bits themselves, at most `0o7777`.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        u16::from_str_radix(text, 8).ok().filter(|_| octal).map(Self).ok_or_else(|| {
            Refusal::new(format!("`{text}` is not a mode")).hint("write three or four octal digits: \"0644\"")
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [&Format; 24] = [
        &ANY,
        &SOME_TEXT,
        &NAME,
        &PACKAGE_NAME,
        &PACKAGE_REQUEST,
        &NAMED_REQUEST,
        &PATH,
        &TARGET,
        &HTTP_PATH,
        &MODE,
        &ACCOUNT,
        &COMMENT,
        &UNIT,
        &VARIABLE,
        &SUITE,
        &COMPONENT,
        &MIRROR,
        &DOWNLOAD,
        &SNAPSHOT,
        &SHA256,
        &DURATION,
        &POSITIVE_DURATION,
        &SIZE,
        &LISTEN,
    ];

    fn pattern_accepts(format: &Format, text: &str) -> bool {
        jsonschema::is_valid(&serde_json::json!({ "pattern": format.pattern }), &serde_json::json!(text))
    }

    fn check_accepted(format: &Format, texts: &[&str]) {
        for text in texts {
            assert_eq!((format.check)(text), Ok(()), "{text}");
            assert!(pattern_accepts(format, text), "{text} does not match {}", format.pattern);
        }
    }

    fn check_refused(format: &Format, text: &str, message: &str, hint: &str) {
        let refusal = (format.check)(text).unwrap_err();
        assert_eq!((refusal.message.as_str(), refusal.hint.as_deref().unwrap_or_default()), (message, hint));
    }

    #[test]
    fn examples_are_right() {
        for format in ALL {
            check_accepted(format, &[format.example]);
        }
    }

    #[test]
    fn uris() {
        check_accepted(
            &MIRROR,
            &["http://mirror.example", "https://u:p@mirror.example:8443/debian/", "file:/srv/mirror"],
        );
        check_accepted(&MIRROR, &["file:///srv/mirror", "http://[2001:db8::1]:3142/debian", "http://[::1]/"]);
        check_accepted(&DOWNLOAD, &["https://mirror.example/get?file=app", "file:///srv/app.tar"]);
        let begin = "begin with https://, http:// or file:///";
        check_refused(&MIRROR, "mirror.example", "`mirror.example` is not a URI", begin);
        check_refused(&MIRROR, "ftp://mirror.example", "`ftp://mirror.example` is not a URI", begin);
        check_refused(&MIRROR, "http://", "`http://` is not a URI", "it names no host");
        check_refused(&MIRROR, "http://:80/x", "`http://:80/x` is not a URI", "it names no host");
        check_refused(&MIRROR, "http://a:99999", "`http://a:99999` is not a URI", "ports go from 1 to 65535");
        let absolute = "a file URI has an absolute path: file:///srv/mirror";
        check_refused(&MIRROR, "file:mirror", "`file:mirror` is not a URI", absolute);
        check_refused(&MIRROR, "file://host/x", "`file://host/x` is not a URI", absolute);
        let special = "write spaces and special characters as %20 and so on";
        check_refused(&MIRROR, "http://a/b c", "`http://a/b c` is not a URI", special);
        let leave_out = "leave out `?`, `#` and what follows";
        check_refused(&MIRROR, "http://a/b?c", "`http://a/b?c` cannot be a mirror", leave_out);
        check_refused(&DOWNLOAD, "http://a/", "`http://a/` names no file", "");
    }

    #[test]
    fn times() {
        assert_eq!(timestamp("20260801T000000Z"), timestamp("2026-08-01T00:00:00Z"));
        let hint = "write 2026-08-01T00:00:00Z or 20260801T000000Z";
        for text in
            ["2026-08-01", "2026-08-01T00:00:00", "2026-08-01T00:00:00+02:00", "2026-13-01T00:00:00Z", "now", ""]
        {
            check_refused(&SNAPSHOT, text, &format!("`{text}` is not a time in UTC"), hint);
        }
    }

    #[test]
    fn addresses() {
        check_accepted(&LISTEN, &["0.0.0.0:80", "[::]:80", "[::1]:65535"]);
        let every = "write 0.0.0.0:8080 for every address of the host";
        check_refused(&LISTEN, ":8080", "`:8080` is not an address and port", every);
        check_refused(&LISTEN, "*:8080", "`*:8080` is not an address and port", every);
        let numeric = "write a numeric address: 127.0.0.1:8080, [::1]:8080";
        check_refused(&LISTEN, "localhost:80", "`localhost:80` is not an address and port", numeric);
        check_refused(&LISTEN, "127.0.0.1", "`127.0.0.1` is not an address and port", numeric);
        check_refused(&LISTEN, "127.0.0.1:65536", "`127.0.0.1:65536` is not an address and port", numeric);
        check_refused(&LISTEN, "127.0.0.1:0", "`127.0.0.1:0` has no port", "ports begin at 1");
    }

    #[test]
    fn units_and_accounts() {
        check_accepted(&UNIT, &["ssh.socket", "getty@tty1.service", r"dev-disk-by\x2dlabel.swap"]);
        check_refused(&UNIT, "nginx", "`nginx` is not a systemd unit", "write its type too: nginx.service");
        let named = "units are named like nginx.service or fstrim.timer";
        check_refused(&UNIT, "a b.service", "`a b.service` is not a systemd unit", named);
        check_refused(&UNIT, "", "`` is not a systemd unit", named);
        check_accepted(&ACCOUNT, &["_apt", "systemd-network", "a1"]);
        let account = "use lower-case letters, digits, `_` and `-`, at most 32, beginning with a letter";
        check_refused(&ACCOUNT, "Root", "`Root` cannot name a user or group", account);
        check_refused(&ACCOUNT, "0", "`0` cannot name a user or group", account);
    }

    #[test]
    fn small_words() {
        check_accepted(&SUITE, &["stable/updates", "noble", "trixie-backports"]);
        for text in ["", ".", "../x", "a//b", "a/../b", "/a", "a/", "a b"] {
            check_refused(&SUITE, text, &format!("`{text}` is not a suite"), "write for instance \"trixie\"");
        }
        check_accepted(&MODE, &["644", "4755"]);
        for text in ["64", "0o644", "0888", "00644", "+644", ""] {
            let hint = "write three or four octal digits: \"0644\"";
            check_refused(&MODE, text, &format!("`{text}` is not a mode"), hint);
        }
        let begin = "begin with `/` and leave host and port out: /healthz";
        check_refused(&HTTP_PATH, "healthz", "`healthz` is not the path of a URL", begin);
        check_refused(&VARIABLE, "A-B", "`A-B` cannot name a variable", "use letters, digits and `_`");
        check_refused(&POSITIVE_DURATION, "0s", "`0s` is no time at all", "");
        check_refused(&ANY, "a\0", "this text holds a NUL character", "no program can be given one");
        check_refused(&SOME_TEXT, " \n", "this text is empty", "");
    }

    proptest! {
        #[test]
        fn patterns_accept_what_checks_accept(
            text in prop_oneof![
                ".{0,12}",
                "[a-z0-9:/.@_ -]{0,12}",
                "(http|https|file)://?/?[a-z0-9:/.@]{0,12}",
                "[0-9]{1,4}(ms|s|m|h|d|B|kB|MiB)([0-9]{1,3}s)?",
                "[0-9.]{1,9}:[0-9]{1,5}|\\[[0-9a-f:]{1,9}(%[0-9])?\\]:[0-9]{1,4}",
                "[a-z-]{1,6}\\.(service|socket|slice|deb|x)",
                "[a-z]{2,5} ?\\( ?(<<|<=|=|>=|>>|<) ?[0-9a-z.~]{0,5} ?\\)",
                "[0-7]{2,5}",
            ],
        ) {
            for format in ALL.iter().filter(|format| (format.check)(&text).is_ok()) {
                prop_assert!(pattern_accepts(format, &text), "{:?} does not match {}", text, format.pattern);
            }
        }
    }
}
