//! Layers and known factories: many threads and processes, killed at any moment, on a full disk.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Silent};
use kiln_store::{Build, BuiltStage, FailedTree, LayerDraft, LayerFacts, LayerUse, Layers, MadeIds, Store, StoreError};

use crate::world::{Recorder, noise};

const BOOT: &str = "this-boot";

/// Tells the child what to do, through a variable, because the test harness owns its arguments.
const CHILD: &str = "KILN_STORE_TEST_LAYERS";

struct Place {
    directory: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&Utf8Path::from_path(directory.path()).unwrap().join("store")).unwrap();
        Self { directory, store }
    }

    fn layers(&self) -> Layers<'_> {
        self.store.layers(BOOT)
    }

    fn path(&self, path: &str) -> Utf8PathBuf {
        self.store.root().join(path)
    }

    /// Names in the store's directories, where anything that is being made or removed would be.
    fn left(&self) -> Vec<Utf8PathBuf> {
        let directories = ["draft", "trash", "tmp"].into_iter().flat_map(|name| list(&self.path(name)));
        directories.chain(list(&self.path("claim"))).filter(|path| path.file_name() != Some("open")).collect()
    }

    fn sweep(&self) {
        self.layers().sweep(&remove).unwrap();
    }
}

fn list(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut paths: Vec<_> = directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
    paths.sort();
    paths
}

fn remove(path: &Utf8Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

fn key(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

fn begin<'a>(layers: &Layers<'a>, name: &str) -> LayerDraft<'a> {
    layers.begin(&key(name), name, &Silent, &|| false).unwrap().unwrap()
}

fn facts(label: &str) -> LayerFacts {
    LayerFacts { class: "web".to_owned(), label: label.to_owned(), size_bytes: 5, ..LayerFacts::default() }
}

fn with_user(label: &str, id: u32) -> LayerFacts {
    let made = MadeIds { users: [("www".to_owned(), id)].into(), ..MadeIds::default() };
    LayerFacts { made, ..facts(label) }
}

/// Files whose content follows from the name of the stage.
fn fill(tree: &Utf8Path, name: &str, files: u64) {
    fs::create_dir(tree).unwrap();
    for number in 0..files {
        fs::write(tree.join(number.to_string()), noise(number, 2000)).unwrap();
    }
    fs::write(tree.join("name"), name).unwrap();
}

/// Carries out a stage that is not there; the layer, and whether it was made here.
fn stage(layers: &Layers<'_>, name: &str, files: u64) -> (LayerUse, bool) {
    let mut found = layers.find(&key(name)).unwrap();
    if let Some(layer) = found.pop() {
        return (layer, false);
    }
    let draft = begin(layers, name);
    if let Some(layer) = layers.find(&key(name)).unwrap().pop() {
        return (layer, false);
    }
    fill(&draft.tree(), name, files);
    (draft.keep(facts(name), format!("{name} {files}").as_bytes()).unwrap(), true)
}

/// Panics unless the layer is all that its maker put there.
fn check_whole(layer: &LayerUse) {
    let manifest = String::from_utf8(layer.manifest().unwrap().unwrap()).unwrap();
    let (name, files) = manifest.rsplit_once(' ').unwrap();
    assert_eq!(fs::read_to_string(layer.tree().join("name")).unwrap(), name);
    for number in 0..files.parse().unwrap() {
        assert_eq!(fs::read(layer.tree().join(number.to_string())).unwrap(), noise(number, 2000));
    }
    assert_eq!((&layer.record().base_key, layer.record().facts.label.as_str()), (&key(name), name));
}

