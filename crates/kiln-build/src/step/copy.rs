//! `copy`: files, directories and patterns of the factory.
//!
//! [`arrange`] decides what goes where, from the plan alone: a file goes to `to`, or into it where that ends in a slash; a
//! directory's contents go under `to`; what a pattern matches goes into `to`, each by its own name. [`run`] then writes it.
//!
//! What is new belongs to root, or to whom the step says; files have mode 0644, or 0755 if they are executable in the
//! factory, or what the step says; directories 0755, or the step's mode with the right to enter wherever it gives the right
//! to read. Directories that are there keep their owner and mode.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::spec::{CopyFiles, Mode, Target};

use super::account::ownership;
use super::boot;
use super::content::{Factory, changed};
use super::root::{Ownership, Root};
use super::{Problem, factory_bind, in_tree};
use crate::stage::{Source, SourceKind, StepWork};
use crate::workplace::{StageError, Workplace};

pub(super) fn run(place: &Workplace<'_>, work: &StepWork, copy: &CopyFiles) -> Result<(), StageError> {
    let arrangement = arrange(copy, &work.sources).map_err(|problem| problem.into_error(&[]))?;
    in_tree(place, vec![factory_bind(place.factory)], |_, root| {
        let ownership = ownership(root, &copy.target)?;
        let factory = Factory::open()?;
        arrangement.iter().try_for_each(|(to, source)| put(root, &factory, to, source, ownership, copy.target.mode))
    })
}

/// What is to be at which path of the tree; parents come before what is in them.
type Arrangement<'a> = BTreeMap<Utf8PathBuf, &'a Source>;

fn arrange<'a>(copy: &CopyFiles, sources: &'a [Source]) -> Result<Arrangement<'a>, Problem> {
    let mut arrangement = Arrangement::new();
    for path in &copy.from.paths {
        let top = sources.iter().find(|source| source.path == *path).ok_or_else(|| changed(path.as_str()))?;
        let base = base(copy, top);
        for source in sources {
            let Ok(rest) = source.path.strip_prefix(path) else { continue };
            add(&mut arrangement, base.join(rest), source)?;
        }
    }
    Ok(arrangement)
}

/// Where one of the paths that the step names goes.
fn base(copy: &CopyFiles, source: &Source) -> Utf8PathBuf {
    let Target { to, into, .. } = &copy.target;
    let is_pattern = copy.from.paths != [copy.from.pattern.clone()];
    let keeps_name = is_pattern || (*into && source.kind != SourceKind::Directory);
    match source.path.file_name() {
        Some(name) if keeps_name => to.join(name),
        _ => to.clone(),
    }
}

/// Adds one path. Two directories become one; anything else is one too many.
fn add<'a>(arrangement: &mut Arrangement<'a>, to: Utf8PathBuf, source: &'a Source) -> Result<(), Problem> {
    // A path joined with nothing ends in a slash.
    let to: Utf8PathBuf = to.components().collect();
    match arrangement.get(&to) {
        Some(other) if other.kind != SourceKind::Directory || source.kind != SourceKind::Directory => {
            Err(Problem::refused(format!("{} and {} both go to {to}", other.path, source.path)))
        }
        _ => {
            arrangement.insert(to, source);
            Ok(())
        }
    }
}

fn put(
    root: &Root,
    factory: &Factory,
    to: &Utf8Path,
    source: &Source,
    ownership: Ownership,
    mode: Option<Mode>,
) -> Result<(), Problem> {
    let spot = match source.kind {
        SourceKind::Directory if to == "/" => return Ok(()),
        _ => root.spot(to.as_std_path())?,
    };
    match &source.kind {
        SourceKind::Directory => spot.directory(ownership, directory_mode(mode)).map(drop),
        SourceKind::Symlink { target } => spot.symlink(target.as_ref(), ownership),
        SourceKind::File { sha256, executable } => {
            spot.file(ownership, file_mode(mode, *executable), |file| factory.copy(&source.path, sha256, file))
        }
    }?;
    boot::forget(root, to)
}

/// The mode of a file that the step says, or else by whether it is executable.
pub(super) fn file_mode(mode: Option<Mode>, executable: bool) -> u32 {
    match mode {
        Some(mode) => mode.bits().into(),
        None if executable => 0o755,
        None => 0o644,
    }
}

