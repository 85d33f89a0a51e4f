//! In which order packages are unpacked and configured.
//!
//! The answer is a list of waves. The packages of a wave are unpacked in order, then configured in the same order. What a
//! package pre-depends on is in an earlier wave (or in the base), and with it all that must be configured for it; what
//! it depends on is in the same wave before it, or earlier.
//!
//! 1. Each or-group becomes an edge to the first of its alternatives that is there; none, if the base satisfies it.
//! 2. Packages that depend on each other in a circle become one unit.
//! 3. A unit's wave is the first that what it depends on allows. The essential packages and what they depend on are the
//!    first wave of a bootstrap: they are unpacked together before anything can run, so that their pre-dependencies are
//!    met by the order within the wave.
//! 4. Within a wave, of all units whose dependencies are placed, the one with the first name is next. A further package
//!    thus moves no two others against each other, unless they depend on it: numeric user ids, which follow the order,
//!    stay as they are.
//!
//! In a circle some dependency must come late, as it does for dpkg: never a `Pre-Depends` if that can be helped, else
//! the choice is by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::RelationField;
use crate::relation::{Group, Relation};
use crate::universe::{PackageId, Universe};

/// The waves in which `packages` are installed on top of `base`; with `essential`, into an empty tree.
///
/// The order of `packages` has no meaning; a package that is there twice, or in the base, counts once.
#[must_use]
pub fn order(universe: &Universe, base: &[PackageId], essential: bool, packages: &[PackageId]) -> Vec<Vec<PackageId>> {
    let graph = Graph::new(universe, base, packages);
    let units = units(&graph);
    let bootstrap = if essential { graph.needed_by_essential(universe) } else { BTreeSet::new() };
    let mut waves: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (unit, wave) in wave_of_each(&graph, &units, &bootstrap).into_iter().enumerate() {
        waves.entry(wave).or_default().push(unit);
    }
    let arranged = waves.into_values().map(|wave| arrange(&graph, &units, &wave));
    arranged.map(|wave| wave.into_iter().map(|node| graph.packages[node]).collect()).collect()
}

/// Which package needs which others first. Nodes are numbered in the order of names.
struct Graph {
    packages: Vec<PackageId>,
    edges: Vec<Vec<Edge>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Edge {
    to: usize,
    /// By `Pre-Depends`.
    is_pre: bool,
}

/// Packages that depend on each other in a circle, or one alone. They come with their dependencies first.
struct Units {
    members: Vec<Vec<usize>>,
    of: Vec<usize>,
}

impl Graph {
    fn new(universe: &Universe, base: &[PackageId], packages: &[PackageId]) -> Self {
        let base: BTreeSet<PackageId> = base.iter().copied().collect();
        let packages: BTreeSet<PackageId> =
            packages.iter().copied().filter(|package| !base.contains(package)).collect();
        let mut packages: Vec<PackageId> = packages.into_iter().collect();
        packages.sort_by_key(|&package| universe.name(package));
        let answering = Answering::new(universe, &base, &packages);
        let edges = packages.iter().map(|&package| answering.edges(package)).collect();
        Self { packages, edges }
    }

    fn needed_by_essential(&self, universe: &Universe) -> BTreeSet<usize> {
        let names: BTreeSet<&str> = universe.essential_names().into_iter().collect();
        let is_essential = |node: &usize| names.contains(universe.name(self.packages[*node]));
        let mut open: Vec<usize> = (0..self.packages.len()).filter(is_essential).collect();
        let mut needed = BTreeSet::new();
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(self.edges[node].iter().map(|edge| edge.to));
            }
        }
        needed
    }
}

/// Who answers to a name: those in the base, and the nodes, in the order of their own names.
struct Answering<'u> {
    universe: &'u Universe,
    base: BTreeMap<&'u str, Vec<PackageId>>,
    nodes: BTreeMap<&'u str, Vec<(usize, PackageId)>>,
}

impl<'u> Answering<'u> {
    fn new(universe: &'u Universe, base: &BTreeSet<PackageId>, packages: &[PackageId]) -> Self {
        let mut answering = Self { universe, base: BTreeMap::new(), nodes: BTreeMap::new() };
        let names = |package| {
            let stanza = universe.stanza(package);
            stanza.provided().map(|(name, _)| name).chain([stanza.name]).collect::<BTreeSet<_>>()
        };
        for &package in base {
            for name in names(package) {
                answering.base.entry(name).or_default().push(package);
            }
        }
        for (node, &package) in packages.iter().enumerate() {
            for name in names(package) {
                answering.nodes.entry(name).or_default().push((node, package));
            }
        }
        answering
    }

