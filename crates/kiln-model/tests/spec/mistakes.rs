//! How mistakes are shown: every rule, and several at once where they come together.

use insta::assert_snapshot;

use super::{SHOP, parse};

/// What every factory needs; 6 lines.
const BEGINNING: &str =
    "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\n";

fn mistakes(texts: &[(&str, &str)]) -> String {
    parse(texts).expect_err("this should be refused").to_string()
}

/// The mistakes of a whole `kiln.toml`.
fn whole(text: &str) -> String {
    mistakes(&[("kiln.toml", text)])
}

/// The mistakes of a `kiln.toml` whose factory and distribution are right; its own lines begin with the 7th.
fn rest(text: &str) -> String {
    whole(&format!("{BEGINNING}{text}"))
}

/// The mistakes of one step; its lines begin with the 10th.
fn step(text: &str) -> String {
    rest(&format!("[class.web]\ndistribution = \"trixie\"\n[[class.web.step]]\n{text}\n"))
}

/// The mistakes of a group of the class `web` in `dev`; its lines begin with the 13th.
fn group(text: &str) -> String {
    let head = "[class.web]\ndistribution = \"trixie\"\n[environment.dev]\n[group.web]\nclass = \"web\"\nprovider = \"local\"\n";
    rest(&format!("{head}{text}\n"))
}

