//! Documents that change under one address, and downloads whose digest is to be learned.

use std::time::Duration;

use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_store::{Document, FailureReason, FetchError, FetchFailure, Pinned, Validators};
use kiln_testkit::web::Fault;
use url::Url;

use crate::world::{World, noise};

impl World {
    fn url(&self, name: &str) -> Url {
        format!("{}{name}", self.web.url()).parse().unwrap()
    }

    fn get(&self, url: &Url, validators: Option<&Validators>) -> Result<Document, FetchFailure> {
        self.store.get(url, validators, 1000, &self.options, &self.events)
    }

    fn pin(&self, name: &str) -> Result<Pinned, FetchError> {
        self.store.pin(&self.url(name), 20_000_000, &self.options, &self.events)
    }
}

fn check_get_failure(fault: &Fault, message: &str) {
    let world = World::new();
    world.offer("InRelease", b"text");
    world.web.fault("InRelease", fault.clone());
    let failure = world.get(&world.url("InRelease"), None).unwrap_err();
    let reason = failure.reason.to_string();
    assert!(reason.starts_with(message), "{fault:?}: {reason}");
}

#[test]
fn unchanged_document_is_not_sent_again() {
    let world = World::new();
    world.offer("InRelease", b"one");
    let url = world.url("InRelease");
    let Document::New { bytes, validators, url_final } = world.get(&url, None).unwrap() else { panic!("it is new") };
    assert_eq!((bytes.as_slice(), &url_final), (&b"one"[..], &url));
    assert_eq!(world.get(&url, Some(&validators)).unwrap(), Document::NotModified);
    world.offer("InRelease", b"two!");
    let Document::New { bytes, .. } = world.get(&url, Some(&validators)).unwrap() else { panic!("it changed") };
    assert_eq!(bytes, b"two!");
}

#[test]
fn document_names_where_it_came_from() {
    let world = World::new();
    world.offer("InRelease", b"one");
    world.web.fault("old", Fault::Redirect("/InRelease".to_owned()));
    let Document::New { url_final, .. } = world.get(&world.url("old"), None).unwrap() else { panic!("it is new") };
    assert_eq!(url_final, world.url("InRelease"));
}

#[test]
fn documents_fail_as_files_do() {
    check_get_failure(&Fault::Status(404), "it is not there (HTTP 404)");
    check_get_failure(&Fault::Status(403), "the server refuses");
    check_get_failure(&Fault::Status(500), "the server fails (HTTP 500)");
    check_get_failure(&Fault::Status(304), "the server fails (HTTP 304)");
    check_get_failure(&Fault::Hangup, "no answer from ");
    check_get_failure(&Fault::Truncate(1), "the connection broke after ");
    check_get_failure(&Fault::ContentLength(2000), "it is larger than 1000 bytes");
    check_get_failure(&Fault::Redirect("/InRelease".to_owned()), "more than 5 redirects");
}

#[test]
fn document_comes_after_passing_failures() {
    let world = World::new();
    world.offer("InRelease", b"one");
    world.web.fault_times("InRelease", Fault::Status(503), 1);
    world.web.fault_times("InRelease", Fault::Hangup, 1);
    assert!(matches!(world.get(&world.url("InRelease"), None), Ok(Document::New { .. })));
}

#[test]
fn document_without_announced_length_is_bounded() {
    let world = World::new();
    world.offer("InRelease", &noise(1, 1001));
    world.web.fault("InRelease", Fault::NoLength);
    let failure = world.get(&world.url("InRelease"), None).unwrap_err();
    assert!(matches!(failure.reason, FailureReason::TooLarge { limit_bytes: 1000 }), "{failure:?}");
}

#[test]
fn silent_server_is_left() {
    let mut world = World::new();
    world.options.idle_timeout = Duration::from_millis(100);
    world.options.attempts = 1;
    world.offer("InRelease", b"text");
    world.web.fault("InRelease", Fault::Stall(0));
    let failure = world.get(&world.url("InRelease"), None).unwrap_err();
    assert!(
        matches!(failure.reason, FailureReason::Interrupted { .. } | FailureReason::Unreachable { .. }),
        "{failure:?}"
    );
}

