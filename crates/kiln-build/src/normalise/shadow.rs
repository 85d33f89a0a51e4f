//! The days on which passwords were changed: the third field of shadow(5).

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The file with every day that is later than the epoch (in seconds since 1970) set to it. None if it needs no change.
pub(super) fn with_days(shadow: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let latest = epoch.div_euclid(DAY);
    let lines = shadow.split_inclusive(|byte| *byte == b'\n');
    let changed: Vec<u8> = lines.flat_map(|line| with_day(line, latest)).collect();
    (changed != shadow).then_some(changed)
}

fn with_day(line: &[u8], latest: i64) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let text = latest.to_string();
    if let Some(field) = fields.get_mut(2)
        && day(field).is_some_and(|day| day > latest)
    {
        *field = text.as_bytes();
    }
    fields.join(&b':')
}

fn day(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_days_become_the_epochs() {
        let check = |shadow: &str, expected: Option<&str>| {
            let changed = with_days(shadow.as_bytes(), 20_000 * DAY + 5);
            assert_eq!(changed.map(|bytes| String::from_utf8(bytes).unwrap()).as_deref(), expected, "{shadow}");
        };
        check("root:*:20001:0:99999:7:::\nbin:!:19999::::::\n", Some("root:*:20000:0:99999:7:::\nbin:!:19999::::::\n"));
        check("a:!:20500", Some("a:!:20000"));
        check("root:*:20000:0:99999:7:::\n", None);
        check("new:*::0:99999:7:::\nodd:x\n\nword:*:soon:::\nno:x:-1:\n", None);
    }
}
