//! What a lock keeps while everything around it changes, and what it must not let in.

use kiln_testkit::{Package, Repository, Suite};

use crate::fixture::{NEXT_DATE, Shop, adding, says};

/// One class with these packages.
fn base(packages: &str) -> String {
    format!("[class.base]\ndistribution = \"trixie\"\npackages = [{packages}]\n")
}

/// The suite, two days later, with more packages.
fn later(packages: &[Package]) -> impl Fn(Suite) -> Suite {
    let packages = packages.to_vec();
    move |suite| packages.iter().cloned().fold(suite.date(NEXT_DATE), Suite::package)
}

fn publish(shop: &mut Shop, suite: &str, change: impl Fn(Suite) -> Suite) {
    shop.publish(|repository: Repository| repository.change(suite, &change));
}

/// A factory whose mirror has more packages from the start.
fn shop_with(packages: &[Package], classes: &str) -> Shop {
    let mut shop = Shop::new(classes);
    for package in packages {
        shop.publish(adding(package.clone()));
    }
    shop
}

#[test]
fn a_new_alternative_does_not_push_out_a_locked_one() {
    let foo = Package::new("foo", "1").depends("aa | bb");
    let mut shop = shop_with(&[foo, Package::new("bb", "1"), Package::new("zz", "1")], &base("\"foo\""));
    shop.lock();
    publish(&mut shop, "trixie", later(&[Package::new("aa", "1")]));
    shop.spec(&base("\"foo\", \"zz\""));
    let output = shop.run("lock").success();
    assert!(output.stdout.contains("+  zz") && !output.stdout.contains("bb"), "{}", output.report());
    assert_eq!(shop.version("base", "aa"), None);
    says(&shop.run("lock --update").success(), &["+  aa", "-  bb"]);
}

#[test]
fn tools_of_steps_do_not_move_a_class() {
    let foo = Package::new("foo", "1").depends("aa | bb");
    let packages = [foo, Package::new("bb", "1"), Package::new("tt", "1"), Package::new("uu", "1")];
    let steps = "[[class.base.step]]\nshell = \"true\"\ntools = [\"tt\"]\n[[class.base.step]]\nshell = \"true\"\ntools = [\"uu\"]\n";
    let mut shop = shop_with(&packages, &(base("\"foo\"") + steps));
    let before = shop.lock();
    publish(&mut shop, "trixie", later(&[Package::new("aa", "1")]));
    shop.spec(&(base("\"foo\"") + steps + "[class.other]\ndistribution = \"trixie\"\npackages = [\"uu\"]\n"));
    shop.lock();
    assert_eq!(shop.version("base", "bb").as_deref(), Some("1"));
    let class = |text: &str| {
        let start = text.find("[class.base]").unwrap();
        let end = text[start..].find("[class.other]").or_else(|| text[start..].find("[toolbox")).unwrap();
        text[start..start + end].to_owned()
    };
    assert_eq!(class(&shop.lock_text()), class(&before));
}

#[test]
fn what_only_steps_use_is_shown_too() {
    let steps = "[[class.base.step]]\nshell = \"true\"\ntools = [\"tt\"]\n";
    let mut shop = shop_with(&[Package::new("tt", "1")], &(base("\"nginx\"") + steps));
    shop.lock();
    publish(&mut shop, "trixie", |suite| suite.date(NEXT_DATE).replace(Package::new("tt", "2")));
    says(&shop.run("lock --update").success(), &["~  tt  1 -> 2  trixie/main  base (tools)"]);
    assert!(shop.run("lock --list").success().stdout.contains("base (tools)"));
    says(&shop.run("lock --why tt").success(), &["tt is in class base (tools)", "tt 2 is asked for"]);
}

#[test]
fn the_same_bytes_in_another_index_change_nothing() {
    let foo = Package::new("foo", "1");
    let mut shop = Shop::new(&base("\"foo\""));
    publish(&mut shop, "trixie-updates", {
        let foo = foo.clone();
        move |suite| suite.package(foo.clone())
    });
    shop.lock();
    let before = shop.packages("base")["foo"].clone();
    assert_eq!(before.1, "trixie-updates/main");
    // A point release: what was an update is now in the suite itself, too.
    publish(&mut shop, "trixie", later(&[foo]));
    let output = shop.run("lock --update").success();
    assert!(!output.stdout.contains("foo") && !output.stdout.contains("~  class"), "{}", output.report());
    assert_eq!(shop.packages("base")["foo"], before);
    // Afterwards it is there only: other index, same bytes, same epoch.
    publish(&mut shop, "trixie-updates", |suite| suite.date(NEXT_DATE).remove("foo"));
    let output = shop.run("lock --update").success();
    says(&output, &["~  foo  1  trixie-updates/main -> trixie/main  base"]);
    assert!(!output.stdout.contains("other bytes") && !output.stdout.contains("~  class"), "{}", output.report());
}

