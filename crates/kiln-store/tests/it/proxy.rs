//! Proxies, and what must never be shown.

use kiln_store::ProxySettings;
use kiln_testkit::web::{Fault, Web};

use crate::world::{World, noise};

const SECRET: &str = "s3cret";

fn with_credentials(url: &str) -> String {
    url.replacen("http://", &format!("http://alice:{SECRET}@"), 1)
}

#[test]
fn proxy_is_asked_with_the_whole_address() {
    let mut world = World::new();
    let proxy = Web::proxy();
    let bytes = noise(1, 1_000_000);
    let want = world.offer("a", &bytes);
    world.options.proxy = ProxySettings::parse(Some(&with_credentials(&proxy.url())), None, None).unwrap();
    world.fetch(std::slice::from_ref(&want)).unwrap();
    world.assert_here(&bytes);
    let requests = proxy.requests();
    assert_eq!(requests[0].target, want.urls[0].as_str());
    assert!(requests[0].header("proxy-authorization").unwrap().starts_with("Basic "));
    assert_eq!(world.web.requests()[0].header("proxy-authorization"), None);
}

#[test]
fn excepted_hosts_are_reached_directly() {
    for exception in ["127.0.0.1", "*", "127.0.0.0/8"] {
        let mut world = World::new();
        let proxy = Web::proxy();
        let want = world.offer("a", b"x");
        world.options.proxy = ProxySettings::parse(Some(&proxy.url()), None, Some(exception)).unwrap();
        world.fetch(&[want]).unwrap();
        assert!(proxy.requests().is_empty(), "{exception}");
    }
}

#[test]
fn dead_proxy_is_told_without_its_password() {
    let mut world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let want = world.offer("a", b"x");
    world.options.proxy = ProxySettings::parse(Some(&format!("http://alice:{SECRET}@{closed}")), None, None).unwrap();
    let shown = world.failure(&want);
    assert!(shown.starts_with("no answer from ") && !shown.contains(SECRET), "{shown}");
    assert!(world.web.requests().is_empty());
}

/// Fetches with a password in the address, and looks for it in all that is said and left.
fn check_secret(fault: Option<Fault>, comes: bool) {
    let world = World::new();
    let mut want = world.offer("a", &noise(1, 3_000_000));
    let secret_url = format!("{}?token={SECRET}", with_credentials(want.urls[0].as_str()));
    want.urls = vec![secret_url.parse().unwrap()];
    fault.iter().for_each(|fault| world.web.fault("a", fault.clone()));
    let result = world.fetch(&[want]);
    assert_eq!(result.is_ok(), comes, "{fault:?}");
    let shown = result.map_or_else(|error| format!("{error} {error:?} {:?}", error.hint()), |done| format!("{done:?}"));
    assert!(!shown.contains(SECRET), "{shown}");
    let events = format!("{:?}", world.events.all());
    assert!(!events.contains(SECRET), "{events}");
    for name in world.left("partial").iter().filter(|name| name.ends_with(".origin")) {
        let text = fs_err::read_to_string(world.store.root().join("partial").join(name)).unwrap();
        assert!(text.contains("***") && !text.contains(SECRET), "{text}");
    }
    let request = &world.web.requests()[0];
    // base64 of `alice:s3cret`.
    assert_eq!(request.header("authorization"), Some("Basic YWxpY2U6czNjcmV0"));
}

#[test]
fn credentials_are_sent_and_never_shown() {
    check_secret(None, true);
    check_secret(Some(Fault::Truncate(2_000_000)), true);
    for fault in [
        Fault::Status(401),
        Fault::Status(404),
        Fault::Status(500),
        Fault::Hangup,
        Fault::Truncate(1000),
        Fault::Corrupt(0),
        Fault::Redirect("/a".to_owned()),
        Fault::Redirect(format!("http://bob:{SECRET}@127.0.0.1:1/a?k={SECRET}")),
        Fault::Redirect(format!("ftp://bob:{SECRET}@mirror.example/a?k={SECRET}")),
    ] {
        check_secret(Some(fault), false);
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let world = World::new();
    let other = World::new();
    let mut want = other.offer("a", b"x");
    want.urls = vec![with_credentials(&format!("{}a", world.web.url())).parse().unwrap()];
    world.web.fault("a", Fault::Redirect(format!("{}a", other.web.url())));
    world.fetch(&[want]).unwrap();
    assert!(world.web.requests()[0].header("authorization").is_some());
    assert_eq!(other.web.requests()[0].header("authorization"), None);
}
