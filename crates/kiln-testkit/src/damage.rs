//! What goes wrong with files: a flipped bit, a missing end, other bytes of the same length.

use camino::Utf8Path;
use fs_err as fs;

/// Flips every bit of the byte at `offset`; a negative offset counts from the end, -1 being the last byte.
pub fn corrupt_byte(path: &Utf8Path, offset: i64) {
    let mut bytes = fs::read(path).expect("read the file to damage");
    let length = i64::try_from(bytes.len()).expect("a small file");
    let index = if offset < 0 { length + offset } else { offset };
    assert!((0..length).contains(&index), "{path} has {length} bytes, none at {offset}");
    bytes[usize::try_from(index).expect("not negative")] ^= 0xff;
    fs::write(path, bytes).expect("write the damaged file");
}

/// Cuts the file to its first `length_bytes`.
pub fn truncate(path: &Utf8Path, length_bytes: u64) {
    let file = fs::File::options().write(true).open(path).expect("open the file to cut");
    let before = file.metadata().expect("ask for the file's size").len();
    assert!(length_bytes < before, "{path} has only {before} bytes: nothing to cut at {length_bytes}");
    file.set_len(length_bytes).expect("cut the file");
}

/// Replaces the first `from` in a text file by `to`.
pub fn replace_text(path: &Utf8Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("read the text to damage");
    assert!(text.contains(from), "{path} does not hold `{from}`");
    fs::write(path, text.replacen(from, to, 1)).expect("write the damaged text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(damage: impl Fn(&Utf8Path), expected: &[u8]) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("file");
        fs::write(&path, b"abc").unwrap();
        damage(&path);
        assert_eq!(fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn each_damage_does_what_it_says() {
        check(|path| corrupt_byte(path, 0), &[b'a' ^ 0xff, b'b', b'c']);
        check(|path| corrupt_byte(path, -1), &[b'a', b'b', b'c' ^ 0xff]);
        check(|path| truncate(path, 1), b"a");
        check(|path| truncate(path, 0), b"");
        check(|path| replace_text(path, "b", "--"), b"a--c");
    }

    #[test]
    #[should_panic(expected = "nothing to cut")]
    fn cutting_nothing_is_a_mistake_of_the_test() {
        check(|path| truncate(path, 3), b"abc");
    }
}