#[test]
fn a_version_that_was_built_anew_does_not_replace_the_locked_bytes() {
    let foo = |text: &str| Package::new("foo", "1").file("/usr/share/foo", text);
    let mut shop = shop_with(&[foo("old"), Package::new("zz", "1")], &base("\"foo\""));
    let old = shop.lock();
    let bytes = |text: &str| text.lines().find(|line| line.contains("name = \"foo\"")).unwrap().to_owned();
    publish(&mut shop, "trixie", |suite| suite.date(NEXT_DATE).replace(foo("new")));
    shop.spec(&base("\"foo\", \"zz\""));
    shop.lock();
    assert_eq!(bytes(&shop.lock_text()), bytes(&old));
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    says(&shop.run("lock --update foo").success(), &["~  foo", "(other bytes)"]);
    assert_ne!(bytes(&shop.lock_text()), bytes(&old));
}

#[test]
fn an_index_of_the_past_offers_only_what_is_kept_from_it() {
    let packages = [Package::new("foo", "1"), Package::new("gone", "1")];
    let mut shop = shop_with(&packages, &base("\"foo\""));
    shop.lock();
    publish(&mut shop, "trixie", |suite| suite.date(NEXT_DATE).replace(Package::new("foo", "2")).remove("gone"));
    shop.spec(&base("\"foo\", \"nginx\""));
    shop.lock();
    assert_eq!(shop.version("base", "foo").as_deref(), Some("1"));
    shop.spec(&base("\"foo\", \"gone\""));
    says(&shop.run("lock").code(2), &["there is no package gone"]);
}

#[test]
fn a_child_cannot_replace_what_its_parent_has() {
    let shop = shop_with(&[Package::new("nano", "8")], "");
    shop.write("nano_99_all.deb", Package::new("nano", "99").deb());
    shop.spec(&(base("\"nano\"") + "[class.web]\nfrom = \"base\"\npackages = [\"./nano_99_all.deb\"]\n"));
    let output = shop.run("lock").code(2);
    says(
        &output,
        &["nano 8 comes from class base", "nano_99_all.deb would replace it", "hint: a child adds to its parent's"],
    );
    assert!(!shop.path("kiln.lock").exists());
}

#[test]
fn an_exclusion_of_what_is_inherited_fits() {
    let foo = Package::new("foo", "1").depends("libfoo");
    let classes = base("\"foo\"") + "[class.web]\nfrom = \"base\"\nexclude = [\"libfoo\"]\npackages = [\"nginx\"]\n";
    let shop = shop_with(&[foo, Package::new("libfoo", "1")], &classes);
    shop.lock();
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
}

#[test]
fn security_alone_still_locks_a_new_component() {
    let shop = Shop::with(&base("\"nginx\""), |repository| {
        ["trixie", "trixie-updates", "trixie-security"]
            .iter()
            .fold(repository, |repository, suite| repository.change(suite, |suite| suite.component("contrib")))
    });
    shop.lock();
    shop.spec(&("components = [\"main\", \"contrib\"]\n".to_owned() + &base("\"nginx\"")));
    let _ = shop.run("lock --update --security").success();
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    says(&shop.run("lock --update nginx --security").code(2), &["--security takes no packages"]);
}

#[test]
fn another_snapshot_is_another_lock() {
    let shop = Shop::new(&base("\"nginx\""));
    shop.lock();
    shop.spec(&("snapshot = \"2025-01-01T00:00:00Z\"\n".to_owned() + &base("\"nginx\"")));
    says(
        &shop.run("lock --check").code(1),
        &["distribution trixie: snapshot is 2025-01-01T00:00:00Z, locked was none"],
    );
}

