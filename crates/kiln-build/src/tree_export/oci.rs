//! A tree as an OCI image (image-spec 1.1): a layout directory with one layer for each of Kiln's.
//!
//! Layers are compressed with gzip, which every runtime reads, always with the same program and level. Nothing in a layer
//! depends on the class, so that classes share those that they inherit. JSON is written from structures, so that its keys
//! have one order.

use std::collections::BTreeMap;
use std::io::Write;

use fs_err as fs;
use jiff::Timestamp;
use kiln_disk::tar::{self, Content, TarError};
use kiln_disk::{Change, Layer, Node, NodeKind, Tree};
use kiln_model::digest::{Hasher, Sha256};
use serde::Serialize;

use super::aside::Aside;
use super::{BUFFER_BYTES, Hashing, TreeExport, TreeExportError, gzip, tar_problem};

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const REFERENCE: &str = "org.opencontainers.image.ref.name";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where an image keeps everything that has a digest.
const BLOBS: &str = "blobs/sha256";

/// What systemd takes as "power off" when it runs in a container.
const STOP_SIGNAL: &str = "SIGRTMIN+3";

/// A written image.
pub(super) struct Image {
    /// The digest of its manifest, by which others name it.
    pub(super) manifest: Sha256,
    /// Bytes of all its files.
    pub(super) size_bytes: u64,
    /// Its files, by path in the layout.
    files: BTreeMap<String, (Sha256, u64)>,
}

/// One layer as it was written.
struct Blob {
    digest: Sha256,
    descriptor: Descriptor,
    /// Digest of the archive before compression.
    difference: Sha256,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<&'static str, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// The image's configuration; image-spec `config.md`.
#[derive(Serialize)]
struct Config {
    created: String,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'static str>,
    os: &'static str,
    config: Execution,
    rootfs: Rootfs,
    history: Vec<History>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    env: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'static str>,
}

#[derive(Serialize)]
struct Rootfs {
    r#type: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Serialize)]
struct History {
    created: String,
    created_by: String,
}

/// Writes the image into the directory.
pub(super) fn write(export: &TreeExport<'_>, aside: &Aside) -> Result<Image, TreeExportError> {
    fs::create_dir_all(aside.path().join(BLOBS)).map_err(aside.failed())?;
    let layers = export.tree.layers().enumerate();
    let blobs = layers.map(|(number, (_, layer))| write_layer(export, aside, number, layer));
    let blobs: Vec<Blob> = blobs.collect::<Result<_, _>>()?;
    let mut files = Files { aside, files: BTreeMap::new() };
    for Blob { digest, descriptor, .. } in &blobs {
        files.files.insert(format!("{BLOBS}/{digest}"), (*digest, descriptor.size));
    }
    let config = files.blob(CONFIG_TYPE, &config(export, &blobs))?;
    let layers = blobs.into_iter().map(|blob| blob.descriptor).collect();
    let manifest = Manifest { schema_version: 2, media_type: MANIFEST_TYPE, config: config.1, layers };
    let (manifest, mut descriptor) = files.blob(MANIFEST_TYPE, &manifest)?;
    descriptor.annotations = Some([(REFERENCE, export.class.to_owned())].into());
    let index = Index { schema_version: 2, media_type: INDEX_TYPE, manifests: [descriptor] };
    files.write("index.json", &json(&index)?)?;
    files.write("oci-layout", &json(&Layout { image_layout_version: "1.0.0" })?)?;
    for directory in [BLOBS, "blobs", ""] {
        fs::File::open(aside.path().join(directory)).and_then(|it| it.sync_all()).map_err(aside.failed())?;
    }
    let size_bytes = files.files.values().map(|(_, size_bytes)| size_bytes).sum();
    Ok(Image { manifest, size_bytes, files: files.files })
}

/// Writes a layout as one archive; returns its size.
pub(super) fn write_archive(
    image: &Image,
    layout: &Aside,
    epoch: i64,
    out: &mut (dyn Write + Send),
) -> Result<u64, TreeExportError> {
    let node =
        |kind, mode| Change::Node(Node { kind, mode, uid: 0, gid: 0, modified: epoch, attributes: BTreeMap::new() });
    let directories = ["", "blobs", BLOBS].map(|path| (path.into(), node(NodeKind::Directory, 0o755)));
    let files = image.files.iter().map(|(path, (sha256, size_bytes))| {
        (path.clone().into_bytes(), node(NodeKind::File { size_bytes: *size_bytes, sha256: *sha256 }, 0o644))
    });
    let tree = Tree::of([&Layer { changes: directories.into_iter().chain(files).collect() }]);
    let open = |content: Content<'_>| {
        let path = std::str::from_utf8(content.path).map_err(std::io::Error::other)?;
        fs::File::open(layout.path().join(path))
    };
    let mut out = Hashing::new(std::io::BufWriter::with_capacity(BUFFER_BYTES, out));
    tar::write(&tree, open, &mut out).map_err(|error| match error {
        TarError::Write(source) => layout.failed()(source),
        error => TreeExportError::Refused { message: error.to_string() },
    })?;
    Ok(out.size_bytes)
}

/// The files of a layout that are written.
struct Files<'a> {
    aside: &'a Aside,
    files: BTreeMap<String, (Sha256, u64)>,
}

