//! What must hold in any world: an answer if and only if there is one, and always the same.

use std::collections::BTreeMap;

use kiln_debian::relation::Operator;
use kiln_debian::solve::{Request, Wanted, solve};
use kiln_debian::universe::Universe;
use proptest::prelude::*;

use crate::world::{shown, solved, universe};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const VIRTUAL: [&str; 2] = ["v", "w"];

/// A relation to a real or virtual name, with the least version that fits, if any.
#[derive(Debug, Clone)]
struct Relation {
    name: &'static str,
    at_least: Option<u8>,
}

#[derive(Debug, Clone)]
struct Package {
    name: &'static str,
    version: u8,
    depends: Vec<Vec<Relation>>,
    recommends: Vec<Vec<Relation>>,
    conflicts: Vec<Relation>,
    /// With a version, or without one.
    provides: Vec<(&'static str, Option<u8>)>,
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => prop::sample::select(&NAMES), 1 => prop::sample::select(&VIRTUAL)]
}

fn relation() -> impl Strategy<Value = Relation> {
    (any_name(), prop::option::weighted(0.3, 1..3_u8)).prop_map(|(name, at_least)| Relation { name, at_least })
}

fn package(name: &'static str, version: u8) -> impl Strategy<Value = Package> {
    let group = || prop::collection::vec(relation(), 1..3);
    let provided = (prop::sample::select(&VIRTUAL), prop::option::of(1..3_u8));
    let relations = (
        prop::collection::vec(group(), 0..3),
        prop::collection::vec(group(), 0..2),
        prop::collection::vec(relation(), 0..2),
    );
    (relations, prop::collection::vec(provided, 0..2)).prop_map(move |((depends, recommends, conflicts), provides)| {
        Package { name, version, depends, recommends, conflicts, provides }
    })
}

/// Each name in versions 1, 2, both or none.
fn world() -> impl Strategy<Value = Vec<Package>> {
    let versions: Vec<_> = NAMES
        .iter()
        .flat_map(|&name| [(name, 1), (name, 2)])
        .map(|(name, version)| prop::option::weighted(0.7, package(name, version)))
        .collect();
    versions.prop_map(|packages| packages.into_iter().flatten().collect())
}

impl Relation {
    fn is_met_by(&self, package: &Package) -> bool {
        let by_name = package.name == self.name && self.at_least.is_none_or(|least| package.version >= least);
        let provided = |&(name, version): &(&str, Option<u8>)| {
            name == self.name && self.at_least.is_none_or(|least| version.is_some_and(|version| version >= least))
        };
        by_name || package.provides.iter().any(provided)
    }

    fn text(&self) -> String {
        self.at_least.map_or_else(|| self.name.to_owned(), |least| format!("{} (>= {least})", self.name))
    }
}

fn lines(world: &[Package]) -> String {
    let groups = |groups: &[Vec<Relation>]| {
        let group = |group: &Vec<Relation>| group.iter().map(Relation::text).collect::<Vec<_>>().join(" | ");
        groups.iter().map(group).collect::<Vec<_>>().join(", ")
    };
    let line = |package: &Package| {
        let Package { name, version, depends, recommends, conflicts, provides } = package;
        let conflicts: Vec<String> = conflicts.iter().map(Relation::text).collect();
        let provides: Vec<String> = provides
            .iter()
            .map(|(name, version)| {
                version.map_or_else(|| (*name).to_owned(), |version| format!("{name} (= {version})"))
            })
            .collect();
        format!(
            "{name} {version}; Depends: {}; Recommends: {}; Conflicts: {}; Provides: {}\n",
            groups(depends),
            groups(recommends),
            conflicts.join(", "),
            provides.join(", ")
        )
    };
    world.iter().map(line).collect()
}

/// Whether a set is an answer, by rules written for these worlds alone.
fn is_sound(set: &[&Package], wanted: &[(&str, Option<u8>)]) -> bool {
    let met =
        |group: &Vec<Relation>| group.iter().any(|relation| set.iter().any(|package| relation.is_met_by(package)));
    let clashes = |package: &Package| {
        let others = || set.iter().filter(|other| other.name != package.name);
        package.conflicts.iter().any(|conflict| others().any(|other| conflict.is_met_by(other)))
    };
    let is_there = |(name, version): &(&str, Option<u8>)| {
        set.iter().any(|package| package.name == *name && version.is_none_or(|version| package.version == version))
    };
    wanted.iter().all(is_there) && set.iter().all(|package| package.depends.iter().all(met) && !clashes(package))
}

/// Whether any choice of versions, or of absence, for each name is an answer.
fn brute_force(offered: &BTreeMap<&str, Vec<&Package>>, wanted: &[(&str, Option<u8>)]) -> bool {
    fn choose<'p>(rest: &[&Vec<&'p Package>], set: &mut Vec<&'p Package>, wanted: &[(&str, Option<u8>)]) -> bool {
        let Some((versions, rest)) = rest.split_first() else { return is_sound(set, wanted) };
        if choose(rest, set, wanted) {
            return true;
        }
        versions.iter().any(|version| {
            set.push(version);
            let found = choose(rest, set, wanted);
            set.pop();
            found
        })
    }
    choose(&offered.values().collect::<Vec<_>>(), &mut Vec::new(), wanted)
}

fn request(wanted: &[(&str, Option<u8>)], recommends: bool) -> Request {
    let wanted = wanted.iter().enumerate().map(|(label, (name, version))| {
        let constraint = version.map(|version| (Operator::Equal, version.to_string()));
        Wanted { name: (*name).to_owned(), constraint, label }
    });
    Request { wanted: wanted.collect(), recommends, ..Request::default() }
}

