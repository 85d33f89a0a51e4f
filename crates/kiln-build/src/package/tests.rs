//! Packages installed Kiln's way, held against the real dpkg: two trees, compared to the last file.

#![expect(clippy::cloned_ref_to_slice_refs, reason = "a list of packages reads better than a mixture of references")]

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use kiln_debian::dpkg::list;
use kiln_sandbox::Ending;
use kiln_testkit::Package;
use md5::{Digest as _, Md5};

use super::ground::{Ground, for_each_identity, write};
use crate::workplace::StageError;

fn package(name: &str) -> Package {
    Package::new(name, "1").for_all()
}

fn digest_of(text: &str) -> String {
    list::hexadecimal(&Md5::digest(text).into())
}

/// Writes down who is called and with what, so that both ways must call the same scripts in the same order.
fn telling(package: Package) -> Package {
    let name = package.name().to_owned();
    ["preinst", "postinst"].iter().fold(package, |package, script| {
        package.script(script, &format!("#!/bin/sh\necho {name} {script} \"$@\" >>/told\n"))
    })
}

#[test]
fn files_of_every_kind() {
    for_each_identity(|ground| {
        let kinds = package("kinds")
            .file_with_mode("/usr/bin/a", "a", 0o4755)
            .hard_link("/usr/bin/b", "/usr/bin/a")
            .hard_link("/usr/share/c", "/usr/bin/a")
            .symlink("/usr/share/d", "../bin/a")
            .symlink("/usr/share/dangling", "/nowhere")
            .directory("/var/spool/e", 0o1777)
            .directory("/var/mail", 0o2775)
            .owned_by("/var/mail", ("root", 0), ("mail", 999))
            .file("/var/mail/f", "f")
            .owned_by("/var/mail/f", ("mail", 998), ("strange", 7))
            .file("/var/mail/inherits", "nothing")
            .file_with_mode("/var/mail/open", "", 0o666)
            .directory("/var/mail/deeper", 0o755)
            .symlink("/var/mail/link", "f")
            .directory("/usr/share/open", 0o777)
            .directory("/usr/share/theirs", 0o755)
            .owned_by("/usr/share/theirs", ("mail", 8), ("mail", 8))
            .symlink("/usr/share/their-link", "theirs")
            .owned_by("/usr/share/their-link", ("mail", 8), ("mail", 8))
            .file("/usr/share/large", vec![7; 3_000_000])
            .file("/usr/share/empty", "");
        ground.check_same(&[&[kinds, package("plain")]]);
    });
}

