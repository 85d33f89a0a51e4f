//! Fetching: what comes, what does not, and how it is told.

use std::time::Duration;

use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_store::{FailureReason, FetchError, Want};
use kiln_testkit::web::Fault;

use crate::world::{World, noise};

const BODY_BYTES: usize = 300_000;

/// The one file `a` fails with `fault` each time it is asked for: what is said, and how often it was asked for.
fn check_failure(fault: &Fault, message: &str, requests: usize) {
    let world = World::new();
    let want = world.offer("a", &noise(1, BODY_BYTES));
    world.web.fault("a", fault.clone());
    let shown = world.failure(&want);
    assert!(shown.starts_with(message), "{fault:?}: {shown}");
    assert_eq!(world.web.requests().len(), requests, "{fault:?}");
}

/// The one file `a` comes although it fails with `fault` a few times.
fn check_passes(fault: Fault, times: u64) {
    let world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    world.web.fault_times("a", fault.clone(), times);
    world.fetch(&[want]).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    world.assert_here(&bytes);
    assert_eq!(world.web.requests().len() as u64, times + 1, "{fault:?}");
}

#[test]
fn everything_comes_and_is_told() {
    let world = World::new();
    let bodies: Vec<_> = (0..20_u8).map(|n| noise(n.into(), 1000 * usize::from(n) * usize::from(n))).collect();
    let wants: Vec<_> = bodies.iter().enumerate().map(|(n, bytes)| world.offer(&format!("f{n}"), bytes)).collect();
    let size_bytes: u64 = wants.iter().filter_map(|want| want.size_bytes).sum();
    let fetched = world.fetch(&wants).unwrap();
    assert_eq!((fetched.downloaded_files, fetched.downloaded_bytes), (20, size_bytes));
    bodies.iter().for_each(|bytes| world.assert_here(bytes));
    let planned = Event::DownloadsPlanned { files: 20, size_bytes, present_files: 0, present_bytes: 0 };
    assert_eq!(world.events.all().first(), Some(&planned));
    assert_eq!(world.events.count(|event| matches!(event, Event::DownloadStarted { .. })), 20);
    assert_eq!(world.events.count(|event| matches!(event, Event::DownloadFinished { .. })), 20);
}

#[test]
fn present_files_are_not_asked_for() {
    let world = World::new();
    let wants = [world.offer("a", b"first"), world.offer("b", b"second")];
    world.fetch(&wants[..1]).unwrap();
    world.web.forget_requests();
    let fetched = world.fetch(&wants).unwrap();
    assert_eq!((fetched.present_files, fetched.present_bytes), (1, 5));
    assert_eq!((fetched.downloaded_files, fetched.downloaded_bytes), (1, 6));
    assert_eq!(world.web.requests().len(), 1);
    assert_eq!(world.fetch(&wants).unwrap().present_files, 2);
}

#[test]
fn nothing_wanted_is_no_error() {
    let fetched = World::new().fetch(&[]).unwrap();
    assert_eq!((fetched.downloaded_files, fetched.present_files), (0, 0));
}

#[test]
fn file_wanted_twice_comes_once() {
    let world = World::new();
    let mut wants = vec![world.offer("a", b"same"), world.offer("b", b"same")];
    wants[0].urls = vec![format!("{}missing", world.web.url()).parse().unwrap()];
    world.fetch(&wants).unwrap();
    world.assert_here(b"same");
    assert_eq!(world.web.requests().len(), 2, "the first want's address, then the second's");
}

#[test]
fn lasting_failures_are_told() {
    check_failure(&Fault::Status(404), "it is not there (HTTP 404)", 1);
    check_failure(&Fault::Status(410), "it is not there (HTTP 410)", 1);
    check_failure(&Fault::Status(403), "the server refuses (HTTP 403)", 1);
    check_failure(&Fault::Status(401), "the server refuses (HTTP 401)", 1);
    check_failure(&Fault::Status(204), "the server fails (HTTP 204)", 1);
    check_failure(&Fault::Status(304), "the server fails (HTTP 304)", 1);
    check_failure(&Fault::Status(416), "the server fails (HTTP 416)", 1);
    check_failure(&Fault::Redirect("/a".to_owned()), "more than 5 redirects", 6);
    check_failure(
        &Fault::Redirect("ftp://u:p@mirror.example/a?k=v".to_owned()),
        "it was redirected to ftp://mirror.example/a?k=***, which is not followed",
        1,
    );
    check_failure(
        &Fault::ContentLength(400_000),
        "its size is not the expected one: expected 300000 bytes, got 400000",
        1,
    );
    check_failure(&Fault::Corrupt(77), "its bytes are not the expected ones: expected sha256 ", 2);
}

