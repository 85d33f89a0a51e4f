//! Where a server sends us, and whether we go there.
//!
//! Followed here and not by the client, so that a failure names the place where it happened. Credentials stay with the
//! scheme, host and port they were given for; those that a server puts into an address are ignored.

use reqwest::Response;
use reqwest::header::LOCATION;
use url::Url;

use crate::failure::FailureReason;
use crate::public::public_url;
use crate::session::header;

/// How many redirects are followed; mirrors that point to a nearer mirror need one or two.
pub(crate) const REDIRECTS_MAX: usize = 5;

/// Where the answer to `from` sends us, if it sends us anywhere.
pub(crate) fn target(response: &Response, from: &Url) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    resolve(from, header(response.headers(), LOCATION)?)
}

/// Whether to go on from `from` to `to`: never out of encryption, nor out of the web.
pub(crate) fn judge(from: &Url, to: &Url) -> Result<(), FailureReason> {
    match to.scheme() {
        "https" => Ok(()),
        "http" if from.scheme() == "http" => Ok(()),
        _ => Err(FailureReason::Redirect { to: public_url(to) }),
    }
}

fn resolve(from: &Url, location: &str) -> Option<Url> {
    let mut to = from.join(location).ok()?;
    let (username, password) =
        if from.origin() == to.origin() { (from.username(), from.password()) } else { ("", None) };
    // Both calls can only fail for addresses without a host, and those have no credentials.
    let _ = to.set_username(username);
    let _ = to.set_password(password);
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_resolve(from: &str, location: &str, to: &str) {
        assert_eq!(resolve(&from.parse().unwrap(), location).unwrap().as_str(), to);
    }

    #[test]
    fn credentials_stay_with_their_host() {
        check_resolve("http://u:p@mirror.example/a/b", "c", "http://u:p@mirror.example/a/c");
        check_resolve("http://u:p@mirror.example/a", "http://mirror.example/c", "http://u:p@mirror.example/c");
        check_resolve("http://u:p@mirror.example/a", "https://mirror.example/c", "https://mirror.example/c");
        check_resolve("http://u:p@mirror.example/a", "http://mirror.example:81/c", "http://mirror.example:81/c");
        check_resolve("http://u:p@mirror.example/a", "//near.mirror.example/c", "http://near.mirror.example/c");
        check_resolve("http://mirror.example/a", "http://x:y@mirror.example/c", "http://mirror.example/c");
        check_resolve("http://mirror.example/a", "http://x:y@near.mirror.example/c", "http://near.mirror.example/c");
    }

    fn check_judge(from: &str, to: &str, refusal: Option<&str>) {
        let judged = judge(&from.parse().unwrap(), &to.parse().unwrap());
        assert_eq!(judged.err().map(|refusal| refusal.to_string()).as_deref(), refusal, "{to}");
    }

    #[test]
    fn encryption_is_never_lost() {
        check_judge("http://mirror.example/a", "http://near.mirror.example/a", None);
        check_judge("http://mirror.example/a", "https://mirror.example/a", None);
        check_judge("https://mirror.example/a", "https://near.mirror.example/a", None);
        let refusal = "it was redirected to http://***@x.example/a, which is not followed";
        check_judge("https://mirror.example/a", "http://u:p@x.example/a", Some(refusal));
        let refusal = "it was redirected to file:///etc/passwd, which is not followed";
        check_judge("http://mirror.example/a", "file:///etc/passwd", Some(refusal));
    }
}
