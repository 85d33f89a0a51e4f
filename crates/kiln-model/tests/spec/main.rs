//! `kiln.toml` from the outside: what is read, what is refused and how it is said, the schema, and hostile text.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect, in its shared functions too")]

mod examples;
mod hostile;
mod mistakes;
mod schema;

use kiln_model::diagnostic::{Diagnostics, Source};
use kiln_model::spec::{Listing, Spec};

/// The factory that design documents show.
const SHOP: &str = include_str!("shop.toml");
/// A factory that uses every key.
const EVERYTHING: &str = include_str!("everything.toml");

/// The files of both factories.
fn files() -> Listing {
    Listing::new([
        "checks/db.yaml",
        "checks/web.yaml",
        "dist/shop-agent_1.2_amd64.deb",
        "keys/archive.gpg",
        "keys/shop.asc",
        "nginx.conf.j2",
        "playbooks/harden.yml",
        "playbooks/roles/",
        "puppet/modules/",
        "puppet/site.pp",
        "scripts/finish.sh",
        "site/about.html",
        "site/index.html",
    ])
}

/// Reads `kiln.toml` and then files of `kiln.d`, by name.
fn parse(texts: &[(&str, &str)]) -> Result<Spec, Diagnostics> {
    let source = |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: (*text).to_owned() };
    let sources: Vec<Source> = texts.iter().map(source).collect();
    kiln_model::spec::parse(&sources, &files())
}

/// Reads a `kiln.toml` that stands alone.
fn parse_one(text: &str) -> Result<Spec, Diagnostics> {
    parse(&[("kiln.toml", text)])
}
