//! What is chosen, rule by rule.

use std::collections::BTreeMap;

use kiln_debian::solve::{Engine, Request};
use kiln_debian::universe::{Universe, UniverseError};

use crate::world::{check, local, request, solved, source, universe, way};

/// What a request selects from one source; and by which engine.
#[track_caller]
fn choose(lines: &str, wanted: &str, expected: &str) -> Engine {
    check(&universe(lines), &request(wanted), expected).engine
}

#[track_caller]
fn choose_recommended(lines: &str, wanted: &str, expected: &str) {
    check(&universe(lines), &Request { recommends: true, ..request(wanted) }, expected);
}

#[test]
fn first_alternative_is_taken() {
    choose("a 1; Depends: b | c\nb 1\nc 1", "a", "a b");
    choose("a 1; Depends: b | c\nc 1", "a", "a c");
    choose("a 1; Depends: b (>= 2) | c\nb 1\nc 1", "a", "a c");
    choose("a 1; Depends: b | c\nb 1; Depends: missing\nc 1", "a", "a c");
}

#[test]
fn what_is_there_already_satisfies() {
    choose("a 1; Depends: b | c\nb 1\nc 1", "a, c", "a c");
    // logrotate: the cron that comes earlier by another way is not joined by the first alternative.
    choose(
        "x 1; Depends: anacron, logrotate\nlogrotate 1; Depends: cron | anacron\ncron 1\nanacron 1",
        "x",
        "anacron logrotate x",
    );
}

#[test]
fn depth_first_takes_the_first_alternative_even_if_another_comes_later() {
    // fonts: apt has both, because the second came after the choice.
    choose(
        "x 1; Depends: fonts-a | fonts-b, y\ny 1; Depends: fonts-b\nfonts-a 1\nfonts-b 1",
        "x",
        "fonts-a fonts-b x y",
    );
}

#[test]
fn pre_dependencies_come_before_dependencies() {
    choose("x 1; Depends: mawk | gawk; Pre-Depends: gawk\nmawk 1\ngawk 1", "x", "gawk x");
}

#[test]
fn virtual_packages() {
    let mail = "x 1; Depends: exim | mail-agent\nexim 1; Provides: mail-agent; Conflicts: mail-agent\n\
                postfix 1; Provides: mail-agent; Conflicts: mail-agent";
    choose(mail, "x", "exim x");
    choose(mail, "x, postfix", "postfix x");
    // A real package goes before those that provide its name.
    choose("x 1; Depends: a\nb 1; Provides: a\na 1", "x", "a x");
}

#[test]
fn providers_are_ranked_by_importance() {
    let provider = |name: &str, fields: &str| format!("{name} 1; Provides: v{fields}\n");
    let world = |providers: &[String]| format!("x 1; Depends: v\n{}", providers.concat());
    let plain = provider("c", "");
    choose(&world(&[provider("a", "; Priority: extra"), provider("b", "; Priority: optional")]), "x", "b x");
    choose(
        &world(&[provider("a", "; Priority: required"), provider("b", "; Protected: yes"), plain.clone()]),
        "x",
        "b x",
    );
    choose(&world(&[provider("a", "; Essential: yes"), provider("b", "; Important: yes"), plain]), "x", "a x");
    // Equal in all: the one that the index mentions last.
    choose(&world(&[provider("a", ""), provider("b", "")]), "x", "b x");
    choose(&format!("w 1; Suggests: b\n{}", world(&[provider("a", ""), provider("b", "")])), "x", "a x");
}

#[test]
fn provided_versions() {
    let world = "x 1; Depends: v (>= 2)\na 1; Provides: v\nb 1; Provides: v (= 1)\nc 1; Provides: v (= 2)";
    choose(world, "x", "c x");
    choose("x 1; Depends: v\na 1; Provides: v (= 1)", "x", "a x");
    // Only an exact version can be provided; anything else is as if it were not there.
    assert!(solved(&universe("x 1; Depends: v\na 1; Provides: v (>= 1)"), &request("x")).is_err());
}

