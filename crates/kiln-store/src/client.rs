//! The HTTP client: TLS with the system's roots, proxies as given, redirects within bounds.

use std::fmt;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder, NoProxy, Proxy};
use url::Url;

use crate::fetch::FetchOptions;
use crate::public::public_url;

/// How many redirects are followed; mirrors that point to a nearer mirror need one or two.
const REDIRECTS_MAX: usize = 5;

const USER_AGENT: &str = concat!("kiln/", env!("CARGO_PKG_VERSION"));

/// Which proxies to use. The crate reads no environment: the caller passes what `http_proxy` and its like say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For `http:` addresses; asked with the whole address, as apt-cacher-ng and squid expect.
    pub http: Option<Url>,
    /// For `https:` addresses; asked for a tunnel.
    pub https: Option<Url>,
    /// Hosts to reach directly: names (with all below them), addresses, networks, `*`; between commas.
    pub no_proxy: Option<String>,
}

/// The text is no address of an HTTP proxy. The text itself is left out: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("use the {setting} proxy: it is not an address such as http://proxy.example:3128")]
pub struct ProxyError {
    /// `http` or `https`.
    setting: &'static str,
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedirectRefusal {
    #[error("more than {limit} redirects")]
    TooMany { limit: usize },
    #[error("redirected to {to}")]
    Place { to: String },
}

impl ProxySettings {
    /// Settings from the values of the usual environment variables; an empty value is none. A proxy without a scheme is
    /// an HTTP proxy.
    ///
    /// # Errors
    /// When a proxy is no address, or of another kind than HTTP.
    pub fn parse(http: Option<&str>, https: Option<&str>, no_proxy: Option<&str>) -> Result<Self, ProxyError> {
        Ok(Self {
            http: parse_proxy("http", http)?,
            https: parse_proxy("https", https)?,
            no_proxy: no_proxy.map(str::trim).filter(|list| !list.is_empty()).map(str::to_owned),
        })
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("http", &self.http.as_ref().map(public_url))
            .field("https", &self.https.as_ref().map(public_url))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

fn parse_proxy(setting: &'static str, text: Option<&str>) -> Result<Option<Url>, ProxyError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(Some).ok_or(ProxyError { setting })
}

/// The client for one run of downloads.
///
/// A machine without certificates can still use plain HTTP, as the smallest containers do: there the client trusts
/// nobody, and only what needs TLS fails. With `needs_tls` that is an error at once, because it names the true cause.
pub(crate) fn build(options: &FetchOptions, needs_tls: bool) -> Result<Client, reqwest::Error> {
    match builder(options)?.build() {
        Err(_) if !needs_tls => builder(options)?.tls_certs_only([]).build(),
        client => client,
    }
}

fn builder(options: &FetchOptions) -> Result<ClientBuilder, reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.idle_timeout)
        .redirect(Policy::custom(redirect))
        .referer(false)
        .no_proxy();
    let direct = options.proxy.no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(proxy) = &options.proxy.http {
        builder = builder.proxy(Proxy::http(proxy.clone())?.no_proxy(direct.clone()));
    }
    if let Some(proxy) = &options.proxy.https {
        builder = builder.proxy(Proxy::https(proxy.clone())?.no_proxy(direct));
    }
    Ok(builder)
}

fn redirect(attempt: Attempt<'_>) -> Action {
    match judge_redirect(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(refusal) => attempt.error(refusal),
    }
}

/// Whether to go on to `next` after `previous` (the first of which was asked for).
fn judge_redirect(previous: &[Url], next: &Url) -> Result<(), RedirectRefusal> {
    if previous.len() > REDIRECTS_MAX {
        return Err(RedirectRefusal::TooMany { limit: REDIRECTS_MAX });
    }
    let was_secure = previous.last().is_some_and(|url| url.scheme() == "https");
    match next.scheme() {
        "https" => Ok(()),
        "http" if !was_secure => Ok(()),
        _ => Err(RedirectRefusal::Place { to: public_url(next) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_redirect(previous: &[&str], next: &str, refusal: Option<&str>) {
        let previous: Vec<Url> = previous.iter().map(|url| url.parse().unwrap()).collect();
        let judged = judge_redirect(&previous, &next.parse().unwrap());
        assert_eq!(judged.err().map(|refusal| refusal.to_string()).as_deref(), refusal, "{next}");
    }

    #[test]
    fn redirects_never_lose_encryption() {
        check_redirect(&["http://mirror.example/a"], "http://near.mirror.example/a", None);
        check_redirect(&["http://mirror.example/a"], "https://mirror.example/a", None);
        check_redirect(&["https://mirror.example/a"], "https://near.mirror.example/a", None);
        check_redirect(
            &["https://mirror.example/a"],
            "http://u:p@x.example/a",
            Some("redirected to http://***@x.example/a"),
        );
        check_redirect(
            &["http://mirror.example/a", "https://mirror.example/a"],
            "http://mirror.example/a",
            Some("redirected to http://mirror.example/a"),
        );
        check_redirect(&["http://mirror.example/a"], "file:///etc/passwd", Some("redirected to file:///etc/passwd"));
    }

    #[test]
    fn redirects_are_counted() {
        check_redirect(&["http://mirror.example/a"; 5], "http://mirror.example/a", None);
        check_redirect(&["http://mirror.example/a"; 6], "http://mirror.example/a", Some("more than 5 redirects"));
    }

    fn check_proxy(text: &str, expected: Option<&str>) {
        let parsed = ProxySettings::parse(Some(text), None, None).ok().map(|settings| settings.http.map(String::from));
        assert_eq!(parsed, expected.map(|url| Some(url).filter(|url| !url.is_empty()).map(str::to_owned)), "{text}");
    }

    #[test]
    fn proxies_are_read_as_people_write_them() {
        check_proxy("http://proxy.example:3128", Some("http://proxy.example:3128/"));
        check_proxy("proxy.example:3128", Some("http://proxy.example:3128/"));
        check_proxy(" ", Some(""));
        check_proxy("socks5://proxy.example", None);
        check_proxy("http://", None);
    }

    #[test]
    fn proxy_passwords_are_not_shown() {
        let settings = ProxySettings::parse(Some("http://me:s3cret@proxy.example"), None, None).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
        let error = ProxySettings::parse(None, Some("ftp://me:s3cret@proxy.example"), None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
