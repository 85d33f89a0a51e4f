//! The HTTP client: TLS with the system's roots, proxies as given. Redirects are followed by [`crate::redirect`].

use std::fmt;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, NoProxy, Proxy};
use url::Url;

use crate::fetch::FetchOptions;
use crate::public::public_url;

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
        .redirect(Policy::none())
        .referer(false)
        .no_proxy();
    let exceptions = options.proxy.no_proxy.as_deref();
    // The client takes `*` for all names, but not for addresses.
    if exceptions.is_some_and(|list| list.split(',').any(|exception| exception.trim() == "*")) {
        return Ok(builder);
    }
    let direct = exceptions.and_then(NoProxy::from_string);
    if let Some(proxy) = &options.proxy.http {
        builder = builder.proxy(Proxy::http(proxy.clone())?.no_proxy(direct.clone()));
    }
    if let Some(proxy) = &options.proxy.https {
        builder = builder.proxy(Proxy::https(proxy.clone())?.no_proxy(direct));
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

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
