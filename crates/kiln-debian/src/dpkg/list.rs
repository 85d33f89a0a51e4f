//! `info/PACKAGE.list`: the files of a package, one a line (`lib/dpkg/db-fsys-files.c`), and `md5sums`.

/// A path as dpkg's files write it: `/usr/bin`, and `/.` for the root.
#[must_use]
pub fn to_name(path: &[u8]) -> Vec<u8> {
    let path = if path.is_empty() { b"." } else { path };
    [b"/", path].concat()
}

/// The path that dpkg's files call `name`.
#[must_use]
pub fn to_path(name: &[u8]) -> &[u8] {
    let mut name = name.strip_prefix(b"/").unwrap_or(name);
    while let Some(shorter) = name.strip_suffix(b"/") {
        name = shorter;
    }
    if name == b"." { b"" } else { name }
}

/// The paths that a list names.
pub fn parse(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).map(to_path)
}

/// The list of these paths.
pub fn print<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for path in paths {
        text.extend(to_name(path));
        text.push(b'\n');
    }
    text
}

/// The file `md5sums`, for a package that brings none: what dpkg writes then.
pub fn print_md5sums<'a>(files: impl IntoIterator<Item = (&'a [u8], [u8; 16])>) -> Vec<u8> {
    let mut text = Vec::new();
    for (path, md5) in files {
        text.extend(hexadecimal(&md5).as_bytes());
        text.extend(b"  ");
        text.extend(path);
        text.push(b'\n');
    }
    text
}

/// An MD5 as dpkg writes it.
#[must_use]
pub fn hexadecimal(md5: &[u8; 16]) -> String {
    md5.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_as_dpkg_has_it() {
        let text = b"/.\n/usr\n/usr/bin/a b\n";
        let paths: Vec<&[u8]> = parse(text).collect();
        assert_eq!(paths, [&b""[..], b"usr", b"usr/bin/a b"]);
        assert_eq!(print(paths), text);
        assert_eq!(parse(b"").count(), 0);
        assert_eq!(parse(b"/usr//\n").next(), Some(&b"usr"[..]));
    }

    #[test]
    fn md5sums_have_no_slash() {
        let text = print_md5sums([(&b"usr/bin/a"[..], [0xab; 16])]);
        assert_eq!(text, b"abababababababababababababababab  usr/bin/a\n");
    }

    proptest! {
        #[test]
        fn paths_come_back(parts in prop::collection::vec("[a-z]{1,3}", 0..4)) {
            let path = parts.join("/").into_bytes();
            let name = to_name(&path);
            prop_assert_eq!(to_path(&name), &path[..]);
        }
    }
}
