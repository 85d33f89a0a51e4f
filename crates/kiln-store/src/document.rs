//! Small documents that change under one address, asked for with what is known of the last one.

use std::io::Read as _;

use kiln_model::digest::Sha256;
use kiln_model::event::Report;
use reqwest::StatusCode;
use reqwest::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{RequestBuilder, Response};
use url::Url;

use crate::attempt::open_file_url;
use crate::failure::{FailureReason, FetchFailure, Halt, Setback};
use crate::fetch::FetchOptions;
use crate::public::public_url;
use crate::session::{self, Session, header};
use crate::store::Store;

/// What a server said to recognise a document by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// The `ETag` header, as it came.
    pub etag: Option<String>,
    /// The `Last-Modified` header, as it came.
    pub last_modified: Option<String>,
}

/// The answer to a request for a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// It is still the one that the validators belong to.
    NotModified,
    /// It is this one.
    New {
        /// The document.
        bytes: Vec<u8>,
        /// What to ask with the next time; empty for `file:` addresses.
        validators: Validators,
        /// Where it came from after redirects, without credentials; its query may still be secret: show it with
        /// [`public_url`].
        url_final: Url,
    },
}

impl Store {
    /// Asks `url` for a document of at most `limit_bytes`; with `validators`, only if it changed. The store keeps nothing
    /// of it: see [`Store::slot`].
    ///
    /// # Errors
    /// When it cannot be had, after as many attempts as the options say.
    pub fn get(
        &self,
        url: &Url,
        validators: Option<&Validators>,
        limit_bytes: u64,
        options: &FetchOptions,
        report: &dyn Report,
    ) -> Result<Document, FetchFailure> {
        let name = public_url(url);
        let fail = |reason| FetchFailure { name: name.clone(), url: name.clone(), reason };
        if url.scheme() == "file" {
            return read_document(url, limit_bytes).map_err(fail);
        }
        if options.offline {
            return Err(fail(FailureReason::Offline));
        }
        let run = session::run(async || {
            let session = Session::new(self, options, report, [url]).map_err(|error| fail(client_failure(error)))?;
            let attempt = async |url: &Url, _| ask(&session, url, validators, limit_bytes).await;
            let seed = Sha256::of(url.as_str().as_bytes());
            match session.persist(&name, &seed, std::slice::from_ref(url), attempt).await {
                Ok(document) => Ok(document),
                Err(Halt::Failure(failure)) => Err(failure),
                Err(Halt::Disk(source)) => Err(fail(FailureReason::Unreadable { source })),
            }
        });
        run.unwrap_or_else(|error| Err(fail(client_failure(error))))
    }
}

fn client_failure(error: impl std::error::Error + Send + Sync + 'static) -> FailureReason {
    FailureReason::Client { source: Box::new(error) }
}

async fn ask(
    session: &Session<'_>,
    url: &Url,
    validators: Option<&Validators>,
    limit_bytes: u64,
) -> Result<Document, Setback> {
    let request = |at: &Url| {
        let request = session.client.get(at.clone()).header(ACCEPT_ENCODING, "identity");
        // Caches on the way may keep what they have, but must ask the server whether it is still so.
        conditional(request.header(CACHE_CONTROL, "max-age=0"), validators)
    };
    let response = session.send(url, request).await?;
    match response.status() {
        StatusCode::NOT_MODIFIED if validators.is_some() => Ok(Document::NotModified),
        StatusCode::OK => new_document(response, limit_bytes).await,
        status => Err(Setback::Final(FailureReason::Server { status: status.as_u16() })),
    }
}

fn conditional(mut request: RequestBuilder, validators: Option<&Validators>) -> RequestBuilder {
    let Some(Validators { etag, last_modified }) = validators else {
        return request;
    };
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if let Some(last_modified) = last_modified {
        request = request.header(IF_MODIFIED_SINCE, last_modified);
    }
    request
}

async fn new_document(response: Response, limit_bytes: u64) -> Result<Document, Setback> {
    let validators = validators(response.headers());
    let url_final = response.url().clone();
    let bytes = body(response, limit_bytes).await?;
    Ok(Document::New { bytes, validators, url_final })
}

async fn body(mut response: Response, limit_bytes: u64) -> Result<Vec<u8>, Setback> {
    let too_large = || Setback::Final(FailureReason::TooLarge { limit_bytes });
    let announced = header(response.headers(), CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(interrupted(bytes.len() as u64, error)),
        }
        if bytes.len() as u64 > limit_bytes {
            return Err(too_large());
        }
    }
}

fn interrupted(received_bytes: u64, error: reqwest::Error) -> Setback {
    let reason = FailureReason::Interrupted { received_bytes, source: Box::new(error.without_url()) };
    Setback::Passing { reason, wait: None, progressed: false }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| header(headers, name).map(str::to_owned);
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
}

fn read_document(url: &Url, limit_bytes: u64) -> Result<Document, FailureReason> {
    let file = open_file_url(url)?;
    let mut bytes = Vec::new();
    let read = file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|source| FailureReason::Unreadable { source })?;
    if bytes.len() as u64 > limit_bytes {
        return Err(FailureReason::TooLarge { limit_bytes });
    }
    Ok(Document::New { bytes, validators: Validators::default(), url_final: url.clone() })
}
