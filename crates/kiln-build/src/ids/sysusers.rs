//! Files of sysusers.d(5), with ids in place of those that systemd-sysusers would choose.

use std::ops::RangeInclusive;

use crate::workplace::FixedIds;

/// The file with ids for the names that have one; other names get theirs from `others`. None if there is nothing to say.
pub(super) fn with_ids(text: &str, fixed: &FixedIds, others: &RangeInclusive<u32>) -> Option<String> {
    if !text.lines().any(|line| Line::read(line).is_some()) {
        return None;
    }
    let first = format!("r - {}-{}", others.start(), others.end());
    let rest = text.lines().flat_map(|line| match Line::read(line) {
        Some(line) => line.with_ids(fixed),
        None => vec![line.to_owned()],
    });
    Some(std::iter::once(first).chain(rest).fold(String::new(), |text, line| text + &line + "\n"))
}

/// A line that asks for a user or a group of any id.
struct Line<'a> {
    /// `u`, `u!` or `g`.
    kind: &'a str,
    name: &'a str,
    /// The group after `-:`.
    group: Option<&'a str>,
    /// What comes after the id, as it is.
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (kind, rest) = word(line)?;
        let (name, rest) = word(rest)?;
        let (id, rest) = word(rest).unwrap_or(("-", ""));
        let group = match id.split_once(':') {
            None if id == "-" => None,
            Some(("-", group)) => Some(group),
            _ => return None,
        };
        matches!(kind, "u" | "u!" | "g").then_some(Self { kind, name, group, rest })
    }

    fn with_ids(&self, fixed: &FixedIds) -> Vec<String> {
        let Self { kind, name, group, rest } = self;
        if *kind == "g" {
            let id = fixed.groups.get(*name).map_or_else(|| "-".to_owned(), u32::to_string);
            return vec![format!("g {name} {id}")];
        }
        let uid = fixed.users.get(*name);
        let id = uid.map_or_else(|| "-".to_owned(), u32::to_string);
        let user = |id: String| format!("{kind} {name} {id}{rest}");
        match (group, uid, fixed.groups.get(*name)) {
            (Some(group), ..) => vec![user(format!("{id}:{group}"))],
            // With one id for both, the group comes with the user, as it would have: the order of lines stays.
            (None, Some(uid), Some(gid)) if uid != gid => vec![format!("g {name} {gid}"), user(format!("{uid}:{gid}"))],
            (None, None, Some(gid)) => vec![format!("g {name} {gid}"), user(id)],
            (None, ..) => vec![user(id)],
        }
    }
}

/// The first word of a line, and the rest with the blanks before it. Names and ids are never quoted in practice; a line
/// that does is left to systemd-sysusers.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (!word.is_empty() && !word.starts_with(['#', '"', '\''])).then_some((word, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> FixedIds {
        let of = |ids: &[(&str, u32)]| ids.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        FixedIds {
            users: of(&[("bus", 301), ("same", 302), ("sshd", 303)]),
            groups: of(&[("bus", 401), ("input", 402), ("only", 403), ("same", 302)]),
        }
    }

    fn check(text: &str, expected: &str) {
        let result = with_ids(text, &fixed(), &(500..=900));
        assert_eq!(result.unwrap_or_default(), expected, "{text}");
    }

    #[test]
    fn ids_are_put_in_place_of_dashes() {
        check(
            "u bus - \"System Bus\" /nonexistent",
            "r - 500-900\ng bus 401\nu bus 301:401 \"System Bus\" /nonexistent\n",
        );
        check("u! same -", "r - 500-900\nu! same 302\n");
        check("u sshd -:nogroup \"sshd user\" /run/sshd", "r - 500-900\nu sshd 303:nogroup \"sshd user\" /run/sshd\n");
        check("u only\t-\t-\t/x", "r - 500-900\ng only 403\nu only -\t-\t/x\n");
        check("  g  input", "r - 500-900\ng input 402\n");
    }

    #[test]
    fn other_names_keep_off_the_ids_of_the_lock() {
        check("u new - \"x\"\ng newer", "r - 500-900\nu new - \"x\"\ng newer -\n");
    }

    #[test]
    fn what_has_an_id_is_left_alone() {
        for text in [
            "",
            "# u bus -",
            "g bus 12 -",
            "u bus 5:60 - /games",
            "m bus input",
            "r - 500-600",
            "u bus /file",
            "u \"bus\" -",
        ] {
            check(text, "");
        }
        check("g tty 5\nm bus tty\ng input -", "r - 500-900\ng tty 5\nm bus tty\ng input 402\n");
    }
}
