//! The cleartext signature framework (RFC 9580 section 7): a text one can read, with its signatures below.
//!
//! Strict where readers have differed and forgers have profited: nothing but `Hash:` headers, nothing before the first
//! line or behind the last, no unescaped dash, no carriage return inside a line, one block of signatures.

use super::SignatureError;
use super::armor::Kind;

const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// The two halves of a signed document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClearText<'a> {
    /// What was signed, without escapes and without white space at line ends, none of which is signed.
    pub(super) lines: Vec<&'a str>,
    /// The armor of the signatures, from its first line to its last.
    pub(super) signatures: &'a [u8],
}

/// Takes a signed document apart.
pub(super) fn split(bytes: &[u8]) -> Result<ClearText<'_>, SignatureError> {
    let mut document = Document { bytes, position: 0, line: 0 };
    if document.next_line() != Some(BEGIN) {
        return Err(document.error("expected `-----BEGIN PGP SIGNED MESSAGE-----`, this document is not signed"));
    }
    document.skip_headers()?;
    let lines = document.take_text()?;
    let signatures = document.take_signatures()?;
    if !document.rest().trim_ascii().is_empty() {
        document.line += 1;
        return Err(document.error("something follows the signature, which it does not cover"));
    }
    Ok(ClearText { lines, signatures })
}

/// The text as signatures cover it: canonical line ends, none at the end (RFC 9580 section 7.2).
pub(super) fn canonical(lines: &[&str]) -> Vec<u8> {
    lines.join("\r\n").into_bytes()
}

/// A document read line by line.
struct Document<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Number of the line read last.
    line: usize,
}

impl<'a> Document<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next line without white space at its end, which signatures do not cover.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.position += end + 1;
        self.line += 1;
        Some(trim_line_end(&rest[..end]))
    }

    fn expect_line(&mut self) -> Result<&'a [u8], SignatureError> {
        self.next_line().ok_or(SignatureError::Truncated)
    }

    fn skip_headers(&mut self) -> Result<(), SignatureError> {
        loop {
            match self.expect_line()? {
                b"" => return Ok(()),
                header if header.starts_with(b"Hash:") => {}
                _ => return Err(self.error("only `Hash:` headers may stand before the signed text")),
            }
        }
    }

    /// The lines up to the signatures, whose first line remains to be read.
    fn take_text(&mut self) -> Result<Vec<&'a str>, SignatureError> {
        let mut lines = Vec::new();
        loop {
            let start = self.position;
            let line = self.expect_line()?;
            if line == Kind::Signature.begin().as_bytes() {
                self.position = start;
                self.line -= 1;
                return Ok(lines);
            }
            lines.push(self.unescaped(line)?);
        }
    }

    fn unescaped(&self, line: &'a [u8]) -> Result<&'a str, SignatureError> {
        let content = match line {
            // An escaped line that was empty lost its space with the white space at its end.
            b"-" => b"",
            [b'-', b' ', content @ ..] => content,
            [b'-', ..] => return Err(self.error("a line of the signed text begins with a dash that is not escaped")),
            content => content,
        };
        if content.contains(&b'\r') {
            return Err(self.error("a carriage return stands inside a line"));
        }
        std::str::from_utf8(content).map_err(|_| self.error("the signed text is not UTF-8"))
    }

    fn take_signatures(&mut self) -> Result<&'a [u8], SignatureError> {
        let start = self.position;
        while self.expect_line()? != Kind::Signature.end().as_bytes() {}
        Ok(&self.bytes[start..self.position.min(self.bytes.len())])
    }

    fn error(&self, reason: &'static str) -> SignatureError {
        SignatureError::Framing { line: self.line.max(1), reason }
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r')).map_or(0, |last| last + 1);
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----\n\nZm9v\n-----END PGP SIGNATURE-----\n";

    fn document(body: &str) -> String {
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{body}{SIGNATURE}")
    }

    fn check(body: &str, expected: &[&str]) {
        let document = document(body);
        let found = split(document.as_bytes()).unwrap();
        assert_eq!(found.lines, expected);
        assert_eq!(found.signatures, SIGNATURE.as_bytes());
        assert_eq!(split(document.replace('\n', "\r\n").as_bytes()).unwrap().lines, expected);
    }

    #[test]
    fn text_is_what_was_signed() {
        check("", &[]);
        check("\n", &[""]);
        check("a\nb\n", &["a", "b"]);
        check("a \t\n b\n\n", &["a", " b", ""]);
        check("- -a\n- b\n- \n", &["-a", "b", ""]);
        assert_eq!(canonical(&["a", "b", ""]), b"a\r\nb\r\n");
    }

    fn check_error(document: &str, expected: &str) {
        assert_eq!(split(document.as_bytes()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn anything_unusual_is_refused() {
        let unsigned = "line 1: expected `-----BEGIN PGP SIGNED MESSAGE-----`, this document is not signed";
        check_error("", unsigned);
        check_error("Origin: Debian\n", unsigned);
        check_error(&format!("\n{}", document("a\n")), unsigned);
        check_error(&format!("Evil: yes\n{}", document("a\n")), unsigned);
        let header = document("a\n").replace("Hash: SHA256", "Comment: x");
        check_error(&header, "line 2: only `Hash:` headers may stand before the signed text");
        check_error(&document("a\n-b\n"), "line 5: a line of the signed text begins with a dash that is not escaped");
        check_error(&document("a\rb\n"), "line 4: a carriage return stands inside a line");
        let tail = format!("{}Evil: yes\n", document("a\n"));
        check_error(&tail, "line 9: something follows the signature, which it does not cover");
        let twice = format!("{}{SIGNATURE}", document("a\n"));
        check_error(&twice, "line 9: something follows the signature, which it does not cover");
        assert!(split(format!("{}\n \n", document("a\n")).as_bytes()).is_ok());
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = document("a\nb\n");
        for length in 0..whole.trim_end().len() {
            assert!(split(&whole.as_bytes()[..length]).is_err(), "{length}");
        }
    }
}
