//! A web server for one directory, on this machine only, that fails the way servers fail when told to.
//!
//! 1. [`Web::serve`] answers GET and HEAD with the files of a directory: keep-alive, ranges, validators.
//! 2. [`Web::fault`] makes one path fail: always, or a few times ([`Web::fault_times`]).
//! 3. [`Web::requests`] tells what was asked, in order.
//! 4. [`Web::proxy`] is an HTTP proxy instead: it passes requests with whole addresses on to their servers.
//!
//! It stops when dropped. It keeps no state on the disk and trusts its directory: it is for tests only.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;

/// The most a request's head may hold; more is no request of ours.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// How much of a body is sent at once where a fault watches over it.
const PIECE_BYTES: usize = 16 * 1024;

/// How often a stalled answer looks whether it is over.
const STALL_TICK: Duration = Duration::from_millis(5);

/// What every answer says the time is: the server reads no clock, and only differences to it matter.
pub const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A running server.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// `GET`, `HEAD`...
    pub method: String,
    /// What follows the method: a path, or a whole address when a proxy is asked.
    pub target: String,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
}

/// One way to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this status and no file.
    Status(u16),
    /// Answer with this status and a `Retry-After` header.
    RetryAfter(u16, String),
    /// Close the connection without an answer.
    Hangup,
    /// Announce the whole body, send this many bytes of it, then close the connection.
    Truncate(u64),
    /// Flip all bits of the file's byte at this offset.
    Corrupt(u64),
    /// Send this many bytes of the body, then nothing until the other side leaves.
    Stall(u64),
    /// Send the other side to this place.
    Redirect(String),
    /// Send this many bytes at a time, with a pause after each.
    Trickle(usize, Duration),
    /// Announce this length whatever the body's is, and close the connection after it.
    ContentLength(u64),
    /// Announce no length: the body ends when the connection does.
    NoLength,
    /// Answer as if no range had been asked for.
    IgnoreRange,
    /// Answer a range with its beginning off by one.
    WrongRange,
    /// Send neither `ETag` nor `Last-Modified`.
    NoValidators,
    /// Wait before answering.
    Delay(Duration),
}

#[derive(Debug)]
struct State {
    /// What is served; none for a proxy.
    root: Option<Utf8PathBuf>,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<RequestRecord>>,
    connections: Mutex<Vec<TcpStream>>,
    /// Requests being answered, and the most there ever were.
    running: AtomicUsize,
    busiest: AtomicUsize,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Rule {
    path: String,
    fault: Fault,
    /// How many requests it still concerns.
    times: u64,
}

/// What is sent, and how.
#[derive(Debug, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Option<Body>,
    faults: Vec<Fault>,
}

/// A part of a file.
#[derive(Debug)]
struct Body {
    file: fs::File,
    range: Range<u64>,
}

impl Web {
    /// Serves the files under `root`.
    ///
    /// # Panics
    /// When this machine has no loopback address or no free port.
    #[must_use]
    pub fn serve(root: &Utf8Path) -> Self {
        Self::start(Some(root.to_owned()))
    }

    /// Passes requests on to the servers they name.
    ///
    /// # Panics
    /// As [`Web::serve`].
    #[must_use]
    pub fn proxy() -> Self {
        Self::start(None)
    }

    /// The server's own address, ending in `/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes every request for `path` (as in `pool/a.deb`) fail like this, until [`Web::heal`]. Faults add up.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.fault_times(path, fault, u64::MAX);
    }

    /// Makes the next `times` requests for `path` fail like this.
    pub fn fault_times(&self, path: &str, fault: Fault, times: u64) {
        let path = path.trim_start_matches('/').to_owned();
        locked(&self.state.rules).push(Rule { path, fault, times });
    }

    /// Ends all faults of `path`.
    pub fn heal(&self, path: &str) {
        let path = path.trim_start_matches('/');
        locked(&self.state.rules).retain(|rule| rule.path != path);
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        locked(&self.state.requests).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        locked(&self.state.requests).clear();
    }

    /// The most requests that were being answered at one moment.
    #[must_use]
    pub fn busiest(&self) -> usize {
        self.state.busiest.load(Ordering::SeqCst)
    }

    fn start(root: Option<Utf8PathBuf>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback address has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            root,
            rules: Mutex::default(),
            requests: Mutex::default(),
            connections: Mutex::default(),
            running: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || accept(&listener, &shared));
        Self { address, state, acceptor: Some(acceptor) }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // The acceptor sleeps until somebody comes.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for connection in locked(&self.state.connections).drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