#[test]
fn passing_failures_are_told_after_all_attempts() {
    check_failure(&Fault::Status(500), "the server fails (HTTP 500)", 3);
    check_failure(&Fault::Status(503), "the server fails (HTTP 503)", 3);
    check_failure(&Fault::RetryAfter(429, "3600".to_owned()), "the server fails (HTTP 429)", 3);
    check_failure(&Fault::Hangup, "no answer from 127.0.0.1:", 3);
}

#[test]
fn passing_failures_pass() {
    check_passes(Fault::Status(500), 2);
    check_passes(Fault::Status(408), 1);
    check_passes(Fault::RetryAfter(429, "0".to_owned()), 2);
    check_passes(Fault::RetryAfter(503, "soon".to_owned()), 1);
    check_passes(Fault::Hangup, 2);
    check_passes(Fault::Corrupt(5), 1);
    check_passes(Fault::Truncate(1000), 2);
    check_passes(Fault::Delay(Duration::from_millis(20)), 0);
}

#[test]
fn slow_and_odd_servers_still_serve() {
    for fault in [
        Fault::Trickle(20_000, Duration::from_millis(2)),
        Fault::NoLength,
        Fault::NoValidators,
        Fault::Delay(Duration::from_millis(50)),
    ] {
        let world = World::new();
        let bytes = noise(1, BODY_BYTES);
        let want = world.offer("a", &bytes);
        world.web.fault("a", fault);
        world.fetch(&[want]).unwrap();
        world.assert_here(&bytes);
    }
}

#[test]
fn silent_server_is_left_and_what_came_is_kept() {
    let mut world = World::new();
    world.options.idle_timeout = Duration::from_secs(1);
    world.options.attempts = 2;
    let want = world.offer("a", &noise(1, BODY_BYTES));
    world.web.fault("a", Fault::Stall(100_000));
    let shown = world.failure(&want);
    assert!(shown.starts_with("the connection broke after 200000 bytes: "), "{shown}");
    let partial = world.store.root().join("partial").join(want.digest.to_string());
    assert_eq!(fs::metadata(partial).unwrap().len(), 200_000);
}

