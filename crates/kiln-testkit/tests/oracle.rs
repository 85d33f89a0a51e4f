//! The repository judged by the tools it imitates: dpkg-deb, gpgv and apt-get of the host.
//!
//! Every Debian has all three (apt depends on a verifier; `gpgv` is asked for by `make test`). apt runs with a private
//! configuration: it sees no source, no state and no key of the host.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_testkit::repository::{AllPackages, Mirror, Repository, Suite};
use kiln_testkit::{Compression, Key, Package, archive, damage};

/// The ids of `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65534;

/// A directory that any user may read, removed when dropped.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("kiln-oracle-").tempdir().unwrap();
        fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).unwrap()
    }

    fn join(&self, name: &str) -> Utf8PathBuf {
        self.path().join(name)
    }
}

/// apt with a private root; as an ordinary user where `user` says so and we are root.
struct Apt {
    configuration: Utf8PathBuf,
    user: Option<u32>,
}

impl Apt {
    fn new(scratch: &Utf8Path, mirror: &Mirror, suites: &[&str], user: Option<u32>) -> Self {
        let root = scratch.join(format!("apt-{}", user.map_or("self".to_owned(), |id| id.to_string())));
        for directory in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "tmp"]
        {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("status"), "").unwrap();
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={}] {} {suite} main\n", mirror.keyring(), mirror.uri()))
            .collect();
        fs::write(root.join("etc/sources.list"), sources).unwrap();
        let configuration = root.join("apt.conf");
        fs::write(&configuration, Self::configuration(&root)).unwrap();
        if let Some(id) = user {
            give_away(&root, id);
        }
        Self { configuration, user }
    }

    fn configuration(root: &Utf8Path) -> String {
        format!(
            "Dir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
             Dir::Etc \"{root}/etc\";\nDir::Etc::sourcelist \"{root}/etc/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::trustedparts \"-\";\nDir::Etc::trusted \"-\";\nAPT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             APT::Install-Recommends \"false\";\nDir::Log \"{root}/tmp\";\n"
        )
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        let temporary = self.configuration.with_file_name("tmp");
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.env("APT_CONFIG", &self.configuration).env("TMPDIR", &temporary).current_dir(&temporary);
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command.output().unwrap_or_else(|error| panic!("{program} is part of every Debian: {error}"))
    }

    /// Runs `apt-get update`, where a warning about a signature is a failure too.
    fn update(&self) -> Result<(), String> {
        let output = self.run("apt-get", &["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        let text = text(&output);
        if output.status.success() && !text.contains("W:") { Ok(()) } else { Err(text) }
    }

    /// The `name=version` of everything that installing `packages` into an empty system would unpack.
    fn install(&self, packages: &[&str]) -> Vec<String> {
        let output = self.run("apt-get", &[&["-q", "-s", "install"], packages].concat());
        assert!(output.status.success(), "{}", text(&output));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let unpacked = stdout.lines().filter_map(|line| line.strip_prefix("Inst "));
        unpacked.map(|line| line.replacen(" (", "=", 1).split(' ').next().unwrap().to_owned()).collect()
    }
}

fn give_away(root: &Utf8Path, id: u32) {
    std::os::unix::fs::chown(root, Some(id), Some(id)).unwrap();
    for entry in root.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            give_away(entry.path(), id);
        } else {
            std::os::unix::fs::chown(entry.path(), Some(id), Some(id)).unwrap();
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Ourselves, and an ordinary user if we are root.
fn users() -> Vec<Option<u32>> {
    if rustix::process::geteuid().is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

/// What apt would install for `packages` from `repository`, which every user must agree on.
fn check_install(repository: &Repository, suites: &[&str], packages: &[&str], expected: &[&str]) {
    let scratch = Scratch::new();
    let mirror = repository.clone().at(scratch.join("mirror")).write();
    for user in users() {
        let apt = Apt::new(scratch.path(), &mirror, suites, user);
        apt.update().unwrap_or_else(|text| panic!("apt refuses the repository as {user:?}:\n{text}"));
        let installed = apt.install(packages);
        for package in expected {
            assert!(installed.iter().any(|name| name == package), "no {package} as {user:?}: {installed:?}");
        }
    }
}

/// apt must refuse the repository and say one of `reasons`: apt 2 shows gpgv's words, apt 3 those of sqv.
fn check_refused(suite: Suite, damage: impl Fn(&Mirror), reasons: &[&str]) {
    let scratch = Scratch::new();
    let mirror = Repository::new(scratch.join("mirror")).suite(suite).write();
    damage(&mirror);
    let refusal = Apt::new(scratch.path(), &mirror, &["trixie"], None).update();
    let text = refusal.expect_err("apt accepts what it must refuse");
    assert!(reasons.iter().any(|reason| text.contains(reason)), "refused, but not for {reasons:?}:\n{text}");
}

fn one_package() -> Suite {
    Suite::new("trixie").package(Package::new("hello", "2.10-5"))
}

#[test]
fn apt_accepts_the_whole_archive_and_prefers_what_is_newer() {
    check_install(
        &Repository::debian("unused"),
        &["trixie", "trixie-updates", "trixie-security"],
        &["nginx", "openssh-server", "systemd-sysv", "udev", "ca-certificates", "linux-image-cloud-amd64", "tzdata"],
        &[
            "nginx=1.26.3-3",
            "openssl=3.5.1-1+deb13u1",
            "tzdata=2025b-4+deb13u1",
            "linux-image-6.12.41+deb13-cloud-amd64=6.12.41-1",
            "libc6=2.41-12",
        ],
    );
}

#[test]
fn apt_can_install_every_package_of_the_archive() {
    let scratch = Scratch::new();
    let mirror = Repository::debian(scratch.join("mirror")).write();
    let apt = Apt::new(scratch.path(), &mirror, &["trixie", "trixie-updates", "trixie-security"], None);
    apt.update().unwrap();
    let all = [archive::essential_base(), archive::shop(), archive::toolbox()].concat();
    assert!(all.len() > 100, "only {} packages", all.len());
    for package in &all {
        let installed = apt.install(&[package.name()]);
        assert!(installed.iter().any(|name| name.starts_with(&format!("{}=", package.name()))), "{installed:?}");
    }
}

#[test]
fn apt_accepts_every_form_of_a_suite() {
    let every = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
    let mut suites: Vec<Suite> = every.iter().map(|form| one_package().compressions([*form])).collect();
    suites.extend([
        one_package().compressions(every),
        one_package().by_hash(false),
        one_package().without_inline(),
        one_package().all_packages(AllPackages::Separate),
        one_package().signed_by([Key::named("old").with_signing_subkey()]),
        one_package().signed_by([Key::named("archive"), Key::named("release")]),
        one_package().valid_until("2099-01-01T00:00:00Z"),
    ]);
    for suite in suites {
        check_install(&Repository::new("unused").suite(suite), &["trixie"], &["hello"], &["hello=2.10-5"]);
    }
}

#[test]
fn apt_sees_packages_for_all_architectures() {
    let suite = one_package().package(Package::new("data", "1").for_all());
    for listed in [AllPackages::Repeated, AllPackages::RepeatedSilently, AllPackages::Separate] {
        let repository = Repository::new("unused").suite(suite.clone().all_packages(listed));
        check_install(&repository, &["trixie"], &["data"], &["data=1"]);
    }
}

#[test]
fn apt_refuses_what_is_wrong_with_a_suite() {
    let intact = |_: &Mirror| {};
    check_refused(one_package().signed_by([]), intact, &["is not signed"]);
    check_refused(
        one_package().signed_by([Key::named("archive").expired()]),
        intact,
        &["EXPKEYSIG", "Expired on 2020-12-31"],
    );
    check_refused(one_package().signed_by([Key::named("archive").revoked()]), intact, &["REVKEYSIG", "revoked"]);
    check_refused(one_package().valid_until("2025-09-07T00:00:00Z"), intact, &["is expired"]);
    let future = || one_package().date("2099-01-01T00:00:00Z");
    check_refused(future(), intact, &["is not valid yet", "Not live until 2098-12-31"]);
    check_refused(future().signed_at("2025-09-06T10:00:00Z"), intact, &["is not valid yet"]);
}

#[test]
fn apt_refuses_a_damaged_mirror() {
    let index = |mirror: &Mirror| mirror.suite_file("trixie", "main/binary-amd64/Packages.xz");
    let suite = || one_package().by_hash(false).compressions([Compression::Xz]);
    let forge = |mirror: &Mirror| damage::replace_text(&mirror.suite_file("trixie", "InRelease"), "Debian", "Debiam");
    check_refused(suite(), forge, &["BADSIG", "has been manipulated"]);
    check_refused(suite(), |mirror| damage::corrupt_byte(&index(mirror), -1), &["Hash Sum mismatch"]);
    check_refused(suite(), |mirror| damage::truncate(&index(mirror), 40), &["Failed to fetch"]);
    let strangers_key = |mirror: &Mirror| fs::write(mirror.keyring(), Key::named("stranger").public_binary()).unwrap();
    check_refused(suite(), strangers_key, &["NO_PUBKEY", "Missing key"]);
}

#[test]
fn gpgv_accepts_both_signatures_by_the_key_that_made_them() {
    let scratch = Scratch::new();
    for key in [Key::named("archive"), Key::named("old").with_signing_subkey()] {
        let mirror = Repository::new(scratch.join("mirror")).suite(one_package().signed_by([key.clone()])).write();
        let file = |name| mirror.suite_file("trixie", name).into_string();
        for signed in [vec![file("InRelease")], vec![file("Release.gpg"), file("Release")]] {
            let output = Command::new("gpgv")
                .args(["--status-fd", "1", "--keyring", mirror.keyring().as_str(), "--"])
                .args(&signed)
                .output()
                .expect("gpgv: apt-get install gpgv");
            let text = text(&output);
            assert!(output.status.success(), "{signed:?}: {text}");
            let valid = format!("VALIDSIG {} 2025-09-06", key.signing_fingerprint());
            assert!(text.contains(&valid) && text.contains(&key.fingerprint()), "no `{valid}` in {text}");
        }
    }
}

#[test]
fn dpkg_deb_accepts_packages_in_every_compression() {
    let scratch = Scratch::new();
    for form in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let package = Package::new("shop", "2:1.0~rc1-1")
            .depends("libc6 (>= 2.36)")
            .conffile("/etc/shop.conf", "port = 80\n")
            .executable("/usr/bin/shop", "#!/bin/sh\n")
            .symlink("/usr/bin/store", "shop")
            .directory("/var/lib/shop", 0o750)
            .script("postinst", "#!/bin/sh\nset -e\n")
            .trigger("interest-noawait /usr/share/shop")
            .compressed(form);
        let path = scratch.join(&package.file_name());
        fs::write(&path, package.deb()).unwrap();
        check_dpkg_deb(&path);
    }
}

fn check_dpkg_deb(path: &Utf8Path) {
    let dpkg_deb = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb").args(arguments).env("LC_ALL", "C").env("TZ", "UTC").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "dpkg-deb {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        dpkg_deb(&["--field", path.as_str(), "Version", "Depends"]),
        "Version: 2:1.0~rc1-1\nDepends: libc6 (>= 2.36)\n"
    );
    assert_eq!(dpkg_deb(&["--info", path.as_str(), "conffiles"]), "/etc/shop.conf\n");
    assert_eq!(dpkg_deb(&["--info", path.as_str(), "triggers"]), "interest-noawait /usr/share/shop\n");
    let summary = dpkg_deb(&["--info", path.as_str()]);
    assert!(summary.contains("postinst             #!/bin/sh"), "{summary}");
    let contents = dpkg_deb(&["--contents", path.as_str()]);
    for line in [
        "drwxr-xr-x root/root         0 2025-01-01 00:00 ./\n",
        "-rw-r--r-- root/root        10 2025-01-01 00:00 ./etc/shop.conf\n",
        "-rwxr-xr-x root/root        10 2025-01-01 00:00 ./usr/bin/shop\n",
        "lrwxrwxrwx root/root         0 2025-01-01 00:00 ./usr/bin/store -> shop\n",
        "drwxr-x--- root/root         0 2025-01-01 00:00 ./var/lib/shop/\n",
    ] {
        assert!(contents.contains(line), "no `{line}` in\n{contents}");
    }
    let unpacked = path.with_extension("unpacked");
    dpkg_deb(&["--extract", path.as_str(), unpacked.as_str()]);
    assert_eq!(fs::read_to_string(unpacked.join("etc/shop.conf")).unwrap(), "port = 80\n");
}
