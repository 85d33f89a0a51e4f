//! Going on where an earlier attempt or process stopped.

use kiln_model::event::Event;
use kiln_testkit::web::Fault;

use crate::world::{World, noise};

const BODY_BYTES: usize = 3_000_000;

/// What is there before, what the server does, and the ranges that are asked for until the file is there.
fn check(kept: impl Fn(&mut Vec<u8>), faults: &[Fault], ranges: &[Option<&str>]) {
    let world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    let mut partial = bytes.clone();
    kept(&mut partial);
    world.leave_partial(&want.digest, &partial);
    faults.iter().for_each(|fault| world.web.fault("a", fault.clone()));
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
    let asked: Vec<_> = world.web.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(asked.iter().map(Option::as_deref).collect::<Vec<_>>(), ranges);
}

#[test]
fn leftovers_are_used_where_they_fit() {
    check(|kept| kept.truncate(1_000_000), &[], &[Some("bytes=1000000-")]);
    check(|kept| kept.truncate(0), &[], &[None]);
    check(|_| (), &[], &[]);
    check(|kept| kept.push(0), &[], &[None]);
}

#[test]
fn bad_leftovers_cost_one_request() {
    check(
        |kept| {
            kept.truncate(1_000_000);
            kept[17] ^= 1;
        },
        &[],
        &[Some("bytes=1000000-"), None],
    );
    check(|kept| kept[17] ^= 1, &[], &[None]);
}

#[test]
fn servers_without_good_ranges_send_all() {
    check(|kept| kept.truncate(1_000_000), &[Fault::IgnoreRange], &[Some("bytes=1000000-")]);
    check(|kept| kept.truncate(1_000_000), &[Fault::WrongRange], &[Some("bytes=1000000-"), None]);
}

#[test]
fn leftover_longer_than_the_servers_file_is_forgotten() {
    let world = World::new();
    let bytes = noise(1, 1000);
    let mut want = world.offer("a", &bytes);
    want.size_bytes = None;
    world.leave_partial(&want.digest, &noise(2, 5000));
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
    let ranges: Vec<_> = world.web.requests().iter().map(|request| request.header("range").is_some()).collect();
    assert_eq!(ranges, [true, false]);
}

#[test]
fn resumed_bytes_are_told_and_not_counted() {
    let world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    world.leave_partial(&want.digest, &bytes[..1_000_000]);
    let fetched = world.fetch(&[want]).unwrap();
    assert_eq!(fetched.downloaded_bytes, 2_000_000);
    let started = Event::DownloadStarted {
        name: "a".to_owned(),
        size_bytes: Some(BODY_BYTES as u64),
        resumed_from_bytes: 1_000_000,
    };
    assert!(world.events.all().contains(&started));
}

#[test]
fn broken_connection_is_resumed_with_the_servers_validator() {
    let world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    world.web.fault_times("a", Fault::Truncate(2_000_000), 1);
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
    let requests = world.web.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].header("range").is_some());
    assert!(requests[1].header("if-range").unwrap().starts_with('"'));
}

#[test]
fn validator_outlives_the_process_but_not_the_download() {
    let mut world = World::new();
    let bytes = noise(1, BODY_BYTES);
    let want = world.offer("a", &bytes);
    world.options.attempts = 1;
    world.web.fault_times("a", Fault::Truncate(500_000), 1);
    world.fetch(std::slice::from_ref(&want)).unwrap_err();
    assert_eq!(world.left("partial").len(), 2);
    world.web.forget_requests();
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
    let requests = world.web.requests();
    assert!(requests[0].header("if-range").is_some() && requests[0].header("range").is_some());
}

#[test]
fn file_that_changed_on_the_server_comes_whole() {
    let mut world = World::new();
    let (old, new) = (noise(1, BODY_BYTES), noise(2, BODY_BYTES));
    let mut want = world.offer("a", &old);
    want.digest = kiln_model::digest::Sha256::of(&new);
    world.options.attempts = 1;
    world.web.fault_times("a", Fault::Truncate(1_500_000), 1);
    world.fetch(std::slice::from_ref(&want)).unwrap_err();
    world.offer("a", &new);
    world.web.forget_requests();
    world.fetch(&[want]).unwrap();
    world.assert_here(&new);
    assert_eq!(world.web.requests().len(), 1, "If-Range made the server send all of the new file");
}

#[test]
fn attempts_that_bring_the_file_forward_do_not_count() {
    let mut world = World::new();
    let bytes = noise(1, 12_000_000);
    let want = world.offer("a", &bytes);
    world.options.attempts = 2;
    world.web.fault("a", Fault::Truncate(1_500_000));
    world.fetch(&[want]).unwrap();
    world.assert_here(&bytes);
}

#[test]
fn attempts_without_progress_end() {
    let world = World::new();
    let want = world.offer("a", &noise(1, 12_000_000));
    world.web.fault("a", Fault::Truncate(4_000_000));
    world.web.fault("a", Fault::IgnoreRange);
    assert!(world.failure(&want).starts_with("the connection broke after "));
    assert!(world.web.requests().len() <= 2 * world.options.attempts as usize);
}