#[test]
fn redirect_to_nowhere_names_the_host_there() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let want = world.offer("a", b"x");
    world.web.fault("a", Fault::Redirect(format!("http://{closed}/a?token=s3cret")));
    let shown = world.failure(&want);
    assert!(shown.starts_with(&format!("no answer from {closed}: ")), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn redirect_is_followed() {
    let world = World::new();
    let mut want = world.offer("b", b"x");
    want.urls = vec![format!("{}a", world.web.url()).parse().unwrap()];
    world.web.fault("a", Fault::Redirect("/b".to_owned()));
    world.fetch(&[want]).unwrap();
    world.assert_here(b"x");
}

#[test]
fn wrong_bytes_are_asked_for_again_past_the_caches() {
    let world = World::new();
    let want = world.offer("a", &noise(1, BODY_BYTES));
    world.web.fault("a", Fault::Corrupt(0));
    let error = world.fetch(std::slice::from_ref(&want)).unwrap_err();
    let FetchError::Failed(failures) = &error else { panic!("{error}") };
    let FailureReason::Digest { expected, actual } = failures[0].reason else { panic!("{error}") };
    assert!(expected == want.digest && actual != want.digest);
    assert!(error.hint().unwrap().contains("mirror"));
    let requests = world.web.requests();
    assert_eq!(requests[0].header("cache-control"), None);
    assert_eq!(requests[1].header("cache-control"), Some("no-cache"));
    assert_eq!(requests[1].header("range"), None);
    assert_eq!(world.left("partial"), Vec::<String>::new());
}

#[test]
fn endless_body_is_stopped_at_the_expected_size() {
    let world = World::new();
    let mut want = world.offer("a", &noise(1, 5_000_000));
    want.size_bytes = Some(1000);
    world.web.fault("a", Fault::NoLength);
    assert_eq!(world.failure(&want), "it is larger than 1000 bytes");
}

#[test]
fn unknown_size_is_bounded() {
    let mut world = World::new();
    let bytes = noise(1, 5000);
    let mut want = world.offer("a", &bytes);
    want.size_bytes = None;
    world.options.unknown_size_limit_bytes = 4999;
    assert_eq!(world.failure(&want), "it is larger than 4999 bytes");
    world.options.unknown_size_limit_bytes = 5000;
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
}

#[test]
fn addresses_are_tried_in_order() {
    let world = World::new();
    let other = World::new();
    let mut want = world.offer("a", b"body");
    other.offer("a", b"body");
    want.urls.insert(0, format!("{}by-hash", world.web.url()).parse().unwrap());
    want.urls.push(format!("{}a", other.web.url()).parse().unwrap());
    world.fetch(std::slice::from_ref(&want)).unwrap();
    let paths: Vec<_> = world.web.requests().iter().map(|request| request.path()).collect();
    assert_eq!(paths, ["by-hash", "a"]);
    assert_eq!(other.web.requests().len(), 0);
}

#[test]
fn failing_mirror_is_passed_by_at_once() {
    let world = World::new();
    let other = World::new();
    let mut want = world.offer("a", b"body");
    other.offer("a", b"body");
    want.urls.push(format!("{}a", other.web.url()).parse().unwrap());
    world.web.fault("a", Fault::Status(500));
    world.fetch(&[want]).unwrap();
    assert_eq!(world.web.requests().len(), 1);
    assert_eq!(world.events.count(|event| matches!(event, Event::DownloadRetried { .. })), 0);
}

#[test]
fn the_most_telling_failure_is_told() {
    let world = World::new();
    let mut want = world.offer("a", b"body");
    want.urls.push(format!("{}missing", world.web.url()).parse().unwrap());
    world.web.fault("a", Fault::Corrupt(0));
    assert!(world.failure(&want).starts_with("its bytes are not the expected ones"));
    want.urls.remove(0);
    assert!(world.failure(&want).starts_with("it is not there"));
    want.urls.clear();
    assert_eq!(world.failure(&want), "no address is known for it");
    want.urls.push("ftp://mirror.example/a".parse().unwrap());
    assert_eq!(world.failure(&want), "`ftp:` addresses cannot be downloaded from");
}

#[test]
fn failures_do_not_stop_the_others() {
    let world = World::new();
    let wants: Vec<_> = (0..30).map(|number| world.offer(&format!("f{number:02}"), &noise(number, 10_000))).collect();
    for name in ["f21", "f03", "f12"] {
        world.web.fault(name, Fault::Status(404));
    }
    let FetchError::Failed(failures) = world.fetch(&wants).unwrap_err() else { panic!("three files are gone") };
    let names: Vec<_> = failures.iter().map(|failure| failure.name.as_str()).collect();
    assert_eq!(names, ["f03", "f12", "f21"]);
    assert!(failures.iter().all(|failure| failure.reason.is_gone()));
    assert_eq!(world.store.entries().unwrap().len(), 27);
}

#[test]
fn dead_host_uses_up_patience_once() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wants: Vec<_> = (0..60_u8)
        .map(|number| Want {
            urls: vec![format!("http://{closed}/{number}").parse().unwrap()],
            ..world.want(&number.to_string(), &[number])
        })
        .collect();
    let FetchError::Failed(failures) = world.fetch(&wants).unwrap_err() else { panic!("nobody listens") };
    assert_eq!(failures.len(), 60);
    assert!(failures.iter().all(|failure| matches!(failure.reason, FailureReason::Unreachable { .. })));
    let retried = world.events.count(|event| matches!(event, Event::DownloadRetried { .. }));
    let most = world.options.connections * (world.options.attempts as usize - 1);
    assert!(retried <= most, "{retried} retries for a dead host");
    assert_eq!(world.left("partial"), Vec::<String>::new());
}

fn check_busiest(connections: usize, connections_per_host: usize, at_once: usize) {
    let mut world = World::new();
    world.options.connections = connections;
    world.options.connections_per_host = connections_per_host;
    let wants: Vec<_> = (0..9).map(|number| world.offer(&number.to_string(), &noise(number, 10))).collect();
    wants.iter().for_each(|want| world.web.fault(&want.name, Fault::Delay(Duration::from_millis(60))));
    world.fetch(&wants).unwrap();
    let busiest = world.web.busiest();
    assert!((at_once.min(2)..=at_once).contains(&busiest), "{busiest} at once");
}

