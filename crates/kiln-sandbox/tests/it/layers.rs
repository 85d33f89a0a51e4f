//! Layers: the same whoever writes them and wherever, as many as needed.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::capability::{FILE_CAPABILITY, image_form};
use kiln_sandbox::{CancelToken, Identity, Sandbox, Tree, Upper};

use crate::ground::{Ground, call, describe, for_each_identity, lines};

/// `cap_net_raw=ep`, version 2.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const BEFORE: &str = "mkdir -p /d/e /kept; echo a > /d/a; echo b > /d/e/b; echo f > /f; ln /f /g; echo k > /kept/k; \
                      chown 33:33 /kept/k; chmod 4755 /kept/k";

const CHANGE: &str = "rm /f; rm -r /d; mkdir /d; echo c > /d/c; chown 65534:1 /d/c; mv /kept /moved; ln -s x /link; \
                      chmod 700 /d; chown 7:8 /d; echo l > /l; ln /l /m; mkfifo /pipe";

const AFTER: &[&str] = &[
    " directory 755 0:0 []",
    "d opaque 700 7:8 []",
    "d/c file 644 65534:1 1 []",
    "f whiteout",
    "kept whiteout",
    "l file 644 0:0 2 []",
    "link link 777 0:0 []",
    "m file 644 0:0 2 []",
    "moved directory 755 0:0 []",
    "moved/k file 4755 33:33 1 []",
    "pipe file 644 0:0 1 []",
];

fn change(ground: &Ground, upper: fn(Utf8PathBuf) -> Upper) -> Vec<String> {
    lines(&ground.sandbox(&[], Upper::Directory(ground.path("before"))), BEFORE);
    lines(&ground.sandbox(&["before"], upper(ground.path("after"))), CHANGE);
    let seen = lines(&ground.sandbox(&["before", "after"], Upper::Discard), "ls / /d /moved; cat /moved/k");
    assert!(seen.iter().any(|line| line == "c") && !seen.iter().any(|line| line == "e" || line == "kept"), "{seen:?}");
    assert!(!ground.path("after.work").exists());
    describe(&ground.path("after"), ground.identity)
}

#[test]
fn a_layer_is_the_same_for_root_and_user_on_disk_and_in_memory() {
    for_each_identity(|ground| assert_eq!(change(ground, Upper::Directory), AFTER));
    for_each_identity(|ground| assert_eq!(change(ground, Upper::Memory), AFTER));
}

#[test]
fn two_hundred_layers_lie_over_each_other() {
    for_each_identity(|ground| {
        let names: Vec<String> =
            (0..200).map(|number| format!("layer, with: a \\ \"long\" name {}-{number}", "x".repeat(100))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let directory = ground.path.clone();
        let made: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ground
            .identity
            .act(move || {
                for (number, name) in made.iter().enumerate() {
                    let layer = directory.join(name);
                    fs::create_dir(&layer).unwrap();
                    fs::write(layer.join("top"), number.to_string()).unwrap();
                    fs::write(layer.join(format!("file{number}")), "").unwrap();
                }
            })
            .unwrap();
        let seen = lines(&ground.sandbox(&names, Upper::Discard), "cat /top; echo; ls / | grep -c ^file");
        assert_eq!(seen, ["199", "200"]);
    });
}

#[test]
fn file_capabilities_have_one_form() {
    for_each_identity(|ground| {
        let set = |root: &Utf8Path| {
            fs::write(root.join("ping"), "").unwrap();
            let path = root.join("ping");
            rustix::fs::setxattr(path.as_str(), FILE_CAPABILITY, &NET_RAW, rustix::fs::XattrFlags::empty()).unwrap();
        };
        let on_disk = ground.write("disk", vec!["skeleton"], set);
        let sandbox = ground.sandbox(&["disk"], Upper::Memory(ground.path("memory")));
        call(&sandbox, |root| {
            fs::set_permissions(root.join("ping"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        })
        .unwrap();
        for layer in [on_disk, ground.path("memory")] {
            let read = move || {
                let mut buffer = [0; 64];
                let path = layer.join("ping");
                let length = rustix::fs::getxattr(path.as_str(), FILE_CAPABILITY, &mut buffer[..]).unwrap();
                buffer[..length].to_vec()
            };
            assert_eq!(image_form(&read()).unwrap(), NET_RAW, "from outside");
            assert_eq!(ground.identity.act(read).unwrap(), NET_RAW, "as root inside");
        }
    });
}

/// A container's root is an overlay, which cannot carry what is written and takes no devices 0:0.
#[test]
fn a_store_on_an_overlay_goes_through_memory() {
    for_each_identity(|ground| {
        let outer = ground.plain();
        let (fits, seen, whiteout) = outer
            .call(
                |_| {
                    fs::create_dir("/store").unwrap();
                    let cancel = CancelToken::new().unwrap();
                    let tree = |lowers: &[&str], upper| {
                        let lowers = lowers.iter().map(Utf8PathBuf::from).collect();
                        Sandbox::new(Tree { lowers, upper }, Identity::Root)
                    };
                    let one = tree(&[], Upper::fitting("/store/one".into()).unwrap());
                    let fits = matches!(one.tree.upper, Upper::Memory(_));
                    let write = |_: &kiln_sandbox::Inside<'_>| {
                        fs::create_dir("/d").unwrap();
                        fs::write("/d/gone", "").unwrap();
                        fs::write("/d/kept", "").unwrap();
                    };
                    one.call(write, &mut |_| {}, &cancel).unwrap();
                    let two = tree(&["/store/one"], Upper::fitting("/store/two".into()).unwrap());
                    two.call(|_| fs::remove_file("/d/gone").unwrap(), &mut |_| {}, &cancel).unwrap();
                    let metadata = fs::symlink_metadata("/store/two/d/gone").unwrap();
                    let whiteout = kiln_sandbox::layer::is_whiteout("/store/two/d/gone".as_ref(), &metadata).unwrap();
                    let both = tree(&["/store/one", "/store/two"], Upper::Discard);
                    let list = |_: &kiln_sandbox::Inside<'_>| {
                        let names = fs::read_dir("/d").unwrap().map(|entry| entry.unwrap().file_name());
                        names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
                    };
                    (fits, both.call(list, &mut |_| {}, &cancel).unwrap(), whiteout)
                },
                &mut |_| {},
                &CancelToken::new().unwrap(),
            )
            .unwrap();
        assert!(fits && whiteout);
        assert_eq!(seen, ["kept"]);
    });
}

#[test]
fn a_layer_that_is_not_there_is_named() {
    for_each_identity(|ground| {
        let sandbox = ground.sandbox(&["no-such-layer"], Upper::Discard);
        let error = call(&sandbox, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), format!("use the layer {}", ground.path("no-such-layer")));
    });
}