    fn edges(&self, package: PackageId) -> Vec<Edge> {
        let stanza = self.universe.stanza(package);
        let fields = [(RelationField::PreDepends, true), (RelationField::Depends, false)];
        let edges = fields.into_iter().flat_map(|(field, is_pre)| {
            let targets = stanza.groups(field).filter_map(|group| self.satisfier(package, group));
            targets.map(move |to| Edge { to, is_pre })
        });
        edges.collect()
    }

    /// The node that a group makes `package` wait for.
    fn satisfier(&self, package: PackageId, group: Group<'_>) -> Option<usize> {
        if group.alternatives().any(|relation| self.is_in_base(&relation)) {
            return None;
        }
        let (node, satisfier) = group.alternatives().find_map(|relation| self.first_node(&relation))?;
        (satisfier != package).then_some(node)
    }

    fn is_in_base(&self, relation: &Relation<'_>) -> bool {
        let mut answering = self.base.get(relation.name).into_iter().flatten();
        answering.any(|&package| self.universe.satisfies(relation, package))
    }

    /// The package of that name, else the first that provides it.
    fn first_node(&self, relation: &Relation<'_>) -> Option<(usize, PackageId)> {
        let answering = self.nodes.get(relation.name).into_iter().flatten().copied();
        let mut fitting = answering.filter(|(_, package)| self.universe.satisfies(relation, *package));
        let is_named = |(_, package): &(usize, PackageId)| self.universe.name(*package) == relation.name;
        fitting.clone().find(is_named).or_else(|| fitting.next())
    }
}

/// The strongly connected components, by Tarjan's algorithm, without recursion: a chain may be as long as a repository.
fn units(graph: &Graph) -> Units {
    let mut search = Search {
        graph,
        found: vec![None; graph.packages.len()],
        lowest: vec![0; graph.packages.len()],
        is_open: vec![false; graph.packages.len()],
        open: Vec::new(),
        next: 0,
        units: Units { members: Vec::new(), of: vec![0; graph.packages.len()] },
    };
    for node in 0..graph.packages.len() {
        if search.found[node].is_none() {
            search.explore(node);
        }
    }
    search.units
}

struct Search<'g> {
    graph: &'g Graph,
    /// When each node was found.
    found: Vec<Option<usize>>,
    /// The earliest found node of the open ones that it leads to.
    lowest: Vec<usize>,
    is_open: Vec<bool>,
    /// Found, and not yet in a unit.
    open: Vec<usize>,
    next: usize,
    units: Units,
}

impl Search<'_> {
    fn explore(&mut self, start: usize) {
        self.find(start);
        let mut path = vec![(start, 0)];
        while let Some((node, taken)) = path.pop() {
            let Some(edge) = self.graph.edges[node].get(taken) else {
                self.leave(node, path.last().map(|&(parent, _)| parent));
                continue;
            };
            path.push((node, taken + 1));
            match self.found[edge.to] {
                None => {
                    self.find(edge.to);
                    path.push((edge.to, 0));
                }
                Some(found) if self.is_open[edge.to] => self.lowest[node] = self.lowest[node].min(found),
                Some(_) => {}
            }
        }
    }

    fn find(&mut self, node: usize) {
        self.found[node] = Some(self.next);
        self.lowest[node] = self.next;
        self.next += 1;
        self.open.push(node);
        self.is_open[node] = true;
    }

    fn leave(&mut self, node: usize, parent: Option<usize>) {
        if self.found[node] == Some(self.lowest[node]) {
            self.close_unit(node);
        }
        if let Some(parent) = parent {
            self.lowest[parent] = self.lowest[parent].min(self.lowest[node]);
        }
    }

    fn close_unit(&mut self, first: usize) {
        let start = self.open.iter().rposition(|&node| node == first).unwrap_or(0);
        let mut members = self.open.split_off(start);
        members.sort_unstable();
        for &member in &members {
            self.is_open[member] = false;
            self.units.of[member] = self.units.members.len();
        }
        self.units.members.push(members);
    }
}

