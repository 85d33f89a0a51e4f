//! Packages made by dpkg-deb.

use std::path::Path;
use std::process::Command;

use kiln_debian::compression::Compression;
use kiln_debian::deb::Deb;

use crate::run;

const CONTROL: &str = "\
Package: kiln-fixture
Version: 1:2.0~rc1-3
Architecture: all
Maintainer: Nobody <nobody@mirror.example>
Depends: libc6 (>= 2.36), a | b
Description: fixture
 with a second line
";

/// A package made by dpkg-deb with this compression.
fn package(directory: &Path, compression: &str) -> Vec<u8> {
    let tree = directory.join(compression);
    fs_err::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs_err::create_dir_all(tree.join("usr/share/doc")).unwrap();
    fs_err::write(tree.join("DEBIAN/control"), CONTROL).unwrap();
    fs_err::write(tree.join("DEBIAN/conffiles"), "").unwrap();
    fs_err::write(tree.join("DEBIAN/postinst"), "#!/bin/sh\nexit 0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(tree.join("DEBIAN/postinst"), mode).unwrap();
    fs_err::write(tree.join("usr/share/doc/fixture"), "some text\n".repeat(1000)).unwrap();
    let file = directory.join(format!("{compression}.deb"));
    let build =
        ["--root-owner-group", "--uniform-compression", &format!("-Z{compression}"), "--build"].map(str::to_owned);
    let output = run(Command::new("dpkg-deb").args(build).arg(&tree).arg(&file));
    assert!(output.status.success(), "{output:?}");
    fs_err::read(file).unwrap()
}

#[test]
fn packages_of_dpkg_are_read() {
    let directory = tempfile::tempdir().unwrap();
    for (name, compression) in
        [("xz", Compression::Xz), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)]
    {
        let bytes = package(directory.path(), name);
        let (control, data) = Deb::open(&bytes[..]).unwrap().into_data().unwrap();
        assert_eq!(control.text(), CONTROL);
        assert_eq!(control.scripts().map(|(name, file)| (name, file.mode)).collect::<Vec<_>>(), [("postinst", 0o755)]);
        assert_eq!(data.compression, compression, "{name}");
        let mut tar = tar::Archive::new(data.decompress(1 << 20));
        let paths = tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        assert_eq!(paths.last().unwrap(), "./usr/share/doc/fixture");
    }
}