/// The mode of a directory that is made on the way: who may read it may enter it. Special bits are for files.
pub(super) fn directory_mode(mode: Option<Mode>) -> u32 {
    let bits = mode.map_or(0o755, |mode| u32::from(mode.bits()) & 0o777);
    bits | (bits & 0o444) >> 2
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::step::ground::{Ground, for_each_identity};
    use fs_err as fs;

    fn factory(ground: &Ground) {
        ground.write("site/index.html", "hello\n");
        let script = ground.write("site/bin/run.sh", "#!/bin/sh\n");
        fs::set_permissions(script, std::fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(ground.path("factory/site/index.html"), std::fs::Permissions::from_mode(0o600)).unwrap();
        fs::os::unix::fs::symlink("index.html", ground.path("factory/site/start")).unwrap();
        ground.write("conf/a.conf", "a");
        ground.write("conf/b.conf", "b");
        ground.write("conf/sub.conf/c", "c");
    }

    fn check(step: &str, expected: &[&str]) {
        for_each_identity(|ground| {
            factory(ground);
            ground.step(step).unwrap();
            assert_eq!(ground.changes(), expected, "{step} {:?}", ground.identity);
        });
    }

    fn check_refused(step: &str, expected: &str) {
        for_each_identity(|ground| {
            factory(ground);
            ground.layer("more", |root| {
                fs::create_dir(root.join("srv/directory")).unwrap();
                fs::os::unix::fs::symlink("directory", root.join("srv/link")).unwrap();
                fs::os::unix::fs::symlink("nowhere", root.join("srv/dangling")).unwrap();
                fs::write(root.join("srv/file"), "").unwrap();
            });
            assert_eq!(ground.step(step).err().as_deref(), Some(expected), "{step} {:?}", ground.identity);
        });
    }

    #[test]
    fn a_file_goes_to_its_place_whatever_its_mode_was() {
        let copied = ["srv 755 0:0 /", "srv/www 755 0:0 /", "srv/www/a 644 0:0 \"hello\\n\""];
        check("copy = \"site/index.html\"\nto = \"/srv/www/a\"", &copied);
        let named = ["srv 755 0:0 /", "srv/www 755 0:0 /", "srv/www/index.html 644 0:0 \"hello\\n\""];
        check("copy = \"site/index.html\"\nto = \"/srv/www/\"", &named);
        check("copy = \"conf/a.conf\"\nto = \"/\"", &["a.conf 644 0:0 \"a\""]);
        let script = ["usr 755 0:0 /", "usr/bin 755 0:0 /", "usr/bin/run 755 0:0 \"#!/bin/sh\\n\""];
        check("copy = \"site/bin/run.sh\"\nto = \"/bin/run\"", &script);
    }

    #[test]
    fn a_directory_s_contents_go_under_the_target() {
        check(
            "copy = \"site\"\nto = \"/srv/www\"\nowner = \"www-data\"\ngroup = \"adm\"\nmode = \"0640\"",
            &[
                "srv 755 0:0 /",
                "srv/www 750 33:4 /",
                "srv/www/bin 750 33:4 /",
                "srv/www/bin/run.sh 640 33:4 \"#!/bin/sh\\n\"",
                "srv/www/index.html 640 33:4 \"hello\\n\"",
                "srv/www/start 33:4 -> index.html",
            ],
        );
        check("copy = \"conf/sub.conf\"\nto = \"/\"", &["c 644 0:0 \"c\""]);
    }

    #[test]
    fn what_a_pattern_matches_goes_into_the_target() {
        check(
            "copy = \"conf/*.conf\"\nto = \"/etc/app\"",
            &[
                "etc 755 0:0 /",
                "etc/app 755 0:0 /",
                "etc/app/a.conf 644 0:0 \"a\"",
                "etc/app/b.conf 644 0:0 \"b\"",
                "etc/app/sub.conf 755 0:0 /",
                "etc/app/sub.conf/c 644 0:0 \"c\"",
            ],
        );
    }

    #[test]
    fn what_is_there_is_kept_or_replaced() {
        for_each_identity(|ground| {
            factory(ground);
            ground.layer("more", |root| {
                let www = root.join("srv/www");
                fs::create_dir(&www).unwrap();
                fs::set_permissions(&www, std::fs::Permissions::from_mode(0o2775)).unwrap();
                fs::os::unix::fs::chown(&www, Some(33), Some(33)).unwrap();
                fs::write(root.join("srv/original"), "original").unwrap();
                fs::hard_link(root.join("srv/original"), www.join("index.html")).unwrap();
                fs::os::unix::fs::symlink("../../etc/passwd", www.join("start")).unwrap();
                fs::os::unix::fs::symlink("/srv", www.join("bin")).unwrap();
            });
            ground.step("copy = \"site\"\nto = \"/srv/www\"").unwrap();
            let expected = [
                "srv 755 0:0 /",
                "srv/run.sh 755 0:0 \"#!/bin/sh\\n\"",
                "srv/www 2775 33:33 /",
                "srv/www/index.html 644 0:0 \"hello\\n\"",
                "srv/www/start 0:0 -> index.html",
            ];
            assert_eq!(ground.changes(), expected);
            assert_eq!(ground.read("srv/original"), "original");
        });
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let hint = |path| format!("to place something in that directory, write {path}/");
        let step = |to: &str| format!("copy = \"site/index.html\"\nto = \"{to}\"");
        for (to, what) in [
            ("/srv/directory", "a directory"),
            ("/srv/link", "a link to a directory"),
            ("/bin", "a link to a directory"),
        ] {
            check_refused(&step(to), &format!("{to} is {what} in the tree / {}", hint(to)));
        }
        check_refused(&step("/srv/file/x"), "/srv/file is no directory in the tree");
        check_refused(&step("/srv/dangling/x"), "/srv/dangling is a link in the tree that leads to no directory");
        let file = "/srv/file is a file in the tree, where a directory is to be placed";
        check_refused("copy = \"site\"\nto = \"/srv/file\"", file);
        let hint = "for what must be there after each boot, place a file in /etc/tmpfiles.d";
        for to in ["/run/x", "/dev/shm/y/z", "/tmp/x", "/var/run/x", "/proc/x"] {
            let parent = to.rsplit_once('/').unwrap().0;
            let parent = if parent == "/dev/shm/y" { "/dev" } else { parent };
            check_refused(
                &step(to),
                &format!("{parent} lies where nothing of an image is seen once it has booted / {hint}"),
            );
        }
    }

    #[test]
    fn owners_must_be_in_the_tree() {
        let step = |owner: &str| format!("copy = \"site\"\nto = \"/srv/www\"\n{owner}");
        check_refused(
            &step("owner = \"www-dat\""),
            "there is no user `www-dat` in the tree / did you mean `www-data`?",
        );
        let hint = "make it with a `group` step before this one";
        check_refused(&step("group = \"zebras\""), &format!("there is no group `zebras` in the tree / {hint}"));
    }

    #[test]
    fn two_files_for_one_place_are_refused() {
        for_each_identity(|ground| {
            ground.write("x/a", "1");
            ground.write("y/a", "2");
            let error = ground.step("copy = \"*/a\"\nto = \"/srv\"").unwrap_err();
            assert_eq!(error, "x/a and y/a both go to /srv/a");
        });
    }

    #[test]
    fn a_file_that_changed_since_the_plan_is_refused() {
        for_each_identity(|ground| {
            ground.write("site/index.html", "hello");
            let work = ground.work("copy = \"site\"\nto = \"/srv\"", b"");
            ground.write("site/index.html", "hallo");
            let error = ground.carry_out(&work, b"").unwrap_err();
            assert_eq!(error.to_string(), "site/index.html changed while the class was built");
            fs::remove_file(ground.path("factory/site/index.html")).unwrap();
            assert!(ground.carry_out(&work, b"").is_err());
            ground.write("other", "hello");
            fs::os::unix::fs::symlink("../../../../../etc/passwd", ground.path("factory/site/index.html")).unwrap();
            let error = ground.carry_out(&work, b"").unwrap_err();
            assert_eq!(error.to_string(), "site/index.html leads out of the factory by a link");
        });
    }
}
