//! Exports of layers made by hand, as root and as a user.

use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::sync::Arc;

use camino::Utf8Path;
use fs_err as fs;
use kiln_disk::Tree;
use kiln_model::digest::Sha256;
use kiln_sandbox::{CancelToken, Identity, layer};
use kiln_store::LayerUse;

use super::{TreeExport, TreeExportError, TreeFormat};
use crate::ground::{EPOCH, Ground, for_each_identity};
use crate::scan;
use crate::tree::ClassTree;

fn layers(ground: &Ground) -> Vec<Arc<LayerUse>> {
    let packages = ground.layer("packages", &[], |root| {
        for name in ["etc", "usr", "usr/sbin"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("etc/shadow"), "root:*:1::::::\n").unwrap();
        fs::set_permissions(root.join("etc/shadow"), std::fs::Permissions::from_mode(0o640)).unwrap();
        chown(root.join("etc/shadow"), Some(0), Some(42)).unwrap();
        fs::write(root.join("usr/sbin/init"), "x".repeat(1_000_000)).unwrap();
        fs::hard_link(root.join("usr/sbin/init"), root.join("usr/sbin/telinit")).unwrap();
        fs::write(root.join("etc/motd"), "gone soon").unwrap();
    });
    let step = ground.layer("step 1: copy site", &[Arc::clone(&packages)], |root| {
        fs::remove_file(root.join("etc/motd")).unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        fs::write(root.join("srv/index.html"), "hello").unwrap();
        chown(root.join("srv/index.html"), Some(33), Some(33)).unwrap();
    });
    vec![packages, step]
}

fn export(
    ground: &Ground,
    tree: &ClassTree,
    format: TreeFormat,
    threads: usize,
    force: bool,
    place: &Utf8Path,
) -> Result<super::TreeExported, TreeExportError> {
    let cancel = CancelToken::new().unwrap();
    TreeExport { force, threads, ..plain(ground, tree, format, &cancel) }.write_to(place)
}

/// An export by one thread that replaces nothing.
fn plain<'a>(ground: &Ground, tree: &'a ClassTree, format: TreeFormat, cancel: &'a CancelToken) -> TreeExport<'a> {
    let (class, architecture, identity) = ("web", "amd64", ground.identity);
    TreeExport { class, architecture, tree, identity, format, force: false, threads: 1, cancel }
}

/// Whether nothing but these names is in a directory.
fn check_names(directory: &Utf8Path, expected: &[&str]) {
    let mut names: Vec<String> =
        directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    assert_eq!(names, expected);
}

/// All files of a directory with their digests.
fn contents(directory: &Utf8Path) -> Vec<(String, Sha256)> {
    let mut files = Vec::new();
    for entry in directory.read_dir_utf8().unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(contents(entry.path()));
        } else {
            let bytes = fs::read(entry.path()).unwrap();
            files.push((entry.path().as_str().to_owned(), Sha256::of(&bytes)));
        }
    }
    files.sort();
    files
}

#[test]
fn archives_are_the_same_for_root_and_user() {
    let digests = std::cell::RefCell::new(Vec::new());
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let out = ground.directory("out");
        let place = out.join("web.tar");
        let exported = export(ground, &tree, TreeFormat::Tar, 2, false, &place).unwrap();
        let bytes = fs::read(&place).unwrap();
        assert_eq!((exported.digest, exported.size_bytes), (Some(Sha256::of(&bytes)), bytes.len() as u64));
        digests.borrow_mut().push(exported.digest);
        let error = export(ground, &tree, TreeFormat::Tar, 2, false, &place).unwrap_err();
        assert_eq!(error.to_string(), format!("write {place}: it exists"));
        fs::write(&place, "something else").unwrap();
        assert_eq!(export(ground, &tree, TreeFormat::Tar, 1, true, &place).unwrap(), exported);
        assert_eq!(fs::read(&place).unwrap(), bytes);
        check_names(&out, &["web.tar"]);
    });
    let digests = digests.into_inner();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn images_are_the_same_with_any_number_of_threads() {
    let digests = std::cell::RefCell::new(Vec::new());
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let out = ground.directory("out");
        let exported: Vec<_> = [1, 2, 8]
            .map(|threads| {
                let place = out.join("image");
                let exported = export(ground, &tree, TreeFormat::Oci, threads, true, &place).unwrap();
                (exported, contents(&place))
            })
            .into();
        assert!(exported.windows(2).all(|pair| pair[0] == pair[1]));
        let archive = export(ground, &tree, TreeFormat::Oci, 2, false, &out.join("image.tar")).unwrap();
        assert_eq!(archive.digest, exported[0].0.digest);
        check_names(&out, &["image", "image.tar"]);
        digests.borrow_mut().push((archive.digest, Sha256::of(&fs::read(out.join("image.tar")).unwrap())));
    });
    let digests = digests.into_inner();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