#[test]
fn file_documents_need_no_network() {
    let mut world = World::new();
    world.options.offline = true;
    world.offer("InRelease", b"one");
    let url = Url::from_file_path(world.mirror_path("InRelease")).unwrap();
    assert!(matches!(world.get(&url, None), Ok(Document::New { bytes, .. }) if bytes == b"one"));
    fs::write(world.mirror_path("InRelease"), noise(1, 1001)).unwrap();
    assert!(matches!(world.get(&url, None).unwrap_err().reason, FailureReason::TooLarge { .. }));
    fs::remove_file(world.mirror_path("InRelease")).unwrap();
    assert!(world.get(&url, None).unwrap_err().reason.is_gone());
    assert!(matches!(world.get(&world.url("InRelease"), None).unwrap_err().reason, FailureReason::Offline));
    assert!(world.web.requests().is_empty());
}

#[test]
fn pinned_file_is_in_the_store() {
    let world = World::new();
    let bytes = noise(1, 2_000_000);
    world.offer("app.tar", &bytes);
    let expected = Pinned { digest: Sha256::of(&bytes), size_bytes: 2_000_000 };
    assert_eq!(world.pin("app.tar").unwrap(), expected);
    world.assert_here(&bytes);
    assert_eq!(world.pin("app.tar").unwrap(), expected);
}

/// A connection that breaks once: whether the second request asks for the rest only.
fn check_pin_resume(fault: Option<Fault>, resumes: bool) {
    let world = World::new();
    let bytes = noise(1, 3_000_000);
    world.offer("app.tar", &bytes);
    world.web.fault_times("app.tar", Fault::Truncate(2_000_000), 1);
    fault.into_iter().for_each(|fault| world.web.fault("app.tar", fault));
    assert_eq!(world.pin("app.tar").unwrap().digest, Sha256::of(&bytes));
    world.assert_here(&bytes);
    assert_eq!(world.web.requests()[1].header("range").is_some(), resumes);
}

#[test]
fn pin_resumes_only_what_the_server_vouches_for() {
    check_pin_resume(None, true);
    check_pin_resume(Some(Fault::NoValidators), false);
}

#[test]
fn pin_never_joins_two_files() {
    let mut world = World::new();
    let (old, new) = (noise(1, 3_000_000), noise(2, 3_000_000));
    world.options.first_pause = Duration::from_millis(300);
    world.options.longest_pause = Duration::from_millis(300);
    world.offer("app.tar", &old);
    world.web.fault_times("app.tar", Fault::Truncate(2_000_000), 1);
    let is_pausing = || world.events.count(|event| matches!(event, Event::DownloadRetried { .. })) > 0;
    let digest = std::thread::scope(|scope| {
        let pinned = scope.spawn(|| world.pin("app.tar"));
        while !is_pausing() && !pinned.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::write(world.mirror_path("app.tar.new"), &new).unwrap();
        fs::rename(world.mirror_path("app.tar.new"), world.mirror_path("app.tar")).unwrap();
        pinned.join().unwrap().unwrap().digest
    });
    // On a busy machine the second request may come before the new file does; a mixture never does.
    assert!([Sha256::of(&new), Sha256::of(&old)].contains(&digest));
    assert!(world.web.requests()[1].header("if-range").is_some());
}

#[test]
fn pin_is_bounded_and_leaves_nothing() {
    let world = World::new();
    world.offer("app.tar", &noise(1, 20_000_001));
    for fault in [None, Some(Fault::NoLength), Some(Fault::Status(404))] {
        fault.into_iter().for_each(|fault| world.web.fault("app.tar", fault));
        world.pin("app.tar").unwrap_err();
        assert_eq!(world.left("tmp"), Vec::<String>::new());
        assert!(world.store.entries().unwrap().is_empty());
    }
}
