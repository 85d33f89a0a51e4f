//! `kiln build`: what is built, what is not built again, and what is told of it.

use std::collections::BTreeSet;

use fs_err as fs;

use crate::fixture::{Shop, checked, error_of, says};
use crate::living::{self, CLASSES, Told, build};

const ALL: [&str; 6] = [
    "base: essential set",
    "base: packages",
    "web: packages",
    "web: step 1: copy site",
    "web: step 2: shell echo hello >/etc/greeting",
    "web: step 3: user shop",
];

/// What a command in the finished tree writes.
#[track_caller]
fn inside(shop: &Shop, class: &str, command: &str) -> String {
    let run = shop.kiln(&format!("shell {class} --")).args(["/bin/sh", "-c", command]);
    checked(run.run()).success().stdout
}

#[test]
fn each_stage_is_built_once() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let first = build(&shop, "");
    assert_eq!(first.stages("stage-finished"), ALL);
    assert_eq!(first.stages("stage-cached"), [""; 0]);
    let again = build(&shop, "");
    assert_eq!(again.stages("stage-cached"), ALL);
    assert_eq!(again.stages("stage-finished"), [""; 0]);
    for class in ["base", "web"] {
        assert_eq!(first.tree(class), again.tree(class));
    }
    assert_ne!(first.tree("base"), first.tree("web"));
    let layers = shop.home.cache().join("layer").read_dir_utf8().unwrap().count();
    assert_eq!(layers, ALL.len(), "the child shares its parent's");
    let tree = inside(
        &shop,
        "web",
        "cat /srv/index.html /etc/greeting; id -u shop; dpkg-query -f '${db:Status-Abbrev}' -W nginx",
    );
    assert_eq!(tree, "hello\nhello\n100\nii ");
    shop.home.check_no_leftovers();
}

#[test]
fn people_read_a_table() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let output = shop.run("build --tree-only").success();
    says(
        &output,
        &["6 stages, 0 cached", "base: essential set: built in ", "web: step 2: shell echo hello >/etc/greeting\n"],
    );
    let rows: Vec<&str> = output.stdout.lines().collect();
    assert!(rows[0].starts_with("base  sha256:") && rows[0].contains("  2 built  "), "{}", output.stdout);
    assert!(rows[1].starts_with("web   sha256:") && rows[1].contains("  6 built  "), "{}", output.stdout);
    says(&output, &["added to [ids] of kiln.lock: user shop: 100, group shop: 100; commit it", "2 trees in "]);
    let again = shop.run("build web --tree-only").success();
    assert!(again.stdout.contains("  6 cached\n1 tree in "), "{}", again.stdout);
}

#[test]
fn a_changed_file_rebuilds_its_step_and_what_is_above() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let first = build(&shop, "web");
    shop.write("site/index.html", "bye\n");
    let why = shop.run("why build web").success().stdout;
    let expected =
        ["class web: 3 of 6 stages would run", "  step 1: copy site", "    file site/index.html: 5891b5b522d5 -> "];
    assert!(expected.iter().all(|line| why.contains(line)), "{why}");
    assert!(why.ends_with("  step 3: user shop\n    the tree below changes: step 1: copy site\n"), "{why}");
    let second = build(&shop, "web");
    assert_eq!(second.stages("stage-finished"), ALL[3..]);
    assert_ne!(first.tree("web"), second.tree("web"));
    assert_eq!(inside(&shop, "web", "cat /srv/index.html"), "bye\n");
    // What was there once is there again.
    shop.write("site/index.html", "hello\n");
    let third = build(&shop, "web");
    assert_eq!((third.stages("stage-finished").len(), third.tree("web")), (0, first.tree("web")));
    assert_eq!(shop.run("why build web").success().stdout, "class web: nothing: all stages are cached\n");
}

#[test]
fn a_file_that_is_only_touched_rebuilds_nothing() {
    let Some(shop) = living::shop(CLASSES) else { return };
    build(&shop, "web");
    shop.write("site/index.html", "hello\n");
    shop.write("other", "not read by any step\n");
    assert_eq!(build(&shop, "web").stages("stage-finished"), [""; 0]);
}

#[test]
fn only_what_is_asked_for_is_built() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let told = build(&shop, "base");
    assert_eq!(told.stages("stage-finished"), ALL[..2]);
    assert_eq!(told.result["classes"].as_array().unwrap().len(), 1);
    let output = shop.run("build wbe --tree-only").code(2);
    says(&output, &["error: there is no class `wbe` in kiln.toml\nhint: did you mean `web`?"]);
}

#[test]
fn layers_that_gave_one_number_to_two_names_are_not_used_together() {
    const TWO: &str = "
        [class.base]
        distribution = \"trixie\"
        [class.one]
        from = \"base\"
        [[class.one.step]]
        group = \"one\"
        [class.two]
        from = \"base\"
        [[class.two.step]]
        group = \"two\"
    ";
    let Some(shop) = living::shop(TWO) else { return };
    let locked = fs::read_to_string(shop.path("kiln.lock")).unwrap();
    for class in ["one", "two"] {
        shop.write("kiln.lock", &locked);
        build(&shop, class);
        let groups = inside(&shop, class, "cat /etc/group");
        assert!(groups.contains(&format!("{class}:x:1000:")), "{groups}");
    }
    shop.write("kiln.lock", &locked);
    let both = build(&shop, "");
    assert_eq!(both.stages("stage-finished"), ["two: step 1: group two"]);
    let groups = inside(&shop, "two", "cat /etc/group");
    assert!(groups.contains("two:x:1001:"), "{groups}");
}

