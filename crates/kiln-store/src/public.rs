//! Addresses as they may be shown: without what only the server should see.

use url::Url;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// The address with user name, password and query values replaced by `***`.
///
/// A user name alone may be a token, and so may any query value: signed addresses, to which servers redirect, carry them
/// there.
#[must_use]
pub fn public_url(url: &Url) -> String {
    let mut shown = url.clone();
    if !url.username().is_empty() || url.password().is_some() {
        // Both calls can only fail for addresses without a host, and those have no credentials.
        let _ = shown.set_password(None);
        let _ = shown.set_username(HIDDEN);
    }
    if let Some(query) = url.query() {
        shown.set_query(Some(&hide_values(query)));
    }
    shown.set_fragment(None);
    shown.to_string()
}

fn hide_values(query: &str) -> String {
    let parts: Vec<_> = query.split('&').map(hide_value).collect();
    parts.join("&")
}

fn hide_value(part: &str) -> String {
    part.split_once('=').map_or_else(|| HIDDEN.to_owned(), |(key, _)| format!("{key}={HIDDEN}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, shown: &str) {
        assert_eq!(public_url(&url.parse().unwrap()), shown);
    }

    #[test]
    fn secrets_are_hidden() {
        check("https://mirror.example/debian/pool/a.deb", "https://mirror.example/debian/pool/a.deb");
        check("http://user:secret@mirror.example:81/a", "http://***@mirror.example:81/a");
        check("http://token@mirror.example/a", "http://***@mirror.example/a");
        check("http://:secret@mirror.example/a", "http://***@mirror.example/a");
        check(
            "https://mirror.example/a?X-Signature=s3cret&v=1&flag#part",
            "https://mirror.example/a?X-Signature=***&v=***&***",
        );
        check("file:///srv/mirror/a", "file:///srv/mirror/a");
    }
}
