//! What dpkg knows about a tree, and its rules for placing a package: pure functions over the texts of `/var/lib/dpkg`.
//!
//! - [`status`]: the packages and their states; [`list`]: which files are whose.
//! - [`conffile`]: configuration files and their digests.
//! - [`diversion`], [`statoverride`], [`filter`]: what an administrator or a package changes about where files go, whose
//!   they are, and whether they are placed at all.
//! - [`trigger`]: who wants to know of what.
//! - [`account`]: names of owners as numbers.
//! - [`decision`]: what becomes of one file of a package, given what is there.
//!
//! The rules are those of dpkg 1.21 and 1.22; each module names the file of dpkg's source that it follows. Paths are bytes
//! relative to the root, without a slash at either end; dpkg's own files write them with a slash before, and the root as
//! `/.` ([`list`]).

pub mod account;
pub mod conffile;
pub mod decision;
pub mod diversion;
pub mod filter;
pub mod list;
pub mod statoverride;
pub mod status;
pub mod trigger;

/// A file of dpkg's database, or of a package, breaks its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {file}: {reason}")]
pub struct DatabaseError {
    /// Its name: `conffiles`, `/var/lib/dpkg/diversions`.
    pub file: &'static str,
    /// The first line is 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The lines of a file, with their numbers; a line break ends each.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    // Nothing at all has no line.
    let has_lines = !text.is_empty();
    text.split(|byte| *byte == b'\n').enumerate().filter(move |_| has_lines).map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::account::Accounts;
    use super::conffile::{parse_field, print_field};
    use super::diversion::Diversions;
    use super::filter::Filters;
    use super::statoverride::Overrides;
    use super::status::Status;
    use super::trigger::{self, FileInterests};

    /// Texts in which the formats' own words are likely.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: &[&str] = &[
            "Package",
            "Status",
            ": ",
            ":",
            "\n",
            " ",
            "\t",
            "/",
            "/usr",
            "a",
            "obsolete",
            "remove-on-upgrade",
            "interest",
            "activate-noawait",
            "root",
            "0644",
            "#7",
            "path-exclude=",
            "*",
            "[",
            "\\",
            "\r",
            "\u{fffd}",
            "..",
            "\n\n",
        ];
        prop::collection::vec(prop::sample::select(WORDS), 0..24).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_an_error(text in prop_oneof![text(), prop::collection::vec(any::<u8>(), 0..60)]) {
            if let Ok(status) = Status::parse(&text) {
                prop_assert_eq!(Status::parse(&status.print()), Ok(status));
            }
            let conffiles = parse_field(&text);
            prop_assert_eq!(parse_field(&print_field(&conffiles)), conffiles);
            let accounts = Accounts::parse(&text);
            let _ = (trigger::parse_control(&text), FileInterests::parse(&text), Diversions::parse(&text));
            let _ = Overrides::parse(&text, &accounts, &accounts);
            let mut filters = Filters::default();
            filters.add(&text);
            for path in super::list::parse(&text) {
                let _ = filters.skips(path, true);
            }
        }
    }
}
