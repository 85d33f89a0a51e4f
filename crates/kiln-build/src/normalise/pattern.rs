//! Which files of a tree a rule is about.
//!
//! A pattern is a path below the tree's root. `*` in a name stands for any characters, and `**` as the last name for every
//! file below. No symbolic link is followed, so that nothing outside the tree is ever found.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// Every file that the pattern fits, in order.
///
/// # Errors
/// If a directory cannot be read.
pub(super) fn find(root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    // With a slash at its end, the root may be named by a link, as those of `/proc/self/fd`.
    let mut found = vec![root.join("")];
    for name in pattern.split('/') {
        let mut next = Vec::new();
        for directory in found {
            match name {
                "**" => below(&directory, &mut next)?,
                name if name.contains('*') => {
                    next.extend(entries(&directory)?.into_iter().filter(|path| fits_name(path, name)));
                }
                name if is_directory(&directory)? && fs::symlink_metadata(directory.join(name)).is_ok() => {
                    next.push(directory.join(name));
                }
                _ => {}
            }
        }
        found = next;
    }
    Ok(found)
}

/// What is in a directory, in order; nothing if it is none.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !is_directory(directory)? {
        return Ok(Vec::new());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    Ok(entries)
}

fn is_directory(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.is_dir())
}

fn below(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for path in entries(directory)? {
        if is_directory(&path)? { below(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn fits_name(path: &Path, pattern: &str) -> bool {
    path.file_name().is_some_and(|name| fits(name.as_encoded_bytes(), pattern.as_bytes()))
}

fn fits(name: &[u8], pattern: &[u8]) -> bool {
    match (pattern, name) {
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|start| name.get(start..).is_some_and(|name| fits(name, rest))),
        ([first, rest @ ..], [byte, name @ ..]) => first == byte && fits(name, rest),
        (_, name) => pattern.is_empty() && name.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_fit_patterns() {
        let check = |pattern: &str, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|name| assert!(fits(name.as_bytes(), pattern.as_bytes()), "{pattern} {name}"));
            bad.iter().for_each(|name| assert!(!fits(name.as_bytes(), pattern.as_bytes()), "{pattern} {name}"));
        };
        check("*", &["", "a", "a.b"], &[]);
        check("*-old", &["-old", "status-old", "a-old-old"], &["old", "status-older", "status-old.1"]);
        check("ssh_host_*_key", &["ssh_host_rsa_key", "ssh_host__key"], &["ssh_host_key", "ssh_host_rsa_key.pub"]);
    }

    /// A tree of empty files; a name that ends in a slash is a directory.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(if file.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
            if !file.ends_with('/') {
                fs::write(path, "").unwrap();
            }
        }
        directory
    }

    #[test]
    fn files_are_found_in_order_and_links_are_not_followed() {
        let outside = tree(&["b/1"]);
        let inside = tree(&["a/x/1", "a/x/2", "a/y/1", "a/z", "a/.hidden", "b/deep/down/1", "b/0"]);
        fs::os::unix::fs::symlink(outside.path().join("b"), inside.path().join("a/w")).unwrap();
        let check = |pattern: &str, expected: &[&str]| {
            let found = find(inside.path(), pattern).unwrap();
            let found: Vec<_> =
                found.iter().map(|path| path.strip_prefix(inside.path()).unwrap().to_str().unwrap()).collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check("a/*", &["a/.hidden", "a/w", "a/x", "a/y", "a/z"]);
        check("a/*/1", &["a/x/1", "a/y/1"]);
        check("a/w/1", &[]);
        check("a/z", &["a/z"]);
        check("a/z/1", &[]);
        check("no/*", &[]);
        check("b/**", &["b/0", "b/deep/down/1"]);
        check("a/w/**", &[]);
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_fits_itself_alone(name in "[a-c]{0,4}", other in "[a-c]{0,4}") {
            prop_assert_eq!(fits(other.as_bytes(), name.as_bytes()), name == other);
        }
    }
}