#[test]
fn empty_file() {
    assert_snapshot!(whole(""), @r"
    error: kiln.toml lacks the key `factory`
     --> kiln.toml:1:1
      |
    1 | 
      | ^
    hint: add [factory]
    ");
}

#[test]
fn no_file() {
    assert_snapshot!(mistakes(&[]), @r"
    error: there is no kiln.toml
     --> kiln.toml:1:1
      |
    1 | 
      | ^
    ");
}

#[test]
fn unknown_keys() {
    assert_snapshot!(rest("[clas.web]\n[class.web]\ndistribution = \"trixie\"\npakages = [\"nginx\"]\nzebra = 1\n"), @r#"
    error: unknown key `clas` in kiln.toml
     --> kiln.toml:7:2
      |
    7 | [clas.web]
      |  ^^^^
    hint: did you mean `class`?

    error: unknown key `pakages` in [class.web]
      --> kiln.toml:10:1
       |
    10 | pakages = ["nginx"]
       | ^^^^^^^
    hint: did you mean `packages`?

    error: unknown key `zebra` in [class.web]
      --> kiln.toml:11:1
       |
    11 | zebra = 1
       | ^^^^^
    hint: known keys are distribution, from, packages, exclude, recommends, kernel, checks, step
    "#);
}

#[test]
fn wrong_types() {
    assert_snapshot!(rest(r#"
[class.web]
distribution = 1
packages = "nginx"
recommends = "true"
kernel = ["linux"]
exclude = [1, "a b"]
step = [1]
checks = { a = 1 }
"#), @r#"
    error: `distribution` must be a name such as "web", not an integer
     --> kiln.toml:9:16
      |
    9 | distribution = 1
      |                ^
    hint: a name is a lower-case letter, then letters, digits and hyphens, at most 63 in all: web-eu1

    error: `packages` must be a list such as ["nginx-light"], not text
      --> kiln.toml:10:12
       |
    10 | packages = "nginx"
       |            ^^^^^^^
    hint: write ["nginx"]

    error: `recommends` must be true or false, not text
      --> kiln.toml:11:14
       |
    11 | recommends = "true"
       |              ^^^^^^
    hint: write true

    error: `kernel` must be a package by name such as "linux-image-cloud-amd64", not a list
      --> kiln.toml:12:10
       |
    12 | kernel = ["linux"]
       |          ^^^^^^^^^

    error: an entry of `exclude` must be a package name such as "nginx-light", not an integer
      --> kiln.toml:13:12
       |
    13 | exclude = [1, "a b"]
       |            ^
    hint: names are lower-case letters, digits, `+`, `-` and `.`, as in Debian

    error: `a b` is not a package name
      --> kiln.toml:13:15
       |
    13 | exclude = [1, "a b"]
       |               ^^^^^
    hint: names are lower-case letters, digits, `+`, `-` and `.`, as in Debian

    error: an entry of `step` must be a table, not an integer
      --> kiln.toml:14:9
       |
    14 | step = [1]
       |         ^

    error: `checks` must be a list, not a table
      --> kiln.toml:15:10
       |
    15 | checks = { a = 1 }
       |          ^^^^^^^^^
    "#);
    assert_snapshot!(group(r#"
memory = 512
cpus = "2"
max_lifetime = 2026-01-01
health = "/healthz"
update = [1]
in.dev.count = 1.5
in.dev.config = { A = 1, B = "x" }
"#), @r#"
    error: `memory` must be a size such as "512MiB", not an integer
      --> kiln.toml:14:10
       |
    14 | memory = 512
       |          ^^^
    hint: write 512MiB, or another of TiB, TB, GiB, GB, MiB, MB, KiB, kB, B

    error: `cpus` must be an integer from 1 to 256, not text
      --> kiln.toml:15:8
       |
    15 | cpus = "2"
       |        ^^^
    hint: write 2

    error: `max_lifetime` must be a duration such as "15s", not a date or time
      --> kiln.toml:16:16
       |
    16 | max_lifetime = 2026-01-01
       |                ^^^^^^^^^^
    hint: write whole numbers with d, h, m, s or ms: 15s, 10m, 1h30m, 14d

    error: `health` must be a table, not text
      --> kiln.toml:17:10
       |
    17 | health = "/healthz"
       |          ^^^^^^^^^^

    error: `update` must be a table, not a list
      --> kiln.toml:18:10
       |
    18 | update = [1]
       |          ^^^

    error: `count` must be an integer from 0 to 10000, not a float
      --> kiln.toml:19:16
       |
    19 | in.dev.count = 1.5
       |                ^^^

    error: `config.A` must be text such as "hello", not an integer
      --> kiln.toml:20:23
       |
    20 | in.dev.config = { A = 1, B = "x" }
       |                       ^
    hint: write "1"
    "#);
    assert_snapshot!(whole("factory = \"shop\"\ndistribution = []\nclass.web = 3\n"), @r#"
    error: `factory` must be a table, not text
     --> kiln.toml:1:11
      |
    1 | factory = "shop"
      |           ^^^^^^

    error: `distribution` must be a table of named tables, not a list
     --> kiln.toml:2:16
      |
    2 | distribution = []
      |                ^^

    error: `class.web` must be a table, not an integer
     --> kiln.toml:3:13
      |
    3 | class.web = 3
      |             ^
    "#);
}

#[test]
fn missing_keys() {
    assert_snapshot!(whole("[factory]\n[distribution.trixie]\n[[distribution.trixie.repository]]\n[group.web]\n"), @r#"
    error: [factory] lacks the key `name`
     --> kiln.toml:1:1
      |
    1 | [factory]
      | ^^^^^^^^^
    hint: write for instance name = "web"

    error: [distribution.trixie] lacks the key `family`
     --> kiln.toml:2:1
      |
    2 | [distribution.trixie]
      | ^^^^^^^^^^^^^^^^^^^^^
    hint: write for instance family = "debian"

    error: [distribution.trixie] lacks the key `suite`
     --> kiln.toml:2:1
      |
    2 | [distribution.trixie]
      | ^^^^^^^^^^^^^^^^^^^^^
    hint: write for instance suite = "trixie"

    error: [[distribution.trixie.repository]] lacks the key `keyring`
     --> kiln.toml:3:1
      |
    3 | [[distribution.trixie.repository]]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: it must be a path in the factory

    error: [[distribution.trixie.repository]] lacks the key `name`
     --> kiln.toml:3:1
      |
    3 | [[distribution.trixie.repository]]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write for instance name = "web"

    error: [[distribution.trixie.repository]] lacks the key `suite`
     --> kiln.toml:3:1
      |
    3 | [[distribution.trixie.repository]]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write for instance suite = "trixie"

    error: [[distribution.trixie.repository]] lacks the key `uri`
     --> kiln.toml:3:1
      |
    3 | [[distribution.trixie.repository]]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write for instance uri = "https://mirror.example/debian"

    error: [group.web] lacks the key `class`
     --> kiln.toml:4:1
      |
    4 | [group.web]
      | ^^^^^^^^^^^
    hint: write for instance class = "web"

    error: [group.web] lacks the key `in`
     --> kiln.toml:4:1
      |
    4 | [group.web]
      | ^^^^^^^^^^^
    hint: add [group.web.in.NAME]

    error: [group.web] lacks the key `memory`
     --> kiln.toml:4:1
      |
    4 | [group.web]
      | ^^^^^^^^^^^
    hint: write for instance memory = "512MiB"

    error: [group.web] lacks the key `provider`
     --> kiln.toml:4:1
      |
    4 | [group.web]
      | ^^^^^^^^^^^
    hint: write for instance provider = "local"
    "#);
}

#[test]
fn wrong_words() {
    assert_snapshot!(whole(r#"
[factory]
name = "The Shop"
[distribution.trixie]
family = "debain"
suite = "../trixie"
components = []
architecture = "x86_64"
mirror = "mirror.example/debian"
snapshot = "yesterday"
[[distribution.trixie.repository]]
name = "x"
uri = "ftp://mirror.example"
suite = "stable"
keyring = "keys/shopp.asc"
priority = 1001
"#), @r#"
    error: `The Shop` cannot be a name
     --> kiln.toml:3:8
      |
    3 | name = "The Shop"
      |        ^^^^^^^^^^
    hint: a name is a lower-case letter, then letters, digits and hyphens, at most 63 in all: web-eu1

    error: `family` must be one of "debian", "ubuntu", not "debain"
     --> kiln.toml:5:10
      |
    5 | family = "debain"
      |          ^^^^^^^^
    hint: did you mean "debian"?

    error: `../trixie` is not a suite
     --> kiln.toml:6:9
      |
    6 | suite = "../trixie"
      |         ^^^^^^^^^^^
    hint: write for instance "trixie"

    error: `components` is empty
     --> kiln.toml:7:14
      |
    7 | components = []
      |              ^^

    error: `architecture` must be one of "amd64", "arm64", "armhf", "i386", "loong64", "ppc64el", "riscv64", "s390x", not "x86_64"
     --> kiln.toml:8:16
      |
    8 | architecture = "x86_64"
      |                ^^^^^^^^

    error: `mirror.example/debian` is not a URI
     --> kiln.toml:9:10
      |
    9 | mirror = "mirror.example/debian"
      |          ^^^^^^^^^^^^^^^^^^^^^^^
    hint: begin with https://, http:// or file:///

    error: `yesterday` is not a time in UTC
      --> kiln.toml:10:12
       |
    10 | snapshot = "yesterday"
       |            ^^^^^^^^^^^
    hint: write 2026-08-01T00:00:00Z or 20260801T000000Z

    error: `ftp://mirror.example` is not a URI
      --> kiln.toml:13:7
       |
    13 | uri = "ftp://mirror.example"
       |       ^^^^^^^^^^^^^^^^^^^^^^
    hint: begin with https://, http:// or file:///

    error: there is no `keys/shopp.asc` in the factory
      --> kiln.toml:15:11
       |
    15 | keyring = "keys/shopp.asc"
       |           ^^^^^^^^^^^^^^^^
    hint: did you mean `keys/shop.asc`?

    error: `priority` must be an integer from 1 to 1000, not 1001
      --> kiln.toml:16:12
       |
    16 | priority = 1001
       |            ^^^^
    "#);
}

#[test]
fn names() {
    assert_snapshot!(rest("[class.Web]\ndistribution = \"trixie\"\n[class.\"a b\"]\nfrom = \"Web\"\n"), @r#"
    error: `Web` cannot be a name
     --> kiln.toml:7:8
      |
    7 | [class.Web]
      |        ^^^
    hint: a name is a lower-case letter, then letters, digits and hyphens, at most 63 in all: web-eu1

    error: `a b` cannot be a name
     --> kiln.toml:9:8
      |
    9 | [class."a b"]
      |        ^^^^^
    hint: a name is a lower-case letter, then letters, digits and hyphens, at most 63 in all: web-eu1
    "#);
}

#[test]
fn twice_in_one_file() {
    assert_snapshot!(rest("[class.web]\ndistribution = \"trixie\"\n[class.web]\npackages = []\npackages = []\n"), @r"
    error: `web` is defined twice
     --> kiln.toml:9:8
      |
    9 | [class.web]
      |        ^^^
    hint: it is also on line 7

    error: `packages` is defined twice
      --> kiln.toml:11:1
       |
    11 | packages = []
       | ^^^^^^^^
    hint: it is also on line 10
    ");
}

#[test]
fn twice_in_several_files() {
    let db = "[class.web]\nfrom = \"base\"\n[group.web]\nclass = \"web\"\nprovider = \"local\"\nmemory = \"1GiB\"\nin.dev.count = 1\n";
    assert_snapshot!(mistakes(&[("kiln.toml", SHOP), ("kiln.d/db.toml", db)]), @r"
    error: class `web` is defined twice
     --> kiln.d/db.toml:1:8
      |
    1 | [class.web]
      |        ^^^
    hint: it is also at kiln.toml:16

    error: group `web` is defined twice
     --> kiln.d/db.toml:3:8
      |
    3 | [group.web]
      |        ^^^
    hint: it is also at kiln.toml:38
    ");
}

#[test]
fn what_belongs_in_the_main_file() {
    assert_snapshot!(mistakes(&[("kiln.toml", SHOP), ("kiln.d/x.toml", "[environment.qa]\n[factory]\nname = \"x\"\n[grop.a]\n")]), @r"
    error: `environment` belongs in kiln.toml
     --> kiln.d/x.toml:1:2
      |
    1 | [environment.qa]
      |  ^^^^^^^^^^^
    hint: files in kiln.d hold classes and groups only

    error: `factory` belongs in kiln.toml
     --> kiln.d/x.toml:2:2
      |
    2 | [factory]
      |  ^^^^^^^
    hint: files in kiln.d hold classes and groups only

    error: unknown key `grop` in a file of kiln.d
     --> kiln.d/x.toml:4:2
      |
    4 | [grop.a]
      |  ^^^^
    hint: did you mean `group`?
    ");
}

#[test]
fn distribution_or_parent() {
    assert_snapshot!(rest("[class.a]\n[class.b]\ndistribution = \"trixie\"\nfrom = \"a\"\n"), @r#"
    error: [class.a] has neither `distribution` nor `from`
     --> kiln.toml:7:1
      |
    7 | [class.a]
      | ^^^^^^^^^
    hint: write one of them

    error: [class.b] has both `distribution` and `from`
      --> kiln.toml:10:1
       |
    10 | from = "a"
       | ^^^^
    hint: keep one of them
    "#);
}

#[test]
fn names_of_nothing() {
    assert_snapshot!(rest(r#"
[toolbox]
distribution = "bookworm"
[class.base]
distribution = "trixe"
[class.web]
from = "bse"
[environment.dev]
[environment.staging]
after = "dve"
[group.web]
class = "wbe"
provider = "local"
memory = "1GiB"
in.dv.count = 1
in.production.count = 1
"#), @r#"
    error: there is no distribution `bookworm`
     --> kiln.toml:9:16
      |
    9 | distribution = "bookworm"
      |                ^^^^^^^^^^
    hint: declare it with [distribution.bookworm]

    error: there is no distribution `trixe`
      --> kiln.toml:11:16
       |
    11 | distribution = "trixe"
       |                ^^^^^^^
    hint: did you mean `trixie`?

    error: there is no class `bse`
      --> kiln.toml:13:8
       |
    13 | from = "bse"
       |        ^^^^^
    hint: did you mean `base`?

    error: there is no environment `dve`
      --> kiln.toml:16:9
       |
    16 | after = "dve"
       |         ^^^^^
    hint: did you mean `dev`?

    error: there is no class `wbe`
      --> kiln.toml:18:9
       |
    18 | class = "wbe"
       |         ^^^^^
    hint: did you mean `web`?

    error: there is no environment `dv`
      --> kiln.toml:21:4
       |
    21 | in.dv.count = 1
       |    ^^
    hint: did you mean `dev`?

    error: there is no environment `production`
      --> kiln.toml:22:4
       |
    22 | in.production.count = 1
       |    ^^^^^^^^^^
    hint: declare it with [environment.production]
    "#);
}

#[test]
fn circles() {
    assert_snapshot!(rest(r#"
[class.a]
from = "b"
[class.b]
from = "c"
[class.c]
from = "a"
[class.d]
from = "a"
[class.e]
from = "e"
[environment.dev]
after = "production"
[environment.production]
after = "dev"
"#), @r#"
    error: class `a` descends from itself: a -> b -> c -> a
     --> kiln.toml:9:8
      |
    9 | from = "b"
      |        ^^^
    hint: one of them must begin without the other

    error: class `e` descends from itself: e -> e
      --> kiln.toml:17:8
       |
    17 | from = "e"
       |        ^^^
    hint: one of them must begin without the other

    error: environment `dev` comes after itself: dev -> production -> dev
      --> kiln.toml:19:9
       |
    19 | after = "production"
       |         ^^^^^^^^^^^^
    hint: one of them must begin without the other
    "#);
}

#[test]
fn packages() {
    assert_snapshot!(rest(r#"
[class.base]
distribution = "trixie"
packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
exclude = ["curl", "vim", "vim"]
kernel = "./linux.deb"
[class.web]
from = "base"
exclude = ["nginx"]
"#), @r#"
    error: `Nginx` is not a package name
      --> kiln.toml:10:22
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                      ^^^^^^^
    hint: names are lower-case letters, digits, `+`, `-` and `.`, as in Debian

    error: `nginx (>= 1)` is asked for twice
      --> kiln.toml:10:39
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                                       ^^^^^^^^^^^^^^
    hint: it is also at kiln.toml:10

    error: `jq >= 1` is not a package request
      --> kiln.toml:10:55
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                                                       ^^^^^^^^^
    hint: write jq (>= 1)

    error: `jq (< 2)` compares versions with `<`
      --> kiln.toml:10:66
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                                                                  ^^^^^^^^^^
    hint: write << for earlier, <= for earlier or equal

    error: there is no `dist/shop.deb` in the factory
      --> kiln.toml:10:78
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                                                                              ^^^^^^^^^^^^^^^^^
    hint: `dist` has shop-agent_1.2_amd64.deb

    error: `../x.deb` leaves the factory
      --> kiln.toml:10:97
       |
    10 | packages = ["nginx", "Nginx", "curl", "nginx (>= 1)", "jq >= 1", "jq (< 2)", "./dist/shop.deb", "../x.deb"]
       |                                                                                                 ^^^^^^^^^^
    hint: paths are relative to kiln.toml; bring the file into the factory

    error: `curl` is excluded here and asked for
      --> kiln.toml:11:12
       |
    11 | exclude = ["curl", "vim", "vim"]
       |            ^^^^^^
    hint: it is asked for at kiln.toml:10

    error: `vim` is excluded twice
      --> kiln.toml:11:27
       |
    11 | exclude = ["curl", "vim", "vim"]
       |                           ^^^^^

    error: `./linux.deb` is a file, where a package's name is needed
      --> kiln.toml:12:10
       |
    12 | kernel = "./linux.deb"
       |          ^^^^^^^^^^^^^
    hint: add the file to `packages`, and write its package's name here

    error: `nginx` is excluded here and asked for by class `base`
      --> kiln.toml:15:12
       |
    15 | exclude = ["nginx"]
       |            ^^^^^^^
    hint: it is asked for at kiln.toml:10
    "#);
}

#[test]
fn files_that_are_not_there() {
    assert_snapshot!(rest(r#"
[class.web]
distribution = "trixie"
checks = ["checks/wbe.yaml", "checks/*.yml", "site", "/etc/checks.yaml"]
[[class.web.step]]
copy = "../site"
to = "srv/www"
[[class.web.step]]
template = "site/*.html"
to = "/srv/../etc"
[[class.web.step]]
ansible = "playbook/harden.yml"
roles = "nginx.conf.j2"
"#), @r#"
    error: there is no `checks/wbe.yaml` in the factory
      --> kiln.toml:10:11
       |
    10 | checks = ["checks/wbe.yaml", "checks/*.yml", "site", "/etc/checks.yaml"]
       |           ^^^^^^^^^^^^^^^^^
    hint: did you mean `checks/web.yaml`?

    error: `checks/*.yml` matches no file
      --> kiln.toml:10:30
       |
    10 | checks = ["checks/wbe.yaml", "checks/*.yml", "site", "/etc/checks.yaml"]
       |                              ^^^^^^^^^^^^^^
    hint: `checks` has db.yaml, web.yaml

    error: `site` is a directory, not a file
      --> kiln.toml:10:46
       |
    10 | checks = ["checks/wbe.yaml", "checks/*.yml", "site", "/etc/checks.yaml"]
       |                                              ^^^^^^

    error: `/etc/checks.yaml` is an absolute path
      --> kiln.toml:10:54
       |
    10 | checks = ["checks/wbe.yaml", "checks/*.yml", "site", "/etc/checks.yaml"]
       |                                                      ^^^^^^^^^^^^^^^^^^
    hint: paths are relative to kiln.toml; bring the file into the factory

    error: `../site` leaves the factory
      --> kiln.toml:12:8
       |
    12 | copy = "../site"
       |        ^^^^^^^^^
    hint: paths are relative to kiln.toml; bring the file into the factory

    error: `srv/www` is not an absolute path
      --> kiln.toml:13:6
       |
    13 | to = "srv/www"
       |      ^^^^^^^^^
    hint: write /srv/www

    error: `site/*.html` is a pattern, where one path is needed
      --> kiln.toml:15:12
       |
    15 | template = "site/*.html"
       |            ^^^^^^^^^^^^^

    error: `/srv/../etc` goes up
      --> kiln.toml:16:6
       |
    16 | to = "/srv/../etc"
       |      ^^^^^^^^^^^^^
    hint: write it without `..`

    error: there is no `playbook/harden.yml` in the factory
      --> kiln.toml:18:11
       |
    18 | ansible = "playbook/harden.yml"
       |           ^^^^^^^^^^^^^^^^^^^^^
    hint: did you mean `playbooks`?

    error: `nginx.conf.j2` is a file, not a directory
      --> kiln.toml:19:9
       |
    19 | roles = "nginx.conf.j2"
       |         ^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn steps_do_one_thing() {
    assert_snapshot!(step(r#"copy = "site"
to = "/srv"
shell = "true"
[[class.web.step]]
to = "/srv"
[[class.web.step]]
cpoy = "site"
[[class.web.step]]"#), @r"
    error: this step does several things: `copy`, `shell`
     --> kiln.toml:9:1
      |
    9 | [[class.web.step]]
      | ^^^^^^^^^^^^^^^^^^
    hint: write a step for each, in the order in which they are to happen

    error: this step does nothing
      --> kiln.toml:13:1
       |
    13 | [[class.web.step]]
       | ^^^^^^^^^^^^^^^^^^
    hint: say what it does with one of copy, template, user, group, enable, disable, mask, download, shell, script, ansible, puppet

    error: this step does nothing
      --> kiln.toml:15:1
       |
    15 | [[class.web.step]]
       | ^^^^^^^^^^^^^^^^^^
    hint: did you mean `copy`?

    error: this step does nothing
      --> kiln.toml:17:1
       |
    17 | [[class.web.step]]
       | ^^^^^^^^^^^^^^^^^^
    hint: say what it does with one of copy, template, user, group, enable, disable, mask, download, shell, script, ansible, puppet
    ");
}

#[test]
fn options_that_need_another() {
    assert_snapshot!(step("download = \"https://mirror.example/app.tar\"\nto = \"/opt/\"\nstrip = 1"), @r"
    error: `strip` is for archives
      --> kiln.toml:12:9
       |
    12 | strip = 1
       |         ^
    hint: write `unpack = true` too
    ");
}

#[test]
fn options_of_other_verbs() {
    assert_snapshot!(step(r#"copy = "site"
to = "/srv"
unpack = true
tools = ["make"]
ownr = "root"
zebra = 1"#), @r#"
    error: unknown key `unpack` in this `copy` step
      --> kiln.toml:12:1
       |
    12 | unpack = true
       | ^^^^^^
    hint: `download` takes it

    error: unknown key `tools` in this `copy` step
      --> kiln.toml:13:1
       |
    13 | tools = ["make"]
       | ^^^^^
    hint: `shell`, `script`, `ansible`, `puppet` take it

    error: unknown key `ownr` in this `copy` step
      --> kiln.toml:14:1
       |
    14 | ownr = "root"
       | ^^^^
    hint: did you mean `owner`?

    error: unknown key `zebra` in this `copy` step
      --> kiln.toml:15:1
       |
    15 | zebra = 1
       | ^^^^^
    hint: known keys are copy, to, owner, group, mode
    "#);
}

#[test]
fn options_of_steps() {
    assert_snapshot!(step(r#"copy = "site"
mode = "rw-r--r--"
owner = "Root"
[[class.web.step]]
copy = "site"
to = "/srv"
mode = 0o644
[[class.web.step]]
template = "nginx.conf.j2"
to = "/etc/nginx.conf"
at = "bot"
sample = { "a-b" = "x", c = 1 }
[[class.web.step]]
user = "shop"
uid = 0
comment = "a:b"
[[class.web.step]]
enable = []
[[class.web.step]]
mask = ["nginx"]
[[class.web.step]]
download = "mirror.example/x"
to = "/opt/x"
sha256 = "abc"
[[class.web.step]]
shell = "  "
cwd = "opt"
[[class.web.step]]
ansible = "playbooks/harden.yml"
variables = { when = 2026-01-01, deep = [inf] }"#), @r#"
    error: this `copy` step lacks the key `to`
     --> kiln.toml:9:1
      |
    9 | [[class.web.step]]
      | ^^^^^^^^^^^^^^^^^^
    hint: write for instance to = "/srv/www"

    error: `rw-r--r--` is not a mode
      --> kiln.toml:11:8
       |
    11 | mode = "rw-r--r--"
       |        ^^^^^^^^^^^
    hint: write three or four octal digits: "0644"

    error: `Root` cannot name a user or group
      --> kiln.toml:12:9
       |
    12 | owner = "Root"
       |         ^^^^^^
    hint: use lower-case letters, digits, `_` and `-`, at most 32, beginning with a letter

    error: `mode` must be a mode such as "0644", not an integer
      --> kiln.toml:16:8
       |
    16 | mode = 0o644
       |        ^^^^^
    hint: write "644"

    error: `at` must be one of "build", "boot", not "bot"
      --> kiln.toml:20:6
       |
    20 | at = "bot"
       |      ^^^^^
    hint: did you mean "boot"?

    error: `a-b` cannot name a variable
      --> kiln.toml:21:12
       |
    21 | sample = { "a-b" = "x", c = 1 }
       |            ^^^^^
    hint: use letters, digits and `_`

    error: `sample.c` must be text such as "hello", not an integer
      --> kiln.toml:21:29
       |
    21 | sample = { "a-b" = "x", c = 1 }
       |                             ^
    hint: write "1"

    error: `uid` must be an integer from 1 to 4294967294, not 0
      --> kiln.toml:24:7
       |
    24 | uid = 0
       |       ^

    error: an account's comment has neither `:` nor control characters
      --> kiln.toml:25:11
       |
    25 | comment = "a:b"
       |           ^^^^^

    error: `enable` is empty
      --> kiln.toml:27:10
       |
    27 | enable = []
       |          ^^

    error: `nginx` is not a systemd unit
      --> kiln.toml:29:9
       |
    29 | mask = ["nginx"]
       |         ^^^^^^^
    hint: write its type too: nginx.service

    error: `mirror.example/x` is not a URI
      --> kiln.toml:31:12
       |
    31 | download = "mirror.example/x"
       |            ^^^^^^^^^^^^^^^^^^
    hint: begin with https://, http:// or file:///

    error: `abc` is not a SHA-256 digest (64 hexadecimal digits)
      --> kiln.toml:33:10
       |
    33 | sha256 = "abc"
       |          ^^^^^

    error: this text is empty
      --> kiln.toml:35:9
       |
    35 | shell = "  "
       |         ^^^^

    error: `opt` is not an absolute path
      --> kiln.toml:36:7
       |
    36 | cwd = "opt"
       |       ^^^^^
    hint: write /opt

    error: a date cannot be handed on
      --> kiln.toml:39:22
       |
    39 | variables = { when = 2026-01-01, deep = [inf] }
       |                      ^^^^^^^^^^
    hint: write it in quotes

    error: this number is not finite
      --> kiln.toml:39:42
       |
    39 | variables = { when = 2026-01-01, deep = [inf] }
       |                                          ^^^
    "#);
}

#[test]
fn units() {
    assert_snapshot!(group(r#"
memory = "512"
max_lifetime = "0s"
health = { http = "healthz", port = 0, interval = "5" }
update = { soak = "1h5" }
in.dev = { count = 10001, memory = "1G", balancer = { listen = ":8080", to = 65536 } }
"#), @r#"
    error: `512` lacks a unit
      --> kiln.toml:14:10
       |
    14 | memory = "512"
       |          ^^^^^
    hint: write 512MiB, or another of TiB, TB, GiB, GB, MiB, MB, KiB, kB, B

    error: `0s` is no time at all
      --> kiln.toml:15:16
       |
    15 | max_lifetime = "0s"
       |                ^^^^

    error: `healthz` is not the path of a URL
      --> kiln.toml:16:19
       |
    16 | health = { http = "healthz", port = 0, interval = "5" }
       |                   ^^^^^^^^^
    hint: begin with `/` and leave host and port out: /healthz

    error: `port` must be an integer from 1 to 65535, not 0
      --> kiln.toml:16:37
       |
    16 | health = { http = "healthz", port = 0, interval = "5" }
       |                                     ^

    error: `5` lacks a unit
      --> kiln.toml:16:51
       |
    16 | health = { http = "healthz", port = 0, interval = "5" }
       |                                                   ^^^
    hint: write 5s, 5m, 5h or 5d

    error: `1h5` lacks a unit
      --> kiln.toml:17:19
       |
    17 | update = { soak = "1h5" }
       |                   ^^^^^
    hint: each number has its unit: 1h30m, 1m5s

    error: `count` must be an integer from 0 to 10000, not 10001
      --> kiln.toml:18:20
       |
    18 | in.dev = { count = 10001, memory = "1G", balancer = { listen = ":8080", to = 65536 } }
       |                    ^^^^^

    error: `G` in `1G` is not a unit of size
      --> kiln.toml:18:36
       |
    18 | in.dev = { count = 10001, memory = "1G", balancer = { listen = ":8080", to = 65536 } }
       |                                    ^^^^
    hint: did you mean `GiB`?

    error: `:8080` is not an address and port
      --> kiln.toml:18:64
       |
    18 | in.dev = { count = 10001, memory = "1G", balancer = { listen = ":8080", to = 65536 } }
       |                                                                ^^^^^^^
    hint: write 0.0.0.0:8080 for every address of the host

    error: `to` must be an integer from 1 to 65535, not 65536
      --> kiln.toml:18:78
       |
    18 | in.dev = { count = 10001, memory = "1G", balancer = { listen = ":8080", to = 65536 } }
       |                                                                              ^^^^^
    "#);
}

#[test]
fn health() {
    let memory = "memory = \"1GiB\"\nin.dev.count = 1\n";
    assert_snapshot!(group(&format!("{memory}health = {{ port = 80 }}")), @r"
    error: [group.web.health] has neither `http` nor `tcp`
      --> kiln.toml:15:10
       |
    15 | health = { port = 80 }
       |          ^^^^^^^^^^^^^
    hint: write one of them
    ");
    assert_snapshot!(group(&format!("{memory}health = {{ http = \"/\", tcp = true, port = 80 }}")), @r#"
    error: [group.web.health] has both `http` and `tcp`
      --> kiln.toml:15:24
       |
    15 | health = { http = "/", tcp = true, port = 80 }
       |                        ^^^
    hint: keep one of them
    "#);
    assert_snapshot!(group(&format!("{memory}health = {{ tcp = false, port = 80, timeout = \"9s\" }}")), @r#"
    error: `tcp = false` asks nothing
      --> kiln.toml:15:18
       |
    15 | health = { tcp = false, port = 80, timeout = "9s" }
       |                  ^^^^^
    hint: write tcp = true, or http = "/path"

    error: the timeout of 9s is longer than the interval of 5s
      --> kiln.toml:15:46
       |
    15 | health = { tcp = false, port = 80, timeout = "9s" }
       |                                              ^^^^
    hint: an answer must have come before the next question
    "#);
}

#[test]
fn updates_that_cannot_work() {
    let memory = "memory = \"1GiB\"\n";
    assert_snapshot!(group(&format!("{memory}in.dev.count = 1\nupdate = {{ max_surge = 0, soak = \"2h\", progress_deadline = \"1h\" }}")), @r#"
    error: the progress deadline of 1h is not longer than the soak of 2h
      --> kiln.toml:15:10
       |
    15 | update = { max_surge = 0, soak = "2h", progress_deadline = "1h" }
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: an instance must boot and then soak before the deadline

    error: with both `max_surge` and `max_unavailable` 0 nothing can ever be replaced
      --> kiln.toml:15:10
       |
    15 | update = { max_surge = 0, soak = "2h", progress_deadline = "1h" }
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: let one of them be at least 1
    "#);
    assert_snapshot!(group(&format!("{memory}update = {{ max_surge = 0, max_unavailable = 1 }}\nin.dev = {{ count = 1, update = {{ max_unavailable = 0 }} }}")), @r"
    error: with both `max_surge` and `max_unavailable` 0 nothing can ever be replaced
      --> kiln.toml:15:32
       |
    15 | in.dev = { count = 1, update = { max_unavailable = 0 } }
       |                                ^^^^^^^^^^^^^^^^^^^^^^^
    hint: let one of them be at least 1
    ");
}

#[test]
fn a_group_runs_somewhere() {
    assert_snapshot!(group("memory = \"1GiB\"\nin = {}"), @r"
    error: `in` is empty
      --> kiln.toml:14:6
       |
    14 | in = {}
       |      ^^
    ");
}

#[test]
fn addresses_taken_twice() {
    assert_snapshot!(group(r#"
memory = "1GiB"
in.dev = { count = 1, balancer = { listen = "127.0.0.1:8080", to = 80 } }
[group.other]
class = "web"
provider = "local"
memory = "1GiB"
in.dev = { count = 1, balancer = { listen = "127.0.0.1:8080", to = 80 } }
[group.third]
class = "web"
provider = "local"
memory = "1GiB"
in.dev = { count = 1, balancer = { listen = "0.0.0.0:8080", to = 80 } }
"#), @r#"
    error: `127.0.0.1:8080` is taken twice
      --> kiln.toml:20:45
       |
    20 | in.dev = { count = 1, balancer = { listen = "127.0.0.1:8080", to = 80 } }
       |                                             ^^^^^^^^^^^^^^^^
    hint: the other is at kiln.toml:15; use another port

    error: `0.0.0.0:8080` cannot be taken beside `127.0.0.1:8080`
      --> kiln.toml:25:45
       |
    25 | in.dev = { count = 1, balancer = { listen = "0.0.0.0:8080", to = 80 } }
       |                                             ^^^^^^^^^^^^^^
    hint: the other is at kiln.toml:15; use another port
    "#);
}

#[test]
fn promotions_that_no_image_can_earn() {
    assert_snapshot!(rest(r#"
[class.web]
distribution = "trixie"
[class.db]
distribution = "trixie"
[environment.dev]
[environment.staging]
after = "dev"
[group.web]
class = "web"
provider = "local"
memory = "1GiB"
in.dev.count = 0
in.staging.count = 1
[group.db]
class = "db"
provider = "local"
memory = "1GiB"
[group.db.in.staging]
count = 1
"#), @r"
    error: class `web` reaches `staging` after `dev`, where no group runs it
      --> kiln.toml:20:4
       |
    20 | in.staging.count = 1
       |    ^^^^^^^
    hint: run a group of class `web` there, or take `after` away at kiln.toml:14

    error: class `db` reaches `staging` after `dev`, where no group runs it
      --> kiln.toml:25:14
       |
    25 | [group.db.in.staging]
       |              ^^^^^^^
    hint: run a group of class `db` there, or take `after` away at kiln.toml:14
    ");
}

#[test]
fn repositories_twice() {
    let repository = "[[distribution.trixie.repository]]\nname = \"shop\"\nuri = \"file:///srv\"\nsuite = \"x\"\nkeyring = \"keys/shop.asc\"\n";
    assert_snapshot!(rest(&format!("{repository}{repository}")), @r"
    error: repository `shop` is defined twice
      --> kiln.toml:12:1
       |
    12 | [[distribution.trixie.repository]]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: it is also at kiln.toml:7
    ");
}

#[test]
fn syntax() {
    assert_snapshot!(rest("[class.web]\ndistribution = \"trixie\nfrom = \n"), @r#"
    error: invalid basic string, expected `"`
     --> kiln.toml:8:23
      |
    8 | distribution = "trixie
      |                       ^

    error: there is no value
     --> kiln.toml:9:8
      |
    9 | from = 
      |        ^
    "#);
    assert_snapshot!(rest("[class.web\ndistribution = \"trixie\"\n[environment.dev]\nafter = \"dev\"\n"), @r"
    error: unclosed table, expected `]`
     --> kiln.toml:7:11
      |
    7 | [class.web
      |           ^
    ");
    assert_snapshot!(rest("[class.web]\npackages = [\"a\"\n\n  \"b\", \"c\"\nkernel = \"k\"\n\n[class.db]\ndistribution = 3\n"), @r#"
    error: missing comma between array elements, expected `,`
      --> kiln.toml:10:3
       |
    10 |   "b", "c"
       |   ^
    hint: what begins on line 8 is still open here
    "#);
}

#[test]
fn mistakes_beside_broken_syntax() {
    assert_snapshot!(rest("[class.web]\nkernel = k\npackages = 3\n[class.db]\npakages = []\n"), @r#"
    error: text must be in quotes
     --> kiln.toml:8:10
      |
    8 | kernel = k
      |          ^
    hint: write "k"

    error: unknown key `pakages` in [class.db]
      --> kiln.toml:11:1
       |
    11 | pakages = []
       | ^^^^^^^
    hint: did you mean `packages`?
    "#);
}