fn wanted() -> impl Strategy<Value = Vec<(&'static str, Option<u8>)>> {
    let one = (prop::sample::select(&NAMES), prop::option::weighted(0.2, 1..3_u8));
    prop::collection::vec(one, 1..4)
}

/// What of each name may be in an answer: the newest, or all where a version is requested.
fn offered<'p>(world: &'p [Package], wanted: &[(&str, Option<u8>)]) -> BTreeMap<&'p str, Vec<&'p Package>> {
    let mut offered: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    world.iter().for_each(|package| offered.entry(package.name).or_default().push(package));
    if wanted.iter().all(|(_, version)| version.is_none()) {
        offered.values_mut().for_each(|versions| versions.sort_by_key(|package| std::cmp::Reverse(package.version)));
        offered.values_mut().for_each(|versions| versions.truncate(1));
    }
    offered
}

fn locked(universe: &Universe, request: &Request) -> Option<(String, Request)> {
    let selection = solved(universe, request).ok()?;
    let locked = selection.packages.iter().map(|&package| {
        let stanza = universe.stanza(package);
        (stanza.name.to_owned(), stanza.version.to_owned())
    });
    Some((shown(universe, &selection), Request { locked: locked.collect(), ..request.clone() }))
}

/// Whether a second answer is the first, but for what the first has of an alternative that failed because another of its
/// packages recommends it (apt keeps that too): nothing needs it, and the locked answer is found without that detour.
fn is_kept(world: &[Package], first: &str, second: &str) -> bool {
    let (first, second): (Vec<&str>, Vec<&str>) = (first.split(' ').collect(), second.split(' ').collect());
    let name = |shown: &str| shown.split('=').next().unwrap_or_default().to_owned();
    let chosen = |package: &&Package| first.iter().any(|shown| name(shown) == package.name);
    let recommended: Vec<&Relation> =
        world.iter().filter(chosen).flat_map(|package| package.recommends.iter().flatten()).collect();
    let answers_to = |lost: &str, wanted: &str| {
        let own = world.iter().filter(|package| package.name == name(lost));
        name(lost) == wanted || own.flat_map(|package| &package.provides).any(|(provided, _)| *provided == wanted)
    };
    let is_recommended = |lost: &str| recommended.iter().any(|relation| answers_to(lost, relation.name));
    second.iter().all(|shown| first.contains(shown))
        && first.iter().filter(|shown| !second.contains(shown)).all(|lost| is_recommended(lost))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn answer_is_found_if_there_is_one(world in world(), wanted in wanted(), recommends in any::<bool>()) {
        let universe = universe(&lines(&world));
        let exists = brute_force(&offered(&world, &wanted), &wanted);
        match solved(&universe, &request(&wanted, recommends)) {
            Ok(selection) => {
                prop_assert!(exists, "{} is no answer", shown(&universe, &selection));
                let chosen = |package: &&Package| selection.packages.iter().any(|&id| {
                    universe.name(id) == package.name && universe.stanza(id).version == package.version.to_string()
                });
                prop_assert!(is_sound(&world.iter().filter(chosen).collect::<Vec<_>>(), &wanted));
                prop_assert!(selection.packages.iter().all(|package| selection.why.contains_key(package)));
            }
            Err(error) => prop_assert!(!exists, "{error}"),
        }
    }

    #[test]
    fn unanswerable_request_is_answered_without_any_one_of_those_to_blame(world in world(), wanted in wanted()) {
        let universe = universe(&lines(&world));
        let request = request(&wanted, false);
        let Err(error) = solve(&universe, &request) else { return Ok(()) };
        prop_assert!(!error.headline.is_empty());
        prop_assert!(error.labels.iter().all(|&label| label < wanted.len()));
        prop_assert!(!error.labels.is_empty());
        if let [label] = *error.labels {
            prop_assert!(error.to_string().contains(wanted[label].0), "{error}");
        }
    }

    #[test]
    fn answer_locked_is_the_answer(world in world(), wanted in wanted(), recommends in any::<bool>()) {
        let universe = universe(&lines(&world));
        if let Some((first, again)) = locked(&universe, &request(&wanted, recommends)) {
            let (second, once_more) = locked(&universe, &again).unwrap();
            prop_assert!(is_kept(&world, &first, &second), "{first} became {second}");
            let (third, _) = locked(&universe, &once_more).unwrap();
            prop_assert_eq!(second, third);
        }
    }

    #[test]
    fn answer_beside_a_lock_is_the_answer_once_locked(
        world in world(),
        earlier in wanted(),
        later in wanted(),
        recommends in any::<bool>(),
        gone in prop::sample::select(&NAMES),
    ) {
        let universe = universe(&lines(&world));
        let Some((_, mut before)) = locked(&universe, &request(&earlier, recommends)) else { return Ok(()) };
        before.locked.remove(gone);
        let wanted = [earlier, later].concat();
        let beside = Request { locked: before.locked, ..request(&wanted, recommends) };
        if let Some((first, again)) = locked(&universe, &beside) {
            let (second, once_more) = locked(&universe, &again).unwrap();
            prop_assert!(is_kept(&world, &first, &second), "{first} became {second}");
            let (third, _) = locked(&universe, &once_more).unwrap();
            prop_assert_eq!(second, third);
        }
    }

    #[test]
    fn child_keeps_all_of_its_parent(world in world(), parent in wanted(), child in wanted()) {
        let universe = universe(&lines(&world));
        let Ok(base) = solved(&universe, &request(&parent, false)) else { return Ok(()) };
        let child = Request { base: base.packages.clone(), ..request(&child, false) };
        if let Ok(selection) = solved(&universe, &child) {
            prop_assert!(base.packages.iter().all(|package| selection.packages.contains(package)));
        }
    }
}
