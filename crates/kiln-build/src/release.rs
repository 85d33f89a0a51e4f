//! A suite's signed Release: asked for at each candidate mirror until one gives what can be believed.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use kiln_debian::openpgp::{self, Problem, SignatureError, Signer};
use kiln_debian::release::{FUTURE_TOLERANCE, Release, ReleaseError, StaleError};
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_store::{Document, FailureReason, SlotDocument, StoreError, Validators, public_url};

use crate::Environment;
use crate::mirror::{Mirror, Repository};

/// A Release file lists a few hundred indexes; the largest known is under half a megabyte.
const RELEASE_BYTES_MAX: u64 = 16 << 20;

/// A Release that was verified, and where it came from.
#[derive(Debug)]
pub(crate) struct VerifiedRelease {
    pub(crate) release: Release,
    /// Of the signed file as the mirror sent it.
    pub(crate) digest: Sha256,
    /// Fingerprint of the key that signed it.
    pub(crate) key: String,
    pub(crate) mirror: Mirror,
}

/// No candidate gave a Release that can be believed.
#[derive(Debug, thiserror::Error)]
#[error("find a mirror with a valid Release of {suite}{}", list(attempts))]
pub struct SuiteError {
    /// The suite.
    pub suite: String,
    /// Every candidate that was asked, and why it was not taken.
    pub attempts: Vec<Attempt>,
}

/// A candidate that was not taken.
#[derive(Debug)]
pub struct Attempt {
    /// The mirror's address, without secrets.
    pub mirror: String,
    /// Who named it.
    pub named_by: String,
    /// Why it was not taken.
    pub refusal: Refusal,
}

/// Why a mirror's Release is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It could not be fetched.
    #[error("its InRelease cannot be had")]
    Fetch {
        /// Why.
        #[source]
        reason: Arc<FailureReason>,
        /// Whether this run had found that out before.
        again: bool,
    },
    /// Its signature is not good, or not by a key that is trusted here.
    #[error("verify its signature")]
    Signature(#[source] SignatureError),
    /// It is signed, but it cannot be read.
    #[error(transparent)]
    Release(ReleaseError),
    /// It is somebody else's.
    #[error("its Origin is `{actual}`, not `{expected}`")]
    Origin {
        /// What the family's Release says.
        expected: &'static str,
        /// What this one says.
        actual: String,
    },
    /// It is of another suite.
    #[error("it is the Release of {actual}")]
    Suite {
        /// What it says it is.
        actual: String,
    },
    /// It is not of this time.
    #[error(transparent)]
    Stale(StaleError),
    /// It is older than the lock's.
    #[error("it is dated {date}, before the lock's {locked}: the mirror went back in time")]
    RolledBack {
        /// Its date.
        date: Timestamp,
        /// The lock's index.
        locked: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

fn list(attempts: &[Attempt]) -> String {
    let mut text = String::new();
    for Attempt { mirror, named_by, refusal } in attempts {
        let mut chain = refusal.to_string();
        let mut cause = std::error::Error::source(refusal);
        while let Some(source) = cause {
            let _ = write!(chain, ": {source}");
            cause = source.source();
        }
        let _ = write!(text, "\n  {mirror} (named by {named_by}): {chain}");
    }
    text
}

impl Refusal {
    /// Whether this is simply not the mirror that is looked for: nothing to warn of when another one is.
    fn is_stranger(&self) -> bool {
        match self {
            Self::Fetch { reason, .. } => {
                matches!(**reason, FailureReason::Gone { .. } | FailureReason::Refused { .. })
            }
            Self::Signature(SignatureError::Untrusted { rejected }) => {
                rejected.iter().all(|rejected| rejected.problem == Problem::UnknownKey)
            }
            Self::Origin { .. } | Self::Suite { .. } => true,
            _ => false,
        }
    }

    /// Whether the mirror answers and has no such suite.
    fn is_absence(&self) -> bool {
        match self {
            Self::Fetch { reason, .. } => reason.is_gone(),
            Self::Origin { .. } | Self::Suite { .. } => true,
            _ => false,
        }
    }

    /// What to do about it, where there is something.
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fetch { reason, .. } if matches!(**reason, FailureReason::Offline) => {
                "run once without --offline, or name a file: mirror in KILN_MIRROR"
            }
            Self::Fetch { reason, .. } => match **reason {
                FailureReason::Refused { .. } | FailureReason::Unreachable { .. } | FailureReason::Client { .. } => {
                    reason.hint()?
                }
                _ => return None,
            },
            Self::Signature(SignatureError::Untrusted { rejected })
                if rejected.iter().any(|rejected| matches!(rejected.problem, Problem::KeyExpired(_))) =>
            {
                "install the archive's newer keys (package debian-archive-keyring), or give them with `keyring`"
            }
            Self::Signature(_) => {
                "the mirror may be damaged or not what it claims; if it is another archive, give its key with `keyring`"
            }
            Self::Stale(error) => error.hint(),
            Self::RolledBack { .. } => {
                "if you trust this mirror, `--allow-older` takes its older indexes; otherwise use another"
            }
            Self::Release(_) | Self::Origin { .. } | Self::Suite { .. } | Self::Store(_) => return None,
        };
        Some(text.to_owned())
    }

    /// Whether a person should hear of it although another mirror served.
    fn is_news(&self) -> bool {
        !self.is_stranger() && !matches!(self, Self::Fetch { again: true, .. })
    }
}