#[test]
fn what_is_there_stays() {
    for_each_identity(|ground| {
        ground.change(|root| {
            fs::create_dir_all(root.join("srv/kept")).unwrap();
            fs::set_permissions(root.join("srv/kept"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            fs::os::unix::fs::symlink("kept", root.join("srv/link")).unwrap();
            fs::os::unix::fs::symlink("nothing", root.join("srv/broken")).unwrap();
            for name in ["srv/file", "srv/full/in/it"] {
                write(root, name, b"old", 0o600);
            }
        });
        let new = package("new")
            .directory("/srv/kept", 0o755)
            .file("/srv/link/through", "x")
            .directory("/srv/link", 0o755)
            .file("/srv/file", "new")
            .symlink("/srv/full", "elsewhere")
            .file("/srv/broken", "whole");
        ground.check_same(&[&[new]]);
        ground.check_same(&[&[package("over").symlink("/srv/link", "kept")]]);
        // On an overlay dpkg itself could not move a directory of a lower layer aside.
        let full = ground.after(&[&[package("full").file("/srv/full", "a file")]], "srv/full");
        assert_eq!(full, "srv/full 644 0:0 1 a file");
        ground.check_same(&[&[package("below").symlink("/srv/link", "full").directory("/srv/file", 0o755)]]);
    });
}

#[test]
fn scripts_see_what_dpkg_shows_them() {
    for_each_identity(|ground| {
        let script = |name: &str| {
            format!(
                "#!/bin/sh\nset -e\nenv | grep -v -e ^PWD= -e ^OLDPWD= -e ^_= -e ^SOURCE_DATE_EPOCH= | sort >/{name}.env\n\
                 echo \"$0 $*\" >/{name}.arguments\npwd >>/{name}.arguments\nls -l ${{0%/*}} | sed 's/ [A-Z][a-z][a-z] .*:.. / /' | grep curious >/{name}.files || true\n\
                 cat ${{0%/*}}/extra >/{name}.extra 2>/dev/null || true\n\
                 dpkg-query -W -f '${{Package}} ${{Version}} ${{Status}}\\n' >/{name}.known\n\
                 cat /var/lib/dpkg/info/*.list >/{name}.lists\n"
            )
        };
        let before = telling(package("before"));
        let curious = Package::new("curious", "1:2~rc1-3")
            .multi_arch("same")
            .script("preinst", &script("preinst"))
            .script("postinst", &script("postinst"))
            .script("extra", "extra\n")
            .file("/usr/bin/curious", "x");
        ground.check_same(&[&[before, curious], &[telling(package("after"))]]);
    });
}

#[test]
fn files_are_there_when_they_should_be() {
    for_each_identity(|ground| {
        let look = "#!/bin/sh\nls /usr/share/early /usr/share/late >/seen.${0##*/} 2>&1 || true\n";
        let early = package("early").file("/usr/share/early", "").script("preinst", look);
        let late = package("late").file("/usr/share/late", "").script("preinst", look).script("postinst", look);
        ground.check_same(&[&[early, late]]);
    });
}

#[test]
fn diversions() {
    for_each_identity(|ground| {
        let divert = |options: &str, path: &str| {
            format!("#!/bin/sh\ndpkg-divert --package taker {options} --divert {path}.real --add {path}\n")
        };
        let owner = package("owner").file("/usr/bin/tool", "owner's").file("/usr/bin/other", "owner's");
        let taker = package("taker").file("/usr/bin/tool", "taker's");
        // Recorded by a script, for a package that is there, for one that comes later, and for one that is itself first.
        let renaming = taker.clone().script("preinst", &divert("--rename", "/usr/bin/tool"));
        ground.check_same(&[&[owner.clone(), renaming.clone()]]);
        ground.check_same(&[&[renaming.clone(), owner.clone()]]);
        ground.check_same(&[&[renaming.clone()], &[owner.clone()]]);
        let keeping = taker.script("preinst", &divert("--no-rename", "/usr/bin/tool"));
        ground.check_same(&[&[keeping, owner.clone()]]);
        // Recorded by an administrator.
        ground.shell("dpkg-divert --local --rename --divert /srv/tool --add /usr/bin/tool");
        ground.change(|root| fs::create_dir_all(root.join("srv")).unwrap());
        ground.check_same(&[&[owner.clone(), package("also").symlink("/usr/bin/alias", "tool")]]);
        let error = ground.check_refused(&[&[package("bad").file("/srv/tool", "x")]]);
        assert_eq!(error.to_string(), "place /srv/tool of bad: /usr/bin/tool is diverted to there");
    });
}

#[test]
fn statoverrides() {
    for_each_identity(|ground| {
        ground.shell("dpkg-statoverride --add root mail 2710 /usr/bin/tool");
        let tool = package("tool").file("/usr/bin/tool", "x").directory("/var/spool/tool", 0o755);
        let script = "#!/bin/sh\ndpkg-statoverride --add mail staff 0750 /var/spool/tool\n";
        ground.check_same(&[&[tool.script("preinst", script)]]);
    });
}

#[test]
fn configuration_files() {
    for_each_identity(|ground| {
        let tool = telling(package("tool").conffile("/etc/tool.conf", "theirs\n").conffile("/etc/tool.d/a b", "x\n"));
        ground.check_same(&[&[tool.clone()]]);
        // A step of the parent was there first: with other bytes, with the same, behind a link.
        ground.change(|root| write(root, "etc/tool.conf", b"ours\n", 0o600));
        ground.check_same(&[&[tool.clone()]]);
        assert!(ground.after(&[&[tool.clone()]], "etc/tool.conf").ends_with(" ours\n"));
        ground.change(|root| write(root, "etc/tool.conf", b"theirs\n", 0o600));
        ground.check_same(&[&[tool.clone()]]);
        ground.change(|root| {
            fs::remove_file(root.join("etc/tool.conf")).unwrap();
            write(root, "srv/real.conf", b"ours\n", 0o644);
            fs::os::unix::fs::symlink("../srv/real.conf", root.join("etc/tool.conf")).unwrap();
        });
        ground.check_same(&[&[tool]]);
    });
}

#[test]
fn configuration_files_that_are_not_wanted_any_more() {
    for_each_identity(|ground| {
        let gone = package("gone").removed_conffile("/etc/gone.conf").conffile("/etc/stays.conf", "x");
        ground.check_same(&[&[gone.clone()]]);
        ground.change(|root| write(root, "etc/gone.conf", b"by hand\n", 0o644));
        ground.check_same(&[&[gone]]);
        let wrong = package("wrong").removed_conffile("/etc/a").file("/etc/a", "");
        let error = ground.check_refused(&[&[wrong]]);
        assert_eq!(error.to_string(), "place /etc/a of wrong: the package says that the file is to be removed");
    });
}

#[test]
fn packages_that_were_here_before() {
    for_each_identity(|ground| {
        let old = package("again").conffile("/etc/again.conf", "1\n").conffile("/etc/old.conf", "1\n");
        ground.parent(&[&[old]]);
        ground.shell("dpkg --log=/dev/null -r again");
        let new = Package::new("again", "2").for_all().conffile("/etc/again.conf", "2\n");
        ground.check_same(&[&[telling(new.clone())]]);
        ground.change(|root| write(root, "etc/again.conf", b"changed\n", 0o644));
        ground.check_same(&[&[telling(new.clone())]]);
        ground.change(|root| fs::remove_file(root.join("etc/again.conf")).unwrap());
        ground.check_same(&[&[telling(new)]]);
        ground.parent(&[&[package("present")]]);
        let error = ground.install(&[&[package("present")]]).unwrap_err();
        assert_eq!(error.to_string(), "unpack present: the tree has present 1 already");
    });
}

#[test]
fn replaced_files() {
    for_each_identity(|ground| {
        let old =
            package("old").file("/usr/bin/tool", "old").file("/usr/bin/more", "old").conffile("/etc/tool", "old\n");
        let new = package("new").file("/usr/bin/tool", "new").conffile("/etc/tool", "new\n").replaces("old (<< 2)");
        ground.check_same(&[&[old.clone(), new.clone()]]);
        ground.check_same(&[&[new.clone(), old.clone()]]);
        ground.check_same(&[&[old.clone()], &[new.clone()]]);
        ground.parent(&[&[old.clone()]]);
        ground.check_same(&[&[new.clone()]]);
        let other = package("other").file("/usr/bin/tool", "other");
        let error = ground.check_refused(&[&[other.clone()]]);
        assert_eq!(
            error.to_string(),
            "place /usr/bin/tool of other: it is also in old 1".replace("other:", "other 1:")
        );
        let newer = package("newer").file("/usr/bin/tool", "newer").replaces("old (<< 1)");
        ground.check_refused(&[&[newer]]);
        let directory = package("directory").file("/usr/bin/tool/x", "");
        ground.check_refused(&[&[directory.clone()]]);
        ground.check_same(&[&[directory.replaces("old")]]);
    });
}

#[test]
fn triggers() {
    for_each_identity(|ground| {
        let watching = |name: &str, lines: &[&str]| {
            lines.iter().fold(telling(package(name)), |package, line| package.trigger(line))
        };
        ground.parent(&[&[
            watching("index", &["interest /usr/share/pages", "interest-noawait refresh"]),
            watching("menu", &["interest-noawait /usr/share/menu", "interest rebuild"]),
        ]]);
        let pages = telling(package("pages").file("/usr/share/pages/one", "1").file("/usr/share/menu/one", "1"));
        ground.check_same(&[&[pages.clone()]]);
        let calling = telling(package("calling")).trigger("activate rebuild").trigger("activate-noawait refresh");
        ground.check_same(&[&[calling.clone(), pages.clone()]]);
        // An interest of the same stage, before and after what it is interested in; in one wave and in two.
        let late = watching("late", &["interest /usr/share/pages", "interest-noawait /etc/late.d", "interest rebuild"]);
        let dropping = telling(package("dropping").conffile("/etc/late.d/x", "x\n").depends("late"));
        ground.check_same(&[&[pages.clone(), late.clone(), calling.clone(), dropping.clone()]]);
        ground.check_same(&[&[late, calling], &[pages, dropping]]);
        let error = ground.check_refused(&[&[package("bad").trigger("please /usr")]]);
        assert_eq!(error.to_string(), "unpack bad: line 1 of triggers: the directive is unknown");
    });
}

#[test]
fn libraries_for_several_architectures() {
    for_each_identity(|ground| {
        let library = Package::new("libx", "1")
            .multi_arch("same")
            .trigger("interest-noawait /usr/lib/x")
            .conffile("/etc/libx", "1\n");
        ground.check_same(&[&[telling(library), telling(package("user").file("/usr/lib/x/plugin", ""))]]);
    });
}

#[test]
fn files_that_are_filtered_out() {
    for_each_identity(|ground| {
        ground.change(|root| {
            let text = b"path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n";
            write(root, "etc/dpkg/dpkg.cfg.d/small", text, 0o644);
            write(root, "etc/dpkg/dpkg.cfg.d/not.this", b"path-exclude=/usr/bin/*\n", 0o644);
        });
        let documented = package("documented").file("/usr/share/doc/documented/changelog", "x").file("/usr/bin/x", "");
        ground.check_same(&[&[documented]]);
    });
}

#[test]
fn the_essential_set() {
    for_each_identity(|ground| {
        let base = telling(package("base-files"))
            .directory("/tmp", 0o1777)
            .directory("/usr/sbin", 0o711)
            .directory("/dev", 0o755)
            .directory("/var/local", 0o2775)
            .owned_by("/var/local", ("root", 0), ("staff", 50))
            .conffile("/etc/issue", "Debian\n");
        let accounts = package("base-passwd")
            .script("preinst", "#!/bin/sh\ntest -e /usr/share/late && echo root:x:0:0 >/etc/passwd\n");
        let late = telling(package("late"))
            .file("/bin/late", "x")
            .file("/usr/share/late", "")
            .trigger("interest /usr/share/late");
        let diverting =
            "#!/bin/sh\ndpkg-divert --package diverting --rename --divert /usr/bin/tool.real --add /usr/bin/tool\n";
        let diverting = package("diverting").script("preinst", diverting).file("/usr/bin/tool", "new");
        let lines = ground.essential(&[base, accounts, late.clone(), diverting]).unwrap();
        for expected in [
            "bin 0:0 -> usr/bin",
            "lib64 0:0 -> usr/lib64",
            "tmp 1777 0:0 /",
            "usr/sbin 711 0:0 /",
            "var/local 2775 0:50 /",
            "etc/passwd 644 0:0 1 root:x:0:0\n",
            "etc/issue 644 0:0 1 Debian\n",
            "usr/bin/late 644 0:0 1 x",
            "usr/bin/tool 644 0:0 1 new",
            "var/lib/dpkg/arch 644 0:0 1 amd64\n",
            "told 644 0:0 1 base-files preinst install\nlate preinst install\nbase-files postinst configure \nlate postinst configure \n",
        ] {
            assert!(lines.contains(expected), "{expected}\n{lines:#?}");
        }
        let status = lines.iter().find(|line| line.starts_with("var/lib/dpkg/status ")).unwrap();
        assert_eq!(status.matches("Status: install ok installed").count(), 5);
        assert!(status.contains(&format!(" /etc/issue {}\n", digest_of("Debian\n"))), "{status}");
        let error = ground.essential(&[late.clone(), package("later").file("/usr/share/late", "")]).unwrap_err();
        assert_eq!(error.to_string(), "place /usr/share/late of later 1: it is also in late 1");
    });
}

/// The program, how it ended, and the last lines of what must fail.
fn failure(ground: &Ground, package: Package) -> (String, Vec<String>) {
    match ground.install(&[&[telling(self::package("fine")), package]]).unwrap_err() {
        StageError::Program { program, ending, last_lines, .. } => (format!("{program} {ending}"), last_lines),
        error => panic!("{}", crate::with_causes(&error)),
    }
}

#[test]
fn scripts_that_fail_are_named() {
    for_each_identity(|ground| {
        let script = "#!/bin/sh\necho before\necho oh no >&2\nexit 7\n";
        let (failed, lines) = failure(ground, package("bad").script("preinst", script));
        assert_eq!(failed, "preinst of bad ended with exit code 7");
        assert_eq!(lines, ["Unpacking bad (1) ...", "before", "oh no"]);
        let (failed, lines) = failure(ground, package("bad").script("postinst", script));
        assert_eq!(failed, "postinst of bad ended with exit code 7");
        assert_eq!(lines[..3], ["Setting up bad (1) ...", "before", "oh no"]);
        let (failed, _) = failure(ground, package("bad").script("postinst", "#!/bin/sh\nkill -9 $$\n"));
        assert_eq!(failed, "postinst of bad was killed by signal 9");
        let (failed, _) = failure(ground, package("bad").depends("nothing-that-is-there"));
        assert_eq!(failed, "dpkg --configure bad ended with exit code 1");
        let triggered = "#!/bin/sh\ntest \"$1\" != triggered\n";
        ground
            .parent(&[&[package("index").trigger("interest-noawait /usr/share/pages").script("postinst", triggered)]]);
        let (failed, _) = failure(ground, package("pages").file("/usr/share/pages/x", ""));
        assert_eq!(failed, "postinst of index ended with exit code 1");
    });
}

#[test]
fn scripts_leave_nothing_running_and_reach_nothing_outside() {
    for_each_identity(|ground| {
        let script = "#!/bin/sh\nsetsid sleep 1000 >/dev/null 2>&1 &\nsleep 1000 &\n\
            echo x >/dev/null; touch /dev/left; echo 1 2>/dev/null >/proc/sys/vm/drop_caches || touch /protected\n\
            cat /usr/sbin/policy-rc.d >/policy\n";
        let daemon = package("daemon").script("preinst", script).script("postinst", script);
        assert!(ground.after(&[&[daemon.clone()]], "protected").starts_with("protected 644"));
        assert!(ground.after(&[&[daemon.clone()]], "policy").ends_with("exit 101\n"));
        assert_eq!(ground.after(&[&[daemon.clone()]], "dev/left"), "");
        assert_eq!(ground.after(&[&[daemon.clone()]], "usr/sbin/policy-rc.d"), "");
        let with_policy = daemon.file("/usr/sbin/policy-rc.d", "#!/bin/sh\n");
        assert!(ground.after(&[&[with_policy]], "usr/sbin/policy-rc.d").ends_with("#!/bin/sh\n"));
    });
}

#[test]
fn a_script_that_hangs_can_be_cancelled() {
    for_each_identity(|ground| {
        let cancel = ground.cancel.clone();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            cancel.cancel();
        });
        let error = ground.install(&[&[package("hangs").script("postinst", "#!/bin/sh\nsleep 1000\n")]]).unwrap_err();
        canceller.join().unwrap();
        let stopped = "finish in the sandbox: it was cancelled";
        assert_eq!(error.to_string(), stopped);
        assert_eq!(Ending::Cancelled.to_string(), "was cancelled");
    });
}

