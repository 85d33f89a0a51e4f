//! One attempt to bring one file from one address, going on where an earlier attempt stopped.
//!
//! Bytes from before are asked to be continued with a `Range`; when their address and its validator are known, with an
//! `If-Range` too, so that a file that changed meanwhile comes whole. Whatever a server does, the digest decides.

use std::io;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use reqwest::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use crate::aside;
use crate::failure::{FailureReason, Setback};
use crate::landing::{CopyError, Writer};
use crate::public::public_url;
use crate::session::{Session, header};

/// An attempt that brought this much more than any before it was worth making, and does not count against the file.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// Smaller downloads are not worth a second file that tells how to resume them.
const ORIGIN_MIN_BYTES: u64 = 1024 * 1024;

/// Eight times a second is smooth to the eye.
const ADVANCE_EVERY: Duration = Duration::from_millis(125);

/// A file on its way into the store, over as many attempts as it takes.
pub(crate) struct Download<'a> {
    pub(crate) writer: Writer,
    pub(crate) origin: Origin,
    pub(crate) progress: Progress<'a>,
    pub(crate) expected: Expected,
    /// The most that was ever there.
    pub(crate) highest_bytes: u64,
}

/// What is known of a file before it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) digest: Option<Sha256>,
    pub(crate) size_bytes: Option<u64>,
    /// The most that is taken when the size is not known.
    pub(crate) limit_bytes: u64,
}

/// Where the bytes of an unfinished download came from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// Where that is written down for the next process, if it is.
    pub(crate) file: Option<Utf8PathBuf>,
    known: Option<(String, String)>,
}

/// Tells how far a download is, a few times a second.
pub(crate) struct Progress<'a> {
    report: &'a dyn Report,
    name: &'a str,
    told: Instant,
}

