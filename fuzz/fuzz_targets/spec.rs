//! Any text is a spec or mistakes with their places.
#![no_main]

use kiln_model::diagnostic::Source;
use kiln_model::spec::{Listing, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source { name: "kiln.toml".to_owned(), text: text.to_owned() };
    let files = Listing::new(["site/index.html", "checks/web.yaml", "nginx.conf.j2"]);
    if let Err(mistakes) = parse(&[source], &files) {
        assert!(!mistakes.0.is_empty());
        assert!(!mistakes.to_string().is_empty());
    }
});
