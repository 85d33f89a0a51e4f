//! Builds that fail, are interrupted, or are killed: what is told, what is kept, and that the next one is right.

use std::time::Duration;

use crate::fixture::{Shop, checked, error_of, says, wait_until};
use crate::living::{self, CLASSES, Told, build};

const FAILING: &str = "
[class.base]
distribution = \"trixie\"

[class.broken]
from = \"base\"
[[class.broken.step]]
shell = \"echo begin >/etc/begun; echo one; echo two >&2; exit 3\"
[[class.broken.step]]
shell = \"echo never\"

[class.child]
from = \"broken\"

[class.good]
from = \"base\"
[[class.good.step]]
shell = \"echo good >/etc/good\"
";

#[test]
fn a_failing_step_is_named_with_its_line_and_last_lines_and_the_others_go_on() {
    let Some(shop) = living::shop(FAILING) else { return };
    let output = shop.run("build --tree-only").code(1);
    insta::assert_snapshot!(error_of(&output), @r#"
    error: build class broken: step 1: shell echo begin >/etc/begun; echo one; echo two >&2;...: shell step ended with exit code 3
      --> kiln.toml:17:1
       |
    17 | shell = "echo begin >/etc/begun; echo one; echo two >&2; exit 3"
       | ^^^^^
      its last lines:
        one
        two
      not built because of it: child
    hint: kiln shell broken --failed shows its tree
    "#);
    let rows: Vec<&str> = output.stdout.lines().filter_map(|line| line.split("  ").next()).collect();
    assert_eq!(rows, ["base", "good"], "{}", output.stdout);
    let failed = |command: &str| {
        let run = shop.kiln("shell broken --failed --").args(["/bin/sh", "-c", command]);
        checked(run.run())
    };
    assert_eq!(failed("cat /etc/begun").stdout, "begin\n");
    says(&shop.run("shell good --failed -- true").code(1), &["error: no stage of class good has failed"]);
    says(&shop.run("shell broken -- true").code(1), &["error: the last build of class broken did not come to its end"]);
    // Mended, it goes on; and there is no failed tree any more.
    shop.spec(&FAILING.replace("exit 3", "exit 0"));
    let told = build(&shop, "");
    assert_eq!(told.stages("stage-cached").len(), 2);
    says(&failed("true").code(1), &["error: no stage of class broken has failed"]);
    shop.home.check_no_leftovers();
}

#[test]
fn the_same_facts_are_in_json() {
    let Some(shop) = living::shop(FAILING) else { return };
    let told = Told::of(shop.run("build --tree-only --json"), 1);
    assert_eq!(
        told.stages("stage-failed"),
        ["broken: step 1: shell echo begin >/etc/begun; echo one; echo two >&2;..."]
    );
    let failure = &told.result["failures"][0];
    assert_eq!(failure["class"], "broken");
    assert_eq!((failure["file"].as_str(), failure["line"].as_u64()), (Some("kiln.toml"), Some(17)));
    assert_eq!(failure["last_lines"], serde_json::json!(["one", "two"]));
    assert_eq!(failure["classes"], serde_json::json!(["broken", "child"]));
}

#[test]
fn a_failing_script_of_a_package_is_named() {
    let shop = Shop::with("[class.base]\ndistribution = \"trixie\"\npackages = [\"nginx\"]\n", |repository| {
        let script = "#!/bin/sh\necho cannot go on\nexit 4\n";
        let broken = crate::fixture::package("nginx").script("postinst", script);
        living::with_life(repository).change("trixie", |suite| suite.replace(broken))
    });
    let Some(_) = living::shop(CLASSES) else { return };
    shop.lock();
    let output = shop.run("build --tree-only").code(1);
    says(
        &output,
        &["error: build class base: packages: ", "nginx", "    cannot go on\n", "hint: kiln shell base --failed"],
    );
}

#[test]
fn new_ids_are_appended_once_and_then_fixed() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let before = shop.lock_text();
    let refused = shop.run("build --tree-only --locked").code(2);
    says(
        &refused,
        &["kiln.lock has no numeric ids for user shop: 100, group shop: 100", "hint: build once without --locked"],
    );
    let in_ci = checked(shop.kiln("build --tree-only").env("CI", "true").run());
    says(&in_ci.code(2), &["kiln.lock has no numeric ids for user shop"]);
    assert_eq!(shop.lock_text(), before);
    let first = build(&shop, "");
    let after = shop.lock_text();
    assert!(after.starts_with(&before) || after.contains("[ids.users]\nshop = 100"), "{after}");
    let _ = shop.run("lock --check").success();
    let _ = shop.run("build --tree-only --locked").success();
    assert_eq!(shop.lock_text(), after);
    // Another number, from a person: the step runs again, and gives it.
    shop.write("kiln.lock", after.replace("shop = 100", "shop = 345"));
    let moved = build(&shop, "--locked");
    assert_eq!(moved.stages("stage-finished"), ["web: step 3: user shop"]);
    assert_ne!(moved.tree("web"), first.tree("web"));
    // And back: both layers are there.
    shop.write("kiln.lock", &after);
    let back = build(&shop, "--locked");
    assert_eq!((back.stages("stage-finished").len(), back.tree("web")), (0, first.tree("web")));
}