impl RequestRecord {
    /// The value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The path asked for, decoded, without the leading slash and the query.
    #[must_use]
    pub fn path(&self) -> String {
        let target = match self.target.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => self.target.trim_start_matches('/'),
        };
        decode(target.split('?').next().unwrap_or_default())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if let Ok(copy) = stream.try_clone() {
            locked(&state.connections).push(copy);
        }
        let state = Arc::clone(state);
        // A connection that breaks is the client's to notice.
        std::thread::spawn(move || {
            drop(converse(&stream, &state));
            drop(stream.shutdown(Shutdown::Both));
        });
    }
}

/// Answers requests until one side closes the connection.
fn converse(stream: &TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        locked(&state.requests).push(request.clone());
        state.busiest.fetch_max(state.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let answered = match &state.root {
            Some(root) => answer(stream, state, root, &request),
            None => pass_on(stream, &request),
        };
        state.running.fetch_sub(1, Ordering::SeqCst);
        if !answered? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<RequestRecord>> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let Some(first) = read_line(&mut head)? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = RequestRecord { method: method.to_owned(), target: target.to_owned(), headers: Vec::new() };
    while let Some(line) = read_line(&mut head)?.filter(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    Ok(Some(request))
}

fn read_line(head: &mut impl io::BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if head.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// Sends one answer; whether the connection may be used again.
fn answer(mut stream: &TcpStream, state: &State, root: &Utf8Path, request: &RequestRecord) -> io::Result<bool> {
    let faults = state.take_faults(&request.path());
    let mut reply = reply(root, request, &faults);
    reply.apply(faults);
    if let Some(pause) = reply.find(|fault| if let Fault::Delay(pause) = fault { Some(*pause) } else { None }) {
        std::thread::sleep(pause);
    }
    if reply.has(&Fault::Hangup) {
        return Ok(false);
    }
    stream.write_all(reply.head().as_bytes())?;
    if request.method != "HEAD" {
        reply.send_body(stream, state)?;
    }
    let asked_to_close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(!reply.closes() && !asked_to_close)
}

impl State {
    fn take_faults(&self, path: &str) -> Vec<Fault> {
        let mut rules = locked(&self.rules);
        let mut faults = Vec::new();
        for rule in rules.iter_mut().filter(|rule| rule.path == path && rule.times > 0) {
            rule.times -= 1;
            faults.push(rule.fault.clone());
        }
        faults
    }
}

/// The answer as a good server gives it, but for the faults that concern ranges.
fn reply(root: &Utf8Path, request: &RequestRecord, faults: &[Fault]) -> Reply {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Reply::status(405);
    }
    let path = request.path();
    if path.split('/').any(|part| part == "..") {
        return Reply::status(400);
    }
    let opened = fs::File::open(root.join(path)).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((metadata, file)) if metadata.is_file() => file_reply(file, &metadata, request, faults),
        _ => Reply::status(404),
    }
}

fn file_reply(file: fs::File, metadata: &std::fs::Metadata, request: &RequestRecord, faults: &[Fault]) -> Reply {
    let size = metadata.len();
    let (etag, last_modified) = validators(metadata);
    let mut reply = Reply::status(200);
    reply.headers.push(("ETag", etag.clone()));
    reply.headers.push(("Last-Modified", last_modified.clone()));
    reply.headers.push(("Accept-Ranges", "bytes".to_owned()));
    if is_unchanged(request, &etag, &last_modified) {
        reply.status = 304;
        return reply;
    }
    let wanted = request.header("if-range").is_none_or(|validator| validator == etag || validator == last_modified);
    let range = request.header("range").filter(|_| wanted && !faults.contains(&Fault::IgnoreRange));
    match range.map(|range| parse_range(range, size)) {
        None => reply.body = Some(Body { file, range: 0..size }),
        Some(Some(range)) => {
            let first = range.start - u64::from(faults.contains(&Fault::WrongRange));
            reply.status = 206;
            reply.headers.push(("Content-Range", format!("bytes {first}-{}/{size}", range.end - 1)));
            reply.body = Some(Body { file, range });
        }
        Some(None) => {
            reply.status = 416;
            reply.headers.push(("Content-Range", format!("bytes */{size}")));
        }
    }
    reply
}

fn validators(metadata: &std::fs::Metadata) -> (String, String) {
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default();
    let etag = format!("\"{:x}-{:x}\"", modified.as_nanosecond(), metadata.len());
    (etag, modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// RFC 9110, section 13.2.2: an entity tag, where the client sent one, decides alone.
fn is_unchanged(request: &RequestRecord, etag: &str, last_modified: &str) -> bool {
    match (request.header("if-none-match"), request.header("if-modified-since")) {
        (Some(known), _) => known == "*" || known.split(',').any(|known| known.trim() == etag),
        (None, Some(since)) => http_date(since).zip(http_date(last_modified)).is_some_and(|(since, is)| is <= since),
        (None, None) => false,
    }
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// One range of bytes within `size`; `None` when nothing of it is there.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) => first..size,
        (Err(_), Ok(suffix)) => size.saturating_sub(suffix)..size,
        (Err(_), Err(_)) => return None,
    };
    (range.start < range.end).then_some(range)
}

impl Reply {
    fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Replaces what the faults replace; the rest of them are for [`Reply::send_body`].
    fn apply(&mut self, faults: Vec<Fault>) {
        for fault in &faults {
            match fault {
                Fault::Status(status) => *self = Self::status(*status),
                Fault::RetryAfter(status, value) => {
                    *self = Self { headers: vec![("Retry-After", value.clone())], ..Self::status(*status) };
                }
                Fault::Redirect(to) => *self = Self { headers: vec![("Location", to.clone())], ..Self::status(302) },
                Fault::NoValidators => self.headers.retain(|(name, _)| !matches!(*name, "ETag" | "Last-Modified")),
                _ => {}
            }
        }
        self.faults = faults;
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let wrong = self.find(|fault| if let Fault::ContentLength(length) = fault { Some(*length) } else { None });
        if !self.has(&Fault::NoLength) && self.status != 304 {
            let _ = write!(head, "Content-Length: {}\r\n", wrong.unwrap_or(self.body_bytes()));
        }
        let connection = if self.closes() { "close" } else { "keep-alive" };
        let _ = write!(head, "Date: {DATE}\r\nConnection: {connection}\r\n\r\n");
        head
    }

    fn send_body(&mut self, mut stream: &TcpStream, state: &State) -> io::Result<()> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        body.file.seek(SeekFrom::Start(body.range.start))?;
        if self.faults.is_empty() {
            let length = body.range.end - body.range.start;
            return io::copy(&mut body.file.into_parts().0.take(length), &mut stream).map(|_| ());
        }
        self.send_pieces(stream, state, &mut body)
    }

    fn send_pieces(&self, mut stream: &TcpStream, state: &State, body: &mut Body) -> io::Result<()> {
        let stop = self.find(|fault| match fault {
            Fault::Truncate(bytes) | Fault::Stall(bytes) => Some(body.range.start + bytes),
            _ => None,
        });
        let (size, pause) = self
            .find(|fault| if let Fault::Trickle(size, pause) = fault { Some((*size, *pause)) } else { None })
            .unwrap_or((PIECE_BYTES, Duration::ZERO));
        let mut at = body.range.start;
        let end = stop.unwrap_or(u64::MAX).min(body.range.end);
        while at < end && !state.stopping.load(Ordering::SeqCst) {
            let mut piece = vec![0; size.min(usize::try_from(end - at).unwrap_or(size))];
            body.file.read_exact(&mut piece)?;
            self.corrupt(&mut piece, at);
            stream.write_all(&piece)?;
            std::thread::sleep(pause);
            at += piece.len() as u64;
        }
        if self.faults.iter().any(|fault| matches!(fault, Fault::Stall(_))) && at < body.range.end {
            stall(stream, state);
        }
        Ok(())
    }

    fn corrupt(&self, piece: &mut [u8], at: u64) {
        for fault in &self.faults {
            if let Fault::Corrupt(place) = fault
                && let Some(byte) = place.checked_sub(at).and_then(|index| piece.get_mut(usize::try_from(index).ok()?))
            {
                *byte = !*byte;
            }
        }
    }

    fn body_bytes(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.range.end - body.range.start)
    }

    /// Whether the body's end cannot be told from what was announced.
    fn closes(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(fault, Fault::Truncate(_) | Fault::Stall(_) | Fault::ContentLength(_) | Fault::NoLength)
        })
    }

    fn has(&self, fault: &Fault) -> bool {
        self.faults.contains(fault)
    }

    fn find<T>(&self, choose: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(choose)
    }
}