impl Download<'_> {
    /// Brings what is missing from `url`. With `fresh`, all of it, past every cache.
    pub(crate) async fn attempt(&mut self, session: &Session<'_>, url: &Url, fresh: bool) -> Result<Sha256, Setback> {
        self.discard_if(fresh || self.writer.size_bytes() > self.expected.most_bytes()).await?;
        match url.scheme() {
            "file" => self.copy(session, url).await?,
            "http" | "https" => self.receive(session, url, fresh).await?,
            scheme => return Err(Setback::Final(FailureReason::Scheme { scheme: scheme.to_owned() })),
        }
        self.finish(session).await
    }

    async fn receive(&mut self, session: &Session<'_>, url: &Url, fresh: bool) -> Result<(), Setback> {
        if self.expected.size_bytes == Some(self.writer.size_bytes()) && self.writer.size_bytes() > 0 {
            return Ok(());
        }
        // Without a digest, only the validator tells that the rest belongs to the beginning.
        let resumable = self.expected.digest.is_some() || self.origin.validator(url).is_some();
        self.discard_if(!resumable).await?;
        let response = session.send(url, |at| self.request(session, url, at, fresh)).await?;
        self.begin(&response, url).await?;
        self.body(session, response).await
    }

    /// The request for `url`, as it is sent to `at` after redirects.
    fn request(&self, session: &Session<'_>, url: &Url, at: &Url, fresh: bool) -> RequestBuilder {
        let mut request = session.client.get(at.clone()).header(ACCEPT_ENCODING, "identity");
        if fresh {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        let kept_bytes = self.writer.size_bytes();
        if kept_bytes > 0 {
            request = request.header(RANGE, format!("bytes={kept_bytes}-"));
            if let Some(validator) = self.origin.validator(url) {
                request = request.header(IF_RANGE, validator);
            }
        }
        request
    }

    /// Makes what is there fit what the answer's body will bring.
    async fn begin(&mut self, response: &Response, url: &Url) -> Result<(), Setback> {
        let kept_bytes = self.writer.size_bytes();
        match response.status() {
            StatusCode::OK => {
                self.discard_if(true).await?;
                self.check_size(content_length(response))?;
                self.remember(response, url)
            }
            StatusCode::PARTIAL_CONTENT if kept_bytes > 0 => {
                let range = header(response.headers(), CONTENT_RANGE).and_then(ContentRange::parse);
                if range.as_ref().is_none_or(|range| range.first != kept_bytes) {
                    return self.stale().await;
                }
                self.check_size(range.and_then(|range| range.total))
            }
            // 416: what is there is longer than what the server has. Anything else answers a question we did not ask.
            StatusCode::RANGE_NOT_SATISFIABLE if kept_bytes > 0 => self.stale().await,
            status => Err(Setback::Final(FailureReason::Server { status: status.as_u16() })),
        }
    }

    async fn body(&mut self, session: &Session<'_>, mut response: Response) -> Result<(), Setback> {
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    session.received(bytes.len());
                    self.writer.push(&bytes).await.map_err(Setback::Disk)?;
                    self.check_limit().await?;
                    self.progress.advance(self.writer.size_bytes());
                }
                Ok(None) => return self.check_end().await,
                Err(error) => return Err(self.interrupted(Box::new(error.without_url())).await),
            }
        }
    }

    async fn copy(&mut self, session: &Session<'_>, url: &Url) -> Result<(), Setback> {
        self.discard_if(true).await?;
        let mut source = open_file_url(url).map_err(Setback::Final)?;
        let metadata = source.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        self.check_size(Some(metadata.len()))?;
        loop {
            let before = self.writer.size_bytes();
            let (rest, ended) = match self.writer.copy(source, self.expected.most_bytes()).await {
                Ok(copied) => copied,
                Err(CopyError::Source(error)) => return Err(unreadable(error)),
                Err(CopyError::Store(error)) => return Err(Setback::Disk(error)),
            };
            source = rest;
            session.received(usize::try_from(self.writer.size_bytes() - before).unwrap_or(usize::MAX));
            self.check_limit().await?;
            self.progress.advance(self.writer.size_bytes());
            if ended {
                return self.check_end().await;
            }
        }
    }

    async fn finish(&mut self, session: &Session<'_>) -> Result<Sha256, Setback> {
        let actual = self.writer.finish(session.store, self.expected.digest).await.map_err(Setback::Disk)?;
        match self.expected.digest {
            Some(expected) if expected != actual => {
                self.origin.forget();
                Err(Setback::Stale(FailureReason::Digest { expected, actual }))
            }
            _ => {
                self.origin.forget();
                Ok(actual)
            }
        }
    }

    async fn discard_if(&mut self, discard: bool) -> Result<(), Setback> {
        if discard && self.writer.size_bytes() > 0 {
            self.origin.forget();
            self.writer.restart().await.map_err(Setback::Disk)?;
        }
        Ok(())
    }

    /// What is there does not fit what the server has.
    async fn stale(&mut self) -> Result<(), Setback> {
        let actual_bytes = self.writer.size_bytes();
        let expected_bytes = self.expected.size_bytes.unwrap_or(0);
        self.discard_if(true).await?;
        Err(Setback::Stale(FailureReason::Size { expected_bytes, actual_bytes }))
    }

    /// Notes where the bytes come from, if there will be enough of them that resuming them matters.
    fn remember(&mut self, response: &Response, url: &Url) -> Result<(), Setback> {
        let is_large =
            content_length(response).or(self.expected.size_bytes).is_none_or(|size| size >= ORIGIN_MIN_BYTES);
        match strong_validator(response.headers()) {
            Some(validator) if is_large => self.origin.remember(url, validator).map_err(Setback::Disk),
            _ => Ok(()),
        }
    }

    /// Judges the full size that the server announces, before any of it comes.
    fn check_size(&self, announced_bytes: Option<u64>) -> Result<(), Setback> {
        match (announced_bytes, self.expected.size_bytes) {
            (Some(actual_bytes), Some(expected_bytes)) if actual_bytes != expected_bytes => {
                Err(Setback::Final(FailureReason::Size { expected_bytes, actual_bytes }))
            }
            (Some(bytes), _) if bytes > self.expected.most_bytes() => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    async fn check_limit(&mut self) -> Result<(), Setback> {
        if self.writer.size_bytes() <= self.expected.most_bytes() {
            return Ok(());
        }
        self.discard_if(true).await?;
        Err(self.too_large())
    }

    async fn check_end(&mut self) -> Result<(), Setback> {
        match self.expected.size_bytes {
            Some(expected) if self.writer.size_bytes() < expected => {
                let short = format!("the body ended before its {expected} bytes");
                Err(self.interrupted(Box::new(io::Error::new(io::ErrorKind::UnexpectedEof, short))).await)
            }
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Setback {
        Setback::Final(FailureReason::TooLarge { limit_bytes: self.expected.most_bytes() })
    }

    /// Keeps what came, for the next attempt or the next process.
    async fn interrupted(&mut self, source: Box<dyn std::error::Error + Send + Sync>) -> Setback {
        if let Err(error) = self.writer.settle().await {
            return Setback::Disk(error);
        }
        let received_bytes = self.writer.size_bytes();
        let progressed = received_bytes >= self.highest_bytes + PROGRESS_BYTES;
        self.highest_bytes = self.highest_bytes.max(received_bytes);
        Setback::Passing { reason: FailureReason::Interrupted { received_bytes, source }, wait: None, progressed }
    }
}

impl Expected {
    fn most_bytes(&self) -> u64 {
        self.size_bytes.unwrap_or(self.limit_bytes)
    }
}

impl Origin {
    /// What an earlier process wrote down, if anything legible.
    pub(crate) fn read(file: Utf8PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let known = text.split_once('\n').and_then(|(url, validator)| {
            let validator = validator.strip_suffix('\n')?;
            Some((url.to_owned(), validator.to_owned()))
        });
        Self { file: Some(file), known }
    }

    /// What to make a range depend on, when the bytes came from `url`.
    fn validator(&self, url: &Url) -> Option<&str> {
        self.known.as_ref().filter(|(from, _)| *from == public_url(url)).map(|(_, validator)| validator.as_str())
    }

    fn remember(&mut self, url: &Url, validator: &str) -> io::Result<()> {
        let url = public_url(url);
        if let Some(file) = &self.file {
            fs::write(file, format!("{url}\n{validator}\n"))?;
        }
        self.known = Some((url, validator.to_owned()));
        Ok(())
    }

    /// Forgets all, as the bytes themselves are about to be.
    pub(crate) fn forget(&mut self) {
        if self.known.take().is_some()
            && let Some(file) = &self.file
        {
            // A stale note costs one request at worst: the server answers its validator with the whole file.
            drop(aside::remove_if_there(file));
        }
    }
}

impl<'a> Progress<'a> {
    pub(crate) fn new(report: &'a dyn Report, name: &'a str) -> Self {
        Self { report, name, told: Instant::now() }
    }

    fn advance(&mut self, received_bytes: u64) {
        if self.told.elapsed() >= ADVANCE_EVERY {
            self.told = Instant::now();
            self.report.event(Event::DownloadAdvanced { name: self.name.to_owned(), received_bytes });
        }
    }
}

/// `Content-Range: bytes FIRST-LAST/TOTAL`, RFC 9110 section 14.4.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, _) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(Self { first: first.parse().ok()?, total })
    }
}

fn content_length(response: &Response) -> Option<u64> {
    header(response.headers(), CONTENT_LENGTH)?.parse().ok()
}

/// What identifies the bytes exactly; a weak entity tag does not. RFC 9110, section 13.1.5.
fn strong_validator(headers: &HeaderMap) -> Option<&str> {
    let etag = header(headers, ETAG).filter(|etag| etag.starts_with('"'));
    etag.or_else(|| header(headers, LAST_MODIFIED))
}

/// Opens the file that a `file:` address names.
pub(crate) fn open_file_url(url: &Url) -> Result<fs::File, FailureReason> {
    let path = url.to_file_path().map_err(|()| FailureReason::Scheme { scheme: "file".to_owned() })?;
    fs::File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FailureReason::Gone { status: None },
        _ => FailureReason::Unreadable { source },
    })
}

fn unreadable(source: io::Error) -> Setback {
    Setback::Final(FailureReason::Unreadable { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(text: &str, expected: Option<(u64, Option<u64>)>) {
        assert_eq!(ContentRange::parse(text), expected.map(|(first, total)| ContentRange { first, total }), "{text}");
    }

    #[test]
    fn content_ranges() {
        check_range("bytes 10-99/100", Some((10, Some(100))));
        check_range("bytes 0-0/*", Some((0, None)));
        check_range("bytes */100", None);
        check_range("items 1-2/3", None);
        check_range("bytes 10-99", None);
        check_range("bytes -1-99/100", None);
    }
}