#[test]
fn an_id_that_is_taken_in_the_lock_is_not_given_again() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let lock = shop.lock_text();
    shop.write("kiln.lock", format!("{lock}[ids]\nusers.other = 100\ngroups.other = 100\n"));
    let told = build(&shop, "web");
    let new = told.result["new_ids"].as_array().unwrap();
    assert!(new.iter().all(|id| !id.as_str().unwrap().ends_with("100")), "{new:?}");
    assert_eq!(new.len(), 2);
}

#[test]
fn ids_do_not_depend_on_who_is_faster() {
    let classes = "
[class.one]
distribution = \"trixie\"
[[class.one.step]]
shell = \"sleep 1\"
[[class.one.step]]
user = \"alpha\"
system = true

[class.two]
distribution = \"trixie\"
[[class.two.step]]
user = \"beta\"
system = true
";
    let Some(shop) = living::shop(classes) else { return };
    let told = build(&shop, "--jobs 2");
    let ids = ["group alpha: 100", "group beta: 101", "user alpha: 100", "user beta: 101"];
    let mut new: Vec<&str> = told.result["new_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    new.sort_unstable();
    assert_eq!(new, ids);
    assert_eq!(build(&shop, "--locked").stages("stage-finished"), [""; 0]);
}

#[test]
fn an_id_of_the_spec_that_is_not_the_locks_is_refused() {
    let Some(shop) = living::shop(CLASSES) else { return };
    build(&shop, "");
    let lock = shop.lock_text();
    shop.spec(&format!("{CLASSES}uid = 1500\n"));
    let output = shop.run("build --tree-only").code(2);
    says(&output, &["error: build class web: step 3: user shop: ", "shop", "1500", "100", "hint: "]);
    assert_eq!(shop.lock_text(), lock);
}

/// Ends a build after some time, in each of its stages; then a whole one must be right.
#[test]
fn a_killed_build_leaves_nothing_that_counts() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let expected = build(&shop, "").tree("web");
    let mut killed = 0;
    for pause in 0..9 {
        let _ = shop.run("build --tree-only").success();
        remove_layers(&shop);
        let running = shop.kiln("build --tree-only").spawn();
        std::thread::sleep(Duration::from_millis(60 * pause));
        killed += usize::from(running.kill().status.is_none());
        assert_eq!(build(&shop, "").tree("web"), expected, "after {} ms", 60 * pause);
    }
    assert!(killed > 0, "none was killed");
    shop.home.check_no_leftovers();
}

/// Forgets every layer, as a new store does.
fn remove_layers(shop: &Shop) {
    for name in ["layer", "stage"] {
        let path = shop.home.cache().join(name);
        kiln_sandbox::layer::remove_tree(&path, kiln_sandbox::Identity::of_caller().unwrap()).unwrap();
        fs_err::create_dir(path).unwrap();
    }
}

#[test]
fn an_interrupted_build_ends_at_once_and_goes_on_later() {
    let classes = CLASSES.replace("echo hello", "sleep 60; echo hello");
    let Some(shop) = living::shop(&classes) else { return };
    let running = shop.kiln("build --tree-only").spawn();
    let done = || fs_err::read_dir(shop.home.cache().join("layer")).map_or(0, Iterator::count);
    wait_until(|| done() == 4);
    running.interrupt();
    let output = checked(running.wait()).code(130);
    says(&output, &["error: the build was interrupted\nhint: what was finished is kept"]);
    assert_eq!(done(), 4);
    shop.spec(CLASSES);
    let told = build(&shop, "");
    assert_eq!(told.stages("stage-cached").len(), 4);
    shop.home.check_no_leftovers();
}

#[test]
fn a_file_that_leads_out_of_the_factory_is_refused() {
    let Some(shop) = living::shop(CLASSES) else { return };
    fs_err::os::unix::fs::symlink("/etc", shop.path("out")).unwrap();
    shop.spec(&CLASSES.replace("copy = \"site\"", "copy = \"out\""));
    says(
        &shop.run("build --tree-only").code(2),
        &["error: read out for the step at kiln.toml:19\n  because: a link leads out of the factory"],
    );
}
