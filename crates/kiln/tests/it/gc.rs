//! `kiln gc`: what goes, what stays, what it says; beside running processes, and killed.

use std::collections::BTreeSet;

use camino::Utf8Path;
use jiff::{SignedDuration, Timestamp};
use kiln_model::digest::Sha256;
use kiln_model::event::Silent;
use kiln_store::{Build, BuiltStage, FailedTree, LayerFacts, LayerUse, Store};
use kiln_testkit::Output;

use crate::fixture::{BASE, BASE_AND_WEB, FACTORY, Shop, checked, files_below, kiln, says};
use crate::living::{self, CLASSES};

const OPENSSL_ALONE: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"openssl\"]
";

/// The names of all files that the store has verified.
fn files(shop: &Shop) -> BTreeSet<String> {
    let paths = files_below(&shop.home.cache().join("sha256"));
    paths.iter().map(|path| path.file_name().unwrap().to_owned()).collect()
}

fn fetched(classes: &str) -> Shop {
    let shop = Shop::new(classes);
    shop.lock();
    let _ = shop.run("fetch").success();
    shop
}

fn gc(shop: &Shop) -> Output {
    let output = shop.run("gc").success();
    shop.home.check_no_leftovers();
    output
}

fn boot() -> String {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn open(shop: &Shop) -> Store {
    Store::open(&shop.home.cache()).unwrap()
}

fn key(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

/// Puts a layer of the class `base` into the store.
fn layer(store: &Store, name: &str) -> LayerUse {
    let boot = boot();
    let draft = store.layers(&boot).begin(&key(name), name, &Silent, &|| false).unwrap().unwrap();
    fs_err::create_dir(draft.tree()).unwrap();
    fs_err::write(draft.tree().join("file"), name).unwrap();
    let facts =
        LayerFacts { class: "base".to_owned(), label: name.to_owned(), size_bytes: 1_000_000, ..LayerFacts::default() };
    draft.keep(facts, b"manifest").unwrap()
}

/// Makes these layers the last build of the class `base`.
fn build(shop: &Shop, store: &Store, layers: &[&str]) {
    let stage = |name: &&str| BuiltStage {
        label: (*name).to_owned(),
        class: "base".to_owned(),
        base_key: key(name),
        layer: *layer(store, name).name(),
        tools: None,
        inputs: Vec::new(),
    };
    let stages = layers.iter().map(stage).collect();
    let build = Build { class: "base".to_owned(), at: Timestamp::UNIX_EPOCH, stages, tree: None };
    store.keep_build(&canonical(&shop.path("")), &build).unwrap();
}

fn canonical(path: &Utf8Path) -> camino::Utf8PathBuf {
    path.canonicalize_utf8().unwrap()
}

/// Which of these layers the store has.
fn there(shop: &Shop, layers: &[&str]) -> Vec<String> {
    let (store, boot) = (open(shop), boot());
    let is_there = |name: &&&str| !store.layers(&boot).find(&key(name)).unwrap().is_empty();
    layers.iter().filter(is_there).map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_a_lock_names_stays() {
    let shop = fetched(BASE);
    let before = files(&shop);
    let output = gc(&shop);
    assert_eq!(files(&shop), before);
    let expected = format!("files: {} kept (", before.len());
    says(&output, &["factory: 1 kept: [HOME]/shop\n", &expected, "): locked in [HOME]/shop\n"]);
    says(&output, &["parsed index", "freed 0 B, kept "]);
    says(&shop.run("fetch --offline").success(), &["were there and intact"]);
}

#[test]
fn what_no_lock_names_goes_and_a_dry_run_only_says_so() {
    let shop = fetched(BASE_AND_WEB);
    let all = files(&shop);
    shop.spec(OPENSSL_ALONE);
    shop.lock();
    let dry = shop.run("gc --dry-run").success();
    assert_eq!(files(&shop), all);
    let _ = gc(&shop);
    let left = files(&shop);
    let freed = all.len() - left.len();
    assert!(freed > 0 && left.is_subset(&all));
    says(&dry, &[&format!("files: {freed} would go ("), "): in no known factory's lock\n", "\nwould free "]);
    let _ = shop.run("fetch --offline").success();
    let _ = shop.run("lock --check --offline").success();
    says(&gc(&shop), &["freed 0 B, kept "]);
}

#[test]
fn a_factory_that_is_gone_claims_nothing() {
    let shop = fetched(BASE);
    fs_err::rename(shop.path(""), shop.home.path().join("moved")).unwrap();
    let output = checked(kiln(&shop.home, "gc").run()).success();
    says(&output, &["factory: 1 freed: [HOME]/shop is gone\n", "): in no known factory's lock\n", ", kept 0 B"]);
    assert_eq!(files(&shop), BTreeSet::new());
    let again = checked(kiln(&shop.home, "gc").run()).success();
    assert_eq!(again.stdout, "freed 0 B, kept 0 B\n");
}

#[test]
fn a_lock_that_cannot_be_read_may_claim_anything() {
    let shop = fetched(BASE);
    let before = files(&shop);
    let lock = shop.lock_text();
    shop.write("kiln.lock", lock.replace("trixie", "<<<<<<< ours"));
    says(&gc(&shop), &["factory: 1 kept: the lock in [HOME]/shop cannot be read, and may claim anything\n"]);
    assert_eq!(files(&shop), before);
    shop.write("kiln.lock", lock);
    // A spec with mistakes is no reason: what is fetched is what is locked.
    shop.write("kiln.toml", "[class");
    says(&gc(&shop), &["freed 0 B"]);
    assert_eq!(files(&shop), before);
}

#[test]
fn other_factories_keep_theirs() {
    let shop = fetched(BASE);
    let all = files(&shop);
    fs_err::create_dir(shop.home.path().join("elsewhere")).unwrap();
    let output = checked(kiln(&shop.home, "gc").directory("elsewhere").run()).success();
    says(&output, &["freed 0 B"]);
    assert_eq!(files(&shop), all);
}

#[test]
fn beside_another_process_no_file_goes() {
    let shop = fetched(BASE_AND_WEB);
    let all = files(&shop);
    shop.spec(OPENSSL_ALONE);
    shop.lock();
    let store = open(&shop);
    says(&gc(&shop), &["; 3 claimed by nobody yet, while another kiln is at work\n", "freed 0 B"]);
    assert_eq!(files(&shop), all);
    drop(store);
    let _ = gc(&shop);
    assert!(files(&shop).len() < all.len());
}

#[test]
fn layers_of_the_last_build_stay() {
    let shop = fetched(BASE);
    let store = open(&shop);
    build(&shop, &store, &["essential", "old"]);
    build(&shop, &store, &["essential", "new"]);
    let names = ["essential", "old", "new"];
    let used = store.layers(&boot()).find(&key("old")).unwrap();
    says(&gc(&shop), &["layers: 3 kept (3.00 MB): 2 of last builds in "]);
    drop(used);
    let output = gc(&shop);
    says(
        &output,
        &["layer: 1 freed (1.00 MB): of class base, replaced by newer builds\n", "layers: 2 kept (2.00 MB): "],
    );
    assert_eq!(there(&shop, &names), ["essential", "new"]);
    assert_eq!(files_below(&shop.home.cache().join("trash")), [""; 0]);
    drop(store);
    // The class leaves the factory.
    shop.spec(&OPENSSL_ALONE.replace("base", "other"));
    shop.lock();
    says(&gc(&shop), &["last build: 1 freed: of classes", "layers: 2 freed (2.00 MB): of class base, which no known"]);
    assert_eq!(there(&shop, &names), [""; 0]);
}

#[test]
fn failed_trees_stay_for_a_week_with_their_layers() {
    let shop = fetched(BASE);
    let store = open(&shop);
    let boot = boot();
    let fail = |days: i64| {
        let draft = store.layers(&boot).begin(&key("step"), "step", &Silent, &|| false).unwrap().unwrap();
        fs_err::create_dir(draft.tree()).unwrap();
        fs_err::write(draft.tree().join("file"), [0; 5000]).unwrap();
        #[expect(clippy::disallowed_methods, reason = "kiln compares it with the clock")]
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let failed = FailedTree {
            factory: canonical(&shop.path("")),
            class: "base".to_owned(),
            label: "step".to_owned(),
            below: vec![*layer(&store, "below").name()],
            reason: "it failed".to_owned(),
            epoch: 0,
            at,
        };
        draft.fail(&failed).unwrap();
    };
    fail(6);
    says(&gc(&shop), &["layer: 1 kept (1.00 MB): below failed trees\n", "failed tree: 1 kept (5."]);
    fail(8);
    says(&gc(&shop), &["layer: 1 freed (1.00 MB)", "failed tree: 1 freed (5."]);
    assert!(store.layers(&boot).failed(&canonical(&shop.path("")), "base").unwrap().is_none());
}

#[test]
fn leftovers_of_killed_processes_go() {
    let shop = fetched(BASE);
    let cache = shop.home.cache();
    for path in ["partial", "quarantine"] {
        fs_err::write(cache.join(path).join(key("x").to_string()), [0; 100]).unwrap();
    }
    fs_err::write(cache.join("partial").join(format!("{}.origin", key("x"))), "").unwrap();
    fs_err::create_dir_all(cache.join("draft").join(key("y").to_string()).join("tree/usr")).unwrap();
    fs_err::create_dir_all(cache.join("trash/z/tree")).unwrap();
    let output = shop.run("gc").success();
    says(&output, &["unfinished download: 1 kept (100 B): recent\n", "damaged file: 1 freed (100 B): damaged\n"]);
    let week = std::time::Duration::from_secs(8 * 24 * 3600);
    let partial = fs_err::File::options().write(true).open(cache.join("partial").join(key("x").to_string())).unwrap();
    let modified = partial.metadata().unwrap().modified().unwrap();
    partial.file().set_modified(modified - week).unwrap();
    drop(partial);
    says(&gc(&shop), &["unfinished download: 1 freed (100 B): left for too long\n"]);
    for directory in ["partial", "quarantine", "draft", "trash"] {
        assert_eq!(cache.join(directory).read_dir_utf8().unwrap().count(), 0, "{directory}");
    }
}

#[test]
fn the_same_as_json() {
    let shop = fetched(BASE_AND_WEB);
    shop.spec(OPENSSL_ALONE);
    shop.lock();
    let output = shop.run("gc --dry-run --json").success();
    let last: serde_json::Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let value = &last["value"];
    assert_eq!((&last["result"], &value["dry_run"]), (&"gc".into(), &true.into()));
    let groups = value["groups"].as_array().unwrap();
    let sum = |goes: bool, key: &str| -> u64 {
        groups.iter().filter(|group| group["goes"] == goes).map(|group| group[key].as_u64().unwrap()).sum()
    };
    assert_eq!(value["freed_bytes"], sum(true, "size_bytes"));
    assert_eq!(value["kept_bytes"], sum(false, "size_bytes"));
    assert_eq!(value["freed_things"], sum(true, "count"));
    assert!(groups.iter().any(|group| group["group"] == "files" && group["reason"] == "in no known factory's lock"));
    assert!(value["freed_bytes"].as_u64().unwrap() > 0);
}

/// Processes that lock and fetch, while others collect garbage all the time.
#[test]
fn collecting_beside_locking_and_fetching_breaks_nothing() {
    let shop = Shop::new(BASE_AND_WEB);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = checked(kiln(&shop.home, "gc").run()).success();
            }
        });
        for classes in [BASE_AND_WEB, OPENSSL_ALONE, BASE, BASE_AND_WEB] {
            shop.spec(classes);
            for command in ["lock", "lock --update", "fetch", "lock --check --offline", "fetch --offline"] {
                let _ = checked(shop.kiln(command).run()).success();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let _ = gc(&shop);
    let _ = shop.run("fetch --offline").success();
}

#[test]
fn after_it_nothing_is_built_again_and_what_was_replaced_is() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let first = living::build(&shop, "");
    shop.write("site/index.html", "bye\n");
    let second = living::build(&shop, "");
    let output = gc(&shop);
    // The two steps above the changed one are other layers too.
    says(&output, &["layers: 3 freed", "): of class web, replaced by newer builds\n", "unpacked packages: "]);
    let third = living::build(&shop, "");
    assert_eq!((third.stages("stage-finished").len(), third.tree("web")), (0, second.tree("web")));
    shop.write("site/index.html", "hello\n");
    let fourth = living::build(&shop, "");
    assert_eq!((fourth.stages("stage-finished").len(), fourth.tree("web")), (3, first.tree("web")));
}

/// A failed step, whose tree lies on layers that only the failed build has.
#[test]
fn a_failed_tree_can_be_looked_at_after_it() {
    let Some(shop) = living::shop(&CLASSES.replace("echo hello >/etc/greeting", "echo hello >/etc/greeting; false"))
    else {
        return;
    };
    let _ = shop.run("build --tree-only").code(1);
    let _ = gc(&shop);
    let look = shop.kiln("shell web --failed --").args(["/bin/sh", "-c", "cat /etc/greeting /srv/index.html"]);
    assert_eq!(checked(look.run()).success().stdout, "hello\nhello\n");
}

/// Builds that find, make and replace layers, while others collect garbage all the time.
#[test]
fn collecting_beside_building_breaks_nothing() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let first = living::build(&shop, "");
    let done = std::sync::atomic::AtomicBool::new(false);
    let collected = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut collected = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let output = checked(kiln(&shop.home, "gc").run()).success();
                collected += u64::from(output.stdout.contains("replaced by newer builds"));
            }
            collected
        });
        for round in 0..12 {
            shop.write("site/index.html", format!("{}\n", round % 3));
            let _ = living::build(&shop, "");
            let look = shop.kiln("shell web --").args(["/bin/sh", "-c", "cat /srv/index.html"]);
            assert_eq!(checked(look.run()).success().stdout, format!("{}\n", round % 3));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        collector.join().unwrap()
    });
    assert!(collected > 0, "no collection had anything to do");
    shop.write("site/index.html", "hello\n");
    assert_eq!(living::build(&shop, "").tree("web"), first.tree("web"));
}