#[test]
fn an_image_says_what_it_is() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let place = ground.directory("out").join("image");
        let exported = export(ground, &tree, TreeFormat::Oci, 2, false, &place).unwrap();
        for (path, digest) in contents(&place.join("blobs/sha256")) {
            assert!(path.ends_with(&digest.to_string()), "{path}");
        }
        let json =
            |path: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(place.join(path)).unwrap()).unwrap() };
        let blob = |digest: &serde_json::Value| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
        let index = json("index.json");
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "web");
        assert_eq!(index["manifests"][0]["digest"], format!("sha256:{}", exported.digest.unwrap()));
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let config = json(&blob(&manifest["config"]["digest"]));
        for (layer, difference) in
            manifest["layers"].as_array().unwrap().iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        {
            let compressed = fs::read(place.join(blob(&layer["digest"]))).unwrap();
            assert_eq!(layer["size"], compressed.len());
            let mut archive = Vec::new();
            flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut archive).unwrap();
            assert_eq!(*difference, format!("sha256:{}", Sha256::of(&archive)));
        }
        let mut config = config;
        config["rootfs"] = serde_json::Value::Null;
        insta::allow_duplicates! {
            insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap(), @r#"
            {
              "architecture": "amd64",
              "config": {
                "Cmd": [
                  "/sbin/init"
                ],
                "Env": [
                  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ],
                "StopSignal": "SIGRTMIN+3"
              },
              "created": "2023-11-14T22:13:20Z",
              "history": [
                {
                  "created": "2023-11-14T22:13:20Z",
                  "created_by": "kiln build: packages"
                },
                {
                  "created": "2023-11-14T22:13:20Z",
                  "created_by": "kiln build: copy site"
                }
              ],
              "os": "linux",
              "rootfs": null
            }
            "#);
        }
    });
}

#[test]
fn a_directory_is_the_tree() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let out = ground.directory("out");
        let place = out.join("root");
        for force in [false, true] {
            let exported = export(ground, &tree, TreeFormat::Directory, 1, force, &place).unwrap();
            assert_eq!(exported.remove_with.is_some(), ground.identity != Identity::Root);
            let found = scan::finish(&place, i64::MAX, ground.identity, 1).unwrap();
            assert_eq!(Tree::of([&found]).to_text(), tree.tree().to_text());
            check_names(&out, &["root"]);
        }
        assert!(matches!(
            export(ground, &tree, TreeFormat::Directory, 1, false, &place),
            Err(TreeExportError::Exists { .. })
        ));
        layer::remove_tree(&place, ground.identity).unwrap();
    });
}

#[test]
fn what_is_no_export_is_never_replaced() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let home = ground.directory("home");
        fs::write(home.join("thesis.tex"), "years of work").unwrap();
        for format in [TreeFormat::Tar, TreeFormat::Oci, TreeFormat::Directory] {
            let error = export(ground, &tree, format, 1, true, &home).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("replace {home}: it is a directory that is neither a tree nor an image")
            );
            assert!(error.hint().is_some());
        }
        check_names(&home, &["thesis.tex"]);
        let error = export(ground, &tree, TreeFormat::Directory, 1, true, "/proc".into()).unwrap_err();
        assert_eq!(error.to_string(), "replace /proc: it is the root of a file system");
    });
}

#[test]
fn a_layer_that_changed_ends_every_export() {
    for_each_identity(|ground| {
        let layers = layers(ground);
        let tree = ClassTree::read(&layers, EPOCH).unwrap();
        let path = layers[1].tree().join("srv/index.html");
        ground.identity.act(|| fs::write(&path, "HELLO").unwrap()).unwrap();
        let out = ground.directory("out");
        for (format, name) in [
            (TreeFormat::Tar, "a.tar"),
            (TreeFormat::Oci, "b"),
            (TreeFormat::Oci, "b.tar"),
            (TreeFormat::Directory, "c"),
        ] {
            let error = export(ground, &tree, format, 2, false, &out.join(name)).unwrap_err();
            let TreeExportError::Damaged { message, layer } = &error else { panic!("{name}: {error:?}") };
            assert_eq!(message, "read /srv/index.html: its content has changed since its layer was made");
            assert_eq!(layer, layers[1].name());
        }
        check_names(&out, &[]);
    });
}

#[test]
fn what_a_killed_export_left_is_removed() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let out = ground.directory("out");
        fs::write(out.join(".web.tar.kiln-0"), "half").unwrap();
        fs::create_dir(out.join(".web.tar.kiln-1")).unwrap();
        let busy = out.join(".web.tar.kiln-2");
        fs::write(&busy, "of another, who is writing").unwrap();
        let lock = fs::File::open(&busy).unwrap();
        lock.file().lock().unwrap();
        export(ground, &tree, TreeFormat::Tar, 1, false, &out.join("web.tar")).unwrap();
        check_names(&out, &[".web.tar.kiln-2", "web.tar"]);
    });
}

/// Fails after a few bytes, as a closed pipe does.
struct Closed(usize);

impl io::Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len().min(100))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_is_closed_is_why_the_export_ends() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let cancel = CancelToken::new().unwrap();
        let export = plain(ground, &tree, TreeFormat::Tar, &cancel);
        let error = export.stream_to(&mut Closed(3)).unwrap_err();
        assert!(
            matches!(&error, TreeExportError::Stream(error) if error.kind() == io::ErrorKind::BrokenPipe),
            "{error:?}"
        );
        let mut archive = Vec::new();
        let exported = export.stream_to(&mut archive).unwrap();
        assert_eq!(exported.digest, Some(Sha256::of(&archive)));
    });
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    for_each_identity(|ground| {
        let tree = ClassTree::read(&layers(ground), EPOCH).unwrap();
        let out = ground.directory("out");
        let cancel = CancelToken::new().unwrap();
        cancel.cancel();
        for (format, name) in [(TreeFormat::Tar, "a.tar"), (TreeFormat::Oci, "b")] {
            let export = plain(ground, &tree, format, &cancel);
            assert!(matches!(export.write_to(&out.join(name)), Err(TreeExportError::Interrupted)));
        }
        check_names(&out, &[]);
    });
}
