//! Why a file did not come, told so that a person knows what to do.

use std::fmt::Write as _;
use std::io;

use camino::Utf8PathBuf;
use kiln_model::digest::Sha256;

use crate::store::StoreError;

/// Why [`Store::fetch`](crate::Store::fetch) or [`Store::pin`](crate::Store::pin) did not bring everything.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Some files did not come; all others did. Sorted by name, never empty.
    #[error("download {}", list(.0))]
    Failed(Vec<FetchFailure>),
    /// Files are missing and the network is not to be used.
    #[error("find {} in the store while offline: {}", count(missing.len(), "file"), first_few(missing))]
    Offline {
        /// Names of the missing files, sorted, never empty.
        missing: Vec<String>,
    },
    /// There is no room for the rest. What came whole is kept, and what came in part is resumed by the next run.
    #[error("download into {root}: {needed_bytes} more bytes are needed")]
    Full {
        /// The store.
        root: Utf8PathBuf,
        /// Size of everything that is still to come, where known.
        needed_bytes: u64,
        /// What the system said, with the path.
        #[source]
        source: io::Error,
    },
    /// The store failed in another way.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error("prepare to download")]
    Client {
        /// Its reason: most likely the system's certificates.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One file that did not come.
#[derive(Debug, thiserror::Error)]
#[error("download {name} from {url}")]
pub struct FetchFailure {
    /// What the file is to the user.
    pub name: String,
    /// The address that tells most, without secrets; empty when there was none.
    pub url: String,
    /// Why it did not come from there.
    #[source]
    pub reason: FailureReason,
}

/// Why one address did not give the file.
#[derive(Debug, thiserror::Error)]
pub enum FailureReason {
    /// The server, or the directory of a `file:` address, does not have it.
    #[error("it is not there{}", status_suffix(*status))]
    Gone {
        /// 404 or 410; none for a `file:` address.
        status: Option<u16>,
    },
    /// The server does not want to give it.
    #[error("the server refuses (HTTP {status})")]
    Refused {
        /// The HTTP status: 401, 403, 407...
        status: u16,
    },
    /// The server failed each time it was asked.
    #[error("the server fails (HTTP {status})")]
    Server {
        /// The last HTTP status: 500, 503, 429...
        status: u16,
    },
    /// The bytes are not the ones asked for.
    #[error("its bytes are not the expected ones: expected sha256 {expected}, got {actual}")]
    Digest {
        /// The digest asked for.
        expected: Sha256,
        /// The digest of what came.
        actual: Sha256,
    },
    /// The size is not the one asked for.
    #[error("its size is not the expected one: expected {expected_bytes} bytes, got {actual_bytes}")]
    Size {
        /// The size asked for.
        expected_bytes: u64,
        /// The size of what came, or would have.
        actual_bytes: u64,
    },
    /// It is larger than it may be; the download was stopped there.
    #[error("it is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The most that was to be taken.
        limit_bytes: u64,
    },
    /// The server could not be reached, or did not answer.
    #[error("no answer from {host}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What went wrong on the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer ended too early each time.
    #[error("the connection broke after {received_bytes} bytes")]
    Interrupted {
        /// How much is there; kept for the next time.
        received_bytes: u64,
        /// What went wrong on the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server sent us on and on.
    #[error("more than {limit} redirects")]
    TooManyRedirects {
        /// How many are followed.
        limit: usize,
    },
    /// The server sent us to a place where we do not go: from https to http, or to no web address at all.
    #[error("it was redirected to {to}, which is not followed")]
    Redirect {
        /// The place, without secrets.
        to: String,
    },
    /// The file behind a `file:` address could not be read.
    #[error("it could not be read")]
    Unreadable {
        /// What the system said, with the path.
        #[source]
        source: io::Error,
    },
    /// The address is of a kind that cannot be downloaded from.
    #[error("`{scheme}:` addresses cannot be downloaded from")]
    Scheme {
        /// What the address begins with.
        scheme: String,
    },
    /// There was no address to try.
    #[error("no address is known for it")]
    NoAddress,
    /// The network is not to be used.
    #[error("it needs the network, and this run is offline")]
    Offline,
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be prepared")]
    Client {
        /// Its reason: most likely the system's certificates.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How an attempt went wrong, told by what to do next.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Asking again will not help.
    Final(FailureReason),
    /// What was there before, or a cache on the way, was bad: ask once more for all of it, past the caches.
    Stale(FailureReason),
    /// It may pass.
    Passing {
        reason: FailureReason,
        /// How long the server asked us to wait.
        wait: Option<std::time::Duration>,
        /// Whether more of the file is there than ever before.
        progressed: bool,
    },
    /// The store cannot be written: nothing else can come either.
    Disk(io::Error),
}

/// Why one file's download ended without the file.
#[derive(Debug)]
pub(crate) enum Halt {
    /// This file failed; others may come.
    Failure(FetchFailure),
    /// The store cannot be written: nothing else can come either.
    Disk(io::Error),
}

/// Nobody else is asked to wait for a host that has already used up somebody's patience.
#[derive(Debug, thiserror::Error)]
#[error("it did not answer for the files before this one")]
pub(crate) struct GivenUp;

impl FailureReason {
    /// Whether the file left this address, so that another version or another mirror must be found.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status: 401 | 407 } => Some("check the user name and password in the address or the proxy"),
            Self::Digest { .. } | Self::Size { .. } | Self::TooLarge { .. } => {
                Some("the mirror or a proxy serves other bytes than were locked: try another mirror")
            }
            Self::Unreachable { .. } => Some("check the network, the proxy settings and the mirror's name"),
            Self::Interrupted { .. } => Some("run it again: it goes on where it stopped"),
            Self::Client { .. } => Some("install the system's certificates (package ca-certificates)"),
            _ => None,
        }
    }
}

impl FetchError {
    /// What a person can do about it; for failed files see [`FailureReason::hint`] of each.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Failed(failures) => failures.iter().find_map(|failure| failure.reason.hint()).map(str::to_owned),
            Self::Offline { .. } => Some("fetch once with the network, or name a `file:` mirror".to_owned()),
            Self::Full { root, .. } => {
                Some(format!("make room on the file system of {root}, then run it again: it goes on where it stopped"))
            }
            Self::Store(error) => error.hint(),
            Self::Client { .. } => Some("install the system's certificates (package ca-certificates)".to_owned()),
        }
    }
}

fn status_suffix(status: Option<u16>) -> String {
    status.map(|status| format!(" (HTTP {status})")).unwrap_or_default()
}

/// Every failure with its causes: a list of errors has no single source that a printer could follow.
fn list(failures: &[FetchFailure]) -> String {
    let mut text = count(failures.len(), "file");
    for failure in failures {
        let _ = write!(text, "\n  {} from {}: {}", failure.name, failure.url, with_causes(&failure.reason));
    }
    text
}

/// The error and what caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