#[test]
fn conflict_with_what_is_provided_spares_the_package_itself() {
    choose("a 1; Provides: v; Conflicts: v", "a", "a");
    let both = universe("a 1; Provides: v; Conflicts: v\nb 1; Provides: v");
    assert!(solved(&both, &request("a, b")).is_err());
}

#[test]
fn conflicts_and_breaks_count_in_both_directions() {
    for field in ["Conflicts", "Breaks"] {
        choose(&format!("x 1; Depends: a | b\na 1; {field}: y\nb 1\ny 1"), "y, x", "b x y");
        choose(&format!("x 1; Depends: a | b\na 1\nb 1\ny 1; {field}: a (<< 2)"), "y, x", "b x y");
        choose(&format!("x 1; Depends: a | b\na 2\nb 1\ny 1; {field}: a (<< 2)"), "y, x", "a x y");
    }
    // An unversioned `Provides` is not hit by a versioned conflict.
    choose("x 1; Conflicts: v (<< 2)\na 1; Provides: v", "x, a", "a x");
}

#[test]
fn only_alternative_evicts_what_is_in_its_way() {
    // libreoffice-writer: core-nogui was the first alternative of a part, core is the only one of another.
    let office = "writer 1; Depends: base, gui\nbase 1; Depends: core-nogui | core\ngui 1; Depends: core\n\
                  core 1; Conflicts: core-nogui\ncore-nogui 1; Depends: extra\nextra 1";
    assert_eq!(choose(office, "writer", "base core gui writer"), Engine::Greedy);
    // What was asked for is never evicted.
    assert!(solved(&universe(office), &request("writer, core-nogui")).is_err());
}

#[test]
fn what_an_evicted_package_brought_stays_where_it_is_suggested() {
    let office = "writer 1; Depends: base, gui\nbase 1; Depends: core-nogui | core\ngui 1; Depends: core\n\
                  core 1; Conflicts: core-nogui; Suggests: printing\ncore-nogui 1; Depends: extra, tools\n\
                  extra 1\ntools 1; Depends: printer; Recommends: colour\nprinter 1; Provides: printing; Depends: ink\n\
                  ink 1; Suggests: colour\ncolour 1";
    // extra and tools go; colour was not brought in, so that a suggestion alone does not bring it.
    choose(office, "writer", "base core gui ink printer writer");
    // Once locked, it stays so.
    let locked = ["base", "core", "gui", "ink", "printer", "writer"].map(|name| (name.to_owned(), "1".to_owned()));
    let again = Request { locked: locked.into(), ..request("writer") };
    check(&universe(office), &again, "base core gui ink printer writer");
    choose_recommended(office, "writer", "base colour core gui ink printer writer");
    // Without an eviction nothing is taken for a suggestion.
    choose(office, "core", "core");
}

#[test]
fn what_a_failed_alternative_brought_stays_where_it_is_suggested() {
    // chromium with sysvinit-core: the user's bus fails on the init system; the system's bus, which it brought, stays.
    let world = "browser 1; Depends: user-bus | x11-bus; Suggests: system-bus\nuser-bus 1; Depends: bus, pam, lost\n\
                 pam 1; Depends: system-bus, systemd\nsystemd 1; Conflicts: init\nsystem-bus 1; Depends: common\n\
                 common 1\nbus 1\nlost 1\nx11-bus 1; Depends: bus\ninit 1; Provides: systemd-less";
    choose(world, "init, browser", "browser bus common init system-bus x11-bus");
    choose(world, "browser", "browser bus common lost pam system-bus systemd user-bus");
    // Where nobody suggests it, nothing stays.
    choose(&world.replace("Suggests", "Enhances"), "init, browser", "browser bus init x11-bus");
}

