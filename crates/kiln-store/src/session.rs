//! One run of downloads: the client, who may use which host, and asking again after a setback.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use crate::client;
use crate::failure::{FailureReason, FetchFailure, GivenUp, Halt, Setback, with_causes};
use crate::fetch::FetchOptions;
use crate::pause::{pause, retry_after};
use crate::public::public_url;
use crate::redirect::{self, REDIRECTS_MAX};
use crate::store::Store;

/// How long blocks that are being written may take to reach the disk after everything else has ended.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// What all downloads of one run share. Lives on one thread.
pub(crate) struct Session<'a> {
    pub(crate) store: &'a Store,
    pub(crate) options: &'a FetchOptions,
    pub(crate) report: &'a dyn Report,
    pub(crate) client: Client,
    /// Bytes that came from servers and `file:` addresses in this run.
    pub(crate) received_bytes: Cell<u64>,
    hosts: RefCell<BTreeMap<String, Rc<Host>>>,
}

/// What is known of one host.
struct Host {
    connections: Semaphore,
    /// Attempts in a row that ended without an answer.
    unanswered: Cell<u32>,
    /// Somebody used up all attempts without an answer: nobody else needs to.
    given_up: Cell<bool>,
}

/// Addresses of one file that are still worth asking, and what they said.
struct Round<'u> {
    urls: Vec<&'u Url>,
    /// The failure that tells most.
    best: Option<(&'u Url, FailureReason)>,
}

/// What one round of asking all addresses ended with.
struct RoundEnd<'u> {
    passing: Vec<&'u Url>,
    wait: Duration,
    progressed: bool,
}

/// Runs asynchronous work to its end on a thread of its own, so that the caller may be anywhere, even in a runtime.
pub(crate) fn run<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(work());
            runtime.shutdown_timeout(SHUTDOWN_MAX);
            Ok(result)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl<'a> Session<'a> {
    /// A session for files at `urls`.
    pub(crate) fn new<'u>(
        store: &'a Store,
        options: &'a FetchOptions,
        report: &'a dyn Report,
        urls: impl IntoIterator<Item = &'u Url>,
    ) -> Result<Self, reqwest::Error> {
        let needs_tls = urls.into_iter().any(|url| url.scheme() == "https");
        let client = client::build(options, needs_tls)?;
        Ok(Self { store, options, report, client, received_bytes: Cell::new(0), hosts: RefCell::default() })
    }

    /// Asks the addresses in turn until one gives the file. Those that failed in a way that may pass are asked again after
    /// a pause, as often as the options say; an attempt that brought the file forward does not count.
    ///
    /// `attempt` gets an address, and whether to distrust what is there already and every cache on the way.
    pub(crate) async fn persist<T>(
        &self,
        name: &str,
        seed: &Sha256,
        urls: &[Url],
        mut attempt: impl AsyncFnMut(&Url, bool) -> Result<T, Setback>,
    ) -> Result<T, Halt> {
        let mut round = Round { urls: urls.iter().collect(), best: None };
        let mut number = 1;
        loop {
            let end = match self.ask_all(&mut round, &mut attempt).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(end)) => end,
                Err(error) => return Err(Halt::Disk(error)),
            };
            let exhausted = number >= self.options.attempts && !end.progressed;
            if end.passing.is_empty() || exhausted {
                self.give_up_silent_hosts(&end.passing);
                return Err(Halt::Failure(round.failure(name)));
            }
            let backoff = pause(self.options.first_pause, self.options.longest_pause, number, seed);
            let wait = backoff.max(end.wait.min(self.options.longest_wait));
            self.report_retry(name, number, wait, &round);
            tokio::time::sleep(wait).await;
            round.urls = end.passing;
            number = if end.progressed { 1 } else { number + 1 };
        }
    }

    /// Asks every address of the round once. The outer error is the store's.
    async fn ask_all<'u, T>(
        &self,
        round: &mut Round<'u>,
        attempt: &mut impl AsyncFnMut(&Url, bool) -> Result<T, Setback>,
    ) -> std::io::Result<Result<T, RoundEnd<'u>>> {
        let mut end = RoundEnd { passing: Vec::new(), wait: Duration::ZERO, progressed: false };
        let mut resting = BTreeSet::new();
        for url in round.urls.clone() {
            if resting.contains(&host_name(url)) {
                end.passing.push(url);
                continue;
            }
            match self.ask(url, attempt).await {
                Ok(value) => return Ok(Ok(value)),
                Err(Setback::Disk(error)) => return Err(error),
                Err(Setback::Final(reason) | Setback::Stale(reason)) => round.note(url, reason),
                Err(Setback::Passing { reason, wait, progressed }) => {
                    round.note(url, reason);
                    end.passing.push(url);
                    end.progressed |= progressed;
                    if let Some(wait) = wait {
                        end.wait = end.wait.max(wait);
                        resting.insert(host_name(url));
                    }
                }
            }
        }
        Ok(Err(end))
    }

    /// Asks one address, and once more when what came was stale.
    async fn ask<T>(
        &self,
        url: &Url,
        attempt: &mut impl AsyncFnMut(&Url, bool) -> Result<T, Setback>,
    ) -> Result<T, Setback> {
        let host = self.host(url);
        let _connection = host.connections.acquire().await;
        if host.given_up.get() {
            let source = Box::new(GivenUp);
            return Err(Setback::Final(FailureReason::Unreachable { host: host_name(url), source }));
        }
        match attempt(url, false).await {
            Err(Setback::Stale(_)) => attempt(url, true).await,
            result => result,
        }
    }

    /// Asks `url` with what `request` makes of an address, follows redirects, and judges the answer's status. What comes
    /// back is 200, 206, 304 or 416.
    pub(crate) async fn send(&self, url: &Url, request: impl Fn(&Url) -> RequestBuilder) -> Result<Response, Setback> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_once(&url, request(&url)).await?;
            let Some(next) = redirect::target(&response, &url) else {
                return judge_status(response);
            };
            redirect::judge(&url, &next).map_err(Setback::Final)?;
            url = next;
        }
        Err(Setback::Final(FailureReason::TooManyRedirects { limit: REDIRECTS_MAX }))
    }

    async fn send_once(&self, url: &Url, request: RequestBuilder) -> Result<Response, Setback> {
        let host = self.host(url);
        let response = request.send().await;
        let unanswered = if response.is_ok() { 0 } else { host.unanswered.get() + 1 };
        host.unanswered.set(unanswered);
        response.map_err(|error| judge_error(error, url))
    }

    /// The addresses that may be asked: all of them, or only `file:` ones when offline.
    pub(crate) fn usable(&self, urls: &[Url]) -> Vec<Url> {
        urls.iter().filter(|url| !self.options.offline || url.scheme() == "file").cloned().collect()
    }

    /// Counts bytes that arrived.
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.set(self.received_bytes.get() + bytes as u64);
    }

    fn host(&self, url: &Url) -> Rc<Host> {
        let connections = self.options.connections_per_host.max(1);
        let new =
            || Host { connections: Semaphore::new(connections), unanswered: Cell::new(0), given_up: Cell::new(false) };
        Rc::clone(self.hosts.borrow_mut().entry(host_name(url)).or_insert_with(|| Rc::new(new())))
    }

    fn give_up_silent_hosts(&self, urls: &[&Url]) {
        for host in urls.iter().map(|url| self.host(url)) {
            host.given_up.set(host.unanswered.get() >= self.options.attempts);
        }
    }

    fn report_retry(&self, name: &str, attempt: u32, wait: Duration, round: &Round<'_>) {
        self.report.event(Event::DownloadRetried {
            name: name.to_owned(),
            attempt,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            reason: round.best.as_ref().map(|(_, reason)| with_causes(reason)).unwrap_or_default(),
        });
    }
}