#[test]
fn the_epoch_is_that_of_the_newest_file() {
    for_each_identity(|ground| {
        let script = "#!/bin/sh\necho $SOURCE_DATE_EPOCH >/epoch\n";
        let epoch = ground.install(&[&[package("a").script("preinst", script)]]).unwrap();
        assert_eq!(epoch, 1_735_689_600);
        assert!(ground.after(&[&[package("a").script("preinst", script)]], "epoch").ends_with(" 1735689600\n"));
    });
}

#[test]
fn damage_is_found_and_mended() {
    for_each_identity(|ground| {
        let packages = [package("a").file("/usr/share/a", vec![1; 100_000])];
        let expected = ground.after(&[&packages], "usr/share/a");
        ground.damage_forms(|bytes| bytes[50] ^= 1);
        assert_eq!(ground.after(&[&packages], "usr/share/a"), expected);
        ground.damage_forms(|bytes| bytes.truncate(2000));
        assert_eq!(ground.after(&[&packages], "usr/share/a"), expected);
        ground.damage_forms(|bytes| bytes.clear());
        assert_eq!(ground.after(&[&packages], "usr/share/a"), expected);
        let error = ground.install_damaged(&packages[0]);
        assert!(error.to_string().contains("its bytes have changed"), "{error}");
        let error = ground.install_missing(&packages[0]);
        assert!(error.to_string().ends_with("from the store: it is not there"), "{error}");
    });
}

#[test]
fn what_nobody_asked_for_is_marked() {
    for_each_identity(|ground| {
        ground.change(|root: &Path| fs::create_dir_all(root.join("var/lib/apt")).unwrap());
        let told = ground.after(&[&[package("a")]], "var/lib/apt/extended_states");
        assert!(told.ends_with("Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\n"), "{told}");
    });
}
