//! Archives, read by other people's programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Cursor, Write as _};
use std::process::{Command, Stdio};

use kiln_disk::tar::{Content, TarError, write, write_layer};
use kiln_disk::{Change, Layer, Node, NodeKind, Tree};
use kiln_model::digest::Sha256;

use crate::layer::{directory, file, layer, link, node, symlink};

/// What Python's tarfile says about an archive: one line a member.
const READER: &str = r#"
import hashlib, sys, tarfile
out = sys.stdout.buffer
names = tarfile.open(fileobj=sys.stdin.buffer, mode="r|", errors="surrogateescape")
for member in names:
    parts = [member.type.decode(), oct(member.mode)[2:], member.uid, member.gid, int(member.mtime), member.name,
             member.size, member.linkname, member.devmajor, member.devminor]
    parts += sorted(f"{key}={value.encode(errors='surrogateescape').hex()}" for key, value in member.pax_headers.items()
                    if key.startswith("SCHILY"))
    if member.isreg():
        parts.append(hashlib.sha256(names.extractfile(member).read()).hexdigest()[:8])
    out.write(" ".join(str(part) for part in parts).encode(errors="surrogateescape") + b"\n")
"#;

/// Contents by path, as a tree's layers have them.
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn archive(layer: &Layer, contents: &Contents) -> Result<Vec<u8>, TarError> {
    let mut bytes = Vec::new();
    let open = |content: Content<'_>| Ok(Cursor::new(contents.get(content.path).cloned().unwrap_or_default()));
    write(&Tree::of([layer]), open, &mut bytes)?;
    Ok(bytes)
}

/// What a program writes when it is given `input`. None if there is no such program.
fn output_of(program: &str, arguments: &[&str], input: Vec<u8>) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            kiln_testkit::cannot_test(&format!("there is no {program}"));
            return None;
        }
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && problems.is_empty(), "{program}: {problems}");
    writer.join().unwrap().unwrap();
    Some(output.stdout)
}

/// Everything that needs thought: long and strange names, large ids and times, attributes, every kind.
fn everything() -> (Layer, Contents) {
    let long = |bytes: usize| "n".repeat(bytes);
    let named = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    let mut ping = file("ping");
    ping.attributes =
        [named(b"security.capability", &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])].into();
    ping.attributes.extend([named(b"user.\xff", b"=\n\0")]);
    let old = Node { modified: -5, ..file("old") };
    let far = Node { modified: 0o777_7777_7777 + 1, uid: 0o777_7777 + 1, gid: u32::MAX, ..file("far") };
    let deep = format!("{}/{}", long(100), long(90));
    let deeper = format!("{}/{}/{}", long(100), long(90), long(101));
    let sticky = Node { mode: 0o1777, ..directory() };
    let changes: Vec<(Vec<u8>, Change)> = vec![
        (b"ping".to_vec(), Change::Node(ping)),
        (b"ping4".to_vec(), link("ping")),
        (b"old".to_vec(), Change::Node(old)),
        (b"far".to_vec(), Change::Node(far)),
        (b"tmp".to_vec(), Change::Node(sticky)),
        (b"su".to_vec(), Change::Node(Node { mode: 0o4755, uid: 7, gid: 42, ..file("su") })),
        (b"null".to_vec(), Change::Node(node(NodeKind::CharacterDevice { major: 1, minor: 3 }, 0o666))),
        (b"sda".to_vec(), Change::Node(node(NodeKind::BlockDevice { major: 259, minor: 1_048_575 }, 0o660))),
        (b"pipe".to_vec(), Change::Node(node(NodeKind::Fifo, 0o600))),
        (b"socket".to_vec(), Change::Node(node(NodeKind::Socket, 0o600))),
        ("ü".as_bytes().to_vec(), Change::Node(file("umlaut"))),
        (b"latin-\xfc".to_vec(), Change::Node(file("latin"))),
        (b"line\nend".to_vec(), Change::Node(file("line"))),
        (b"link".to_vec(), Change::Node(symlink("../usr/\u{fc}".as_bytes()))),
        (b"long-link".to_vec(), Change::Node(symlink(long(150).as_bytes()))),
        (long(98).into_bytes(), Change::Node(file("98"))),
        (long(99).into_bytes(), Change::Node(file("99"))),
        (long(100).into_bytes(), Change::Node(directory())),
        (deep.clone().into_bytes(), Change::Node(directory())),
        (deeper.clone().into_bytes(), Change::Node(file("deeper"))),
        (format!("{deeper}!").into_bytes(), link(&deeper)),
        (format!("{deep}/{}", long(20)).into_bytes(), Change::Node(file("prefix"))),
    ];
    let contents = ["ping", "old", "far", "su"].map(|name| (name.into(), name.into()));
    let mut contents = Contents::from(contents);
    let others: [(&[u8], &str); 7] = [
        ("ü".as_bytes(), "umlaut"),
        (b"latin-\xfc", "latin"),
        (b"line\nend", "line"),
        (&long(98).into_bytes(), "98"),
        (&long(99).into_bytes(), "99"),
        (deeper.as_bytes(), "deeper"),
        (&format!("{deep}/{}", long(20)).into_bytes(), "prefix"),
    ];
    contents.extend(others.map(|(path, content)| (path.to_vec(), content.as_bytes().to_vec())));
    (layer(changes), contents)
}

