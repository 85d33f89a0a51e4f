//! In which order packages are installed.

use std::collections::{BTreeMap, BTreeSet};

use kiln_debian::index::RelationField;
use kiln_debian::order::order;
use kiln_debian::universe::{PackageId, Universe};
use proptest::prelude::*;

use crate::world::universe;

/// Waves separated by `|`.
fn shown(universe: &Universe, waves: &[Vec<PackageId>]) -> String {
    let show = |wave: &Vec<PackageId>| wave.iter().map(|&package| universe.name(package)).collect::<Vec<_>>().join(" ");
    waves.iter().map(show).collect::<Vec<_>>().join(" | ")
}

fn all(universe: &Universe, names: &str) -> Vec<PackageId> {
    names.split_whitespace().map(|name| universe.candidate(name).unwrap()).collect()
}

#[track_caller]
fn check(lines: &str, base: &str, essential: bool, packages: &str, expected: &str) {
    let universe = universe(lines);
    let waves = order(&universe, &all(&universe, base), essential, &all(&universe, packages));
    assert_eq!(shown(&universe, &waves), expected);
}

#[test]
fn dependencies_come_first_then_names() {
    check("a 1; Depends: d\nb 1\nc 1\nd 1", "", false, "d c b a", "b c d a");
    check("", "", false, "", "");
}

#[test]
fn pre_dependencies_are_in_an_earlier_wave() {
    let world = "a 1; Pre-Depends: b\nb 1; Depends: c\nc 1\nd 1; Depends: a";
    check(world, "", false, "a b c d", "b c | a d".replace("b c", "c b").as_str());
    check(world, "b c", false, "a b c d", "a d");
}

#[test]
fn only_the_alternative_that_is_there_counts() {
    let world = "a 1; Pre-Depends: x | v\nv1 1; Provides: v\nv2 1; Provides: v\nx 1";
    check(world, "", false, "a v1 v2", "v1 v2 | a");
    check(world, "", false, "a v2 x", "v2 x | a");
    // The base satisfies it by the second alternative: nothing to wait for.
    check(world, "v1", false, "a x", "a x");
}

#[test]
fn essential_packages_are_the_first_wave() {
    let world = "bash 1; Essential: yes; Pre-Depends: libc\nlibc 1; Depends: libgcc\nlibgcc 1; Depends: libc\n\
                 x 1\nxz 1; Pre-Depends: libc\napt 1";
    check(world, "", true, "bash libc libgcc x xz apt", "apt libc libgcc bash | x xz");
    check(world, "", false, "bash libc libgcc x xz", "libc libgcc x | bash xz");
}

#[test]
fn circles_are_broken_by_name_but_not_at_a_pre_dependency() {
    check("a 1; Depends: b\nb 1; Depends: c\nc 1; Depends: a\nd 1; Depends: a", "", false, "a b c d", "a c b d");
    check("a 1; Pre-Depends: b\nb 1; Depends: a", "", false, "a b", "b a");
    check("a 1; Depends: a", "", false, "a", "a");
}

/// A world in which each package depends on some others, with or without circles.
fn world() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let edges = |count: usize| proptest::collection::vec((0..count, any::<bool>()), 0..4);
    (1..12_usize).prop_flat_map(move |count| proptest::collection::vec(edges(count), count))
}

fn lines(world: &[Vec<(usize, bool)>]) -> String {
    let line = |(number, edges): (usize, &Vec<(usize, bool)>)| {
        let field = |is_pre: bool| {
            let names = edges.iter().filter(|edge| edge.1 == is_pre).map(|edge| format!("p{:02}", edge.0));
            names.collect::<Vec<_>>().join(", ")
        };
        format!("p{number:02} 1; Depends: {}; Pre-Depends: {}\n", field(false), field(true))
    };
    world.iter().enumerate().map(line).collect()
}

/// Which packages each leads to.
fn reached(world: &[Vec<(usize, bool)>]) -> Vec<BTreeSet<usize>> {
    let reach = |start: usize| {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(node) = open.pop() {
            open.extend(world[node].iter().map(|edge| edge.0).filter(|&to| seen.insert(to)));
        }
        seen
    };
    (0..world.len()).map(reach).collect()
}

fn positions(universe: &Universe, waves: &[Vec<PackageId>]) -> BTreeMap<usize, (usize, usize)> {
    let number = |package: PackageId| universe.name(package)[1..].parse().unwrap();
    let waves = waves.iter().enumerate();
    waves
        .flat_map(|(wave, packages)| {
            packages.iter().enumerate().map(move |(place, &package)| (number(package), (wave, place)))
        })
        .collect()
}

fn every(universe: &Universe, count: usize) -> Vec<PackageId> {
    (0..count).map(|number| universe.candidate(&format!("p{number:02}")).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_not_in_a_circle_comes_in_order(world in world(), essential in any::<bool>()) {
        let universe = universe(&lines(&world));
        let waves = order(&universe, &[], essential, &every(&universe, world.len()));
        let positions = positions(&universe, &waves);
        prop_assert_eq!(positions.len(), world.len());
        let reached = reached(&world);
        for (from, edges) in world.iter().enumerate() {
            for &(to, is_pre) in edges.iter().filter(|(to, _)| !reached[*to].contains(&from)) {
                prop_assert!(positions[&to] < positions[&from], "{to} before {from}");
                prop_assert!(!is_pre || positions[&to].0 < positions[&from].0, "{to} in a wave before {from}");
            }
        }
    }

    #[test]
    fn order_of_the_input_has_no_meaning(world in world(), seed in any::<prop::sample::Index>()) {
        let universe = universe(&lines(&world));
        let packages = every(&universe, world.len());
        let mut turned = packages.clone();
        turned.rotate_left(seed.index(packages.len()));
        turned.reverse();
        turned.push(packages[0]);
        prop_assert_eq!(order(&universe, &[], false, &packages), order(&universe, &[], false, &turned));
    }

    #[test]
    fn further_package_moves_no_two_others(world in world(), new in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4), name in "[a-z]{3}") {
        prop_assume!(name != "apt");
        let new: Vec<String> = new.iter().map(|(to, _)| format!("p{:02}", to.index(world.len()))).collect();
        let lines = lines(&world) + &format!("{name} 1; Depends: {}", new.join(", "));
        let universe = universe(&lines);
        let mut packages = every(&universe, world.len());
        let before = order(&universe, &[], false, &packages).concat();
        packages.push(universe.candidate(&name).unwrap());
        let mut after = order(&universe, &[], false, &packages).concat();
        after.retain(|&package| universe.name(package) != name);
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_long_chain_is_ordered_without_recursion() {
    let lines: String = (0..20_000).map(|number| format!("p{number:05} 1; Depends: p{:05}\n", number + 1)).collect();
    let universe = universe(&lines);
    let packages: Vec<PackageId> =
        (0..20_000).map(|number| universe.candidate(&format!("p{number:05}")).unwrap()).collect();
    let waves = order(&universe, &[], false, &packages);
    assert_eq!(waves.len(), 1);
    assert_eq!(universe.name(waves[0][0]), "p19999");
    assert_eq!(universe.stanza(waves[0][0]).field(RelationField::Depends), "p20000");
}
