//! Several processes, killed processes, full disks.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use fs_err as fs;
use kiln_model::event::{Event, Silent};
use kiln_store::{FetchOptions, Store, Want};
use kiln_testkit::web::Fault;

use crate::world::{World, noise, options};

/// Tells the child what to do, through a variable, because the test harness owns its arguments.
const CHILD: &str = "KILN_STORE_TEST_CHILD";

/// The other tests here start this one as another process, with orders; without, it checks that orders are understood.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "the parent passes its orders this way")]
    match std::env::var(CHILD) {
        Ok(orders) => carry_out(&orders),
        Err(_) => orders_read_back(),
    }
}

fn orders_read_back() {
    let world = World::new();
    let wants = [world.want("a", b"x"), world.want("b", b"")];
    assert_eq!(parse_orders(&orders("/store", &wants)), ("/store", wants.to_vec()));
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn carry_out(orders: &str) {
    let (root, wants) = parse_orders(orders);
    let result = Store::open(root.into()).map(|store| store.fetch(&wants, &options(), &Silent));
    let said = match result {
        Ok(Ok(fetched)) => format!("fetched {}", fetched.downloaded_files),
        Ok(Err(error)) => {
            let hint = error.hint().unwrap_or_default();
            format!("failed: {error}: {}\nhint: {hint}", std::error::Error::source(&error).unwrap())
        }
        Err(error) => format!("failed: {error}"),
    };
    println!("\nCHILD {said}");
}

fn parse_orders(orders: &str) -> (&str, Vec<Want>) {
    let (root, wants) = orders.split_once('\n').unwrap_or((orders, ""));
    (root, wants.lines().map(parse_want).collect())
}

fn parse_want(line: &str) -> Want {
    let words: Vec<_> = line.split(' ').collect();
    Want {
        name: words[0].to_owned(),
        digest: words[1].parse().unwrap(),
        size_bytes: Some(words[2].parse().unwrap()),
        urls: vec![words[3].parse().unwrap()],
    }
}

fn orders(root: &str, wants: &[Want]) -> String {
    let line = |want: &Want| format!("\n{} {} {} {}", want.name, want.digest, want.size_bytes.unwrap(), want.urls[0]);
    wants.iter().fold(root.to_owned(), |text, want| text + &line(want))
}

/// The child as a command; `around` is a shell script that runs it as `"$@"`.
fn child_command(around: &str, root: &str, wants: &[Want]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", around, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["processes::child", "--exact", "--nocapture"]);
    command.env(CHILD, orders(root, wants)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, said) = text.split_once("CHILD ").unwrap_or_else(|| panic!("the child said {text} {errors}"));
    said.split("\ntest ").next().unwrap().to_owned()
}

fn spawn(world: &World, wants: &[Want]) -> Child {
    child_command(r#"exec "$@""#, world.store.root().as_str(), wants).spawn().unwrap()
}

fn wait_until(what: &str, happened: impl Fn() -> bool) {
    for _ in 0..6000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain until {what}");
}

#[test]
fn threads_share_one_download() {
    let world = World::new();
    let bytes = noise(1, 400_000);
    let want = world.offer("a", &bytes);
    world.web.fault("a", Fault::Trickle(20_000, Duration::from_millis(5)));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.fetch(std::slice::from_ref(&want)).unwrap());
        }
    });
    world.assert_here(&bytes);
    assert_eq!(world.web.requests().len(), 1);
    assert!(world.events.count(|event| matches!(event, Event::Waiting { .. })) <= 5);
}

#[test]
fn waiting_is_told() {
    let world = World::new();
    let want = world.offer("a", &noise(1, 400_000));
    world.web.fault("a", Fault::Trickle(20_000, Duration::from_millis(20)));
    let mut child = spawn(&world, std::slice::from_ref(&want));
    wait_until("the child downloads", || !world.web.requests().is_empty());
    let fetched = world.fetch(&[want]).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((fetched.present_files, fetched.downloaded_files), (1, 0));
    let reason = "another process is downloading a".to_owned();
    assert!(world.events.all().contains(&Event::Waiting { reason }));
    assert_eq!(world.web.requests().len(), 1);
}

#[test]
fn processes_share_the_work() {
    let world = World::new();
    let wants: Vec<_> = (0..40).map(|number| world.offer(&format!("f{number}"), &noise(number, 50_000))).collect();
    wants.iter().for_each(|want| world.web.fault(&want.name, Fault::Trickle(25_000, Duration::from_millis(10))));
    let children: Vec<_> = (0..3).map(|_| spawn(&world, &wants)).collect();
    let mut downloaded = 0;
    for child in children {
        let said = said(&child.wait_with_output().unwrap());
        downloaded += said.trim().strip_prefix("fetched ").expect(&said).parse::<u64>().unwrap();
    }
    assert_eq!(downloaded, 40);
    assert_eq!(world.web.requests().len(), 40);
    assert_eq!(world.store.entries().unwrap().len(), 40);
    assert_eq!(world.left("partial"), Vec::<String>::new());
}

