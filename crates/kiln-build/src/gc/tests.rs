//! What is decided about each thing.

use kiln_store::LeftoverKind;

use super::*;

const SHOP: &str = "/srv/shop";

fn digest(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

fn digests(names: &[&str]) -> BTreeSet<Sha256> {
    names.iter().map(|name| digest(name)).collect()
}

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn days_ago(days: i64) -> Timestamp {
    now() - SignedDuration::from_hours(24 * days)
}

fn there(classes: &[&str], files: &[&str]) -> FactoryState {
    let classes = Some(classes.iter().map(|class| (*class).to_owned()).collect());
    FactoryState::There { classes, files: Some(digests(files)) }
}

fn factory(directory: &str, state: FactoryState, builds: &[(&str, &[&str])]) -> FactoryFacts {
    let builds = builds.iter().map(|(class, layers)| ((*class).to_owned(), digests(layers))).collect();
    FactoryFacts { directory: directory.into(), state, builds }
}

fn facts(factories: Vec<FactoryFacts>) -> Facts {
    Facts {
        now: now(),
        others_at_work: false,
        factories,
        files: Vec::new(),
        derived: Vec::new(),
        layers: Vec::new(),
        failed: Vec::new(),
        leftovers: Vec::new(),
    }
}

/// A shop with a class web, whose lock has `nginx` and whose last build is of `base` and `web`.
fn shop() -> Facts {
    facts(vec![factory(SHOP, there(&["web"], &["nginx"]), &[("web", &["base", "web"])])])
}

fn elsewhere(state: FactoryState) -> Facts {
    let mut facts = shop();
    facts.factories.push(factory("/srv/other", state, &[("db", &["base", "db"])]));
    facts
}

fn derived(kind: &str, key: &str, days: i64) -> DerivedEntry {
    DerivedEntry { kind: kind.to_owned(), key: digest(key), size_bytes: 1, modified: days_ago(days) }
}

fn failed(directory: &str, class: &str, days: i64) -> FailedFacts {
    let of = Some((directory.into(), class.to_owned(), days_ago(days)));
    FailedFacts { name: digest("failed"), of, below: digests(&["below"]), size_bytes: 1 }
}

/// The verdict on the last thing in the plan, as people read it.
fn check(facts: &Facts, expected: &str) {
    let plan = plan(facts);
    let Verdict { goes, reason, .. } = plan.verdicts.last().unwrap();
    assert_eq!(format!("{}{reason}", if *goes { "goes: " } else { "stays: " }), expected);
}

fn check_file(mut facts: Facts, name: &str, expected: &str) {
    facts.files.push(Entry { digest: digest(name), size_bytes: 1 });
    check(&facts, expected);
}

fn check_layer(mut facts: Facts, name: &str, class: Option<&str>, in_use: bool, expected: &str) {
    let class = class.map(str::to_owned);
    facts.layers.push(LayerFacts { name: digest(name), class, size_bytes: 1, in_use });
    check(&facts, expected);
}

fn check_derived(mut facts: Facts, entry: DerivedEntry, expected: &str) {
    facts.derived.push(entry);
    check(&facts, expected);
}

fn check_failed(mut facts: Facts, failed: FailedFacts, expected: &str) {
    facts.failed.push(failed);
    check(&facts, expected);
}

fn unreadable() -> FactoryState {
    FactoryState::There { classes: None, files: None }
}

fn busy() -> Facts {
    Facts { others_at_work: true, ..shop() }
}

#[test]
fn files_stay_where_a_lock_has_them() {
    check_file(shop(), "nginx", "stays: locked in /srv/shop");
    check_file(shop(), "apache", "goes: in no known factory's lock");
    check_file(facts(Vec::new()), "nginx", "goes: in no known factory's lock");
    check_file(elsewhere(there(&[], &["apache"])), "apache", "stays: locked in /srv/other");
    check_file(elsewhere(FactoryState::Gone), "apache", "goes: in no known factory's lock");
    check_file(
        elsewhere(unreadable()),
        "apache",
        "stays: the lock in /srv/other cannot be read, and may claim anything",
    );
    check_file(elsewhere(unreadable()), "nginx", "stays: locked in /srv/shop");
    check_file(busy(), "apache", "stays: claimed by nobody yet, while another kiln is at work");
    check_file(busy(), "nginx", "stays: locked in /srv/shop");
}

#[test]
fn forms_of_files_stay_with_their_files() {
    check_derived(shop(), derived(UNPACKED, "nginx", 90), "stays: locked in /srv/shop");
    check_derived(shop(), derived(UNPACKED, "apache", 0), "goes: in no known factory's lock");
    check_derived(shop(), derived("unpacked-v0", "nginx", 0), "goes: of another version of kiln");
    check_derived(busy(), derived("unpacked-v0", "nginx", 0), "stays: locked in /srv/shop");
    check_derived(
        busy(),
        derived(UNPACKED, "apache", 0),
        "stays: claimed by nobody yet, while another kiln is at work",
    );
    check_derived(shop(), derived("packages-v1-amd64", "nginx", 90), "stays: locked in /srv/shop");
    check_derived(shop(), derived("packages-v0-amd64", "nginx", 90), "goes: of another version of kiln");
    check_derived(shop(), derived("tree-facts-v1", "anything", 29), "stays: recent");
    check_derived(shop(), derived("tree-facts-v1", "nginx", 31), "goes: left for too long");
}

#[test]
fn layers_stay_with_the_last_build() {
    check_layer(shop(), "web", Some("web"), false, "stays: of last builds in /srv/shop");
    check_layer(shop(), "old", Some("web"), false, "goes: of class web, replaced by newer builds");
    check_layer(shop(), "old", Some("web"), true, "stays: in use now");
    check_layer(shop(), "old", Some("db"), false, "goes: of class db, which no known factory has");
    check_layer(shop(), "web", None, false, "goes: not whole, or lost when the machine stopped");
    check_layer(elsewhere(there(&["db"], &[])), "db", Some("db"), false, "stays: of last builds in /srv/other");
    // Its class has left the factory, or the factory its directory.
    check_layer(elsewhere(there(&[], &[])), "db", Some("db"), false, "goes: of class db, which no known factory has");
    check_layer(
        elsewhere(FactoryState::Gone),
        "db",
        Some("db"),
        false,
        "goes: of class db, which no known factory has",
    );
    check_layer(elsewhere(FactoryState::Gone), "base", Some("db"), false, "stays: of last builds in /srv/shop");
    check_layer(elsewhere(unreadable()), "db", Some("db"), false, "stays: of last builds in /srv/other");
    // Other processes at work hold what they use.
    check_layer(busy(), "old", Some("web"), false, "goes: of class web, replaced by newer builds");
}

#[test]
fn failed_trees_stay_for_a_week_with_what_is_below_them() {
    check_failed(shop(), failed(SHOP, "web", 6), "stays: recent");
    check_failed(shop(), failed(SHOP, "web", 8), "goes: left for too long");
    check_failed(shop(), failed(SHOP, "db", 0), "goes: of classes that their factory no longer has");
    check_failed(elsewhere(FactoryState::Gone), failed("/srv/other", "db", 0), "goes: of factories that are gone");
    let below = |days| {
        let mut facts = Facts { failed: vec![failed(SHOP, "web", days)], ..shop() };
        facts.layers.push(LayerFacts {
            name: digest("below"),
            class: Some("web".to_owned()),
            size_bytes: 1,
            in_use: false,
        });
        let plan = plan(&facts);
        let layer = plan.verdicts.iter().find(|verdict| verdict.thing == Thing::Layer(digest("below")));
        layer.unwrap().reason.to_string()
    };
    assert_eq!(below(6), "below failed trees");
    assert_eq!(below(8), "of class web, replaced by newer builds");
}

#[test]
fn leftovers_go_when_nobody_comes_back_for_them() {
    let check_leftover = |kind, days, expected: &str| {
        let leftover = Leftover { kind, name: "x".to_owned(), size_bytes: 1, modified: days_ago(days) };
        check(&Facts { leftovers: vec![leftover], ..shop() }, expected);
    };
    check_leftover(LeftoverKind::Partial, 6, "stays: recent");
    check_leftover(LeftoverKind::Partial, 8, "goes: left for too long");
    // A file of the future is not old.
    check_leftover(LeftoverKind::Partial, -9, "stays: recent");
    check_leftover(LeftoverKind::Quarantined, 0, "goes: damaged");
}

#[test]
fn factories_and_builds_are_forgotten_with_their_directory() {
    let shares = |facts: &Facts| {
        let text = |share: &Share| format!("{:?} {} {} {}", share.group, share.goes, share.count, share.reason);
        plan(facts).shares().iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(shares(&shop()), ["Factories false 1 /srv/shop", "Builds false 1 of last builds in /srv/shop"]);
    let gone = shares(&elsewhere(FactoryState::Gone));
    assert_eq!(
        gone,
        [
            "Factories false 1 /srv/shop",
            "Factories true 1 /srv/other is gone",
            "Builds false 1 of last builds in /srv/shop"
        ]
    );
    let without_class = shares(&elsewhere(there(&["web"], &[])));
    assert_eq!(without_class[3], "Builds true 1 of classes that their factory no longer has");
}

#[test]
fn shares_add_up() {
    let mut facts = shop();
    let sizes = [("nginx", 1), ("a", 20), ("b", 300)];
    facts.files = sizes.map(|(name, size_bytes)| Entry { digest: digest(name), size_bytes }).into();
    let plan = plan(&facts);
    assert_eq!(plan.freed_bytes(), 320);
    let files: Vec<(bool, u64, u64)> = plan
        .shares()
        .iter()
        .filter(|share| share.group == Group::Files)
        .map(|share| (share.goes, share.count, share.size_bytes))
        .collect();
    assert_eq!(files, [(false, 1, 1), (true, 2, 320)]);
}