#[test]
fn a_layer_is_found_by_its_stage_and_by_its_name() {
    let place = Place::new();
    let layers = place.layers();
    assert!(layers.find(&key("a")).unwrap().is_empty());
    let made = stage(&layers, "a", 3).0;
    check_whole(&made);
    let found = layers.find(&key("a")).unwrap();
    assert_eq!(found.iter().map(LayerUse::record).collect::<Vec<_>>(), [made.record()]);
    assert_eq!(layers.get(made.name()).unwrap().unwrap().record(), made.record());
    assert_eq!(made.record().name, MadeIds::default().layer_name(&key("a")));
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

#[test]
fn variants_of_a_stage_differ_in_the_ids_they_made() {
    let place = Place::new();
    let layers = place.layers();
    for id in [101, 102] {
        let draft = begin(&layers, "a");
        fill(&draft.tree(), "a", id.into());
        draft.keep(with_user("a", id), format!("a {id}").as_bytes()).unwrap();
    }
    let found = layers.find(&key("a")).unwrap();
    let ids: BTreeSet<u32> = found.iter().map(|layer| layer.record().facts.made.users["www"]).collect();
    assert_eq!(ids, [101, 102].into());
    found.iter().for_each(check_whole);
    assert!(layers.find(&key("b")).unwrap().is_empty());
}

#[test]
fn names_tell_ids_apart() {
    let ids = |users: &[(&str, u32)], groups: &[(&str, u32)]| {
        let owned = |ids: &[(&str, u32)]| ids.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        MadeIds { users: owned(users), groups: owned(groups) }.layer_name(&key("a"))
    };
    let names = [
        ids(&[], &[]),
        ids(&[("a", 1)], &[]),
        ids(&[], &[("a", 1)]),
        ids(&[("a", 12)], &[]),
        ids(&[("a 1", 2)], &[]),
        ids(&[("a", 1), ("b", 2)], &[]),
        ids(&[("a", 1)], &[("b", 2)]),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn the_same_layer_made_again_is_the_first_one() {
    let place = Place::new();
    let layers = place.layers();
    let first = stage(&layers, "a", 3).0;
    let draft = begin(&layers, "a");
    fill(&draft.tree(), "a", 1);
    let second = draft.keep(facts("a"), b"a 1").unwrap();
    assert_eq!(second.record(), first.record());
    check_whole(&second);
    place.sweep();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

#[test]
fn a_dropped_draft_leaves_nothing_that_counts() {
    let place = Place::new();
    let layers = place.layers();
    let draft = begin(&layers, "a");
    fill(&draft.tree(), "a", 3);
    draft.restart().unwrap();
    assert!(!draft.tree().exists());
    fill(&draft.tree(), "a", 3);
    drop(draft);
    assert!(layers.find(&key("a")).unwrap().is_empty());
    assert_eq!(layers.all().unwrap(), []);
    place.sweep();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

#[test]
fn a_draft_without_a_tree_is_refused() {
    let place = Place::new();
    assert!(matches!(begin(&place.layers(), "a").keep(facts("a"), b""), Err(StoreError::Io { .. })));
    assert_eq!(place.layers().all().unwrap(), []);
}

#[test]
fn what_was_not_flushed_before_the_machine_stopped_does_not_count() {
    let place = Place::new();
    drop(stage(&place.layers(), "flushed", 1));
    place.layers().flush(Timestamp::MIN).unwrap();
    assert!(place.store.layers("next-boot").find(&key("flushed")).unwrap().is_empty());
    place.layers().flush(Timestamp::MAX).unwrap();
    drop(stage(&place.layers(), "lost", 1));
    let next = place.store.layers("next-boot");
    assert!(next.find(&key("lost")).unwrap().is_empty());
    check_whole(&next.find(&key("flushed")).unwrap().pop().unwrap());
    let counts: Vec<bool> = next.all().unwrap().iter().map(|layer| layer.record.is_some()).collect();
    assert_eq!(counts.iter().filter(|counts| **counts).count(), 1);
    // The stage is carried out anew, over what is there.
    let (again, made) = stage(&next, "lost", 2);
    assert!(made);
    check_whole(&again);
    assert!(place.layers().find(&key("lost")).unwrap().is_empty());
    next.sweep(&remove).unwrap();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
    assert_eq!(next.all().unwrap().len(), 2);
}

#[test]
fn without_a_boot_id_each_layer_is_flushed() {
    let place = Place::new();
    drop(stage(&place.store.layers(""), "a", 1));
    check_whole(&place.store.layers("").find(&key("a")).unwrap().pop().unwrap());
    check_whole(&place.store.layers("any").find(&key("a")).unwrap().pop().unwrap());
}

/// Damages a whole layer, and expects that it is not taken for one, and goes.
fn check_damage(damage: impl Fn(&Utf8Path)) {
    let place = Place::new();
    let layers = place.layers();
    let name = *stage(&layers, "a", 1).0.name();
    damage(&place.path(&format!("layer/{name}")));
    assert!(layers.get(&name).unwrap().is_none());
    assert!(layers.find(&key("a")).unwrap().is_empty());
    place.sweep();
    assert_eq!(layers.all().unwrap(), []);
    assert_eq!(list(&place.path("stage")), Vec::<Utf8PathBuf>::new());
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
    check_whole(&stage(&layers, "a", 2).0);
}

#[test]
fn damaged_layers_do_not_count() {
    check_damage(|layer| fs::remove_file(layer.join("record")).unwrap());
    check_damage(|layer| fs::write(layer.join("record"), "{}").unwrap());
    check_damage(|layer| {
        let mut bytes = fs::read(layer.join("record")).unwrap();
        bytes[20] ^= 1;
        fs::write(layer.join("record"), bytes).unwrap();
    });
    check_damage(|layer| fs::remove_dir_all(layer).unwrap());
}

#[test]
fn a_layer_under_another_name_does_not_count() {
    let place = Place::new();
    let layers = place.layers();
    let name = *stage(&layers, "a", 1).0.name();
    fs::rename(place.path(&format!("layer/{name}")), place.path(&format!("layer/{}", key("other")))).unwrap();
    assert!(layers.get(&key("other")).unwrap().is_none());
    place.sweep();
    assert_eq!(layers.all().unwrap(), []);
}

#[test]
fn a_damaged_manifest_is_noticed() {
    let place = Place::new();
    let layer = stage(&place.layers(), "a", 1).0;
    fs::write(place.path(&format!("layer/{}/manifest", layer.name())), "a 2").unwrap();
    assert_eq!(layer.manifest().unwrap(), None);
}

#[test]
fn what_is_in_use_is_not_removed() {
    let place = Place::new();
    let layers = place.layers();
    let layer = stage(&layers, "a", 1).0;
    assert!(layers.all().unwrap()[0].in_use);
    assert!(!layers.discard(layer.name()).unwrap());
    place.sweep();
    check_whole(&layer);
    let name = *layer.name();
    drop(layer);
    assert!(!layers.all().unwrap()[0].in_use);
    assert!(layers.discard(&name).unwrap());
    assert!(layers.discard(&name).unwrap());
    assert!(layers.find(&key("a")).unwrap().is_empty());
    place.sweep();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

fn failure(class: &str, label: &str) -> FailedTree {
    FailedTree {
        factory: "/srv/shop".into(),
        class: class.to_owned(),
        label: label.to_owned(),
        below: vec![key("below")],
        reason: "script exited with 1".to_owned(),
        epoch: 7,
        at: Timestamp::UNIX_EPOCH,
    }
}

fn fail(layers: &Layers<'_>, class: &str, label: &str) {
    let draft = begin(layers, label);
    fill(&draft.tree(), label, 1);
    draft.fail(&failure(class, label)).unwrap();
}

#[test]
fn each_class_has_one_failed_tree() {
    let place = Place::new();
    let layers = place.layers();
    for (class, label) in [("web", "step 1"), ("web", "step 2"), ("db", "step 1")] {
        fail(&layers, class, label);
    }
    let web = layers.failed("/srv/shop".into(), "web").unwrap().unwrap();
    assert_eq!(web.failed, failure("web", "step 2"));
    assert_eq!(fs::read_to_string(web.tree.join("name")).unwrap(), "step 2");
    assert_eq!(layers.all_failed().unwrap().len(), 2);
    assert!(layers.failed("/srv/other".into(), "web").unwrap().is_none());
    assert_eq!(layers.all().unwrap(), []);
    layers.forget_failed("/srv/shop".into(), "db").unwrap();
    layers.forget_failed("/srv/shop".into(), "none").unwrap();
    assert!(layers.failed("/srv/shop".into(), "db").unwrap().is_none());
    assert_eq!(layers.all_failed().unwrap().len(), 1);
}

#[test]
fn a_shell_in_a_failed_tree_outlives_the_next_failure() {
    let place = Place::new();
    let layers = place.layers();
    fail(&layers, "web", "step 1");
    let used = layers.failed("/srv/shop".into(), "web").unwrap().unwrap();
    let directory = fs::File::open(&used.tree).unwrap();
    fail(&layers, "web", "step 2");
    place.sweep();
    let trashed = list(&place.path("trash"));
    assert_eq!(trashed.len(), 1);
    assert!(trashed[0].join("tree/name").exists());
    drop((used, directory));
    place.sweep();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

#[test]
fn threads_make_each_layer_once() {
    let place = Place::new();
    let events = Recorder::default();
    let made = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (place, made) = (&place, &made);
            scope.spawn(move || {
                for number in 0..10 {
                    let name = format!("stage {}", (number + thread) % 10);
                    let (layer, is_new) = stage(&place.layers(), &name, 20);
                    check_whole(&layer);
                    made.fetch_add(is_new.into(), std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(made.into_inner(), 10);
    assert_eq!(place.layers().all().unwrap().len(), 10);
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
    drop(events);
}

#[test]
fn who_waits_says_so_and_may_be_told_to_stop() {
    let place = Place::new();
    let layers = place.layers();
    let draft = begin(&layers, "a");
    let events = Recorder::default();
    let cancelled = || !events.all().is_empty();
    assert!(layers.begin(&key("a"), "packages", &events, &cancelled).unwrap().is_none());
    assert_eq!(events.all(), [Event::Waiting { reason: "another process is building packages".to_owned() }]);
    drop(draft);
    assert!(!begin(&layers, "a").waited());
}

#[test]
fn nobody_is_alone_with_a_store_that_others_use() {
    let place = Place::new();
    let other = Store::open(place.store.root()).unwrap();
    assert!(place.store.alone().unwrap().is_none());
    // Having asked changes nothing: the other is not alone either.
    assert!(other.alone().unwrap().is_none());
    drop(other);
    let alone = place.store.alone().unwrap().unwrap();
    let root = place.store.root().to_owned();
    let opening = std::thread::spawn(move || Store::open(&root).unwrap());
    std::thread::sleep(Duration::from_millis(30));
    assert!(!opening.is_finished());
    drop(alone);
    let other = opening.join().unwrap();
    assert!(place.store.alone().unwrap().is_none());
    drop(other);
}

fn build(class: &str, layer: &str) -> Build {
    let stage = BuiltStage {
        label: "packages".to_owned(),
        class: class.to_owned(),
        base_key: key("base"),
        layer: key(layer),
        tools: Some(key("tools")),
        inputs: vec![("package nginx".to_owned(), "1.26".to_owned())],
    };
    Build { class: class.to_owned(), at: Timestamp::UNIX_EPOCH, stages: vec![stage], tree: Some(key("tree")) }
}

#[test]
fn factories_and_their_last_builds_are_known() {
    let place = Place::new();
    let store = &place.store;
    assert_eq!(store.factories().unwrap(), []);
    store.note_factory("/srv/shop".into()).unwrap();
    for (class, layer) in [("web", "1"), ("db", "1"), ("web", "2")] {
        store.keep_build("/srv/shop".into(), &build(class, layer)).unwrap();
    }
    store.keep_build("/srv/a".into(), &build("web", "3")).unwrap();
    let factories = store.factories().unwrap();
    let known: Vec<_> = factories.iter().map(|factory| (factory.directory.as_str(), factory.builds.clone())).collect();
    let expected = [("/srv/a", vec![build("web", "3")]), ("/srv/shop", vec![build("db", "1"), build("web", "2")])];
    assert_eq!(known, expected);
    assert_eq!(store.last_build("/srv/shop".into(), "web").unwrap(), Some(build("web", "2")));
    store.forget_build("/srv/shop".into(), "web").unwrap();
    assert_eq!(store.last_build("/srv/shop".into(), "web").unwrap(), None);
    store.forget_factory("/srv/shop".into()).unwrap();
    store.forget_factory("/srv/shop".into()).unwrap();
    assert_eq!(store.factories().unwrap().len(), 1);
    assert_eq!(build("web", "1").layers_and_tools().copied().collect::<Vec<_>>(), [key("1"), key("tools")]);
}

#[test]
fn torn_builds_and_factories_are_none() {
    let place = Place::new();
    place.store.keep_build("/srv/shop".into(), &build("web", "1")).unwrap();
    let [factory] = &list(&place.path("factory"))[..] else { panic!("one factory") };
    let files = list(factory);
    for file in &files {
        fs::write(file, "torn").unwrap();
    }
    assert_eq!(place.store.factories().unwrap(), []);
    assert_eq!(place.store.last_build("/srv/shop".into(), "web").unwrap(), None);
    place.store.keep_build("/srv/shop".into(), &build("web", "1")).unwrap();
    assert_eq!(place.store.factories().unwrap()[0].builds, [build("web", "1")]);
}

/// The other tests here start this one as another process, with orders; without, it carries out a stage of its own.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "the parent passes its orders this way")]
    match std::env::var(CHILD) {
        Ok(orders) => carry_out(&orders),
        Err(_) => {
            let place = Place::new();
            carry_out(&format!("{}\n2\n1", place.store.root()));
            assert_eq!(place.layers().all().unwrap().len(), 2);
        }
    }
}

/// Carries out stages until there are enough; says how many of them it made itself.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn carry_out(orders: &str) {
    let words: Vec<&str> = orders.lines().collect();
    let (stages, files) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let store = Store::open(words[0].into()).unwrap();
    let layers = store.layers(BOOT);
    let mut made = 0;
    for number in 0..stages {
        made += u64::from(stage(&layers, &format!("stage {number}"), files).1);
    }
    layers.sweep(&remove).unwrap();
    println!("\nCHILD made {made}.");
}

fn child_command(around: &str, store: &Utf8Path, stages: u64, files: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", around, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["layers::child", "--exact", "--nocapture"]);
    command.env(CHILD, format!("{store}\n{stages}\n{files}")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(place: &Place, stages: u64, files: u64) -> Child {
    child_command(r#"exec "$@""#, place.store.root(), stages, files).spawn().unwrap()
}

#[test]
fn processes_make_each_layer_once() {
    let place = Place::new();
    let children: Vec<Child> = (0..4).map(|_| spawn(&place, 12, 30)).collect();
    let mut made = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.split_once("CHILD made ").and_then(|(_, said)| said.split_once('.'));
        made += said.unwrap_or_else(|| panic!("the child said {text}")).0.parse::<u64>().unwrap();
    }
    assert_eq!(made, 12);
    let all = place.layers().all().unwrap();
    assert_eq!(all.len(), 12);
    all.iter().for_each(|layer| check_whole(&place.layers().get(&layer.name).unwrap().unwrap()));
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

/// Kills children at moments that are spread over all that they do, and looks at what is left.
#[test]
fn a_process_killed_at_any_moment_leaves_a_good_store() {
    let place = Place::new();
    let count = || list(&place.path("layer")).len();
    for round in 0..20 {
        let before = count();
        // More than it can make before it is killed.
        let mut child = spawn(&place, 100_000, 40);
        while count() < before + 2 {
            assert!(child.try_wait().unwrap().is_none(), "the child failed");
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_micros(round * 137));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        for layer in place.layers().all().unwrap() {
            check_whole(&place.layers().get(&layer.name).unwrap().expect("a directory with a layer's name is one"));
        }
        if round % 5 == 0 {
            place.sweep();
            assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
        }
    }
    let stages = count() as u64 + 5;
    assert!(spawn(&place, stages, 40).wait().unwrap().success());
    assert_eq!(count() as u64, stages);
    place.sweep();
    assert_eq!(place.left(), Vec::<Utf8PathBuf>::new());
}

/// One thread makes, others look and remove: nobody ever holds what is not whole.
#[test]
fn looking_and_removing_beside_making() {
    let place = Place::new();
    let child = spawn(&place, 30, 10);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let mut removed = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for layer in place.layers().all().unwrap() {
                    removed += u64::from(place.layers().discard(&layer.name).unwrap());
                }
                place.sweep();
            }
            removed
        });
        let output = child.wait_with_output().unwrap();
        for number in 0..30 {
            check_whole(&stage(&place.layers(), &format!("stage {number}"), 10).0);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(remover.join().unwrap() > 0);
    });
}

#[test]
fn looking_at_all_layers_hides_none() {
    let place = Place::new();
    let name = *stage(&place.layers(), "a", 1).0.name();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(place.layers().all().unwrap()[0].record.is_some());
                }
            });
        }
        for _ in 0..5000 {
            assert!(place.layers().get(&name).unwrap().is_some());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_full_disk_leaves_a_good_store() {
    let place = Place::new();
    let possible =
        |how: &&str| Command::new("unshare").args([how, "true"]).output().is_ok_and(|output| output.status.success());
    let Some(how) = ["-m", "-rm"].into_iter().find(possible) else {
        return kiln_testkit::cannot_test("this system gives nobody a mount name space");
    };
    let root = place.store.root();
    let outside = place.directory.path().join("seen");
    // A private mount name space: the small disk is gone with the shell, which copies what is left on it.
    let around = format!(
        r#"exec unshare {how} sh -c 'mount -t tmpfs -o size=1m kiln {root} && {{ "$@"; code=$?; cp -a {root} {}; exit $code; }}' sh "$@""#,
        outside.display()
    );
    let output = child_command(&around, root, 400, 3).output().unwrap();
    assert!(!output.status.success(), "the disk was not full");
    let seen = Store::open(Utf8Path::from_path(&outside).unwrap()).unwrap();
    let all = seen.layers(BOOT).all().unwrap();
    assert!(!all.is_empty());
    for layer in &all {
        check_whole(&seen.layers(BOOT).get(&layer.name).unwrap().unwrap());
    }
    seen.layers(BOOT).sweep(&remove).unwrap();
    let (layer, made) = stage(&seen.layers(BOOT), "stage 399", 3);
    assert!(made);
    check_whole(&layer);
}