/// Says nothing until the other side, or the server, ends it.
fn stall(stream: &TcpStream, state: &State) {
    drop(stream.set_read_timeout(Some(STALL_TICK)));
    loop {
        let is_over = match stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        if is_over || state.stopping.load(Ordering::SeqCst) {
            return;
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        _ => "As Told",
    }
}

/// Asks the server that the target names, and sends what it says; the connection ends with it.
fn pass_on(mut stream: &TcpStream, request: &RequestRecord) -> io::Result<bool> {
    let Some((host, path)) = split_target(&request.target) else {
        stream.write_all(b"HTTP/1.1 400 Not A Whole Address\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Ok(false);
    };
    let mut head = format!("{} /{path} HTTP/1.1\r\n", request.method);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "connection" | "proxy-authorization" | "proxy-connection") {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut server = TcpStream::connect(host)?;
    server.write_all(head.as_bytes())?;
    io::copy(&mut server, &mut stream)?;
    Ok(false)
}

fn split_target(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix("http://")?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(web: &Web, request: &str) -> String {
        let mut stream = TcpStream::connect(web.address()).unwrap();
        stream.write_all(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn check(request: &str, faults: &[Fault], status: &str, body: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a+b"), "0123456789").unwrap();
        let web = Web::serve(Utf8Path::from_path(directory.path()).unwrap());
        faults.iter().for_each(|fault| web.fault("a+b", fault.clone()));
        let text = ask(&web, request);
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(rest, body, "{request}");
        head.to_owned()
    }

    #[test]
    fn files_and_ranges() {
        check("GET /a+b HTTP/1.1", &[], "200", "0123456789");
        check("GET /a%2Bb HTTP/1.1", &[], "200", "0123456789");
        check("GET http://mirror.example/a+b HTTP/1.1", &[], "200", "0123456789");
        check("HEAD /a+b HTTP/1.1", &[], "200", "");
        check("GET /missing HTTP/1.1", &[], "404", "");
        check("GET /../a+b HTTP/1.1", &[], "400", "");
        check("POST /a+b HTTP/1.1", &[], "405", "");
        let head = check("GET /a+b HTTP/1.1\r\nRange: bytes=7-", &[], "206", "789");
        assert!(head.contains("Content-Range: bytes 7-9/10"), "{head}");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=2-3", &[], "206", "23");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=-2", &[], "206", "89");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=10-", &[], "416", "");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=7-\r\nIf-Range: \"other\"", &[], "200", "0123456789");
    }

    #[test]
    fn validators_are_recognised() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let web = Web::serve(Utf8Path::from_path(directory.path()).unwrap());
        let head = ask(&web, "GET /a HTTP/1.1");
        for (header, question) in [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")] {
            let line = head.lines().find(|line| line.starts_with(header)).unwrap();
            let value = line.split_once(": ").unwrap().1;
            let answer = ask(&web, &format!("GET /a HTTP/1.1\r\n{question}: {value}"));
            assert!(answer.starts_with("HTTP/1.1 304 "), "{answer}");
        }
        assert_eq!(web.requests().len(), 3);
        assert!(web.requests()[1].header("if-none-match").is_some());
    }

    #[test]
    fn faults_are_as_told() {
        check("GET /a+b HTTP/1.1", &[Fault::Status(503)], "503", "");
        let head = check("GET /a+b HTTP/1.1", &[Fault::Truncate(4)], "200", "0123");
        assert!(head.contains("Content-Length: 10"), "{head}");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=2-", &[Fault::Truncate(4)], "206", "2345");
        check("GET /a+b HTTP/1.1\r\nRange: bytes=2-", &[Fault::IgnoreRange], "200", "0123456789");
        let head = check("GET /a+b HTTP/1.1\r\nRange: bytes=2-", &[Fault::WrongRange], "206", "23456789");
        assert!(head.contains("bytes 1-9/10"), "{head}");
        let head = check("GET /a+b HTTP/1.1", &[Fault::NoLength, Fault::NoValidators], "200", "0123456789");
        assert!(!head.contains("Length") && !head.contains("ETag"), "{head}");
        check("GET /a+b HTTP/1.1", &[Fault::Trickle(3, Duration::ZERO)], "200", "0123456789");
        let head = check("GET /a+b HTTP/1.1", &[Fault::Redirect("/else".to_owned())], "302", "");
        assert!(head.contains("Location: /else"), "{head}");
    }

    #[test]
    fn corruption_is_one_byte_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "0123456789").unwrap();
        let web = Web::serve(Utf8Path::from_path(directory.path()).unwrap());
        web.fault("a", Fault::Corrupt(3));
        let mut stream = TcpStream::connect(web.address()).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nRange: bytes=2-\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(&[b'2', !b'3', b'4', b'5', b'6', b'7', b'8', b'9']), "{bytes:?}");
    }

    #[test]
    fn faults_pass_after_their_times() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let web = Web::serve(Utf8Path::from_path(directory.path()).unwrap());
        web.fault_times("a", Fault::Status(500), 2);
        let statuses = [0; 3].map(|_| ask(&web, "GET /a HTTP/1.1")[9..12].to_owned());
        assert_eq!(statuses, ["500", "500", "200"]);
    }

    #[test]
    fn proxy_passes_on() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "x").unwrap();
        let web = Web::serve(Utf8Path::from_path(directory.path()).unwrap());
        let proxy = Web::proxy();
        let answer = ask(&proxy, &format!("GET {}a HTTP/1.1", web.url()));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('x'), "{answer}");
        assert_eq!(web.requests()[0].target, "/a");
        assert_eq!(proxy.requests()[0].target, format!("{}a", web.url()));
        assert!(ask(&proxy, "GET /a HTTP/1.1").starts_with("HTTP/1.1 400 "));
    }
}