impl<'u> Round<'u> {
    /// Keeps the reason that tells most: that an address does not have the file tells less than anything else.
    fn note(&mut self, url: &'u Url, reason: FailureReason) {
        let tells_less = reason.is_gone() && self.best.as_ref().is_some_and(|(_, best)| !best.is_gone());
        if !tells_less {
            self.best = Some((url, reason));
        }
    }

    fn failure(self, name: &str) -> FetchFailure {
        let name = name.to_owned();
        match self.best {
            Some((url, reason)) => FetchFailure { name, url: public_url(url), reason },
            None => FetchFailure { name, url: String::new(), reason: FailureReason::NoAddress },
        }
    }
}

/// The header's text, when there is one and it is text.
pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn host_name(url: &Url) -> String {
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

fn judge_status(response: Response) -> Result<Response, Setback> {
    let code = response.status();
    let status = code.as_u16();
    match code {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE => {
            Ok(response)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Setback::Final(FailureReason::Gone { status: Some(status) })),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(passing_status(&response))
        }
        _ if code.is_server_error() => Err(passing_status(&response)),
        _ if code.is_client_error() => Err(Setback::Final(FailureReason::Refused { status })),
        _ => Err(Setback::Final(FailureReason::Server { status })),
    }
}

fn passing_status(response: &Response) -> Setback {
    let date = header(response.headers(), DATE);
    let wait = header(response.headers(), RETRY_AFTER).and_then(|value| retry_after(value, date));
    Setback::Passing { reason: FailureReason::Server { status: response.status().as_u16() }, wait, progressed: false }
}

fn judge_error(error: reqwest::Error, url: &Url) -> Setback {
    let is_lasting = error.is_builder();
    let reason = FailureReason::Unreachable { host: host_name(url), source: Box::new(error.without_url()) };
    if is_lasting { Setback::Final(reason) } else { Setback::Passing { reason, wait: None, progressed: false } }
}
