//! OCI images, judged by other people's tools: skopeo copies one, umoci unpacks it, runc runs it.
//!
//! 1. A class is locked and built with Kiln: packages, and a step that removes, replaces and links files, so that layers have
//!    whiteouts and opaque directories. Its tree is exported as an image and as a tar archive.
//! 2. The tools, brought by Kiln, run in a sandbox whose root directory is their own unpacked tree.
//! 3. What umoci unpacked must be what GNU tar extracts from the archive: names, owners, modes, times, links, attributes.
//! 4. runc runs `dpkg --audit` in it, which must have nothing to say. Only real root may mount what runc asks for.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use fs_err as fs;
use kiln_sandbox::{Bind, CancelToken, Identity, Inside, Sandbox, Upper};

use super::trees::kiln::Kiln;
use super::trees::{Options, beside, scratch};
use crate::oracle::{Tree, Workshop};
use crate::say;

/// What is built, and what judges it.
const SPEC: &str = r#"
[factory]
name = "images"
[distribution.trixie]
family = "debian"
suite = "trixie"
[class.image]
distribution = "trixie"
packages = ["systemd-sysv"]
[[class.image.step]]
shell = """
rm -r /usr/share/doc /etc/motd
mkdir /usr/share/doc
echo here >/usr/share/doc/README
ln /usr/share/doc/README /usr/share/doc-again
mkfifo /srv/pipe
chown 33:33 /srv/pipe
"""
[class.tools]
distribution = "trixie"
packages = ["skopeo", "umoci", "runc", "mount"]
"#;

/// Where the directory with the exports is inside.
const EXPORTS: &str = "/run/kiln/exports";

/// Copies, unpacks and compares; each archive of a directory is made in the same way.
const COMPARE: &str = r#"
skopeo --insecure-policy --tmpdir /tmp copy --quiet oci-archive:image.tar:image oci:/tmp/copied:image
umoci unpack --image /tmp/copied:image /tmp/bundle
mkdir /tmp/tree
tar --extract --file tree.tar --directory /tmp/tree --same-owner --same-permissions --numeric-owner \
    --xattrs '--xattrs-include=*'
summarise() {
    tar --create --directory $1 --sort=name --numeric-owner --xattrs '--xattrs-include=*' --format=pax \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime . | sha256sum
}
unpacked=$(summarise /tmp/bundle/rootfs)
extracted=$(summarise /tmp/tree)
test -e /tmp/bundle/rootfs/usr/share/doc/README
test ! -e /tmp/bundle/rootfs/etc/motd
test $(ls /tmp/bundle/rootfs/usr/share/doc | wc -l) = 1
if test "$unpacked" != "$extracted"; then
    echo what umoci unpacked is not what tar extracted
    exit 1
fi
"#;

/// Runs the image, as far as it needs no init system.
const RUN: &str = r#"
mount -t tmpfs tmpfs /sys
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd /tmp/bundle
grep -q '"/sbin/init"' config.json
sed -i -e 's|"terminal": *true|"terminal":false|' config.json
sed -i -e 's|"/sbin/init"|"/bin/sh","-ec","test $(id -u) = 0; dpkg --audit"|' config.json
said=$(runc --root /run/runc run judge)
test -z "$said"
"#;

/// Builds, exports, and asks the judges.
pub(super) fn run(workshop: &Workshop, options: &Options) -> anyhow::Result<()> {
    let program = options.kiln.clone().map_or_else(beside, Ok)?;
    let lock = workshop.provide(SPEC)?;
    let mirror = workshop.directory().join("mirror-images");
    workshop.export(&lock, &mirror)?;
    let tools = workshop.unpack(&lock, "tools")?;
    let scratch = scratch(options.scratch.as_deref())?;
    let directory = Utf8Path::from_path(scratch.path()).context("the name of a temporary directory is text")?;
    let kiln = Kiln { program: &program, directory: directory.join("kiln"), mirror: &mirror };
    kiln.prepare(SPEC, Some(&lock))?;
    let exports = directory.join("exports");
    fs::create_dir(&exports)?;
    say("building an image for skopeo, umoci and runc");
    kiln.archive("image", &exports.join("tree.tar"))?;
    kiln.export("image", "oci", &exports.join("image.tar"))?;
    let judged = judge(&tools, &exports);
    kiln.remove()?;
    judged
}

fn judge(tools: &Tree, exports: &Utf8Path) -> anyhow::Result<()> {
    let identity = Identity::of_caller().context("find out who root is inside")?;
    let script = match identity {
        Identity::Root => format!("{COMPARE}{RUN}"),
        Identity::User(_) => {
            say("runc needs root: the image is unpacked and compared, and not run");
            COMPARE.to_owned()
        }
    };
    let script = format!("set -ex\ncd {EXPORTS}\n{script}");
    let lowers = vec![tools.path("").canonicalize_utf8()?];
    let mut sandbox = Sandbox::new(kiln_sandbox::Tree { lowers, upper: Upper::Discard }, identity);
    sandbox.binds = vec![Bind { from: exports.to_owned(), to: EXPORTS.into(), read_only: true }];
    let variables = sandbox.environment.clone();
    let mut lines = Vec::new();
    // As our own function does, it keeps the capabilities that these tools need.
    let work = |_: &Inside<'_>| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).env_clear().envs(&variables).stdin(Stdio::null());
        shell.status().map(|status| status.success()).map_err(|error| error.to_string())
    };
    let ended: Result<bool, String> =
        sandbox.call(work, &mut |line| lines.push(line.to_owned()), &CancelToken::new()?).context("judge an image")?;
    match ended {
        Ok(true) => {
            say("the image is what its judges expect");
            Ok(())
        }
        Ok(false) => bail!("an image is not as it should be:\n{}", lines.join("\n")),
        Err(reason) => bail!("start the judges: {reason}"),
    }
}
