//! `examples/configured`, from this machine's Debian mirror: a real playbook by real Ansible, a real manifest by real Puppet,
//! in real trees, from which both are gone afterwards.

use kiln_testkit::Home;

use crate::fixture::{FACTORY, checked, kiln, says};
use crate::{living, real};

/// What no tree may have of its steps' tools, and what its own programs say about it.
const WHOLE: &str = "ls /etc/apt/sources.list.d /var/lib/apt/lists /var/cache/apt /var/log/apt; \
                     ls -d /etc/ansible /etc/puppet /usr/lib/python3 /usr/lib/ruby /usr/sbin/policy-rc.d /run/kiln; \
                     find / -xdev -newermt '2100-01-01'; dpkg --audit; dpkg --configure -a; apt-get check; \
                     dpkg-query -W -f '${Package} ${Status}\n' | grep -v 'install ok installed$'; echo whole";

/// The factory, locked; nothing where this machine cannot build.
fn configured() -> Option<Home> {
    let home = Home::new();
    if !living::can_build(&home) {
        return None;
    }
    real::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/configured").into(), &home.path().join(FACTORY));
    let lock = real::with_network(kiln(&home, "lock").directory(FACTORY)).run();
    let _ = checked(lock).success();
    Some(home)
}

fn build(home: &Home, class: &str) -> kiln_testkit::Output {
    let arguments = format!("build {class} --tree-only --no-locked");
    checked(real::with_network(kiln(home, &arguments).directory(FACTORY)).run())
}

/// What a script of shell says in the class's tree.
fn ask(home: &Home, class: &str, script: &str) -> String {
    let run = kiln(home, &format!("shell {class} --")).args(["sh", "-c", script]).directory(FACTORY);
    checked(run.run()).success().stdout
}

fn check_whole(home: &Home, class: &str) {
    let said = ask(home, class, &format!("exec 2>/dev/null; {WHOLE}"));
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("...") && !line.is_empty()).collect();
    let mut rest = said.iter().filter(|line| !matches!(**line, "archives" | "lock" | "partial" | "auxfiles"));
    assert!(rest.all(|line| line.starts_with('/') && line.ends_with(':') || *line == "whole"), "{class}: {said:#?}");
    assert_eq!(said.last(), Some(&"whole"));
}

/// Changes a file of the factory.
fn edit(home: &Home, path: &str, from: &str, to: &str) {
    let path = home.path().join(FACTORY).join(path);
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{path}");
    fs_err::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_real_playbook_configures_a_tree_that_keeps_nothing_of_ansible() {
    let Some(home) = configured() else { return };
    let _ = build(&home, "web").success();
    check_whole(&home, "web");
    let said = ask(
        &home,
        "web",
        "cat /etc/kiln-facts /etc/nginx/modules-enabled/99-workers.conf; id deploy; stat -c '%A %U %G' /srv/www/state; \
         systemctl is-enabled nginx hello; grep ^UMASK /etc/login.defs",
    );
    let expected = [
        "Ansible managed",
        "host kiln kiln init systemd container guest",
        "Debian trixie Debian hello 2",
        "# 2 workers, base",
        "uid=1000(deploy) gid=1000(deploy) groups=1000(deploy),4(adm)",
        "drwxrws--- www-data adm",
        "enabled",
        "enabled",
        "UMASK 027",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    edit(&home, "ansible/roles/nginx/tasks/main.yml", "name: nginx-light", "name: htop");
    says(
        &build(&home, "web").code(1),
        &[
            "playbook ansible/site.yml ended with exit code 2",
            "No package matching 'htop' is available",
            "add \"htop\" to `packages` of class web",
        ],
    );
}

#[test]
fn a_real_manifest_configures_a_tree_that_keeps_nothing_of_puppet() {
    let Some(home) = configured() else { return };
    let _ = build(&home, "worker").success();
    check_whole(&home, "worker");
    let said = ask(
        &home,
        "worker",
        "cat /etc/motd /etc/cron.d/worker; getent passwd worker puppet | cut -d: -f 1,6,7; systemctl is-enabled cron",
    );
    let expected = [
        "A worker, virtual is container_other",
        "17 * * * * worker /usr/bin/true",
        "worker:/var/lib/worker:/bin/false",
        "enabled",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    edit(&home, "puppet/worker.pp", "package { 'cron':", "package { 'htop':");
    edit(&home, "puppet/worker.pp", "Package['cron']", "Package['htop']");
    says(
        &build(&home, "worker").code(1),
        &["manifest puppet/worker.pp ended with exit code 6", "add \"htop\" to `packages` of class worker"],
    );
}
