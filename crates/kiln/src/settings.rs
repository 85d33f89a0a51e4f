//! The environment, read once.

use std::str::FromStr;

use camino::Utf8PathBuf;
use kiln_model::units::Duration;

use crate::error::{CommandError, Kind};

/// What the environment says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Directory of the store.
    pub(crate) store: Utf8PathBuf,
    /// `KILN_MIRROR`: mirrors, separated by blanks, tried before the host's.
    pub(crate) mirrors: Vec<String>,
    /// Proxy for `http:` addresses.
    pub(crate) http_proxy: Option<String>,
    /// Proxy for `https:` addresses.
    pub(crate) https_proxy: Option<String>,
    /// Hosts that are reached without a proxy.
    pub(crate) no_proxy: Option<String>,
    /// `KILN_HTTP_TIMEOUT`: how long a server may say nothing.
    pub(crate) http_timeout: Option<Duration>,
    /// `KILN_HTTP_RETRIES`: how often a request that failed is made again.
    pub(crate) http_retries: Option<u32>,
    /// `CI`: whether nobody is there to commit what a build adds to the lock.
    pub(crate) is_ci: bool,
    /// `TERM`: what kind of terminal a shell has.
    pub(crate) terminal: Option<String>,
    /// The kernel's boot id: not of the environment, but as little ours to choose. Empty where it is not known.
    pub(crate) boot: String,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// If there is no directory for the store, or a setting is not what it should be.
    pub(crate) fn read() -> Result<Self, CommandError> {
        Self::from(&|name| {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, CommandError> {
        let either = |lower: &str, upper: &str| variable(lower).or_else(|| variable(upper));
        let mirrors = variable("KILN_MIRROR").unwrap_or_default();
        Ok(Self {
            store: store_directory(variable)?,
            mirrors: mirrors.split_whitespace().map(str::to_owned).collect(),
            // Only the lower-case name: a CGI program's request headers can set HTTP_PROXY (as curl and apt decided).
            http_proxy: variable("http_proxy").or_else(|| either("all_proxy", "ALL_PROXY")),
            https_proxy: either("https_proxy", "HTTPS_PROXY").or_else(|| either("all_proxy", "ALL_PROXY")),
            no_proxy: either("no_proxy", "NO_PROXY"),
            http_timeout: parsed(variable, "KILN_HTTP_TIMEOUT", "a length of time such as 30s or 2m")?,
            http_retries: parsed(variable, "KILN_HTTP_RETRIES", "a number such as 4")?,
            is_ci: variable("CI").is_some_and(|value| value != "false" && value != "0"),
            terminal: variable("TERM"),
            boot: boot_id(),
        })
    }
}

/// The variable's value, read as `expected` describes it; nothing if it is not set.
fn parsed<T: FromStr>(
    variable: &dyn Fn(&str) -> Option<String>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, CommandError> {
    let Some(text) = variable(name) else { return Ok(None) };
    let wrong = |_| {
        CommandError::new(Kind::Usage, anyhow::anyhow!("{name} is `{text}`")).with_hint(format!("it takes {expected}"))
    };
    text.parse().map(Some).map_err(wrong)
}

/// random(4): another one each time that the machine is started.
fn boot_id() -> String {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// XDG Base Directory: `$XDG_CACHE_HOME`, else `$HOME/.cache`; a relative value is to be ignored.
fn store_directory(variable: &dyn Fn(&str) -> Option<String>) -> Result<Utf8PathBuf, CommandError> {
    let absolute = |path: Utf8PathBuf| path.is_absolute().then_some(path);
    let cache = variable("XDG_CACHE_HOME").map(Utf8PathBuf::from).and_then(absolute);
    let cache =
        cache.or_else(|| variable("HOME").map(|home| Utf8PathBuf::from(home).join(".cache")).and_then(absolute));
    let cache = cache.ok_or_else(|| {
        CommandError::new(Kind::Environment, anyhow::anyhow!("there is no directory for the store: HOME is not set"))
            .with_hint("set XDG_CACHE_HOME to a directory that Kiln may fill")
    })?;
    Ok(cache.join("kiln"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, CommandError> {
        Settings::from(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn store_follows_the_base_directories() {
        assert_eq!(read(&[("HOME", "/home/a")]).unwrap().store, "/home/a/.cache/kiln");
        assert_eq!(read(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/var/c")]).unwrap().store, "/var/c/kiln");
        assert_eq!(read(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "c")]).unwrap().store, "/home/a/.cache/kiln");
        assert_eq!(read(&[]).unwrap_err().kind, Kind::Environment);
    }

    #[test]
    fn upper_case_http_proxy_is_not_trusted() {
        let settings = read(&[("HOME", "/h"), ("HTTP_PROXY", "http://evil"), ("HTTPS_PROXY", "http://proxy")]).unwrap();
        assert_eq!(settings.http_proxy, None);
        assert_eq!(settings.https_proxy.as_deref(), Some("http://proxy"));
    }

    #[test]
    fn patience_carries_its_unit() {
        let settings = read(&[("HOME", "/h"), ("KILN_HTTP_TIMEOUT", "2m"), ("KILN_HTTP_RETRIES", "0")]).unwrap();
        assert_eq!(settings.http_timeout, Some(Duration::from_seconds(120)));
        assert_eq!(settings.http_retries, Some(0));
        assert_eq!(read(&[("HOME", "/h"), ("KILN_HTTP_TIMEOUT", "2")]).unwrap_err().kind, Kind::Usage);
        assert_eq!(read(&[("HOME", "/h"), ("KILN_HTTP_RETRIES", "-1")]).unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn several_mirrors_may_be_given() {
        let settings = read(&[("HOME", "/h"), ("KILN_MIRROR", "file:/a  http://mirror.example/debian")]).unwrap();
        assert_eq!(settings.mirrors, ["file:/a", "http://mirror.example/debian"]);
    }
}