impl Files<'_> {
    /// A document under its digest.
    fn blob(
        &mut self,
        media_type: &'static str,
        document: &impl Serialize,
    ) -> Result<(Sha256, Descriptor), TreeExportError> {
        let bytes = json(document)?;
        let digest = Sha256::of(&bytes);
        self.write(&format!("{BLOBS}/{digest}"), &bytes)?;
        let descriptor =
            Descriptor { media_type, digest: format!("sha256:{digest}"), size: bytes.len() as u64, annotations: None };
        Ok((digest, descriptor))
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), TreeExportError> {
        let mut file = self.aside.create(&self.aside.path().join(path))?;
        file.write_all(bytes).map_err(self.aside.failed())?;
        self.aside.sync(&file)?;
        self.files.insert(path.to_owned(), (Sha256::of(bytes), bytes.len() as u64));
        Ok(())
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>, TreeExportError> {
    serde_json::to_vec(document).map_err(|error| TreeExportError::Refused { message: error.to_string() })
}

fn write_layer(export: &TreeExport<'_>, aside: &Aside, number: usize, layer: &Layer) -> Result<Blob, TreeExportError> {
    let tree = export.tree;
    let directory = aside.path().join(BLOBS);
    let path = directory.join(format!("layer-{number}"));
    let mut compressed = Hashing::new(aside.create(&path)?);
    let mut difference = Hasher::new();
    let write = |out: &mut dyn Write| {
        let out = std::io::BufWriter::with_capacity(BUFFER_BYTES, out);
        let open = |content: Content<'_>| tree.open(Content { layer: number, ..content });
        tar::write_layer(layer, tree.epoch(), open, out).map_err(|error| tar_problem(&error, Some(number)))
    };
    let read = |pipe: &mut dyn std::io::Read| {
        gzip::compress(pipe, &mut compressed, export.threads, |piece| difference.update(piece))
    };
    export.receive(write, read, aside.failed())?;
    let size = compressed.size_bytes;
    let (digest, file) = compressed.finish();
    aside.sync(&file)?;
    fs::rename(&path, directory.join(digest.to_string())).map_err(aside.failed())?;
    let descriptor = Descriptor { media_type: LAYER_TYPE, digest: format!("sha256:{digest}"), size, annotations: None };
    Ok(Blob { digest, descriptor, difference: difference.finish() })
}

fn config(export: &TreeExport<'_>, blobs: &[Blob]) -> Config {
    let tree = export.tree;
    let (architecture, variant) = architecture(export.architecture);
    let history = tree.layers().map(|(layer, _)| {
        let facts = &layer.record().facts;
        History { created: time(facts.epoch.min(tree.epoch())), created_by: created_by(&facts.label) }
    });
    let has_init = has(tree.tree(), "init");
    let shell = || has(tree.tree(), "bash").then_some("/bin/bash").or(has(tree.tree(), "sh").then_some("/bin/sh"));
    let command = if has_init { Some("/sbin/init") } else { shell() };
    Config {
        created: time(tree.epoch()),
        architecture,
        variant,
        os: "linux",
        config: Execution {
            env: [PATH],
            cmd: command.map(|command| [command]),
            stop_signal: has_init.then_some(STOP_SIGNAL),
        },
        rootfs: Rootfs {
            r#type: "layers",
            diff_ids: blobs.iter().map(|blob| format!("sha256:{}", blob.difference)).collect(),
        },
        history: history.collect(),
    }
}

/// What was done in a layer's stage, without the stage's number: a layer is made once for every class that has the same, and
/// which of them was the first must not be seen in the image.
fn created_by(label: &str) -> String {
    let numbered = label.strip_prefix("step ").and_then(|rest| rest.split_once(": "));
    format!("kiln build: {}", numbered.map_or(label, |(_, what)| what))
}

/// Whether the tree has a program where programs are, with `/bin` merged into `/usr` or not.
fn has(tree: &Tree, program: &str) -> bool {
    ["sbin", "bin", "usr/sbin", "usr/bin"]
        .iter()
        .any(|directory| tree.node(format!("{directory}/{program}").as_bytes()).is_some())
}

/// A time as OCI writes it (RFC 3339); 1970 for one that no calendar has.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Go's name of an architecture, and its variant, for Debian's.
fn architecture(debian: &str) -> (String, Option<&'static str>) {
    match debian {
        "i386" => ("386".to_owned(), None),
        "armhf" => ("arm".to_owned(), Some("v7")),
        "armel" => ("arm".to_owned(), Some("v5")),
        "arm64" => ("arm64".to_owned(), Some("v8")),
        "ppc64el" => ("ppc64le".to_owned(), None),
        "mips64el" => ("mips64le".to_owned(), None),
        other => (other.to_owned(), None),
    }
}