impl SuiteError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let hint = self.attempts.iter().find_map(|attempt| attempt.refusal.hint());
        let suite_hint = || format!("is `{}` the right suite? no mirror here has an InRelease of it", self.suite);
        hint.or_else(|| self.attempts.iter().all(|attempt| attempt.refusal.is_absence()).then(suite_hint))
            .unwrap_or_else(|| "name another mirror with `mirror` in kiln.toml or KILN_MIRROR".to_owned())
    }
}

/// Asks the repository's mirrors for a suite's Release and takes the first that can be believed.
///
/// `not_before` is the date of the lock's index of this suite, if it must not go back in time.
pub(crate) fn verified_release(
    repository: &Repository,
    suite: &str,
    not_before: Option<Timestamp>,
    environment: &Environment<'_>,
) -> Result<VerifiedRelease, SuiteError> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for mirror in &repository.mirrors {
        match ask(repository, mirror, suite, not_before, environment) {
            Ok((release, news)) => {
                warn(&attempts, suite, &release, environment);
                if let Some(changed) = news {
                    environment.report.event(Event::ReleaseVerified {
                        suite: suite.to_owned(),
                        mirror: public_url(&mirror.root),
                        date: release.release.date,
                        key: release.key.clone(),
                        changed,
                    });
                }
                return Ok(release);
            }
            Err(refusal) => {
                let (mirror, named_by) = (public_url(&mirror.root), mirror.named_by.clone());
                attempts.push(Attempt { mirror, named_by, refusal });
            }
        }
    }
    Err(SuiteError { suite: suite.to_owned(), attempts })
}

/// A mirror that should have served and did not is worth a word even when another one did.
fn warn(attempts: &[Attempt], suite: &str, taken: &VerifiedRelease, environment: &Environment<'_>) {
    for attempt in attempts.iter().filter(|attempt| attempt.refusal.is_news()) {
        let (reason, taken) = (list(std::slice::from_ref(attempt)), public_url(&taken.mirror.root));
        environment.report.event(Event::Warning {
            message: format!("{suite} is taken from {taken}, because another mirror failed:{reason}"),
            hint: None,
        });
    }
}

/// The Release, and, if this run had not seen it yet, whether it is another than the last run's.
fn ask(
    repository: &Repository,
    mirror: &Mirror,
    suite: &str,
    not_before: Option<Timestamp>,
    environment: &Environment<'_>,
) -> Result<(VerifiedRelease, Option<bool>), Refusal> {
    let Fetched { bytes, changed, validators } = fetch(mirror, suite, environment)?;
    environment.memory.keep_release(mirror.release(suite).as_str(), &bytes);
    let verified = openpgp::verify_inline(&bytes, &repository.keyring, environment.now).map_err(Refusal::Signature)?;
    let release = Release::parse(&verified.text).map_err(Refusal::Release)?;
    believe(repository, suite, &release, not_before, environment.now)?;
    if let Some(validators) = validators {
        // Only what is believed is remembered: a bad or replayed answer never replaces a good one.
        environment.store.slot(mirror.release(suite).as_str()).save(&bytes, &validators).map_err(Refusal::Store)?;
    }
    let (digest, _) = environment.store.insert(&bytes).map_err(Refusal::Store)?;
    let key = recorded_key(repository, &verified.signers);
    Ok((VerifiedRelease { release, digest, key, mirror: mirror.clone() }, changed))
}

