//! What a person reads when there is no answer.

use kiln_debian::solve::{Request, UnsolvableKind};
use kiln_debian::universe::{PackageId, Universe};

use crate::world::{local, request, solved, source, universe};

/// The whole message, with hint, and the labels of the requests to blame.
#[track_caller]
fn check_on(universe: &Universe, request: &Request, labels: &[usize], expected: &str) {
    let error = solved(universe, request).expect_err("there is an answer");
    let hint = error.hint.as_deref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    assert_eq!(format!("{error}{hint}"), expected);
    assert_eq!(error.labels, labels);
}

#[track_caller]
fn check(lines: &str, wanted: &str, labels: &[usize], expected: &str) {
    check_on(&universe(lines), &request(wanted), labels, expected);
}

#[test]
fn unknown_names() {
    let world = "nginx-light 1\nnginx 1\napache2 1";
    check(world, "nginx, ngnix", &[1], "there is no package ngnix\nhint: did you mean nginx?");
    check(world, "zzzzzz", &[0], "there is no package zzzzzz\nhint: add the component or repository that has it");
}

#[test]
fn versions_that_no_source_has() {
    let sources = vec![source("stable/main", 500, "nginx 1"), source("security/main", 500, "nginx 2")];
    let universe = Universe::new("amd64", sources, Vec::new()).unwrap();
    check_on(
        &universe,
        &request("nginx (>= 3)"),
        &[0],
        "no version of nginx fits nginx (>= 3)\n  there is 2 (security/main)\n  there is 1 (stable/main)\n\
         hint: relax the version, or add a repository that has it",
    );
}

#[test]
fn names_that_several_packages_provide() {
    check(
        "postfix 1; Provides: mail-agent\nexim 1; Provides: mail-agent",
        "mail-agent",
        &[0],
        "mail-agent is not a package; several packages provide it\n  exim\n  postfix\nhint: request one of them",
    );
}

#[test]
fn two_requests_that_exclude_each_other() {
    check(
        "exim 4; Provides: mail-agent; Conflicts: mail-agent\npostfix 3; Provides: mail-agent; Conflicts: mail-agent\nx 1",
        "exim, x, postfix",
        &[0, 2],
        "exim and postfix cannot be installed together
  exim 4 (requested)     conflicts with mail-agent
  postfix 3 (requested)  provides mail-agent
hint: remove one of the two requests",
    );
    // The one written first is told about first, whoever declares the conflict.
    check(
        "a 1\nb 1; Breaks: a (<< 2)",
        "a, b",
        &[0, 1],
        "a and b cannot be installed together
  a 1 (requested)
  b 1 (requested)  breaks a (<< 2)
hint: remove one of the two requests",
    );
}

#[test]
fn chains_of_dependencies_to_the_conflict() {
    check(
        "sign 1; Depends: store\nstore 2; Depends: net (>= 1), gen\ngen 3; Depends: buf5\nnet 1\nbuf5 5\nbuf3 3; Conflicts: buf5",
        "sign, buf3",
        &[0, 1],
        "sign and buf3 cannot be installed together
  sign 1 (requested)  depends on store
  store 2             depends on gen
  gen 3               depends on buf5
  buf5 5
  buf3 3 (requested)  conflicts with buf5
hint: remove one of the two requests",
    );
}

#[test]
fn one_request_that_excludes_itself() {
    check(
        "x 1; Depends: a, b\na 1; Conflicts: b\nb 1",
        "x",
        &[0],
        "x cannot be installed
  x 1 (requested)  depends on a
  a 1              conflicts with b
  x 1 (requested)  depends on b
  b 1
hint: remove the request for x",
    );
}

#[test]
fn alternatives_that_are_all_impossible() {
    check(
        "x 1; Depends: a | b\na 1; Conflicts: y\nb 1; Depends: missing\ny 1",
        "y, x",
        &[0, 1],
        "y and x cannot be installed together
  y 1 (requested)
  x 1 (requested)  depends on a | b
    b 1 depends on missing, which is impossible too
  a 1              conflicts with y
hint: remove one of the two requests",
    );
}

#[test]
fn dependencies_that_nothing_satisfies() {
    check(
        "x 1; Depends: a\na 1; Depends: lib (>= 2) | gone\nlib 1",
        "x",
        &[0],
        "x cannot be installed
  x 1 (requested)  depends on a
  a 1              depends on lib (>= 2) | gone
    there is lib 1 (stable/main)
    there is no package gone
hint: add the repository that has lib (>= 2) | gone, or remove the request",
    );
    check(
        "x 1; Pre-Depends: v (>= 2)\na 1; Provides: v\nb 1; Provides: v (= 1)",
        "x",
        &[0],
        "x cannot be installed
  x 1 (requested)  pre-depends on v (>= 2)
    v is only provided, by a, b, and not so
hint: add the repository that has v (>= 2), or remove the request",
    );
}

