//! `kiln lock`: the first time, again, after the spec changed; `--dry-run`, `--list`, `--json`.

use serde_json::Value;

use crate::fixture::{BASE, BASE_AND_WEB, NEXT_DATE, Shop, checked, says};

#[test]
fn the_first_lock() {
    let shop = Shop::new(BASE_AND_WEB);
    let output = shop.run("lock").success();
    insta::assert_snapshot!(output.stdout, @"
    base                      52 packages  43.6 kB  epoch 2025-09-06T10:00:00Z
    web            from base  4 packages   3.44 kB  epoch 2025-09-06T10:00:00Z
    toolbox.amd64             34 packages  28.6 kB
    wrote kiln.lock
    ");
    let text = shop.lock_text();
    assert!(text.starts_with("# Written by `kiln lock`."), "{text}");
    shop.home.check_no_leftovers();
}

#[test]
fn again_changes_nothing_and_asks_nobody() {
    let shop = Shop::served(BASE_AND_WEB);
    let first = shop.lock();
    shop.web().forget_requests();
    let output = shop.run("lock").success();
    says(&output, &["kiln.lock is up to date"]);
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    assert_eq!(shop.asked(), [""; 0]);
    assert_eq!(shop.lock_text(), first);
}

#[test]
fn a_new_request_keeps_every_locked_version() {
    let mut shop = Shop::new(BASE);
    shop.lock();
    let before = shop.packages("base");
    shop.publish_version("trixie-updates", "libc6", "2.41-12+deb13u9");
    shop.publish_version("trixie-security", "iproute2", "6.15.0-1+deb13u1");
    shop.spec(&BASE.replace("\"nginx\"", "\"nginx\", \"ca-certificates\""));
    let output = shop.run("lock").success();
    insta::assert_snapshot!(output.stdout, @"
    +  ca-certificates  20250419         trixie/main           base
    +  openssl          3.5.1-1+deb13u1  trixie-security/main  base
    ~  index trixie-security/main  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  index trixie-updates/main   2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  class base                  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    base             57 packages  47.9 kB  epoch 2025-09-08T10:00:00Z
    toolbox.amd64    34 packages  28.6 kB
    wrote kiln.lock
    ");
    let after = shop.packages("base");
    assert_eq!(after["ca-certificates"].0, "20250419");
    for (name, version) in &before {
        assert_eq!(after.get(name), Some(version), "{name} was locked");
    }
}

#[test]
fn a_request_that_goes_takes_its_packages_along() {
    let shop = Shop::new(&BASE.replace("\"nginx\"", "\"nginx\", \"ca-certificates\""));
    shop.lock();
    shop.spec(BASE);
    let output = shop.run("lock").success();
    insta::assert_snapshot!(output.stdout, @"
    -  ca-certificates  20250419         trixie/main           base
    -  openssl          3.5.1-1+deb13u1  trixie-security/main  base
    base             55 packages  46.2 kB  epoch 2025-09-06T10:00:00Z
    toolbox.amd64    34 packages  28.6 kB
    wrote kiln.lock
    ");
}

#[test]
fn a_version_that_no_longer_answers_is_given_up() {
    let mut shop = Shop::new(BASE);
    shop.lock();
    shop.publish_version("trixie-security", "nginx-common", "1.26.3-3+deb13u1");
    shop.publish_version("trixie-security", "nginx", "1.26.3-3+deb13u1");
    shop.spec(&BASE.replace("\"nginx\"", "\"nginx-common (>= 1.26.3-3+deb13u1)\""));
    says(&shop.run("lock").success(), &["nginx-common", "1.26.3-3 -> 1.26.3-3+deb13u1"]);
}

#[test]
fn a_class_more_and_a_class_less() {
    let shop = Shop::new(BASE);
    shop.lock();
    shop.spec(BASE_AND_WEB);
    says(&shop.run("lock").success(), &["+  class web", "+  openssl"]);
    shop.spec(BASE);
    says(&shop.run("lock").success(), &["-  class web"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let shop = Shop::new(BASE);
    says(&shop.run("lock --dry-run").success(), &["dry run: kiln.lock was not written", "base "]);
    assert!(!shop.path("kiln.lock").exists());
    let first = shop.lock();
    shop.spec(BASE_AND_WEB);
    says(&shop.run("lock --dry-run").success(), &["+  class web", "dry run: kiln.lock was not written"]);
    assert_eq!(shop.lock_text(), first);
    shop.spec(BASE);
    says(&shop.run("lock --dry-run").success(), &["kiln.lock is up to date"]);
}

#[test]
fn newer_indexes_of_equal_packages_change_no_package_and_no_epoch() {
    let mut shop = Shop::new(BASE_AND_WEB);
    let first = shop.lock();
    shop.publish(|repository| repository.dated(NEXT_DATE));
    let output = shop.run("lock --update").success();
    insta::assert_snapshot!(output.stdout, @"
    ~  index trixie-security/main  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  index trixie-updates/main   2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  index trixie/main           2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    base                      52 packages  43.6 kB  epoch 2025-09-06T10:00:00Z
    web            from base  4 packages   3.44 kB  epoch 2025-09-06T10:00:00Z
    toolbox.amd64             34 packages  28.6 kB
    wrote kiln.lock
    ");
    let strip = |text: &str| {
        let is_index = |line: &&str| ["date", "release", "digest"].iter().any(|key| line.starts_with(key));
        text.lines().filter(|line| !is_index(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    let second = shop.lock_text();
    assert_ne!(second, first);
    assert_eq!(strip(&second), strip(&first));
    assert!(second.contains("epoch = \"2025-09-06T10:00:00Z\"") && second.contains(NEXT_DATE));
}

#[test]
fn a_list_names_every_package_in_order() {
    let shop = Shop::new(BASE_AND_WEB);
    shop.lock();
    let web = shop.run("lock --list web").success().stdout;
    let names: Vec<&str> = web.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let place = |name| names.iter().position(|other| *other == name).unwrap();
    assert!(place("libc6") < place("bash") && place("openssl") < place("nginx-common"));
    assert!(place("nginx-common") < place("nginx"));
    let all = shop.run("lock --list").success().stdout;
    for owner in ["base ", "web ", "toolbox.amd64 "] {
        assert!(all.lines().any(|line| line.starts_with(owner)), "{owner}");
    }
    says(&shop.run("lock --list wbe").code(2), &["kiln.lock has no class `wbe`", "hint: it has base, web"]);
}

#[test]
fn a_broken_spec_does_not_hide_the_list() {
    let shop = Shop::new(BASE);
    shop.lock();
    shop.write("kiln.toml", "nonsense");
    says(&shop.run("lock --list base").success(), &["nginx"]);
    says(&shop.run("lock").code(2), &["--> kiln.toml:1"]);
}

/// Every line of a `--json` run.
fn json_lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn json_lines_are_events_then_the_result() {
    let shop = Shop::new(BASE);
    let output = shop.run("lock --json").success();
    assert_eq!(output.stderr, "");
    let lines = json_lines(&output.stdout);
    let (result, events) = lines.split_last().unwrap();
    assert!(events.iter().all(|event| event["event"].is_string()), "{events:#?}");
    let verified: Vec<&Value> = events.iter().filter(|event| event["event"] == "release-verified").collect();
    assert_eq!(verified.len(), 3, "{events:#?}");
    assert_eq!(result["result"], "lock");
    assert_eq!(result["value"]["written"], true);
    assert_eq!(result["value"]["classes"][0]["class"], "base");
    assert_eq!(result["value"]["changes"]["packages"][0]["from"], Value::Null);

    let lines = json_lines(&shop.run("fetch --json").success().stdout);
    let fetched = lines.last().unwrap();
    assert_eq!(fetched["result"], "fetch");
    assert_eq!(
        lines.iter().filter(|line| line["event"] == "download-finished").count() as u64,
        fetched["value"]["downloaded_files"].as_u64().unwrap()
    );
    for (arguments, kind) in [("lock --check --json", "lock-check"), ("lock --list --json", "lock-list")] {
        let lines = json_lines(&shop.run(arguments).success().stdout);
        assert_eq!(lines.last().unwrap()["result"], kind);
    }
}

#[test]
fn json_errors_are_lines_too() {
    let shop = Shop::new(&BASE.replace("nginx", "ngnix"));
    let output = shop.run("lock --json").code(2);
    assert_eq!(output.stderr, "");
    let lines = json_lines(&output.stdout);
    let error = lines.last().unwrap();
    assert_eq!(error["kind"], "usage");
    assert!(error["error"].as_str().unwrap().contains("ngnix"), "{error}");
    assert!(error["hints"].is_array() && error["causes"].is_array(), "{error}");

    let shop = Shop::new(BASE);
    shop.lock();
    shop.spec(BASE_AND_WEB);
    let lines = json_lines(&shop.run("lock --check --json").code(1).stdout);
    assert_eq!(lines[0]["result"], "lock-check");
    assert!(lines[0]["value"]["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()));
    assert_eq!(lines[1]["kind"], "no");
}

#[test]
fn further_files_of_the_spec_count() {
    let shop = Shop::new(BASE);
    shop.write("kiln.d/web.toml", "[class.web]\nfrom = \"base\"\npackages = [\"haproxy\"]\n");
    shop.lock();
    assert!(shop.version("web", "haproxy").is_some());
    fs_err::remove_file(shop.path("kiln.d/web.toml")).unwrap();
    let output = checked(shop.run("lock --check")).code(1);
    says(&output, &["class web is locked and no longer in the spec"]);
}

#[test]
fn ids_are_kept_byte_for_byte() {
    let shop = Shop::new(BASE);
    let ids = "[ids]\n# the volume's owner\n[ids.users]\nwww-data   = 33\n\n  [ids.groups]\nwww-data = 33 # same\n";
    let text = shop.lock() + ids;
    shop.write("kiln.lock", &text);
    let _ = shop.run("lock --check").success();
    shop.spec(BASE_AND_WEB);
    let _ = shop.run("lock").success();
    assert!(shop.lock_text().ends_with(ids) && shop.lock_text().contains("[class.web]"), "{}", shop.lock_text());
    shop.spec(BASE);
    let _ = shop.run("lock").success();
    assert_eq!(shop.lock_text(), text);
}