/// The paths of a layer, each directory followed by all that is in it.
fn in_order(layer: &Layer) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = layer.changes.keys().cloned().collect();
    paths.sort_by_key(|path| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>());
    paths
}

/// What [`READER`] should say about a tree.
fn expected(layer: &Layer) -> Vec<u8> {
    let mut text = Vec::new();
    for path in &in_order(layer) {
        let node = layer.node(path).unwrap();
        let is_link = matches!(layer.changes[path], Change::HardLink { .. });
        let (mut kind, mut size_bytes, mut target, mut device) = ("0", node.size_bytes(), Vec::new(), (0, 0));
        match &node.kind {
            NodeKind::Socket => continue,
            _ if is_link => {
                let Change::HardLink { to } = &layer.changes[path] else { unreachable!() };
                (kind, size_bytes, target) = ("1", 0, [b"./", to.as_slice()].concat());
            }
            NodeKind::Directory => kind = "5",
            NodeKind::File { .. } => {}
            NodeKind::Symlink { target: to } => (kind, target) = ("2", to.clone()),
            NodeKind::CharacterDevice { major, minor } => (kind, device) = ("3", (*major, *minor)),
            NodeKind::BlockDevice { major, minor } => (kind, device) = ("4", (*major, *minor)),
            NodeKind::Fifo => kind = "6",
        }
        let Node { mode, uid, gid, modified, .. } = node;
        let name = if path.is_empty() { b".".to_vec() } else { [b"./", path.as_slice()].concat() };
        write!(text, "{kind} {mode:o} {uid} {gid} {modified} ").unwrap();
        text.extend_from_slice(&name);
        write!(text, " {size_bytes} ").unwrap();
        text.extend_from_slice(&target);
        write!(text, " {} {}", device.0, device.1).unwrap();
        for (name, value) in node.attributes.iter().filter(|_| !is_link) {
            text.extend_from_slice(&[b" SCHILY.xattr.", name.as_slice(), b"="].concat());
            value.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        }
        if let (NodeKind::File { sha256, .. }, false) = (&node.kind, is_link) {
            write!(text, " {}", &sha256.to_string()[..8]).unwrap();
        }
        text.push(b'\n');
    }
    text
}

#[test]
fn python_reads_everything_as_it_is() {
    let (layer, contents) = everything();
    let bytes = archive(&layer, &contents).unwrap();
    let Some(said) = output_of("python3", &["-c", READER], bytes) else { return };
    similar(&said, &expected(&layer));
}

#[test]
fn a_long_name_that_is_not_text_says_so() {
    let name = [b"\xfc".as_slice(), &[b'n'; 120]].concat();
    let layer = layer([(name.clone(), Change::Node(file("strange")))]);
    let bytes = archive(&layer, &[(name, b"strange".to_vec())].into()).unwrap();
    assert!(bytes.escape_ascii().to_string().contains("21 hdrcharset=BINARY"));
    let Some(said) = output_of("python3", &["-c", READER], bytes) else { return };
    similar(&said, &expected(&layer));
}

fn similar(said: &[u8], expected: &[u8]) {
    assert_eq!(
        said.escape_ascii().to_string().replace(r"\n", "\n"),
        expected.escape_ascii().to_string().replace(r"\n", "\n")
    );
}

