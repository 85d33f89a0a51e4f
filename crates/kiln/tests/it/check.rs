//! `kiln lock --check`: every way in which a lock no longer fits, each with its reason, without a network.

use kiln_testkit::{Package, damage};

use crate::fixture::{BASE, Shop, says, write_deb};

/// A bit of everything that a lock depends on.
const SPEC: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"nginx\", \"./shop_1_amd64.deb\"]
exclude = [\"apparmor\"]
kernel = \"linux-image-cloud-amd64\"

[class.web]
from = \"base\"
packages = [\"openssl\"]
[[class.web.step]]
shell = \"true\"
tools = [\"postgresql-common\"]

[class.other]
distribution = \"trixie\"
";

fn shop() -> Shop {
    let shop = Shop::served(BASE);
    write_deb(&shop.path(""), &Package::new("shop", "1"));
    shop.spec(SPEC);
    shop.lock();
    shop.web().forget_requests();
    shop
}

/// For each change of the spec's text: exit 1 with the reason, and nobody is asked.
fn check_all(shop: &Shop, changes: &[(&str, &str, &str)]) {
    let spec = shop.path("kiln.toml");
    let before = fs_err::read_to_string(&spec).unwrap();
    let lock = shop.lock_text();
    for (from, to, reason) in changes {
        damage::replace_text(&spec, from, to);
        let output = shop.run("lock --check").code(1);
        says(&output, &["error: kiln.lock does not fit:", reason, "hint: kiln lock brings it up to date"]);
        fs_err::write(&spec, &before).unwrap();
    }
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    assert_eq!(shop.lock_text(), lock, "a check changes nothing");
    assert_eq!(shop.asked(), [""; 0], "a check asks nobody");
}

#[test]
fn changes_of_classes() {
    let nginx = "[\"nginx\", ";
    let web = "[class.web]\nfrom = \"base\"\n";
    check_all(
        &shop(),
        &[
            (nginx, "[\"nginx\", \"procps\", ", "class base: packages has `procps` now (kiln.toml:11)"),
            (nginx, "[", "class base: packages no longer has `nginx` (kiln.toml:11)"),
            (nginx, "[\"nginx (>= 1.26)\", ", "class base: packages has `nginx (>= 1.26)` now"),
            ("\"apparmor\"", "\"apparmor\", \"dracut\"", "class base: exclude has `dracut` now"),
            ("exclude = [\"apparmor\"]", "", "class base: exclude no longer has `apparmor`"),
            (
                "kernel = \"linux-image-cloud-amd64\"",
                "",
                "class base: kernel is none, locked was linux-image-cloud-amd64",
            ),
            ("exclude = [", "recommends = true\nexclude = [", "class base: recommends is true, locked was false"),
            ("exclude = [", "recommends = true\nexclude = [", "class web: recommends is true, locked was false"),
            ("tools = [\"postgresql-common\"]", "tools = [\"procps\"]", "class web: the steps' tools changed"),
            ("tools = [\"postgresql-common\"]", "", "class web: the steps' tools changed"),
            ("[class.other]", "[class.extra]\nfrom = \"web\"\n[class.other]", "class extra is not locked (kiln.toml:"),
            ("[class.other]\ndistribution = \"trixie\"\n", "", "class other is locked and no longer in the spec"),
            (web, "[class.web]\nfrom = \"other\"\n", "class web is from other, locked was from base"),
            (web, "[class.web]\ndistribution = \"trixie\"\n", "class web is from no class, locked was from base"),
        ],
    );
}

#[test]
fn changes_of_distributions() {
    let architecture = "architecture = \"amd64\"\n";
    let with = |line: &str| format!("{architecture}{line}\n");
    let repository = "[[distribution.trixie.repository]]\nname = \"extra\"\nuri = \"http://mirror.example\"\n\
                      suite = \"stable\"\nkeyring = \"archive.gpg\"\n[class.base]\n";
    let another =
        "[distribution.other]\nfamily = \"debian\"\nsuite = \"trixie\"\n[class.other]\ndistribution = \"other\"\n";
    check_all(
        &shop(),
        &[
            (architecture, "architecture = \"arm64\"\n", "distribution trixie is for arm64, locked was amd64"),
            (architecture, &with("components = [\"main\", \"contrib\"]"), "index trixie-updates/contrib is not locked"),
            (architecture, &with("components = [\"contrib\"]"), "index trixie/main is locked and no longer wanted"),
            (architecture, &with("updates = false"), "index trixie-updates/main is locked and no longer wanted"),
            (architecture, &with("security = false"), "index trixie-security/main is locked and no longer wanted"),
            ("suite = \"trixie\"", "suite = \"forky\"", "distribution trixie: index forky/main is not locked"),
            ("family = \"debian\"", "family = \"ubuntu\"", "distribution trixie is ubuntu, locked was debian"),
            ("[class.base]\n", repository, "distribution trixie: index extra:stable/main is not locked"),
            (
                "[class.other]\ndistribution = \"trixie\"\n",
                another,
                "class other is of distribution other, locked was trixie",
            ),
        ],
    );
}

#[test]
fn changes_of_local_packages() {
    let shop = shop();
    let path = write_deb(&shop.path(""), &Package::new("shop", "1"));
    let good = fs_err::read(&path).unwrap();
    damage::corrupt_byte(&path, -1);
    says(&shop.run("lock --check").code(1), &["class base: shop_1_amd64.deb has changed"]);
    fs_err::write(&path, good).unwrap();
    let _ = shop.run("lock --check").success();
    fs_err::write(&path, Package::new("shop", "1").file("/usr/bin/shop", "new").deb()).unwrap();
    says(&shop.run("lock --check").code(1), &["class base: shop_1_amd64.deb has changed"]);
    says(&shop.run("lock").success(), &["shop", "1 (other bytes)", "shop_1_amd64.deb"]);
    let _ = shop.run("lock --check").success();
    // A file that is named and not there is the spec's mistake, with its line.
    fs_err::remove_file(&path).unwrap();
    says(&shop.run("lock --check").code(2), &["--> kiln.toml:13", "shop_1_amd64.deb"]);
}

#[test]
fn every_reason_is_given_at_once() {
    let shop = shop();
    shop.spec("updates = false\n[class.base]\ndistribution = \"trixie\"\npackages = [\"procps\"]\n");
    let output = shop.run("lock --check").code(1);
    insta::assert_snapshot!(crate::fixture::error_of(&output), @"
    error: kiln.lock does not fit:
      distribution trixie: index trixie-updates/main is locked and no longer wanted
      class other is locked and no longer in the spec
      class web is locked and no longer in the spec
      class base: packages has `procps` now (kiln.toml:11)
      class base: packages no longer has `nginx` (kiln.toml:11)
      class base: packages no longer has `shop_1_amd64.deb` (kiln.toml:11)
      class base: exclude no longer has `apparmor` (kiln.toml:11)
      class base: kernel is none, locked was linux-image-cloud-amd64 (kiln.toml:11)
    hint: kiln lock brings it up to date; review what changes, then commit it
    ");
    assert_eq!(output.stdout, "");
}

#[test]
fn what_decides_no_package_does_not_matter() {
    let shop = shop();
    let changed = SPEC
        .replace("shell = \"true\"", "shell = \"false\"  # another script")
        .replace("packages = [\"nginx\", \"./shop_1_amd64.deb\"]", "packages = [\"./shop_1_amd64.deb\", \"nginx\"]");
    let group =
        "[group.web]\nclass = \"web\"\nprovider = \"local\"\nmemory = \"1GiB\"\n[group.web.in.dev]\ncount = 1\n";
    shop.spec(&format!("{changed}\n[environment.dev]\n{group}"));
    let _ = shop.run("lock --check").success();
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
}

#[test]
fn a_lock_that_an_index_contradicts_is_found() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    for (from, to, violation) in [
        ("version = \"1.26.3-3\"", "version = \"1.26.3-4\"", "no index has nginx 1.26.3-4"),
        (
            "/nginx_1.26.3-3_amd64.deb",
            "/nginx_1.26.4-3_amd64.deb",
            "is at pool/main/n/nginx/nginx_1.26.3-3_amd64.deb in its index",
        ),
    ] {
        let forged = crate::damaged::resealed(&good.replace(from, to));
        shop.write("kiln.lock", forged);
        says(&shop.run("lock --check").code(1), &["error: kiln.lock does not fit:", violation]);
    }
    let without = |name: &str| {
        let start = format!("{{ name = \"{name}\"");
        good.lines().filter(|line| !line.trim_start().starts_with(&start)).map(|line| format!("{line}\n")).collect()
    };
    let forged: String = without("libcap2");
    shop.write("kiln.lock", crate::damaged::resealed(&forged));
    says(&shop.run("lock --check").code(1), &["class base: iproute2", "libcap2"]);
}

#[test]
fn what_cannot_be_examined_is_said() {
    let mut shop = Shop::new(BASE);
    shop.lock();
    shop.publish_version("trixie", "procps", "2:4.0.4-10");
    let output =
        shop.kiln("lock --check").env("XDG_CACHE_HOME", shop.home.path().join("empty").as_str()).run().success();
    says(&output, &["not examined: distribution trixie: "]);
}
