//! `kiln export`: what is written, where, and what is never overwritten.

use std::process::Command;

use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_sandbox::{Identity, layer};
use serde_json::Value;

use crate::fixture::{Shop, says};
use crate::living::{self, CLASSES};

/// Exports, and returns the result.
#[track_caller]
fn export(shop: &Shop, arguments: &str) -> Value {
    let output = shop.run(&format!("--json export {arguments}")).success();
    let line = output.stdout.lines().find(|line| line.contains(r#""result":"export""#)).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["value"].clone()
}

fn digest(shop: &Shop, path: &str) -> String {
    Sha256::of(&fs::read(shop.path(path)).unwrap()).to_string()
}

/// The digests of an image's layers, from bottom to top.
fn image_layers(shop: &Shop, image: &str) -> Vec<String> {
    let read = |path: &str| -> Value { serde_json::from_slice(&fs::read(shop.path(path)).unwrap()).unwrap() };
    let index = read(&format!("{image}/index.json"));
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = read(&format!("{image}/blobs/{manifest}"));
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_archive_is_the_same_every_time() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let first = export(&shop, "web --output web.tar");
    let built = living::build(&shop, "web");
    assert_eq!(built.stages("stage-finished"), [""; 0], "it was built for the export");
    assert_eq!(first["tree"], built.tree("web"));
    assert_eq!(first["digest"], digest(&shop, "web.tar"));
    let second = export(&shop, "web --format tar --output again.tar");
    assert_eq!(first["digest"], second["digest"]);
    let mut tar = Command::new("tar");
    tar.args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(shop.path("web.tar"));
    let listed = String::from_utf8(tar.output().unwrap().stdout).unwrap();
    assert!(listed.lines().next().unwrap().starts_with("drwxr-xr-x 0/0"), "{listed}");
    for name in ["./srv/index.html", "./etc/greeting", "./etc/passwd"] {
        assert!(
            listed.lines().any(|line| line.starts_with("-rw-r--r-- 0/0") && line.ends_with(name)),
            "{name}: {listed}"
        );
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let Some(shop) = living::shop(CLASSES) else { return };
    shop.write("web.tar", "mine");
    let output = shop.run("export web --output web.tar").code(2);
    says(&output, &["error: write web.tar: it exists\nhint: --force replaces it"]);
    assert!(!output.stderr.contains("stages"), "nothing was built: {}", output.stderr);
    export(&shop, "web --output web.tar --force");
    let output = shop.run("export web --format dir --output site --force").code(2);
    says(&output, &["error: replace site: it is a directory that is neither a tree nor an image"]);
    let output = shop.run("export web --format oci --output -").code(2);
    says(&output, &["error: only a tar archive can go to standard output"]);
    assert!(shop.run("export web --json --output -").code(2).stdout.contains("cannot carry an archive and JSON lines"));
    says(&shop.run("export wbe --output wbe.tar").code(2), &["error: there is no class `wbe`"]);
    says(&shop.run("export web --output no/such/web.tar").code(3), &["error: write no/such/web.tar"]);
    let hidden =
        shop.path("").read_dir_utf8().unwrap().filter(|entry| entry.as_ref().unwrap().file_name().contains(".kiln-"));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn classes_share_the_layers_of_their_images() {
    let Some(shop) = living::shop(CLASSES) else { return };
    export(&shop, "base --format oci --output base");
    let web = export(&shop, "web --format oci --output web");
    let (base_layers, web_layers) = (image_layers(&shop, "base"), image_layers(&shop, "web"));
    assert_eq!((base_layers.len(), web_layers.len()), (2, 6));
    assert_eq!(base_layers, web_layers[..2]);
    let archive = export(&shop, "web --format oci --output web.tar");
    assert_eq!(web["digest"], archive["digest"]);
}

#[test]
fn a_directory_says_how_to_remove_it() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let output = shop.run("export web --format dir --output root").success();
    let identity = Identity::of_caller().unwrap();
    let remove =
        output.stdout.contains("to remove it: unshare --map-auto --map-root-user rm -r --one-file-system root");
    assert_eq!(remove, identity != Identity::Root, "{}", output.stdout);
    let root = shop.path("root");
    let greeting = identity.act(|| fs::read_to_string(root.join("etc/greeting")).unwrap()).unwrap();
    assert_eq!(greeting, "hello\n");
    let _ = shop.run("export base --format dir --output root --force").success();
    assert!(!identity.act(|| root.join("etc/greeting").exists()).unwrap());
    layer::remove_tree(&root, identity).unwrap();
}

#[test]
fn a_damaged_layer_is_built_again() {
    let Some(shop) = living::shop(CLASSES) else { return };
    let good = export(&shop, "web --output web.tar");
    let layers = shop.home.cache().join("layer");
    let identity = Identity::of_caller().unwrap();
    let damage = || {
        let paths = layers.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().join("tree/etc/greeting"));
        paths.filter(|path| path.exists()).map(|path| fs::write(path, "HELLO\n").unwrap()).count()
    };
    assert_eq!(identity.act(damage).unwrap(), 1);
    let output = shop.run("export web --output damaged.tar").code(3);
    says(
        &output,
        &[
            "error: read /etc/greeting: its content has changed since its layer was made",
            "hint: the layer has been removed; the same command builds it again",
        ],
    );
    assert!(!shop.path("damaged.tar").exists());
    assert_eq!(export(&shop, "web --output mended.tar")["digest"], good["digest"]);
}
