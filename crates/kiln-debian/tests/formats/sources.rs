//! apt's sources, judged by `apt-get indextargets`: the files that apt would fetch, without fetching them.

use std::collections::BTreeSet;
use std::process::Command;

use kiln_debian::sources::Sources;

use crate::run;

const LINES: &str = "\
# The host's own
deb http://mirror.example/debian trixie main contrib # and why
deb-src http://mirror.example/debian trixie main
  deb\t[ arch=amd64 signed-by=/usr/share/keyrings/a.gpg ]  https://mirror.example/debian/  trixie-updates\tmain
deb [arch=amd64,arm64 lang=none] http://other.example/debian stable/updates main
";

const PARAGRAPHS: &str = "\
# A comment first
Types: deb deb-src
URIs: http://mirror.example/one
 http://mirror.example/two/
Suites: trixie
# trixie-proposed
 trixie-backports
Components: main
\tcontrib
Signed-By: /usr/share/keyrings/b.gpg

types: deb
Enabled: no
uris: http://mirror.example/disabled
suites: x
components: main

Types: deb
URIs: http://mirror.example/three
Suites: trixie-security
Components: main
Architectures: amd64
Enabled: yes
";

/// `mirror suite component` of each index of packages, as apt sees it.
fn apt_sees(lines: &str, paragraphs: &str) -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs_err::create_dir_all(path("parts")).unwrap();
    fs_err::create_dir_all(path("state/lists/partial")).unwrap();
    fs_err::write(path("sources.list"), lines).unwrap();
    fs_err::write(path("parts/test.sources"), paragraphs).unwrap();
    fs_err::write(path("status"), "").unwrap();
    let output = run(Command::new("apt-get")
        .args(["indextargets", "--no-release-info", "Created-By: Packages"])
        .args(["--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"])
        .args(["-o", "APT::Architecture=amd64", "-o", "APT::Architectures::=amd64", "-o", "Acquire::Languages=none"])
        .args(["-o", &format!("Dir::Etc::sourcelist={}", path("sources.list"))])
        .args(["-o", &format!("Dir::Etc::sourceparts={}", path("parts"))])
        .args(["-o", &format!("Dir::State={}", path("state"))])
        .args(["-o", &format!("Dir::State::status={}", path("status"))])
        .args(["-o", &format!("Dir::Cache={}", path("cache"))]));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn kiln_sees(lines: &str, paragraphs: &str) -> BTreeSet<String> {
    let mut sources = Sources::default();
    sources.add("sources.list", lines.as_bytes());
    sources.add("test.sources", paragraphs.as_bytes());
    assert_eq!(sources.problems, []);
    let mut seen = BTreeSet::new();
    for entry in &sources.entries {
        for uri in &entry.uris {
            for suite in &entry.suites {
                seen.extend(entry.components.iter().map(|component| format!("{uri}/ {suite} {component}")));
            }
        }
    }
    seen
}

#[test]
fn entries_agree_with_apt() {
    let seen = kiln_sees(LINES, PARAGRAPHS);
    assert_eq!(seen, apt_sees(LINES, PARAGRAPHS));
    assert_eq!(seen.len(), 2 + 1 + 1 + 2 * 2 * 2 + 1);
}