#[test]
fn images_are_not_promised() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let output = shop.run("build").code(2);
    says(
        &output,
        &["error: this version of Kiln makes trees, and no images of them yet\nhint: kiln build --tree-only"],
    );
}

#[test]
fn without_a_lock_that_fits_nothing_is_built() {
    let Some(shop) = living::shop(CLASSES) else { return };
    shop.spec(&CLASSES.replace("\"nginx\"", "\"nginx\", \"curl\""));
    let output = shop.run("build --tree-only").code(1);
    says(
        &output,
        &["error: kiln.lock does not fit kiln.toml:\n  class web: packages has `curl` now", "hint: kiln lock brings"],
    );
    shop.unlock();
    says(&shop.run("build --tree-only").code(1), &["error: there is no kiln.lock"]);
}

#[test]
fn nothing_is_asked_of_the_network_when_everything_is_there() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let offline = checked(shop.kiln("build --tree-only --offline").env("KILN_MIRROR", "http://127.0.0.1:1/").run());
    // A file: mirror is no network: the packages come from there.
    let _ = offline.success();
    fs::remove_dir_all(shop.mirror().root()).unwrap();
    let _ = shop.run("build --tree-only --offline").success();
    shop.write("site/index.html", "bye\n");
    let _ = shop.run("build --tree-only --offline").success();
}

#[test]
fn independent_classes_are_built_side_by_side() {
    let classes = "
[class.one]
distribution = \"trixie\"
[[class.one.step]]
shell = \"sleep 1; echo one >/etc/one\"

[class.two]
distribution = \"trixie\"
[[class.two.step]]
shell = \"sleep 1; echo two >/etc/two\"
";
    let Some(shop) = living::shop(classes) else { return };
    let told = build(&shop, "--jobs 2");
    let order: Vec<&str> = told.events.iter().filter_map(|event| event["event"].as_str()).collect();
    let steps: Vec<&str> =
        order.into_iter().filter(|event| matches!(*event, "stage-started" | "stage-finished")).collect();
    // The essential set, which both share, then two steps at a time.
    let expected =
        ["stage-started", "stage-finished", "stage-started", "stage-started", "stage-finished", "stage-finished"];
    assert_eq!(steps, expected);
    let alone = build(&shop, "--jobs 1");
    assert_eq!((alone.tree("one"), alone.tree("two")), (told.tree("one"), told.tree("two")));
}

#[test]
fn two_processes_share_the_work() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let runs = [shop.kiln("build --tree-only --json").spawn(), shop.kiln("build --tree-only --json").spawn()];
    let told = runs.map(|run| Told::of(checked(run.wait()), 0));
    let mut finished: Vec<String> = told.iter().flat_map(|told| told.stages("stage-finished")).collect();
    finished.sort();
    assert_eq!(finished, ALL);
    let trees: BTreeSet<String> = told.iter().map(|told| told.tree("web")).collect();
    assert_eq!(trees.len(), 1);
    let ids = shop.lock_text();
    assert_eq!(ids.matches("shop = 100").count(), 2, "{ids}");
}

#[test]
fn tools_are_there_for_their_step_only() {
    let classes = "
[class.base]
distribution = \"trixie\"
[[class.base.step]]
shell = \"nginx-tool >/etc/made; cat /usr/share/doc/nginx/copyright >>/etc/made\"
tools = [\"nginx\"]
[[class.base.step]]
shell = \"test ! -e /usr/share/doc/nginx\"
";
    let shop = Shop::with(classes, |repository| {
        let tool = crate::fixture::package("nginx").executable("/usr/bin/nginx-tool", "#!/bin/sh\necho made\n");
        living::with_life(repository).change("trixie", |suite| suite.replace(tool))
    });
    let Some(_) = living::shop(CLASSES) else { return };
    shop.lock();
    let told = build(&shop, "");
    let stages = told.stages("stage-finished");
    assert!(stages.contains(&"base: tools of step 1".to_owned()), "{stages:?}");
    assert_eq!(inside(&shop, "base", "cat /etc/made; dpkg-query -W nginx 2>/dev/null || true"), "made\nApache-2.0\n");
}

#[test]
fn a_shell_sees_the_tree_after_each_stage_and_changes_nothing() {
    let Some(shop) = living::shop(CLASSES) else { return };
    says(&shop.run("shell web -- true").code(1), &["error: class web has not been built here\nhint: kiln build web"]);
    let first = build(&shop, "web");
    let at = |stage: &str, command: &str| {
        let run = shop.kiln(&format!("shell web {stage} --")).args(["/bin/sh", "-c", command]);
        checked(run.run())
    };
    assert_eq!(at("--stage 4", "cat /srv/index.html; cat /etc/greeting").status, Some(1));
    assert_eq!(at("--stage 5", "cat /etc/greeting").stdout, "hello\n");
    assert_eq!(at("", "echo more >>/etc/greeting; rm /srv/index.html; exit 7").status, Some(7));
    assert_eq!(build(&shop, "web").tree("web"), first.tree("web"));
    assert_eq!(at("", "cat /etc/greeting").stdout, "hello\n");
    let list = at("--stage 7", "true").code(2);
    insta::assert_snapshot!(error_of(&list), @r"
    error: class web has no stage 7:
       1  essential set
       2  packages
       3  packages
       4  step 1: copy site
       5  step 2: shell echo hello >/etc/greeting
       6  step 3: user shop
    ");
}