#[test]
fn what_a_lock_has_and_nobody_needs_goes_though_it_is_suggested() {
    let universe = universe("x 1; Suggests: y\ny 1");
    let locked = [("x", "1"), ("y", "1")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    check(&universe, &Request { locked: locked.into(), ..request("x") }, "x");
}

#[test]
fn complete_engine_finds_what_the_greedy_one_does_not() {
    // golang protobuf: the first alternative of two choices excludes what the second needs whatever it chooses.
    let world = "x 1; Depends: p1 | p2, y\ny 1; Depends: q | r\nq 1; Depends: z\nr 1; Depends: z\n\
                 p1 1; Conflicts: q, r\np2 1\nz 1";
    assert_eq!(choose(world, "x", "p2 q x y z"), Engine::Complete);
}

#[test]
fn long_chains_do_not_overflow() {
    let link = |number: usize| format!("p{number} 1; Depends: p{}\n", number + 1);
    let mut lines: String = (0..5000).map(link).collect();
    lines += "p5000 1";
    let universe = universe(&lines);
    assert_eq!(solved(&universe, &request("p0")).unwrap().packages.len(), 5001);
    lines += "; Depends: missing";
    let error = solved(&crate::world::universe(&lines), &request("p0")).unwrap_err();
    assert_eq!(error.headline, "p0 cannot be installed");
    assert_eq!(error.details.last().unwrap().trim(), "there is no package missing");
}

#[test]
fn alternatives_that_all_fail_are_not_tried_for_ever() {
    let level = |number: usize| {
        let next = number + 1;
        format!(
            "p{number} 1; Depends: a{number} | b{number}\na{number} 1; Depends: p{next}\nb{number} 1; Depends: p{next}\n"
        )
    };
    let lines: String =
        (0..40).map(level).collect::<String>() + "p40 1; Depends: c | d\nc 1; Conflicts: x\nd 1; Depends: c\nx 1";
    let error = solved(&universe(&lines), &request("x, p0")).unwrap_err();
    assert_eq!(error.labels, [0, 1]);
}

#[test]
fn what_evicts_each_other_comes_to_an_end() {
    let rival = |number: usize| {
        let other = (number + 1) % 8;
        format!("r{number} 1; Conflicts: r{other}; Recommends: r{other}, s{number}\ns{number} 1; Depends: r{number}\n")
    };
    let lines = "x 1; Recommends: s0, s1, s2, s3\n".to_owned() + &(0..8).map(rival).collect::<String>();
    let universe = universe(&lines);
    let request = Request { recommends: true, ..request("x") };
    // None of the rivals can be with its only recommendation; any one of them alone is an answer.
    assert!(solved(&universe, &request).unwrap().packages.len() <= 3);
}

#[test]
fn multi_arch_qualifiers() {
    choose("x 1; Depends: py:any\npy 1; Multi-Arch: allowed", "x", "py x");
    choose("x 1; Depends: py:amd64, z:native\npy 1\nz 1", "x", "py x z");
    for world in
        ["x 1; Depends: py:any\npy 1", "x 1; Depends: py:any\na 1; Provides: py", "x 1; Depends: py:arm64\npy 1"]
    {
        assert!(solved(&universe(world), &request("x")).is_err(), "{world}");
    }
    // `:any` in a conflict means the package, another architecture does not.
    assert!(solved(&universe("x 1; Conflicts: y:any\ny 1"), &request("x, y")).is_err());
    choose("x 1; Conflicts: y:i386\ny 1", "x, y", "x y");
}

#[test]
fn other_architectures_are_not_there() {
    let error = solved(&universe("x 1; Architecture: arm64\ny 1; Architecture: amd64"), &request("x")).unwrap_err();
    assert_eq!(error.headline, "there is no package x");
}

#[test]
fn recommended_packages_are_optional() {
    let world = "x 1; Recommends: a, b | c, d\na 1; Depends: missing\nb 1; Conflicts: x\nc 1; Recommends: e\nd 1\ne 1";
    choose(world, "x", "x");
    choose_recommended(world, "x", "c d e x");
    // A recommendation that has no alternative evicts a mere choice, but nothing that was asked for.
    let office = "x 1; Depends: core-nogui | core; Recommends: core\ncore 1; Conflicts: core-nogui\ncore-nogui 1";
    choose_recommended(office, "x", "core x");
    choose_recommended(office, "x, core-nogui", "core-nogui x");
}

#[test]
fn recommended_packages_join_what_the_complete_engine_finds() {
    let world = "x 1; Depends: p1 | p2, y; Recommends: a, b\ny 1; Depends: q | r\nq 1\nr 1\np1 1; Conflicts: q, r\np2 1\n\
                 a 1; Recommends: c\nb 1; Conflicts: p2\nc 1";
    choose_recommended(world, "x", "a c p2 q x y");
}

#[test]
fn essential_packages() {
    let universe = universe(
        "base-files 1; Essential: yes; Depends: awk\nmawk 1; Provides: awk\napt 1\nx 1\nlogin 1; Protected: yes",
    );
    let essential = Request { essential: true, ..request("x") };
    let selection = check(&universe, &essential, "apt base-files mawk x");
    assert_eq!(way(&universe, &selection, "mawk"), "mawk is in `Depends: awk` of base-files; base-files is essential");
    check(&universe, &Request { exclude: vec!["apt".to_owned()], ..essential }, "base-files mawk x");
}

#[test]
fn every_package_knows_the_shortest_way_to_it() {
    let universe =
        universe("x 1; Depends: a\na 1; Pre-Depends: b | c\nb 1; Recommends: d\nd 1\ny 1; Depends: z\nz 1; Depends: b");
    let selection = check(&universe, &Request { recommends: true, ..request("y, x") }, "a b d x y z");
    assert_eq!(way(&universe, &selection, "y"), "y is wanted by 0");
    let expected =
        "d is in `Recommends: d` of b; b is in `Depends: b` of z; z is in `Depends: z` of y; y is wanted by 0";
    assert_eq!(way(&universe, &selection, "d"), expected);
}

#[test]
fn provided_name_can_be_requested_if_one_package_provides_it() {
    let universe = universe("a 1; Provides: v\nx 1");
    check(&universe, &request("v, x"), "a x");
}

#[test]
fn requested_versions() {
    let world = "x 1\nx 2\nx 3; Depends: y (= 3)\ny 1\ny 3";
    choose(world, "x", "x=3 y=3");
    choose(world, "x (<< 3)", "x=2");
    choose(world, "x (= 1)", "x=1");
    choose(world, "x (>= 2), x (<= 2)", "x=2");
    assert!(solved(&universe(world), &request("x, y (= 1)")).is_ok(), "an older x fits the older y");
}

#[test]
fn requested_version_brings_its_sisters() {
    let world = "dev 1; Depends: lib (= 1)\ndev 2; Depends: lib (= 2)\nlib 1\nlib 2";
    assert_eq!(choose(world, "dev, lib (= 1)", "dev=1 lib=1"), Engine::Complete);
    // Without a version in the request, older ones are not offered, as with apt.
    let error = solved(&universe("dev 1\ndev 2; Depends: missing"), &request("dev")).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("it works with older versions: request dev=1"));
}

