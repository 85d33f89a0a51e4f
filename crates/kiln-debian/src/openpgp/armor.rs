//! ASCII armor: OpenPGP packets as lines of base64 between `-----BEGIN ...-----` and `-----END ...-----`.
//!
//! Several blocks in one text are one sequence of packets, as keyrings have them. Text around the blocks is not looked
//! at. The checksum line is not checked: RFC 9580 forbids to refuse for its sake, and signatures protect what they sign.

/// What the armor says that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PublicKey,
    Signature,
}

/// The armor is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// No block of the kind that was expected.
    #[error("there is no `{expected}` line")]
    NoBlock {
        /// The line that begins such a block.
        expected: &'static str,
    },
    /// A block begins and does not end.
    #[error("the armor that begins in line {line} has no end: the file is truncated")]
    NoEnd {
        /// The first line is 1.
        line: usize,
    },
    /// A character that is not base64.
    #[error("line {line} of the armor is not base64")]
    NotBase64 {
        /// The first line is 1.
        line: usize,
    },
}

impl Kind {
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::PublicKey => "-----BEGIN PGP PUBLIC KEY BLOCK-----",
            Self::Signature => "-----BEGIN PGP SIGNATURE-----",
        }
    }

    pub(super) fn end(self) -> &'static str {
        match self {
            Self::PublicKey => "-----END PGP PUBLIC KEY BLOCK-----",
            Self::Signature => "-----END PGP SIGNATURE-----",
        }
    }
}

/// The packets in `bytes`, armored or not.
pub(super) fn packets(bytes: &[u8], kind: Kind) -> Result<Vec<u8>, ArmorError> {
    // The first byte of a packet has its highest bit set, which no text has.
    if bytes.first().is_some_and(|first| first & 0x80 != 0) { Ok(bytes.to_vec()) } else { decode(bytes, kind) }
}

/// The packets of all blocks of `kind`.
fn decode(text: &[u8], kind: Kind) -> Result<Vec<u8>, ArmorError> {
    let mut packets = Vec::new();
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).zip(1..);
    let mut found = false;
    while let Some((_, begin)) = lines.find(|(line, _)| *line == kind.begin().as_bytes()) {
        found = true;
        let block = decode_block(&mut lines, kind, begin)?;
        packets.extend(block);
    }
    if found { Ok(packets) } else { Err(ArmorError::NoBlock { expected: kind.begin() }) }
}

fn decode_block<'a>(
    lines: &mut impl Iterator<Item = (&'a [u8], usize)>,
    kind: Kind,
    begin: usize,
) -> Result<Vec<u8>, ArmorError> {
    let mut base64 = Base64::default();
    for (line, number) in lines {
        if line == kind.end().as_bytes() {
            return base64.finish().ok_or(ArmorError::NotBase64 { line: number });
        }
        // No base64 has a colon: a header like `Version: ...`. Behind `=`, a line's only content is the checksum.
        if line.contains(&b':') || line.starts_with(b"=") {
            continue;
        }
        base64.add(line).ok_or(ArmorError::NotBase64 { line: number })?;
    }
    Err(ArmorError::NoEnd { line: begin })
}

/// Decodes base64 (RFC 4648) that comes in pieces.
#[derive(Default)]
struct Base64 {
    bytes: Vec<u8>,
    bits: u32,
    digits: u8,
    padding: u8,
}

impl Base64 {
    fn add(&mut self, line: &[u8]) -> Option<()> {
        line.iter().try_for_each(|&character| self.add_character(character))
    }

    fn add_character(&mut self, character: u8) -> Option<()> {
        if character == b'=' && self.digits >= 2 {
            self.padding += 1;
            return (self.digits + self.padding <= 4).then_some(());
        }
        let value = base64_value(character).filter(|_| self.padding == 0)?;
        self.bits = self.bits << 6 | u32::from(value);
        self.digits += 1;
        if self.digits == 4 {
            let [_, bytes @ ..] = self.bits.to_be_bytes();
            self.bytes.extend(bytes);
            (self.bits, self.digits) = (0, 0);
        }
        Some(())
    }

    /// All bytes; none if the last group of digits is not complete.
    fn finish(mut self) -> Option<Vec<u8>> {
        let [_, first, second, _] = (self.bits << (6 * (4 - u32::from(self.digits)))).to_be_bytes();
        match (self.digits, self.padding) {
            (0, 0) => {}
            (2, 2) => self.bytes.push(first),
            (3, 1) => self.bytes.extend([first, second]),
            _ => return None,
        }
        Some(self.bytes)
    }
}

fn base64_value(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(body: &str) -> Result<String, ArmorError> {
        let text = format!("comment\n{}\n{body}\n{}\n", Kind::Signature.begin(), Kind::Signature.end());
        decode(text.as_bytes(), Kind::Signature).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn base64_is_decoded() {
        for (base64, text) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm\n9v", "foo"),
            ("\nZm9v\n=abcd", "foo"),
            ("Version: GnuPG v2\n\nZm9v\r\n=abcd", "foo"),
        ] {
            assert_eq!(decoded(base64).as_deref(), Ok(text), "{base64}");
        }
    }

    #[test]
    fn damage_is_named() {
        for (base64, line) in [("Zg=", 4), ("Zg", 4), ("Z", 4), ("Z===", 3), ("Zg==Zg==", 3), ("Zm9v!", 3), ("Z g=", 3)]
        {
            assert_eq!(decoded(base64), Err(ArmorError::NotBase64 { line }), "{base64}");
        }
        assert_eq!(decode(b"", Kind::Signature), Err(ArmorError::NoBlock { expected: Kind::Signature.begin() }));
        let begun = format!("\n{}\nZm9v", Kind::Signature.begin());
        assert_eq!(decode(begun.as_bytes(), Kind::Signature), Err(ArmorError::NoEnd { line: 2 }));
        assert_eq!(
            decode(begun.as_bytes(), Kind::PublicKey),
            Err(ArmorError::NoBlock { expected: Kind::PublicKey.begin() })
        );
    }

    #[test]
    fn several_blocks_are_one_sequence() {
        let block = |body: &str| format!("{}\n\n{body}\n{}\n", Kind::Signature.begin(), Kind::Signature.end());
        let text = format!("{}between\n{}", block("Zm9v"), block("Zg=="));
        assert_eq!(decode(text.as_bytes(), Kind::Signature).unwrap(), b"foof");
    }
}