/// GNU tar lists type, mode, owner, size, time and name, and finds nothing to complain about.
#[test]
fn gnu_tar_lists_everything_as_it_is() {
    let (mut layer, contents) = everything();
    // It has no way to list such a name on one line.
    layer.changes.retain(|path, _| path != b"line\nend");
    let bytes = archive(&layer, &contents).unwrap();
    let arguments = ["--list", "--verbose", "--numeric-owner", "--full-time", "--quoting-style=literal"];
    let Some(said) = output_of("tar", &arguments, bytes) else { return };
    let said = said.escape_ascii().to_string().replace(r"\n", "\n");
    let blanks = said.lines().map(|line| line.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
    let names = |text: String| text.replace(&"n".repeat(90), "N");
    insta::assert_snapshot!(names(blanks.collect::<Vec<_>>().join("\n")), @r"
    drwxr-xr-x 0/0 0 2023-11-14 22:13:20 ./
    -rw-r--r-- 2097152/4294967295 3 2242-03-16 12:56:32 ./far
    -rw-r--r-- 0/0 5 2023-11-14 22:13:20 ./latin-\xfc
    lrwxrwxrwx 0/0 0 2023-11-14 22:13:20 ./link -> ../usr/\xc3\xbc
    lrwxrwxrwx 0/0 0 2023-11-14 22:13:20 ./long-link -> Nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
    -rw-r--r-- 0/0 2 2023-11-14 22:13:20 ./Nnnnnnnnn
    -rw-r--r-- 0/0 2 2023-11-14 22:13:20 ./Nnnnnnnnnn
    drwxr-xr-x 0/0 0 2023-11-14 22:13:20 ./Nnnnnnnnnnn/
    drwxr-xr-x 0/0 0 2023-11-14 22:13:20 ./Nnnnnnnnnnn/N/
    -rw-r--r-- 0/0 6 2023-11-14 22:13:20 ./Nnnnnnnnnnn/N/nnnnnnnnnnnnnnnnnnnn
    -rw-r--r-- 0/0 6 2023-11-14 22:13:20 ./Nnnnnnnnnnn/N/Nnnnnnnnnnnn
    hrw-r--r-- 0/0 0 2023-11-14 22:13:20 ./Nnnnnnnnnnn/N/Nnnnnnnnnnnn! link to ./Nnnnnnnnnnn/N/Nnnnnnnnnnnn
    crw-rw-rw- 0/0 1,3 2023-11-14 22:13:20 ./null
    -rw-r--r-- 0/0 3 1969-12-31 23:59:55 ./old
    -rw-r--r-- 0/0 4 2023-11-14 22:13:20 ./ping
    hrw-r--r-- 0/0 0 2023-11-14 22:13:20 ./ping4 link to ./ping
    prw------- 0/0 0 2023-11-14 22:13:20 ./pipe
    brw-rw---- 0/0 259,1048575 2023-11-14 22:13:20 ./sda
    -rwsr-xr-x 7/42 2 2023-11-14 22:13:20 ./su
    drwxrwxrwt 0/0 0 2023-11-14 22:13:20 ./tmp/
    -rw-r--r-- 0/0 6 2023-11-14 22:13:20 ./\xc3\xbc
    ");
}

#[test]
fn gnu_tar_extracts_what_was_put_in() {
    // Of the first two it says that their times are implausible; nodes and capabilities are not everybody's to make.
    const NOT_FOR_ALL: [&[u8]; 6] = [b"old", b"far", b"null", b"sda", b"ping", b"ping4"];
    let (mut layer, contents) = everything();
    let is_root = owner_is_root();
    let is_fit = |path: &[u8], node: Option<&Node>| {
        !NOT_FOR_ALL.contains(&path) && node.is_some_and(|node| is_root || node.uid == 0)
    };
    let unfit: Vec<_> = layer.changes.keys().filter(|path| !is_fit(path, layer.node(path))).cloned().collect();
    layer.changes.retain(|path, _| !unfit.contains(path));
    let bytes = archive(&layer, &contents).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let into = format!("--directory={}", directory.path().display());
    if output_of("tar", &["--extract", "--same-permissions", &into], bytes.clone()).is_none() {
        return;
    }
    let again = ["--create", "--format=pax", "--pax-option=delete=atime,delete=ctime", "--sort=name", &into];
    let owner: &[&str] = if is_root { &["."] } else { &["--owner=0", "--group=0", "."] };
    let again = output_of("tar", &[&again, owner].concat(), Vec::new()).unwrap();
    let read = |bytes| output_of("python3", &["-c", READER], bytes);
    let (Some(one), Some(other)) = (read(bytes), read(again)) else { return };
    similar(&sorted(&other), &sorted(&one));
}

fn owner_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    directory.path().metadata().unwrap().uid() == 0
}

fn sorted(text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.join(&b'\n')
}

/// In the order of bytes `a-b` lies between `a` and what is in it. To GNU tar a directory that was left is finished.
#[test]
fn a_directory_is_followed_by_all_that_is_in_it() {
    let layer = layer([
        ("a", Change::Node(directory())),
        ("a-b", Change::Node(file("content"))),
        ("a-c", link("a-b")),
        ("a/x", link("a-b")),
    ]);
    let bytes = archive(&layer, &[(b"a/x".to_vec(), b"content".to_vec())].into()).unwrap();
    let Some(said) = output_of("tar", &["--list", "--verbose", "--numeric-owner"], bytes) else { return };
    let said = String::from_utf8(said).unwrap();
    let names: Vec<&str> = said.lines().filter_map(|line| line.split_once(" ./")).map(|(_, name)| name).collect();
    assert_eq!(names, ["", "a/", "a/x", "a-b link to ./a/x", "a-c link to ./a/x"]);
}

#[test]
fn a_file_of_nine_gigabytes_has_its_size_in_an_extended_header() {
    const SIZE_BYTES: u64 = 9 << 30;
    let kind = NodeKind::File { size_bytes: SIZE_BYTES, sha256: Sha256::of(b"") };
    let tree = Tree::of([&layer([("big", Change::Node(node(kind, 0o644)))])]);
    let mut head = Head(Vec::new());
    let failed = write(&tree, |_| Ok(io::repeat(0)), &mut head).unwrap_err();
    assert!(matches!(failed, TarError::Write(_)));
    let text = head.0.escape_ascii().to_string();
    assert!(text.contains(&format!(" size={SIZE_BYTES}\\n")), "{text}");
    assert!(text.contains(r"\x0000000000000\x00"), "{text}");
}

/// Takes the first blocks of an archive, then fails, as a full disk does.
struct Head(Vec<u8>);

impl io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() > 4096 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changed_is_named() {
    for now in ["", "shorter", "as long as was", "longer than it was"] {
        let layer = layer([("etc", Change::Node(directory())), ("etc/motd", Change::Node(file("as long as is")))]);
        let error = archive(&layer, &[(b"etc/motd".to_vec(), now.into())].into()).unwrap_err();
        assert_eq!(error.to_string(), "read /etc/motd: its content has changed since its layer was made");
    }
}

#[test]
fn a_layer_says_what_is_gone() {
    let layer = layer([
        ("etc", Change::Node(directory())),
        ("etc/motd", Change::Gone),
        ("opt", Change::Opaque(directory())),
        ("opt/a", Change::Node(file("a"))),
        ("opt/b", link("opt/a")),
        ("root", Change::Gone),
    ]);
    let mut bytes = Vec::new();
    write_layer(&layer, 1_600_000_000, |_| Ok(Cursor::new("a")), &mut bytes).unwrap();
    let Some(said) = output_of("python3", &["-c", READER], bytes) else { return };
    let said = String::from_utf8(said).unwrap();
    let mut text = String::new();
    said.lines().for_each(|line| writeln!(text, "{}", line.trim_end()).unwrap());
    insta::assert_snapshot!(text, @r"
    5 755 0 0 1600000000 . 0  0 0
    5 755 0 0 1600000000 ./etc 0  0 0
    0 644 0 0 1600000000 ./etc/.wh.motd 0  0 0 e3b0c442
    5 755 0 0 1600000000 ./opt 0  0 0
    0 644 0 0 1600000000 ./opt/.wh..wh..opq 0  0 0 e3b0c442
    0 644 0 0 1600000000 ./opt/a 1  0 0 ca978112
    1 644 0 0 1600000000 ./opt/b 0 ./opt/a 0 0
    0 644 0 0 1600000000 ./.wh.root 0  0 0 e3b0c442
    ");
}

#[test]
fn a_name_that_means_something_else_is_refused() {
    let layer = layer([(".wh.a", Change::Node(file("")))]);
    let error = write_layer(&layer, 0, |_| Ok(io::empty()), io::sink()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "put /.wh.a into an archive: a name that begins with `.wh.` means something else in an OCI image"
    );
}
