//! The example factory from the host's own mirror: the whole archive, over the network.

use kiln_testkit::{Home, Kiln};

use crate::fixture::{FACTORY, checked, kiln, says};

/// What decides how this machine reaches its mirror.
const VARIABLES: [&str; 9] = [
    "KILN_MIRROR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// Reaches the mirror as this machine does.
pub(crate) fn with_network(run: Kiln) -> Kiln {
    VARIABLES.iter().fold(run, |run, name| {
        #[expect(clippy::disallowed_methods, reason = "the network is the machine's, and so are its proxies")]
        match std::env::var(name) {
            Ok(value) => run.env(name, &value),
            Err(_) => run,
        }
    })
}

pub(crate) fn copy(from: &camino::Utf8Path, to: &camino::Utf8Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in from.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(entry.path(), &target),
            false if entry.file_name() == "kiln.lock" => {}
            false => drop(fs_err::copy(entry.path(), &target).unwrap()),
        }
    }
}

#[test]
fn the_example_locks_from_this_machines_mirror() {
    let home = Home::new();
    copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop").into(), &home.path().join(FACTORY));
    let output = checked(with_network(kiln(&home, "lock").directory(FACTORY)).run());
    assert_eq!(
        output.status,
        Some(0),
        "this test locks examples/shop from this machine's Debian mirror; if it has none, name one in KILN_MIRROR\n{}",
        output.report()
    );
    let text = fs_err::read(home.path().join(FACTORY).join("kiln.lock")).unwrap();
    // Neither needs the network: the lock fits, and its indexes are in the store.
    says(&checked(kiln(&home, "lock --offline").directory(FACTORY).run()).success(), &["kiln.lock is up to date"]);
    let check = checked(kiln(&home, "lock --check --offline").directory(FACTORY).run()).success();
    says(&check, &["kiln.lock fits kiln.toml; ", " packages examined against their indexes"]);
    assert!(!check.stdout.contains("not examined"), "{}", check.report());
    assert_eq!(fs_err::read(home.path().join(FACTORY).join("kiln.lock")).unwrap(), text);
    home.check_no_leftovers();
}
