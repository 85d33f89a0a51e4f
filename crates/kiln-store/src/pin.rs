//! A file whose digest is to be learned: downloaded into the store, then named by what it turned out to be.

use camino::Utf8PathBuf;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use url::Url;

use crate::attempt::{Download, Expected, Origin, Progress};
use crate::failure::{FailureReason, FetchError, FetchFailure, Halt};
use crate::fetch::{FetchOptions, disk_error};
use crate::landing::{Landing, Writer};
use crate::public::public_url;
use crate::session::{self, Session};
use crate::store::Store;

/// What a download turned out to be. It is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Its digest.
    pub digest: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

impl Store {
    /// Downloads `url`, whatever it is, up to `limit_bytes`. An interrupted answer is resumed only where the server
    /// says that the file is still the same.
    ///
    /// # Errors
    /// As [`Store::fetch`], with one failure.
    pub fn pin(
        &self,
        url: &Url,
        limit_bytes: u64,
        options: &FetchOptions,
        report: &dyn Report,
    ) -> Result<Pinned, FetchError> {
        let name = public_url(url);
        if options.offline && url.scheme() != "file" {
            let reason = FailureReason::Offline;
            return Err(FetchError::Failed(vec![FetchFailure { url: name.clone(), name, reason }]));
        }
        let expected = Expected { digest: None, size_bytes: None, limit_bytes };
        let client = |source| FetchError::Client { source };
        let run = session::run(async || {
            let session = Session::new(self, options, report, [url]).map_err(|error| client(Box::new(error)))?;
            pin(&session, url, &name, expected).await
        });
        run.map_err(|error| client(Box::new(error)))?
    }
}

async fn pin(session: &Session<'_>, url: &Url, name: &str, expected: Expected) -> Result<Pinned, FetchError> {
    let started = std::time::Instant::now();
    // Kept until the end: the file is removed unless it got its name in the store.
    let (file, aside) = session.store.create_aside()?.into_parts();
    let path =
        Utf8PathBuf::try_from(aside.to_path_buf()).map_err(|error| session.store.error(error.into_io_error()))?;
    let file = fs_err::File::from_parts(file, aside.to_path_buf());
    let landing = Landing::adopt(file, path).map_err(|error| session.store.error(error))?;
    let mut download = Download {
        writer: Writer::new(landing),
        origin: Origin::default(),
        progress: Progress::new(session.report, name),
        expected,
        highest_bytes: 0,
    };
    session.report.event(Event::DownloadStarted { name: name.to_owned(), size_bytes: None, resumed_from_bytes: 0 });
    let seed = Sha256::of(url.as_str().as_bytes());
    let attempt = async |url: &Url, fresh: bool| download.attempt(session, url, fresh).await;
    let digest = session.persist(name, &seed, std::slice::from_ref(url), attempt).await.map_err(|halt| match halt {
        Halt::Failure(failure) => FetchError::Failed(vec![failure]),
        Halt::Disk(error) => disk_error(session.store, &[], error),
    })?;
    let size_bytes = download.writer.size_bytes();
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    session.report.event(Event::DownloadFinished { name: name.to_owned(), size_bytes, took_ms });
    Ok(Pinned { digest, size_bytes })
}
