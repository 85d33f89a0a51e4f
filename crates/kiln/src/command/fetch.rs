//! `kiln fetch`: every locked file into the store, and from there, if wanted, into a directory that is a mirror.

use camino::{Utf8Path, Utf8PathBuf};
use kiln_build::Environment;
use kiln_build::export::{Exported, export};
use kiln_build::factory::Factory;
use kiln_build::fetch::{FetchOptions, fetch};
use serde::Serialize;

use super::existing_lock;
use crate::error::CommandError;
use crate::output::{Output, bytes, count, rate};

/// Bring every locked file into the store, verified.
///
/// What is there already is hashed again, so that a damaged file is found and fetched anew. An interrupted fetch goes on
/// where it stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct FetchArgs {
    /// Only these classes, with what they inherit.
    classes: Vec<String>,
    /// Leave Kiln's own tools out.
    #[arg(long)]
    no_toolbox: bool,
    /// Look here too, before the mirrors: a mirror's address, or a directory of .deb files.
    #[arg(long, value_name = "DIR|URL")]
    from: Vec<String>,
    /// Write a directory with the indexes as they were signed and every locked file: named in KILN_MIRROR as
    /// file:///DIR it serves this lock for ever, without a network.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["classes", "no_toolbox"])]
    to: Option<Utf8PathBuf>,
}

#[derive(Serialize)]
struct Result {
    downloaded_files: u64,
    downloaded_bytes: u64,
    present_files: u64,
    present_bytes: u64,
    took_ms: u64,
    exported: Option<Exported>,
}

/// Runs the verb.
///
/// # Errors
/// If there is no lock, a file cannot be had, or the directory cannot be written.
pub(crate) fn run(
    args: &FetchArgs,
    factory: &Utf8Path,
    environment: &Environment<'_>,
    output: &Output,
) -> std::result::Result<(), CommandError> {
    let factory = Factory::new(factory);
    let spec = factory.spec()?;
    let lock = existing_lock(&factory)?;
    let options = FetchOptions { classes: args.classes.clone(), toolbox: !args.no_toolbox, from: args.from.clone() };
    let fetched = fetch(&factory, &spec, &lock, &options, environment)?;
    let exported = args.to.as_ref().map(|to| export(&factory, &spec, &lock, to, environment)).transpose()?;
    let result = Result {
        downloaded_files: fetched.downloaded_files,
        downloaded_bytes: fetched.downloaded_bytes,
        present_files: fetched.present_files,
        present_bytes: fetched.present_bytes,
        took_ms: u64::try_from(fetched.took.as_millis()).unwrap_or(u64::MAX),
        exported,
    };
    output.result("fetch", &result, &describe(&result, args.to.as_deref()));
    Ok(())
}

fn describe(result: &Result, to: Option<&Utf8Path>) -> String {
    let Result { downloaded_files, downloaded_bytes, present_files, present_bytes, took_ms, exported } = result;
    let mut parts = Vec::new();
    if *downloaded_files > 0 {
        let (size, rate) = (bytes(*downloaded_bytes), rate(*downloaded_bytes, *took_ms));
        parts.push(format!("downloaded and verified {}, {size}, {rate}", count(*downloaded_files, "file")));
    }
    if *present_files > 0 {
        let (files, were) = (count(*present_files, "file"), if *present_files == 1 { "was" } else { "were" });
        parts.push(format!("{files} ({}) {were} there and intact", bytes(*present_bytes)));
    }
    if parts.is_empty() {
        parts.push("nothing is locked that needs fetching".to_owned());
    }
    let mut text = parts.join("; ");
    if let (Some(Exported { files, size_bytes, new_files }), Some(to)) = (exported, to) {
        text.push_str(&format!(
            "\n{to} has {}, {}, {new_files} of them new",
            count(*files, "file"),
            bytes(*size_bytes)
        ));
    }
    text
}
