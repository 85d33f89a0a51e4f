//! `[ids]` of `kiln.lock`: whoever makes a user or a group, it has the number that it had before.

use fs_err as fs;
use kiln_testkit::{Package, Repository};

use crate::deterministic::{compare, list};
use crate::fixture::{Shop, error_of, says};
use crate::living::{self, Told, build};

/// Two packages that make accounts, in the order of their names.
const CLASSES: &str = "
[class.web]
distribution = \"trixie\"
packages = [\"bravo\", \"charlie\"]
";

/// The same, and one that comes first.
const CLASSES_WITH_ALPHA: &str = "
[class.web]
distribution = \"trixie\"
packages = [\"alpha\", \"bravo\", \"charlie\"]
";

/// A package whose script runs when it is configured.
fn configured_by(name: &str, script: &str) -> Package {
    Package::new(name, "1")
        .depends("dpkg")
        .script("postinst", &format!("#!/bin/sh -e\n[ \"$1\" = configure ]\n{script}\n"))
}

fn with_accounts(repository: Repository) -> Repository {
    living::with_life(repository).change("trixie", |suite| {
        suite
            .package(configured_by("alpha", "useradd -rMU alpha"))
            .package(configured_by("bravo", "useradd -rMU bravo; groupadd -r bravado"))
            .package(configured_by("charlie", "useradd -rMU -s /bin/false charlie"))
            .package(configured_by("explicit", "useradd -rMU -u 150 explicit"))
    })
}

fn shop(classes: &str) -> Option<Shop> {
    living::shop_with(classes, with_accounts)
}

/// The accounts of a class that are not Debian's own: `name:uid:gid`, then `group:gid`.
#[track_caller]
fn accounts(shop: &Shop, class: &str) -> Vec<String> {
    let run = shop.kiln(&format!("shell {class} --")).args(["/bin/sh", "-c", "cat /etc/passwd; echo; cat /etc/group"]);
    let text = run.run().success().stdout;
    let (passwd, group) = text.split_once("\n\n").unwrap();
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let users = passwd.lines().map(fields).map(|fields| format!("{}:{}:{}", fields[0], fields[2], fields[3]));
    let groups = group.lines().map(fields).map(|fields| format!("{}:{}", fields[0], fields[2]));
    let is_new = |line: &String| !["root:", "nobody:", "shadow:", "nogroup:"].iter().any(|name| line.starts_with(name));
    users.chain(groups).filter(is_new).collect()
}

/// The section as it lies in the lock.
fn section(shop: &Shop) -> String {
    let text = shop.lock_text();
    text.split_once("\n[ids").map_or_else(String::new, |(_, section)| format!("[ids{section}"))
}

/// Forgets every layer.
fn forget(shop: &Shop) {
    fs::remove_dir_all(shop.home.cache()).unwrap();
}

#[test]
fn numbers_are_given_once() {
    let Some(shop) = shop(CLASSES) else { return };
    let first = build(&shop, "");
    let ids = "[ids.users]\nbravo = 999\ncharlie = 998\n\n[ids.groups]\nbravado = 998\nbravo = 999\ncharlie = 997\n";
    assert_eq!(section(&shop), ids);
    let chosen = list(&shop.home, "web");
    forget(&shop);
    let again = build(&shop, "");
    assert_eq!(section(&shop), ids);
    // Imposed or chosen, it is the same tree.
    assert_eq!(again.tree("web"), first.tree("web"), "{}", compare(&chosen, &list(&shop.home, "web")));
}

#[test]
fn a_package_more_moves_nobody() {
    let Some(shop) = shop(CLASSES) else { return };
    build(&shop, "");
    shop.spec(CLASSES_WITH_ALPHA);
    shop.lock();
    build(&shop, "");
    let expected = ["bravo:999:999", "charlie:998:997", "alpha", "bravado:998", "bravo:999", "charlie:997", "alpha"];
    let accounts = accounts(&shop, "web");
    for line in expected {
        assert!(accounts.iter().any(|account| account.starts_with(line)), "{line}: {accounts:?}");
    }
    assert!(section(&shop).contains("\nalpha = "), "{}", section(&shop));
}

#[test]
fn a_new_name_keeps_off_what_the_lock_has_given_away() {
    let Some(shop) = shop(CLASSES) else { return };
    let ids = "[ids.users]\n# on a volume since 2019\nmoved = 999\n";
    shop.write("kiln.lock", shop.lock_text() + ids);
    build(&shop, "");
    let accounts = accounts(&shop, "web");
    assert!(accounts.contains(&"bravo:998:998".to_owned()), "{accounts:?}");
    assert!(section(&shop).starts_with("[ids.users]\nbravo = 998\ncharlie = "), "{}", section(&shop));
    assert!(section(&shop).contains("# on a volume since 2019\nmoved = 999\n"), "{}", section(&shop));
}

#[test]
fn numbers_by_hand_are_imposed() {
    let Some(shop) = shop(CLASSES) else { return };
    let ids = "[ids.users]\nbravo = 300\ncharlie = 301\n\n[ids.groups]\nbravado = 302\nbravo = 303\ncharlie = 301\n";
    shop.write("kiln.lock", shop.lock_text() + ids);
    build(&shop, "--locked");
    assert_eq!(accounts(&shop, "web"), ["bravo:300:303", "charlie:301:301", "bravo:303", "bravado:302", "charlie:301"]);
    assert_eq!(section(&shop), ids);
}

#[test]
fn a_program_that_chooses_another_number_is_named() {
    let Some(shop) = shop(&CLASSES.replace("bravo", "explicit")) else { return };
    shop.write("kiln.lock", shop.lock_text() + "[ids.users]\nexplicit = 151\n");
    let output = shop.run("build --tree-only").code(2);
    assert!(
        error_of(&output).contains("user explicit has id 150, and id 151 in [ids] of kiln.lock"),
        "{}",
        output.report()
    );
}

#[test]
fn what_is_not_in_the_lock_is_an_error_where_it_must_not_change() {
    let Some(shop) = shop(CLASSES) else { return };
    let before = shop.lock_text();
    let output = shop.run("build --tree-only --locked").code(2);
    says(&output, &["kiln.lock has no numeric ids for user bravo: 999"]);
    assert_eq!(shop.lock_text(), before);
    let told = Told::of(shop.run("build --tree-only --json --no-locked"), 0);
    assert!(!told.tree("web").is_empty());
}
