//! Templates that are rendered on every start of an instance: where the image keeps them.
//!
//! For a template that goes to `/etc/motd` there are two files, for the agent inside the image:
//!
//! - `/usr/lib/kiln/boot/templates/etc/motd`: the template itself, as the factory has it.
//! - `/usr/lib/kiln/boot/manifests/etc/motd.json`: where its result goes and whose that is, see [`Manifest`].
//!
//! At `/etc/motd` the image has what the sample values give, so that checks of the tree see a whole file.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::digest::Sha256;
use serde::{Deserialize, Serialize};

use super::root::{Ownership, Root};
use super::{Doing as _, Problem};

const TEMPLATES: &str = "/usr/lib/kiln/boot/templates";
const MANIFESTS: &str = "/usr/lib/kiln/boot/manifests";

/// Raised when an older agent could misread a manifest.
const FORMAT_VERSION: u32 = 1;

/// What the agent has to know of one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Version of these keys.
    pub(super) format: u32,
    /// Where the result goes.
    pub(super) to: Utf8PathBuf,
    /// Name of the user who owns it.
    pub(super) owner: String,
    /// Name of the group that owns it.
    pub(super) group: String,
    /// Its permission bits, in octal.
    pub(super) mode: String,
    /// Digest of the template.
    pub(super) sha256: Sha256,
    /// Variables that the template reads and that the group's config must have.
    pub(super) variables: Vec<String>,
    /// Variables that it reads if they are there.
    pub(super) optional: Vec<String>,
}

impl Manifest {
    pub(super) fn new(to: &Utf8Path, sha256: Sha256) -> Self {
        Self {
            format: FORMAT_VERSION,
            to: to.to_owned(),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: String::new(),
            sha256,
            variables: Vec::new(),
            optional: Vec::new(),
        }
    }
}

/// Keeps a template for the agent.
pub(super) fn keep(root: &Root, template: &str, manifest: &Manifest) -> Result<(), Problem> {
    let mut text = serde_json::to_string_pretty(manifest).map_err(|error| Problem::refused(error.to_string()))?;
    text.push('\n');
    write(root, &template_of(&manifest.to), template)?;
    write(root, &manifest_of(&manifest.to), &text)
}

fn write(root: &Root, path: &Utf8Path, text: &str) -> Result<(), Problem> {
    let spot = root.spot(path.as_std_path())?;
    // The agent alone reads them: a template may say what not everybody should know.
    spot.file(Ownership::ROOT, 0o600, |file| file.write_all(text.as_bytes()).doing(|| format!("write {path}")))
}

/// Forgets what an earlier step wanted at `to` on every start: a later step has placed something else there.
pub(super) fn forget(root: &Root, to: &Utf8Path) -> Result<(), Problem> {
    let manifest = manifest_of(to);
    if !root.exists(manifest.as_std_path()) {
        return Ok(());
    }
    root.spot(manifest.as_std_path())?.remove()?;
    root.spot(template_of(to).as_std_path())?.remove()
}

fn template_of(to: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{TEMPLATES}{to}"))
}

fn manifest_of(to: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{MANIFESTS}{to}.json"))
}
