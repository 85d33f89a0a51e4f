//! Files that no index vouches for: `.deb` files of the factory, `.deb` files and downloads at an address.
//!
//! A file of the factory is read where it lies, every time. An address is downloaded once and then known by the digest in
//! the lock; `--update` asks it again.

use camino::{Utf8Path, Utf8PathBuf};
use kiln_debian::deb::{self, DebError};
use kiln_debian::universe::LocalPackage;
use kiln_model::digest::{Hasher, Sha256};
use kiln_model::lock::LockedDownload;
use kiln_store::{FailureReason, FetchError, StoreError, Want};
use url::Url;

use crate::Environment;
use crate::factory::Factory;
use crate::mirror::{self, by_hash, public_text};

/// The largest `.deb` or download that is pinned.
const PIN_BYTES_MAX: u64 = 16 << 30;

/// A file could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// A file of the factory that cannot be read.
    #[error("read a file of the factory")]
    Read(#[source] std::io::Error),
    /// An address that is not one.
    #[error("`{0}` is not an address")]
    Address(String),
    /// A file that cannot be downloaded.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spec says another digest.
    #[error("{url} has sha256 {actual}, kiln.toml says {expected}")]
    Digest {
        /// The address.
        url: String,
        /// The digest in the spec.
        expected: Sha256,
        /// The digest of what came.
        actual: Sha256,
    },
    /// A `.deb` that is none.
    #[error("read {file}")]
    Deb {
        /// As the user wrote it.
        file: String,
        /// Why.
        #[source]
        source: DebError,
    },
}

impl PinError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch(FetchError::Failed(failures)) if failures.iter().any(|failure| is_offline(&failure.reason)) => {
                Some("run once without --offline: what is at an address is locked by asking it".to_owned())
            }
            Self::Fetch(error) => error.hint(),
            Self::Digest { .. } => Some("if the new file is the right one, put its sha256 into kiln.toml".to_owned()),
            Self::Deb { .. } => {
                Some("is it a whole Debian package? `dpkg-deb --info FILE` says what dpkg makes of it".to_owned())
            }
            Self::Store(error) => error.hint(),
            Self::Read(_) | Self::Address(_) => None,
        }
    }
}

fn is_offline(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Offline)
}

/// Digest and size of a file of the factory.
pub(crate) fn measure(path: &Utf8Path) -> Result<(Sha256, u64), PinError> {
    struct Measure(Hasher, u64);
    impl std::io::Write for Measure {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            self.1 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut measure = Measure(Hasher::new(), 0);
    let mut file = fs_err::File::open(path).map_err(PinError::Read)?;
    std::io::copy(&mut file, &mut measure).map_err(PinError::Read)?;
    Ok((measure.0.finish(), measure.1))
}

/// A `.deb` of the factory, as the solver wants it.
pub(crate) fn local_package(factory: &Factory, path: &Utf8Path) -> Result<LocalPackage, PinError> {
    let on_disk = factory.path(path);
    let (sha256, size_bytes) = measure(&on_disk)?;
    Ok(LocalPackage { file: path.to_string(), control: control(&on_disk, path.as_str())?, sha256, size_bytes })
}

/// A `.deb` at an address, as the solver wants it.
pub(crate) fn remote_package(
    url: &str,
    known: Option<(Sha256, u64)>,
    environment: &Environment<'_>,
) -> Result<LocalPackage, PinError> {
    let (sha256, size_bytes) = pinned(url, known, environment)?;
    let path = environment.store.path(&sha256);
    Ok(LocalPackage { file: url.to_owned(), control: control(&path, &public_text(url))?, sha256, size_bytes })
}

/// What a `download` step fetches.
pub(crate) fn download(
    url: &str,
    expected: Option<Sha256>,
    known: Option<(Sha256, u64)>,
    environment: &Environment<'_>,
) -> Result<LockedDownload, PinError> {
    let (actual, size) = pinned(url, known, environment)?;
    match expected {
        Some(expected) if expected != actual => Err(PinError::Digest { url: public_text(url), expected, actual }),
        _ => Ok(LockedDownload { url: url.to_owned(), size, sha256: actual }),
    }
}

/// Brings what is at `url` into the store: the very bytes that are known, or, if none are, whatever is there.
fn pinned(url: &str, known: Option<(Sha256, u64)>, environment: &Environment<'_>) -> Result<(Sha256, u64), PinError> {
    let address = Url::parse(url).map_err(|_| PinError::Address(public_text(url)))?;
    let Environment { store, fetch, report, .. } = environment;
    if let Some((digest, size_bytes)) = known {
        // A directory made by `kiln fetch --to` has it by digest. Mirrors that are none were refused before this.
        let exported = mirror::exported(environment.host).unwrap_or_default();
        let urls = exported.iter().map(|mirror| mirror.file(&by_hash(&digest))).chain([address]).collect();
        let want = Want { name: public_text(url), digest, size_bytes: Some(size_bytes), urls };
        store.fetch(&[want], fetch, *report)?;
        return Ok((digest, size_bytes));
    }
    let pinned = store.pin(&address, PIN_BYTES_MAX, fetch, *report)?;
    Ok((pinned.digest, pinned.size_bytes))
}

fn control(path: &Utf8PathBuf, shown: &str) -> Result<String, PinError> {
    let file = fs_err::File::open(path).map_err(PinError::Read)?;
    let control = deb::read_control(std::io::BufReader::new(file));
    Ok(control.map_err(|source| PinError::Deb { file: shown.to_owned(), source })?.text().to_owned())
}