/// The wave of each unit. What a unit depends on has a smaller number, so that its wave is known.
fn wave_of_each(graph: &Graph, units: &Units, bootstrap: &BTreeSet<usize>) -> Vec<usize> {
    let first = usize::from(!bootstrap.is_empty());
    let mut waves: Vec<usize> = Vec::with_capacity(units.members.len());
    for (unit, members) in units.members.iter().enumerate() {
        let edges = members.iter().flat_map(|&member| &graph.edges[member]);
        let outward = edges.filter(|edge| units.of[edge.to] != unit);
        let after = outward.map(|edge| waves[units.of[edge.to]] + usize::from(edge.is_pre)).max();
        let is_bootstrap = members.iter().any(|member| bootstrap.contains(member));
        waves.push(if is_bootstrap { 0 } else { after.unwrap_or(first).max(first) });
    }
    waves
}

/// The nodes of one wave in their order.
fn arrange(graph: &Graph, units: &Units, wave: &[usize]) -> Vec<usize> {
    // A unit is known by its first member, whose number is its place among the names.
    let firsts = wave.iter().map(|&unit| (units.members[unit][0], unit));
    let here: BTreeMap<usize, usize> = firsts.collect();
    let needs = |first: usize| {
        let unit = here[&first];
        let edges = units.members[unit].iter().flat_map(|&member| &graph.edges[member]);
        let others = edges.map(|edge| units.of[edge.to]).filter(|&other| other != unit);
        others.map(|other| units.members[other][0]).filter(|first| here.contains_key(first)).collect()
    };
    let mut queue = Queue::new(here.keys().map(|&first| (first, needs(first))).collect());
    let mut arranged = Vec::new();
    while let Some(first) = queue.take() {
        arranged.extend(arrange_circle(graph, &units.members[here[&first]]));
    }
    arranged
}

/// The members of one unit in their order: where all wait for each other, one without an unmet pre-dependency begins.
fn arrange_circle(graph: &Graph, members: &[usize]) -> Vec<usize> {
    let inside: BTreeSet<usize> = members.iter().copied().collect();
    let needs = |member: usize, pre_only: bool| {
        let edges = graph.edges[member].iter().filter(|edge| edge.is_pre || !pre_only);
        edges.map(|edge| edge.to).filter(|to| *to != member && inside.contains(to)).collect()
    };
    let queue = |pre_only| Queue::new(members.iter().map(|&member| (member, needs(member, pre_only))).collect());
    let (mut all, mut pre) = (queue(false), queue(true));
    let mut arranged = Vec::new();
    while let Some(member) = all.ready().or_else(|| pre.ready()).or_else(|| all.any()) {
        all.place(member);
        pre.place(member);
        arranged.push(member);
    }
    arranged
}

/// Nodes that wait for others; the smallest that waits for none is next.
struct Queue {
    /// How many each still waits for.
    waiting: BTreeMap<usize, usize>,
    /// Who waits for a node.
    dependents: BTreeMap<usize, Vec<usize>>,
    ready: BTreeSet<usize>,
}

impl Queue {
    fn new(needs: BTreeMap<usize, BTreeSet<usize>>) -> Self {
        let mut queue = Self { waiting: BTreeMap::new(), dependents: BTreeMap::new(), ready: BTreeSet::new() };
        for (node, needs) in needs {
            queue.waiting.insert(node, needs.len());
            if needs.is_empty() {
                queue.ready.insert(node);
            }
            for need in needs {
                queue.dependents.entry(need).or_default().push(node);
            }
        }
        queue
    }

    fn take(&mut self) -> Option<usize> {
        let node = self.ready()?;
        self.place(node);
        Some(node)
    }

    fn ready(&self) -> Option<usize> {
        self.ready.first().copied()
    }

    fn any(&self) -> Option<usize> {
        self.waiting.keys().next().copied()
    }

    fn place(&mut self, node: usize) {
        self.waiting.remove(&node);
        self.ready.remove(&node);
        for dependent in self.dependents.remove(&node).unwrap_or_default() {
            let Some(count) = self.waiting.get_mut(&dependent) else { continue };
            *count -= 1;
            if *count == 0 {
                self.ready.insert(dependent);
            }
        }
    }
}