#[test]
fn a_lock_with_forged_indexes_is_noticed() {
    let shop = Shop::new(&base("\"nginx\""));
    let text = shop.lock();
    // Somebody who knows how locks are made: other dates, and a digest that fits.
    let forged = text.replace("date = \"2025-09-06T10:00:00Z\"", "date = \"2025-09-05T10:00:00Z\"");
    assert_ne!(forged, text);
    shop.write("kiln.lock", with_right_digest(&forged));
    says(&shop.run("lock --check").code(1), &["its Release is dated 2025-09-06T10:00:00Z, not 2025-09-05T10:00:00Z"]);
    let key = text.lines().find(|line| line.starts_with("key = ")).unwrap();
    let forged = text.replace(key, "key = \"0000000000000000000000000000000000000000\"");
    shop.write("kiln.lock", with_right_digest(&forged));
    says(&shop.run("lock --check").code(1), &["its Release is not signed by 0000000000000000000000000000000000000000"]);
}

/// The lock's text with the digest that `kiln lock` would have written.
fn with_right_digest(text: &str) -> String {
    let (head, body) = text.split_once("digest = ").unwrap();
    let body = body.split_once('\n').unwrap().1;
    let digest = kiln_model::digest::Sha256::of(body.as_bytes());
    format!("{head}digest = \"{digest}\"\n{body}")
}

#[test]
fn a_vendors_other_suite_is_not_taken_for_the_one_asked_for() {
    let key = || kiln_testkit::Key::named("vendor");
    let shop = Shop::new("");
    let suite = |name: &str| {
        Suite::new(name)
            .origin("Vendor")
            .signed_by([key()])
            .package(Package::new("vendor-tool", if name == "stable" { "1" } else { "2" }))
    };
    let root = shop.home.path().join("vendor");
    let mirror = Repository::new(&root).suite(suite("stable")).suite(suite("nightly")).write();
    shop.write("vendor.gpg", fs_err::read(mirror.keyring()).unwrap());
    // One key signs both: a mirror passes the one off as the other.
    for name in ["InRelease", "Release", "Release.gpg"] {
        let _ = fs_err::copy(root.join("dists/nightly").join(name), root.join("dists/stable").join(name));
    }
    let uri = mirror.uri();
    shop.spec(&format!(
        "[[distribution.trixie.repository]]\nname = \"vendor\"\nuri = \"{uri}\"\nsuite = \"stable\"\n\
         keyring = \"vendor.gpg\"\n{}",
        base("\"vendor-tool\"")
    ));
    says(&shop.run("lock").code(3), &["it is the Release of nightly"]);
}

#[test]
fn backports_do_not_put_themselves_forward() {
    let shop = Shop::new("");
    let nginx = crate::fixture::package("nginx").at_version("9.9-1~bpo13+1");
    let suite = Suite::new("trixie-backports").origin("Backports").signed_by([kiln_testkit::Key::named("backports")]);
    let suite = suite.package(nginx);
    let mirror = Repository::new(shop.home.path().join("backports")).suite(suite.backports()).write();
    shop.write("backports.gpg", fs_err::read(mirror.keyring()).unwrap());
    let uri = mirror.uri();
    let with = |priority: &str| {
        format!(
            "[[distribution.trixie.repository]]\nname = \"backports\"\nuri = \"{uri}\"\nsuite = \"trixie-backports\"\n\
             keyring = \"backports.gpg\"\n{priority}{}",
            base("\"nginx\"")
        )
    };
    shop.spec(&with(""));
    assert!(shop.lock().contains("priority = 100"));
    assert_ne!(shop.version("base", "nginx").as_deref(), Some("9.9-1~bpo13+1"));
    shop.spec(&with("priority = 990\n"));
    says(&shop.run("lock --check").code(1), &["the priority of backports is another, locked was 100"]);
}

#[test]
fn an_address_with_a_password_is_never_shown() {
    let shop = Shop::served(&base("\"nginx\""));
    shop.lock();
    let url = format!("{}/a.deb", shop.uri()).replace("http://", "http://user:s3cret@");
    shop.spec(&base(&format!("\"nginx\", \"{url}\"")));
    for arguments in ["lock --check", "lock", "lock --json"] {
        let output = shop.run(arguments);
        assert_ne!(output.status, Some(0));
        assert!(!output.report().contains("s3cret"), "{arguments}: {}", output.report());
    }
}
