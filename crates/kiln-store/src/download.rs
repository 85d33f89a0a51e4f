//! One wanted file: wait for whoever downloads it already, or download it.

use std::time::{Duration, Instant};

use kiln_model::event::Event;
use tokio::sync::Semaphore;
use url::Url;

use crate::aside;
use crate::attempt::{Download, Expected, Origin, Progress};
use crate::claim::{Claim, claim, partial_path};
use crate::failure::Halt;
use crate::fetch::Want;
use crate::landing::{Landing, Writer, blocking};
use crate::session::Session;
use crate::store::Store;

/// How often to look whether another process has finished a file.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a wanted file came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// This process downloaded it.
    Downloaded { size_bytes: u64 },
    /// Another process did.
    Shared { size_bytes: u64 },
}

/// Tells once that other processes are waited for, however many files they have.
#[derive(Debug, Default)]
pub(crate) struct WaitNotice(std::cell::Cell<bool>);

/// Brings `want` into the store, unless somebody else does meanwhile. `active` bounds how many do so at once; whoever
/// waits for another process does not count.
pub(crate) async fn bring(
    session: &Session<'_>,
    active: &Semaphore,
    notice: &WaitNotice,
    want: &Want,
) -> Result<Arrival, Halt> {
    let path = partial_path(session.store, &want.digest);
    loop {
        let turn = active.acquire().await;
        if let Some(size_bytes) = present(session.store, want) {
            return Ok(Arrival::Shared { size_bytes });
        }
        match claim(&path).map_err(Halt::Disk)? {
            Claim::Ours(file) => return bring_claimed(session, want, file).await,
            Claim::Held => {
                drop(turn);
                notice.tell(session, want);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// Brings a file whose partial file is locked by us.
async fn bring_claimed(session: &Session<'_>, want: &Want, file: fs_err::File) -> Result<Arrival, Halt> {
    let path = partial_path(session.store, &want.digest);
    // Its last holder may have finished between our looking and claiming.
    if let Some(size_bytes) = present(session.store, want) {
        remove_partial(&path);
        return Ok(Arrival::Shared { size_bytes });
    }
    let adopted = path.clone();
    let landing = blocking(move || Landing::adopt(file, adopted)).await.map_err(Halt::Disk)?;
    let mut download = Download {
        writer: Writer::new(landing),
        origin: Origin::read(path.with_extension("origin")),
        progress: Progress::new(session.report, &want.name),
        expected: want.expected(session),
        highest_bytes: 0,
    };
    let result = persist(session, want, &mut download).await;
    if result.is_err() && download.writer.size_bytes() == 0 {
        download.origin.forget();
        remove_partial(&path);
    }
    result.map(|size_bytes| Arrival::Downloaded { size_bytes })
}

async fn persist(session: &Session<'_>, want: &Want, download: &mut Download<'_>) -> Result<u64, Halt> {
    let started = Instant::now();
    download.highest_bytes = download.writer.size_bytes();
    session.report.event(Event::DownloadStarted {
        name: want.name.clone(),
        size_bytes: want.size_bytes,
        resumed_from_bytes: download.writer.size_bytes(),
    });
    let urls = session.usable(&want.urls);
    let attempt = async |url: &Url, fresh: bool| download.attempt(session, url, fresh).await;
    session.persist(&want.name, &want.digest, &urls, attempt).await?;
    let size_bytes = download.writer.size_bytes();
    session.report.event(Event::DownloadFinished {
        name: want.name.clone(),
        size_bytes,
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(size_bytes)
}

/// The size of the wanted file, if it is there.
fn present(store: &Store, want: &Want) -> Option<u64> {
    store.size(&want.digest).filter(|size| want.size_bytes.is_none_or(|expected| expected == *size))
}

/// Removes an empty partial file while its lock is held. If that fails, an empty file stays, which the next download uses.
fn remove_partial(path: &camino::Utf8Path) {
    drop(aside::remove_if_there(path));
}

impl Want {
    fn expected(&self, session: &Session<'_>) -> Expected {
        Expected {
            digest: Some(self.digest),
            size_bytes: self.size_bytes,
            limit_bytes: session.options.unknown_size_limit_bytes,
        }
    }
}

impl WaitNotice {
    fn tell(&self, session: &Session<'_>, want: &Want) {
        if !self.0.replace(true) {
            let reason = format!("another process is downloading {}", want.name);
            session.report.event(Event::Waiting { reason });
        }
    }
}