/// Of several good signatures the one that every host records: by a key that all Kilns know, then by fingerprint.
fn recorded_key(repository: &Repository, signers: &[Signer]) -> String {
    let rank = |signer: &&Signer| {
        (!repository.known_everywhere.contains(&signer.primary_fingerprint), signer.fingerprint.clone())
    };
    signers.iter().min_by_key(rank).map(|signer| signer.fingerprint.clone()).unwrap_or_default()
}

/// Whether a Release whose signature is good is the one that was asked for, and of this time.
fn believe(
    repository: &Repository,
    suite: &str,
    release: &Release,
    not_before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Refusal> {
    check_identity(repository, suite, release)?;
    if !repository.is_snapshot {
        release.check_dates(now, FUTURE_TOLERANCE).map_err(Refusal::Stale)?;
    }
    match not_before {
        Some(locked) if release.date < locked => Err(Refusal::RolledBack { date: release.date, locked }),
        _ => Ok(()),
    }
}

/// Whether a Release is that of the suite, made by whom the repository is of.
pub(crate) fn check_identity(repository: &Repository, suite: &str, release: &Release) -> Result<(), Refusal> {
    if let Some(expected) = repository.origin
        && release.origin.as_deref() != Some(expected)
    {
        return Err(Refusal::Origin { expected, actual: release.origin.clone().unwrap_or_default() });
    }
    // One key may sign several suites: a mirror must not pass one off as another. A Release without any name is only
    // taken from a repository that the spec vouches for.
    let mut names = [&release.suite, &release.codename].into_iter().flatten().peekable();
    let is_nameless = names.peek().is_none() && repository.origin.is_none();
    if !is_nameless && !names.any(|name| name == suite) {
        return Err(Refusal::Suite { actual: release.name().to_owned() });
    }
    Ok(())
}

/// A Release file as it came.
struct Fetched {
    bytes: Vec<u8>,
    /// Whether it differs from what the store last had; nothing if this run knew it already.
    changed: Option<bool>,
    /// What to ask with next time, if this is to be remembered.
    validators: Option<Validators>,
}

/// Asks the mirror for the file, unless what the store has is still current.
fn fetch(mirror: &Mirror, suite: &str, environment: &Environment<'_>) -> Result<Fetched, Refusal> {
    let url = mirror.release(suite);
    if let Some(bytes) = environment.memory.release(url.as_str()) {
        return Ok(Fetched { bytes, changed: None, validators: None });
    }
    if let Some(reason) = environment.memory.failure(url.as_str()) {
        return Err(Refusal::Fetch { reason, again: true });
    }
    let known = environment.store.slot(url.as_str()).load();
    if environment.fetch.offline
        && url.scheme() != "file"
        && let Some(SlotDocument { bytes, .. }) = known
    {
        return Ok(Fetched { bytes, changed: Some(false), validators: None });
    }
    let validators = known.as_ref().map(|document| &document.validators);
    let got = environment.store.get(&url, validators, RELEASE_BYTES_MAX, environment.fetch, environment.report);
    let remember =
        |reason| Refusal::Fetch { reason: environment.memory.keep_failure(url.as_str(), reason), again: false };
    match (got.map_err(|failure| remember(failure.reason))?, known) {
        (Document::New { bytes, validators, .. }, known) => {
            let changed = known.is_none_or(|known| known.bytes != bytes);
            Ok(Fetched { bytes, changed: Some(changed), validators: Some(validators) })
        }
        (Document::NotModified, Some(SlotDocument { bytes, .. })) => {
            Ok(Fetched { bytes, changed: Some(false), validators: None })
        }
        // A server that answers "not modified" to somebody who has nothing has nothing to give.
        (Document::NotModified, None) => Err(remember(FailureReason::Gone { status: Some(304) })),
    }
}