#[test]
fn killed_download_is_resumed() {
    let world = World::new();
    let bytes = noise(1, 4_000_000);
    let want = world.offer("a", &bytes);
    world.web.fault_times("a", Fault::Stall(2_000_000), 1);
    let mut child = spawn(&world, std::slice::from_ref(&want));
    let partial = world.store.root().join("partial").join(want.digest.to_string());
    wait_until("a good part is on the disk", || fs::metadata(&partial).is_ok_and(|file| file.len() >= 1_000_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.store.size(&want.digest), None);
    let kept_bytes = fs::metadata(&partial).unwrap().len();
    let fetched = world.fetch(std::slice::from_ref(&want)).unwrap();
    world.assert_here(&bytes);
    assert_eq!(fetched.downloaded_bytes, 4_000_000 - kept_bytes);
    let last = world.web.requests().pop().unwrap();
    assert_eq!(last.header("range"), Some(format!("bytes={kept_bytes}-").as_str()));
    assert!(last.header("if-range").is_some());
}

#[test]
fn process_killed_at_any_moment_leaves_a_good_store() {
    let world = World::new();
    let bodies: Vec<_> = (0..30).map(|number| noise(number, 60_000)).collect();
    let wants: Vec<_> = bodies.iter().enumerate().map(|(n, bytes)| world.offer(&format!("f{n}"), bytes)).collect();
    for answered in [1, 7, 15, 29] {
        let mut child = spawn(&world, &wants);
        wait_until("some were asked for", || world.web.requests().len() >= answered || child_ended(&world));
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in world.store.entries().unwrap() {
            world.store.read(&entry.digest).unwrap();
        }
    }
    Store::open(world.store.root()).unwrap().fetch(&wants, &world.options, &world.events).unwrap();
    bodies.iter().for_each(|bytes| world.assert_here(bytes));
}

fn child_ended(world: &World) -> bool {
    world.store.entries().is_ok_and(|entries| entries.len() == 30)
}

/// Fetches in a child whose disk is full sooner or later; then without that limit.
fn check_full(around: &str, world: &World, wants: &[Want]) {
    let output = child_command(around, world.store.root().as_str(), wants).output().unwrap();
    let said = said(&output);
    let root = world.store.root();
    assert!(said.contains(&format!("download into {root}: ")), "{said}");
    assert!(said.contains("more bytes are needed"), "{said}");
    assert!(said.contains(&format!("hint: make room on the file system of {root}")), "{said}");
}

#[test]
fn too_large_a_file_stops_all_and_is_resumed() {
    let world = World::new();
    let (large, small) = (noise(1, 3_000_000), noise(2, 50_000));
    let wants = [world.offer("large", &large), world.offer("small", &small)];
    // A limit on file sizes fails writes as a full disk does, for every user alike; the signal must not kill.
    check_full(r#"trap '' XFSZ; ulimit -f 2000; exec "$@""#, &world, &wants);
    assert_eq!(world.store.size(&wants[0].digest), None);
    for entry in world.store.entries().unwrap() {
        world.store.read(&entry.digest).unwrap();
    }
    world.fetch(&wants).unwrap();
    world.assert_here(&large);
    world.assert_here(&small);
}

#[test]
fn full_disk_stops_all() {
    let world = World::new();
    let wants: Vec<_> = (0..8).map(|number| world.offer(&format!("f{number}"), &noise(number, 500_000))).collect();
    let root = world.store.root().as_str();
    // A private mount name space: the small disk is gone with the child.
    let possible =
        |how: &&str| Command::new("unshare").args([how, "true"]).output().is_ok_and(|output| output.status.success());
    let Some(how) = ["-m", "-rm"].into_iter().find(possible) else {
        return kiln_testkit::cannot_test("this system gives nobody a mount name space");
    };
    let around = format!(r#"exec unshare {how} sh -c 'mount -t tmpfs -o size=2m kiln {root} && exec "$@"' sh "$@""#);
    check_full(&around, &world, &wants);
    world.fetch(&wants).unwrap();
}

/// A machine without any certificates.
const NO_CERTIFICATES: &str = r#"SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null exec "$@""#;

#[test]
fn plain_http_needs_no_certificates() {
    let world = World::new();
    let want = world.offer("a", b"x");
    let output = child_command(NO_CERTIFICATES, world.store.root().as_str(), &[want]).output().unwrap();
    assert_eq!(said(&output).trim(), "fetched 1");
}

#[test]
fn missing_certificates_are_named_where_they_are_needed() {
    let world = World::new();
    let mut want = world.want("a", b"x");
    want.urls = vec![format!("https://{}/a", world.web.address()).parse().unwrap()];
    let output = child_command(NO_CERTIFICATES, world.store.root().as_str(), &[want]).output().unwrap();
    let said = said(&output);
    assert!(said.starts_with("failed: prepare to download") && said.contains("ca-certificates"), "{said}");
}

#[test]
fn default_options_are_as_documented() {
    let options = FetchOptions::default();
    assert_eq!((options.connections, options.attempts, options.offline), (12, 5, false));
    assert_eq!((options.connect_timeout.as_secs(), options.idle_timeout.as_secs()), (15, 30));
}