#[test]
fn requests_at_once_are_bounded() {
    check_busiest(12, 3, 3);
    check_busiest(2, 8, 2);
    check_busiest(1, 1, 1);
}

fn file_want(world: &World, name: &str, bytes: &[u8]) -> Want {
    let url = url::Url::from_file_path(world.mirror_path(name)).unwrap();
    Want { urls: vec![url], ..world.want(name, bytes) }
}

#[test]
fn file_addresses_are_copied() {
    let mut world = World::new();
    world.options.offline = true;
    let bytes = noise(1, 20_000_000);
    world.offer("a", &bytes);
    let fetched = world.fetch(&[file_want(&world, "a", &bytes)]).unwrap();
    assert_eq!((fetched.downloaded_files, fetched.downloaded_bytes), (1, 20_000_000));
    world.assert_here(&bytes);
    fs::write(world.mirror_path("a"), "changed").unwrap();
    world.assert_here(&bytes);
}

fn check_file_failure(offer: impl Fn(&World), wanted: &[u8], message: &str) {
    let world = World::new();
    offer(&world);
    let shown = world.failure(&file_want(&world, "a", wanted));
    assert!(shown.starts_with(message), "{shown}");
    assert_eq!(world.left("partial"), Vec::<String>::new());
}

#[test]
fn file_failures_are_told() {
    check_file_failure(|_| (), b"x", "it is not there");
    check_file_failure(
        |world| fs::create_dir(world.mirror_path("a")).unwrap(),
        b"x",
        "it could not be read: it is not a regular file",
    );
    check_file_failure(
        |world| drop(world.offer("a", b"xy")),
        b"x",
        "its size is not the expected one: expected 1 bytes, got 2",
    );
    check_file_failure(|world| drop(world.offer("a", b"y")), b"x", "its bytes are not the expected ones");
}

#[test]
fn offline_names_what_is_missing_and_asks_nobody() {
    let mut world = World::new();
    let wants = [world.offer("c", b"c"), world.offer("a", b"a"), world.offer("b", b"b")];
    world.fetch(&wants[2..]).unwrap();
    world.web.forget_requests();
    world.options.offline = true;
    let error = world.fetch(&wants).unwrap_err();
    assert_eq!(error.to_string(), "find 2 files in the store while offline: a, c");
    assert!(error.hint().is_some());
    assert!(world.web.requests().is_empty());
    world.fetch(&wants[2..]).unwrap();
}

#[test]
fn wrong_size_of_a_present_file_is_told_and_costs_nothing() {
    let world = World::new();
    let mut want = world.offer("a", b"body");
    world.fetch(std::slice::from_ref(&want)).unwrap();
    want.size_bytes = Some(5);
    let error = world.fetch(std::slice::from_ref(&want)).unwrap_err().to_string();
    assert!(error.contains("its size is not the expected one: expected 5 bytes, got 4"), "{error}");
    world.assert_here(b"body");
    assert_eq!(world.left("quarantine"), Vec::<String>::new());
}

#[test]
fn corrupt_entry_is_named_and_fetched_again() {
    let world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    world.fetch(std::slice::from_ref(&want)).unwrap();
    let path = world.store.path(&want.digest);
    let mut damaged = bytes.clone();
    damaged[1234] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, &damaged).unwrap();
    let fetched = world.fetch(&[want]).unwrap();
    assert_eq!(fetched.downloaded_files, 1);
    world.assert_here(&bytes);
    let is_warning = |event: &Event| matches!(event, Event::Warning { message, .. } if message.starts_with("the stored bytes of a have changed"));
    assert_eq!(world.events.count(is_warning), 1);
    assert_eq!(world.left("quarantine"), [Sha256::of(&bytes).to_string()]);
}

#[test]
fn many_small_files_come_through_a_few_connections() {
    let world = World::new();
    let wants: Vec<_> = (0..200).map(|number| world.offer(&format!("f{number}"), &noise(number, 100))).collect();
    assert_eq!(world.fetch(&wants).unwrap().downloaded_files, 200);
    assert_eq!(world.store.entries().unwrap().len(), 200);
}