#[test]
fn exclusions() {
    let world = universe("x 1; Depends: a\na 1");
    let exclude = vec!["a".to_owned()];
    check_on(
        &world,
        &Request { exclude: exclude.clone(), ..request("x") },
        &[0],
        "x cannot be installed
  x 1 (requested)  depends on a
    a is excluded
hint: remove the request for x",
    );
    check_on(
        &world,
        &Request { exclude, ..request("a") },
        &[0],
        "a is requested and excluded\nhint: remove the request or the exclusion",
    );
}

fn on_base(universe: &Universe, base: &[(&str, &str)], wanted: &str) -> Request {
    let base: Vec<PackageId> = base.iter().map(|(name, version)| universe.find(name, version).unwrap()).collect();
    Request { base, ..request(wanted) }
}

#[test]
fn versions_that_the_parent_keeps() {
    let world = universe("dev 2; Depends: lib (= 2)\nlib 1\nlib 2\nold 1; Conflicts: lib (<< 2)");
    check_on(
        &world,
        &on_base(&world, &[("lib", "1")], "dev"),
        &[0],
        "dev cannot be installed
  dev 2 (requested)  depends on lib (= 2)
    the parent has lib 1, which stays
hint: remove the request for dev",
    );
    check_on(
        &world,
        &on_base(&world, &[("lib", "1")], "old"),
        &[0],
        "old cannot be installed beside lib of the parent
  lib 1 (in the parent)
  old 1 (requested)  conflicts with lib (<< 2)
hint: remove the request for old",
    );
    check_on(
        &world,
        &on_base(&world, &[("lib", "1")], "lib (>= 2)"),
        &[0],
        "lib (>= 2) cannot be installed: the parent has lib 1\nhint: request that version where the parent is defined",
    );
}

#[test]
fn requested_versions_in_the_way() {
    check(
        "x 1; Depends: lib (= 2)\nlib 1\nlib 2",
        "x, lib (= 1)",
        &[0, 1],
        "x cannot be installed
  x 1 (requested)  depends on lib (= 2)
    lib (= 1) is requested
hint: remove one of the two requests",
    );
}

#[test]
fn essential_packages_in_the_way() {
    let world = universe("init 1; Essential: yes\nx 1; Conflicts: init");
    let request = Request { essential: true, ..request("x") };
    check_on(
        &world,
        &request,
        &[0],
        "x cannot be installed beside the essential package init
  init 1 (essential)
  x 1 (requested)  conflicts with init
hint: remove the request for x",
    );
}

#[test]
fn local_packages_are_named_like_others() {
    let sources = vec![source("stable/main", 500, "lib 1")];
    let universe = Universe::new("amd64", sources, vec![local("agent 1; Depends: lib (>= 2)")]).unwrap();
    check_on(
        &universe,
        &request("agent"),
        &[0],
        "agent cannot be installed
  agent 1 (requested)  depends on lib (>= 2)
    there is lib 1 (stable/main)
hint: add the repository that has lib (>= 2), or remove the request",
    );
}

#[test]
fn conflicts_behind_every_choice() {
    check(
        "x 1; Depends: a | b\na 1; Depends: c\nb 1; Depends: d\nc 1; Depends: e\nd 1; Depends: e\ne 1; Conflicts: y\ny 1",
        "x, y",
        &[0, 1],
        "x cannot be installed
  x 1 (requested)  depends on a | b
    a 1 depends on c, which is impossible too
    b 1 depends on d, which is impossible too
hint: remove one of the two requests",
    );
    // Here nothing is forced; what each alternative leads to has to be tried.
    let pigeons = "x 1; Depends: a1 | a2\ny 1; Depends: b1 | b2\nz 1; Depends: c1 | c2\n\
                   a1 1; Conflicts: b1, c1\na2 1; Conflicts: b2, c2\nb1 1; Conflicts: c1\nb2 1; Conflicts: c2\nc1 1\nc2 1";
    let error = solved(&universe(pigeons), &request("x, y, z")).unwrap_err();
    assert_eq!(error.kind, UnsolvableKind::Conflict);
    assert_eq!(error.labels, [0, 1, 2]);
    assert_eq!(error.hint.as_deref(), Some("remove one of the 3 requests"));
}

#[test]
fn older_versions_that_would_do() {
    check(
        "x 2; Depends: missing\nx 1\ny 1",
        "y, x",
        &[1],
        "x cannot be installed
  x 2 (requested)  depends on missing
    there is no package missing
hint: it works with older versions: request x=1",
    );
}

#[test]
fn two_needed_versions_of_one_package() {
    check(
        "a 1; Depends: lib (= 1)\nb 1; Depends: lib (= 2)\nlib 1\nlib 2\nz 1",
        "a, b, z (= 1)",
        &[0, 1],
        "a and b cannot be installed together
  a 1 (requested)  depends on lib (= 1)
  lib 1
  b 1 (requested)  depends on lib (= 2)
  lib 2            is another version of the same package
hint: remove one of the two requests",
    );
}