fn with_lock(wanted: &str, locked: &[(&str, &str)]) -> Request {
    let locked = locked.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
    Request { locked: locked.collect(), ..request(wanted) }
}

#[test]
fn locked_versions_stay() {
    let world = universe("dev 1; Depends: lib (= 1)\ndev 2; Depends: lib (= 2)\nlib 1\nlib 2");
    check(&world, &with_lock("dev", &[("dev", "1"), ("lib", "1")]), "dev=1 lib=1");
    // What is new comes in its newest version, and moves what it must.
    check(&world, &with_lock("dev", &[("lib", "1")]), "dev=2 lib=2");
    check(&world, &with_lock("dev (= 1)", &[("lib", "1")]), "dev=1 lib=1");
    // A version that is gone is as if it had not been locked.
    check(&world, &with_lock("lib", &[("lib", "0")]), "lib=2");
    check(&world, &with_lock("lib", &[("dev", "1")]), "lib=2");
}

/// A lock of version 1 of each.
fn with_names_locked(wanted: &str, names: &[&str]) -> Request {
    with_lock(wanted, &names.iter().map(|&name| (name, "1")).collect::<Vec<_>>())
}

#[test]
fn locked_alternative_stays_when_something_is_added() {
    let world = universe("foo 1; Depends: aa | bb\naa 1\nbb 1\nzz 1");
    check(&world, &request("foo, zz"), "aa foo zz");
    check(&world, &with_names_locked("foo, zz", &["foo", "bb"]), "bb foo zz");
    // Given free, as for an update of bb, Debian's order counts again.
    check(&world, &with_names_locked("foo, zz", &["foo"]), "aa foo zz");
    // A version that is gone does not answer any more.
    check(&world, &with_lock("foo, zz", &[("foo", "1"), ("bb", "0")]), "aa foo zz");
    // What is requested goes before what is locked, and so does what is excluded.
    check(&world, &with_names_locked("foo, aa", &["foo", "bb"]), "aa foo");
    let excluding = Request { exclude: vec!["bb".to_owned()], ..with_names_locked("foo, zz", &["foo", "bb"]) };
    check(&world, &excluding, "aa foo zz");
    let base = Request { base: vec![world.candidate("aa").unwrap()], ..with_names_locked("foo, zz", &["foo", "bb"]) };
    check(&world, &base, "aa foo zz");
}

