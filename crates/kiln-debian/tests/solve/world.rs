//! Worlds of packages, one a line: `name version; Depends: a | b; Provides: c`.

use kiln_debian::index::Index;
use kiln_debian::relation::Relation;
use kiln_debian::solve::{Request, Selection, Unsolvable, Wanted, Why, solve, verify};
use kiln_debian::universe::{LocalPackage, Source, Universe};
use kiln_model::digest::Sha256;

/// The text of a `Packages` file.
pub(crate) fn packages(lines: &str) -> String {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(stanza).collect()
}

fn stanza(line: &str) -> String {
    let control = control(line);
    let (name, version) = head(line);
    let digest = Sha256::of(format!("{name} {version}").as_bytes());
    format!("{control}Filename: pool/{name}_{version}.deb\nSize: 1000\nSHA256: {digest}\n\n")
}

/// The text of a control file.
pub(crate) fn control(line: &str) -> String {
    let (name, version) = head(line);
    let mut text = format!("Package: {name}\nVersion: {version}\n");
    let fields: Vec<&str> = line.split(';').skip(1).map(str::trim).collect();
    if !fields.iter().any(|field| field.starts_with("Architecture:")) {
        text += "Architecture: all\n";
    }
    fields.iter().for_each(|field| text += &format!("{field}\n"));
    text
}

fn head(line: &str) -> (&str, &str) {
    line.split(';').next().unwrap().trim().split_once(' ').unwrap()
}

pub(crate) fn index(lines: &str) -> Index {
    Index::load(Index::build(packages(lines).as_bytes(), "amd64").unwrap()).unwrap()
}

pub(crate) fn source(name: &str, priority: i32, lines: &str) -> Source {
    Source { name: name.to_owned(), index: index(lines), priority }
}

pub(crate) fn local(line: &str) -> LocalPackage {
    let (name, version) = head(line);
    let file = format!("./{name}_{version}.deb");
    LocalPackage { file, control: control(line), sha256: Sha256::of(b"local"), size_bytes: 10 }
}

/// A world of one source.
pub(crate) fn universe(lines: &str) -> Universe {
    Universe::new("amd64", vec![source("stable/main", 500, lines)], Vec::new()).unwrap()
}

/// A request: `a, b (>= 2)`; each label is the place in the list.
pub(crate) fn request(wanted: &str) -> Request {
    let wanted = wanted.split(',').map(str::trim).filter(|text| !text.is_empty()).enumerate().map(|(label, text)| {
        let relation = Relation::parse(text).unwrap();
        let constraint = relation.constraint.map(|(operator, version)| (operator, version.to_owned()));
        Wanted { name: relation.name.to_owned(), constraint, label }
    });
    Request { wanted: wanted.collect(), ..Request::default() }
}

/// Solves, and has every selection verified.
pub(crate) fn solved(universe: &Universe, request: &Request) -> Result<Selection, Unsolvable> {
    let selection = solve(universe, request)?;
    assert_eq!(verify(universe, &selection.packages, request), []);
    assert_eq!(solve(universe, request).as_ref(), Ok(&selection), "the same question has another answer");
    Ok(selection)
}

/// The names selected, in order, with the version where there are several of a name.
pub(crate) fn shown(universe: &Universe, selection: &Selection) -> String {
    let show = |&package: &_| {
        let stanza = universe.stanza(package);
        let several = universe.versions(stanza.name).len() > 1;
        if several { format!("{}={}", stanza.name, stanza.version) } else { stanza.name.to_owned() }
    };
    selection.packages.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// What is selected from a world for a request.
#[track_caller]
pub(crate) fn check(universe: &Universe, request: &Request, expected: &str) -> Selection {
    match solved(universe, request) {
        Ok(selection) => {
            assert_eq!(shown(universe, &selection), expected);
            selection
        }
        Err(error) => panic!("expected {expected}, got: {error}"),
    }
}

/// The way from a request to the package `name`, as `kiln lock --why` would show it.
pub(crate) fn way(universe: &Universe, selection: &Selection, name: &str) -> String {
    let package = selection.packages.iter().copied().find(|&package| universe.name(package) == name).unwrap();
    match &selection.why[&package] {
        Why::Base => format!("{name} is in the base"),
        Why::Essential => format!("{name} is essential"),
        Why::Wanted { label } => format!("{name} is wanted by {label}"),
        Why::Dependency { dependent, field, relation } => {
            let dependent = universe.name(*dependent);
            format!("{name} is in `{field}: {relation}` of {dependent}; {}", way(universe, selection, dependent))
        }
    }
}