#[test]
fn killed_while_it_collects_it_goes_on_the_next_time() {
    for delay_us in [500, 2000, 4000, 6000, 8000, 12_000] {
        let shop = fetched(BASE);
        let store = open(&shop);
        let layers: Vec<String> = (0..30).map(|number| format!("layer {number}")).collect();
        build(&shop, &store, &["kept"]);
        layers.iter().for_each(|name| drop(layer(&store, name)));
        drop(store);
        let running = shop.kiln("gc").spawn();
        std::thread::sleep(std::time::Duration::from_micros(delay_us));
        let _ = running.kill();
        let _ = gc(&shop);
        let names: Vec<&str> = layers.iter().map(String::as_str).collect();
        assert_eq!(there(&shop, &names), [""; 0]);
        assert_eq!(there(&shop, &["kept"]), ["kept"]);
        for directory in ["trash", "draft", "layer"] {
            let left = shop.home.cache().join(directory).read_dir_utf8().unwrap().count();
            assert_eq!(left, usize::from(directory == "layer"), "{directory}");
        }
        let _ = shop.run("fetch --offline").success();
    }
}

#[test]
fn an_empty_store_is_no_error() {
    let home = kiln_testkit::Home::new();
    assert_eq!(checked(kiln(&home, "gc").run()).success().stdout, "freed 0 B, kept 0 B\n");
    assert!(!home.path().join(FACTORY).exists());
}