#[test]
fn locked_alternative_keeps_what_it_needs() {
    let world = universe(
        "foo 1; Depends: aa | bb; Recommends: ra | rb\naa 1; Depends: x\nbb 1; Depends: cc | dd\ncc 1\n\
         dd 1; Depends: ee | ff\nee 1\nff 1\nra 1\nrb 1\nx 1\nzz 1",
    );
    let locked = ["foo", "bb", "dd", "ff", "rb"];
    check(&world, &with_names_locked("foo, zz", &locked), "bb dd ff foo zz");
    let recommends = Request { recommends: true, ..with_names_locked("foo, zz", &locked) };
    check(&world, &recommends, "bb dd ff foo rb zz");
    // What nobody needs any more goes, and the rest stays.
    check(&world, &with_names_locked("foo", &["foo", "bb", "dd", "ff", "x", "zz"]), "bb dd ff foo");
}

#[test]
fn locked_alternative_goes_where_it_cannot_stay() {
    let lines =
        "foo 1; Depends: aa | bb; Pre-Depends: pp | qq\naa 1; Conflicts: bb\nbb 1\npp 1\nqq 1\nnew 1; Depends: aa";
    let world = universe(lines);
    check(&world, &with_names_locked("foo, new", &["foo", "bb", "qq"]), "aa foo new qq");
    check(&world, &with_names_locked("foo, new", &["foo", "bb", "pp"]), "aa foo new pp");
    // Beside the other it may stay.
    let world = universe(&lines.replace("; Conflicts: bb", ""));
    check(&world, &with_names_locked("foo, new", &["foo", "bb", "pp"]), "aa bb foo new pp");
}

#[test]
fn complete_engine_keeps_locked_alternatives() {
    let world = universe(
        "x 1; Depends: p1 | p2, y\ny 1; Depends: q | r\nq 1\nr 1\np1 1; Conflicts: q, r\np2 1; Depends: s | t\n\
         s 1\nt 1\nzz 1",
    );
    let selection = check(&world, &with_names_locked("x, zz", &["x", "y", "p2", "r", "t"]), "p2 r t x y zz");
    assert_eq!(selection.engine, Engine::Complete);
    check(&world, &with_names_locked("x, zz", &["x", "y", "r", "t"]), "p2 r t x y zz");
}

#[test]
fn locked_choice_between_equals_stays() {
    let world = universe("x 1; Depends: v\na 1; Provides: v\nb 1; Provides: v");
    check(&world, &request("x"), "b x");
    check(&world, &with_lock("x", &[("a", "1")]), "a x");
    check(&world, &with_lock("x", &[("a", "gone")]), "a x");
}

#[test]
fn base_stays_as_it_is() {
    let world =
        universe("dev 1; Depends: lib (= 1)\ndev 2; Depends: lib (= 2)\nlib 1\nlib 2\nx 1; Depends: a | b\na 1\nb 1");
    let on = |wanted: &str, base: &[(&str, &str)]| {
        let base = base.iter().map(|(name, version)| world.find(name, version).unwrap());
        Request { base: base.collect(), ..request(wanted) }
    };
    let selection = check(&world, &on("dev", &[("lib", "1")]), "dev=1 lib=1");
    assert_eq!(way(&world, &selection, "lib"), "lib is in the base");
    check(&world, &on("x", &[("b", "1")]), "b x");
    // What the base has is there, needed or not, excluded or not.
    check(&world, &Request { exclude: vec!["b".to_owned()], ..on("x", &[("b", "1")]) }, "b x");
    check(&world, &on("", &[("lib", "1"), ("b", "1")]), "b lib=1");
}

#[test]
fn excluded_packages_are_never_chosen() {
    let world = universe("x 1; Depends: a | b\na 1\nb 1");
    let without =
        |names: &[&str]| Request { exclude: names.iter().map(|&name| name.to_owned()).collect(), ..request("x") };
    check(&world, &without(&["a"]), "b x");
    assert!(solved(&world, &without(&["a", "b"])).is_err());
}

#[test]
fn sources_are_ranked_by_priority_then_version_then_place() {
    let sources = |first: i32, second: i32, third: i32| {
        let sources =
            vec![source("one", first, "x 1\ny 1"), source("two", second, "x 2\ny 1"), source("three", third, "x 3")];
        Universe::new("amd64", sources, Vec::new()).unwrap()
    };
    let check = |first, second, third, expected: &str| {
        let universe = sources(first, second, third);
        let candidate = universe.candidate("x").unwrap();
        assert_eq!(format!("{} {}", universe.source(candidate), universe.stanza(candidate).version), expected);
    };
    check(500, 500, 500, "three 3");
    check(500, 990, 500, "two 2");
    check(500, 500, -1, "two 2");
    check(1, 1, 0, "two 2");
    let universe = sources(500, 500, 500);
    assert_eq!(universe.source(universe.candidate("y").unwrap()), "one");
    assert_eq!(universe.versions("y").len(), 1, "the same version from two sources is one");
    assert!(sources(-1, -1, -1).candidate("x").is_none());
}

#[test]
fn local_package_is_the_only_version_of_its_name() {
    let sources = vec![source("one", 990, "x 9\ny 1\ny 2")];
    let universe = Universe::new("amd64", sources, vec![local("x 1; Depends: y (<< 2)")]).unwrap();
    let selection = check(&universe, &request("x"), "x y=1");
    let x = selection.packages[0];
    assert!(universe.is_local(x));
    assert_eq!(universe.stanza(x).filename, "./x_1.deb");
    assert_eq!(universe.stanza(x).size_bytes, 10);
    assert_eq!(universe.source(x), "local file");
}

#[test]
fn unusable_local_packages() {
    let fail = |local| Universe::new("amd64", Vec::new(), local).unwrap_err();
    let other = local("x 1; Architecture: arm64");
    assert_eq!(fail(vec![other]).to_string(), "read the control file of ./x_1.deb");
    let twice = fail(vec![local("x 1"), local("x 2")]);
    assert_eq!(twice.to_string(), "./x_2.deb and ./x_1.deb are both package `x`");
    let arm = source("one", 500, "");
    assert!(matches!(Universe::new("arm64", vec![arm], Vec::new()).unwrap_err(), UniverseError::Architecture { .. }));
}

#[test]
fn answer_depends_on_no_order_but_that_of_requests() {
    let world = universe("a 1; Depends: x\nb 1\nx 1\ny 1; Conflicts: z\nz 1");
    let request = |exclude: [&str; 2], base: [&str; 2]| Request {
        exclude: exclude.map(str::to_owned).to_vec(),
        base: base.map(|name| world.candidate(name).unwrap()).to_vec(),
        locked: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        ..request("a")
    };
    let one = solved(&world, &request(["y", "z"], ["b", "x"])).unwrap();
    let other = solved(&world, &request(["z", "y"], ["x", "b"])).unwrap();
    assert_eq!(one, other);
}
