//! `[environment.NAME]` and `[group.NAME]`: the machines that run a class, per environment, and how they are replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::class::check_circles;
use super::decode::{Context, Entry, Scope, Table};
use super::format::{ANY, DURATION, HTTP_PATH, LISTEN, NAME, POSITIVE_DURATION, Refusal, SIZE, VARIABLE};
use super::name::Name;
use super::place::Place;
use super::reference::Reference;
use super::shape::{Key, Kind, PLAIN, Shape, optional, required};
use crate::units::{Duration, Size};

/// Where machines run: dev, staging, production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its name.
    pub name: Name,
    /// The environment in which an image must have proven itself before it is promoted to this one.
    pub after: Option<Reference>,
    /// How long it must have been healthy there.
    pub soak: Duration,
    /// Its heading.
    pub place: Place,
}

/// The machines that run one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// What they run.
    pub class: Reference,
    /// What makes them.
    pub provider: Provider,
    /// Processors of each machine.
    pub cpus: u16,
    /// How long an instance may live before it is replaced by one of the same image.
    pub max_lifetime: Option<Duration>,
    /// Whether its instances may open connections to the outside.
    pub egress: bool,
    /// Whether people may open a shell in an instance.
    pub shell: bool,
    /// What a healthy instance answers to, besides its agent.
    pub health: Option<Health>,
    /// Where they run; at least one environment.
    pub placements: BTreeMap<Name, Placement>,
    /// Its heading.
    pub place: Place,
}

/// A group in one environment, with what that environment changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The environment.
    pub environment: Reference,
    /// How many instances there are to be.
    pub count: u32,
    /// How they are reached together.
    pub balancer: Option<Balancer>,
    /// What templates rendered at boot are given.
    pub config: BTreeMap<String, String>,
    /// Memory of each machine.
    pub memory: Size,
    /// How instances are replaced.
    pub update: Update,
}

/// One address for all healthy instances of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// The host's address and port that it takes connections on.
    pub listen: SocketAddr,
    /// The instances' port that it hands them to.
    pub to: u16,
    /// Where `listen` is written.
    pub place: Place,
}

/// What makes machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// QEMU on this host.
    Local,
}

/// A question that only a healthy instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// The instance's port.
    pub port: u16,
    /// Time from one question to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// What a health question asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET of this path; any 2xx or 3xx answer is healthy.
    Http(String),
    /// A connection; that it opens is healthy.
    Tcp,
}

/// How the instances of a group are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// How many instances there may be above the count.
    pub max_surge: u32,
    /// How many instances may be missing below the count.
    pub max_unavailable: u32,
    /// How long an instance must be healthy without a break before it counts.
    pub soak: Duration,
    /// How long a new instance may take to count; after that the rollout has failed.
    pub progress_deadline: Duration,
}

/// One more at a time and never one less: right for whatever keeps no state.
const MAX_SURGE_DEFAULT: u32 = 1;
const MAX_UNAVAILABLE_DEFAULT: u32 = 0;
/// Long enough to see a service that dies of its first requests.
const SOAK_DEFAULT: Duration = Duration::from_seconds(30);
/// What a boot may take on an emulated machine, many times over; it is added to the soak.
const BOOT_ALLOWANCE: Duration = Duration::from_seconds(10 * 60);
const INTERVAL_DEFAULT: Duration = Duration::from_seconds(5);
const TIMEOUT_DEFAULT: Duration = Duration::from_seconds(2);

const COUNT: Kind = Kind::Integer { minimum: 0, maximum: 10_000 };
const PORT: Kind = Kind::Integer { minimum: 1, maximum: 65_535 };
const UPDATE_KEY: Key = optional("update", Kind::Table(&UPDATE), "How instances are replaced.");

pub(crate) const ENVIRONMENT: Shape = Shape {
    name: "environment",
    doc: "Where machines run: dev, staging, production.",
    keys: &[
        optional("after", Kind::Text(&NAME), "The environment in which an image must have proven itself first."),
        optional("soak", Kind::Text(&DURATION), "How long it must have been healthy there. Default: 0s."),
    ],
    ..PLAIN
};

pub(crate) const GROUP: Shape = Shape {
    name: "group",
    doc: "The machines that run one class.",
    keys: &[
        required("class", Kind::Text(&NAME), "The class they run."),
        required("provider", Kind::Choice(Provider::WORDS), "What makes the machines: local is QEMU on this host."),
        required("memory", Kind::Text(&SIZE), "Memory of each machine."),
        optional("cpus", Kind::Integer { minimum: 1, maximum: 256 }, "Processors of each machine. Default: 1."),
        optional(
            "max_lifetime",
            Kind::Text(&POSITIVE_DURATION),
            "How long an instance may live before it is replaced. Default: for ever.",
        ),
        optional("egress", Kind::Boolean, "Whether instances may open connections to the outside. Default: false."),
        optional("shell", Kind::Boolean, "Whether people may open a shell in an instance. Default: false."),
        optional("health", Kind::Table(&HEALTH), "What a healthy instance answers to, besides its agent."),
        UPDATE_KEY,
        required(
            "in",
            Kind::Map { key: &NAME, value: &Kind::Table(&PLACEMENT), minimum: 1 },
            "The environments in which it runs.",
        ),
    ],
    ..PLAIN
};

const PLACEMENT: Shape = Shape {
    name: "placement",
    doc: "A group in one environment, with what that environment changes.",
    keys: &[
        required("count", COUNT, "How many instances there are to be."),
        optional("balancer", Kind::Table(&BALANCER), "One address for all healthy instances."),
        optional(
            "config",
            Kind::Map { key: &VARIABLE, value: &Kind::Text(&ANY), minimum: 0 },
            "What templates rendered at boot are given. No secrets: everybody who reads the spec reads them.",
        ),
        optional("memory", Kind::Text(&SIZE), "Memory of each machine, here. Default: the group's."),
        UPDATE_KEY,
    ],
    ..PLAIN
};

const BALANCER: Shape = Shape {
    name: "balancer",
    doc: "One address for all healthy instances of a group.",
    keys: &[
        required("listen", Kind::Text(&LISTEN), "The host's address and port."),
        required("to", PORT, "The instances' port."),
    ],
    ..PLAIN
};

const HEALTH: Shape = Shape {
    name: "health",
    doc: "A question that only a healthy instance answers.",
    keys: &[
        optional("http", Kind::Text(&HTTP_PATH), "Path of a GET request; any 2xx or 3xx answer is healthy."),
        optional("tcp", Kind::Boolean, "true: that a connection opens is healthy."),
        required("port", PORT, "The instance's port."),
        optional("interval", Kind::Text(&POSITIVE_DURATION), "Time from one question to the next. Default: 5s."),
        optional("timeout", Kind::Text(&POSITIVE_DURATION), "How long an answer may take. Default: 2s."),
    ],
    one_of: &["http", "tcp"],
    ..PLAIN
};

const UPDATE: Shape = Shape {
    name: "update",
    doc: "How the instances of a group are replaced.",
    keys: &[
        optional("max_surge", COUNT, "How many instances there may be above the count. Default: 1."),
        optional("max_unavailable", COUNT, "How many instances may be missing below the count. Default: 0."),
        optional("soak", Kind::Text(&DURATION), "How long an instance must be healthy before it counts. Default: 30s."),
        optional(
            "progress_deadline",
            Kind::Text(&POSITIVE_DURATION),
            "How long a new instance may take to count before the rollout has failed. Default: soak and 10m.",
        ),
    ],
    ..PLAIN
};

/// What an `update` table says itself, and where.
#[derive(Debug, Clone, Default)]
struct UpdateChoices {
    place: Option<Place>,
    max_surge: Option<u32>,
    max_unavailable: Option<u32>,
    soak: Option<Duration>,
    progress_deadline: Option<Duration>,
}

impl Provider {
    const WORDS: &[&str] = &["local"];
}

impl Environment {
    pub(crate) fn read(entry: &Entry<'_>) -> Option<Self> {
        let table = Table::open(entry.value, &ENVIRONMENT, &format!("[environment.{}]", entry.name))?;
        Some(Self {
            name: entry.name.parse().ok()?,
            after: table.reference("after"),
            soak: table.parsed("soak").unwrap_or_default(),
            place: entry.value.place(),
        })
    }
}

impl Group {
    /// Reads all of a group, whatever is wrong with parts of it: what stands in for a wrong value is never seen.
    pub(crate) fn read(entry: &Entry<'_>) -> Option<Self> {
        let heading = format!("[group.{}]", entry.name);
        let table = Table::open(entry.value, &GROUP, &heading)?;
        let memory = table.parsed("memory").unwrap_or_default();
        let update = UpdateChoices::read(&table, &format!("[group.{}.update]", entry.name));
        let placements = table.named("in").into_iter().filter_map(|place| {
            let heading = format!("[group.{}.in.{}]", entry.name, place.name);
            Placement::read(&place, &heading, memory, &update)
        });
        let placements = placements.map(|placement| (placement.environment.name.clone(), placement)).collect();
        let health = table.table("health", &HEALTH, &format!("[group.{}.health]", entry.name));
        let health = health.and_then(|table| Health::read(&table));
        Some(Self {
            name: entry.name.parse().ok()?,
            class: table.reference("class")?,
            provider: Provider::Local,
            cpus: table.integer("cpus").unwrap_or(1),
            max_lifetime: table.parsed("max_lifetime"),
            egress: table.boolean("egress").unwrap_or(false),
            shell: table.boolean("shell").unwrap_or(false),
            health,
            placements,
            place: entry.value.place(),
        })
    }

    fn runs_in(&self, environment: &Name) -> bool {
        self.placements.get(environment).is_some_and(|placement| placement.count > 0)
    }
}

impl Placement {
    fn read(entry: &Entry<'_>, heading: &str, memory: Size, update: &UpdateChoices) -> Option<Self> {
        let table = Table::open(entry.value, &PLACEMENT, heading)?;
        let inner = |key: &str| format!("{}.{key}]", heading.trim_end_matches(']'));
        let balancer = table.table("balancer", &BALANCER, &inner("balancer"));
        let update = UpdateChoices::read(&table, &inner("update")).or(update);
        update.check(entry.value.context);
        Some(Self {
            environment: Reference { name: entry.name.parse().ok()?, place: entry.place() },
            count: table.integer("count").unwrap_or_default(),
            balancer: balancer.and_then(|table| Balancer::read(&table)),
            config: table.text_map("config"),
            memory: table.parsed("memory").unwrap_or(memory),
            update: update.decide(),
        })
    }
}

impl Balancer {
    fn read(table: &Table<'_>) -> Option<Self> {
        let place = table.get("listen")?.place();
        Some(Self { listen: table.parsed("listen")?, to: table.integer("to").unwrap_or_default(), place })
    }
}

impl Health {
    fn read(table: &Table<'_>) -> Option<Self> {
        let health = Self {
            probe: table.text("http").map_or(Probe::Tcp, Probe::Http),
            port: table.integer("port").unwrap_or_default(),
            interval: table.parsed("interval").unwrap_or(INTERVAL_DEFAULT),
            timeout: table.parsed("timeout").unwrap_or(TIMEOUT_DEFAULT.min(INTERVAL_DEFAULT)),
        };
        health.check(table);
        Some(health)
    }

    fn check(&self, table: &Table<'_>) {
        let context = table.value.context;
        if let (Some(false), Some(tcp)) = (table.boolean("tcp"), table.get("tcp")) {
            let refusal = Refusal::new("`tcp = false` asks nothing").hint("write tcp = true, or http = \"/path\"");
            context.add(Scope::Here, &tcp.place(), refusal);
        }
        if let Some(written) = table.get("timeout").or_else(|| table.get("interval"))
            && self.timeout > self.interval
        {
            let message = format!("the timeout of {} is longer than the interval of {}", self.timeout, self.interval);
            let refusal = Refusal::new(message).hint("an answer must have come before the next question");
            context.add(Scope::Here, &written.place(), refusal);
        }
    }
}

impl UpdateChoices {
    /// The choices of the table under `update`; none of its own if there is none.
    fn read(parent: &Table<'_>, heading: &str) -> Self {
        let Some(table) = parent.table("update", &UPDATE, heading) else { return Self::default() };
        Self {
            place: Some(table.value.place()),
            max_surge: table.integer("max_surge"),
            max_unavailable: table.integer("max_unavailable"),
            soak: table.parsed("soak"),
            progress_deadline: table.parsed("progress_deadline"),
        }
    }

    fn or(self, other: &Self) -> Self {
        Self {
            place: self.place.or_else(|| other.place.clone()),
            max_surge: self.max_surge.or(other.max_surge),
            max_unavailable: self.max_unavailable.or(other.max_unavailable),
            soak: self.soak.or(other.soak),
            progress_deadline: self.progress_deadline.or(other.progress_deadline),
        }
    }

    fn check(&self, context: &Context<'_>) {
        let Some(place) = &self.place else { return };
        let update = self.decide();
        if update.max_surge == 0 && update.max_unavailable == 0 {
            let refusal = Refusal::new("with both `max_surge` and `max_unavailable` 0 nothing can ever be replaced");
            context.add(Scope::Here, place, refusal.hint("let one of them be at least 1"));
        }
        if update.progress_deadline <= update.soak {
            let Update { progress_deadline, soak, .. } = update;
            let message = format!("the progress deadline of {progress_deadline} is not longer than the soak of {soak}");
            let refusal = Refusal::new(message).hint("an instance must boot and then soak before the deadline");
            context.add(Scope::Here, place, refusal);
        }
    }

    fn decide(&self) -> Update {
        let soak = self.soak.unwrap_or(SOAK_DEFAULT);
        Update {
            max_surge: self.max_surge.unwrap_or(MAX_SURGE_DEFAULT),
            max_unavailable: self.max_unavailable.unwrap_or(MAX_UNAVAILABLE_DEFAULT),
            soak,
            progress_deadline: self.progress_deadline.unwrap_or(soak.saturating_add(BOOT_ALLOWANCE)),
        }
    }
}

/// What can only be seen with the whole fleet in view: classes and environments that are not there, circles, promotions
/// that no image can earn, addresses taken twice.
pub(crate) fn check_all(
    environments: &[Environment],
    groups: &BTreeMap<Name, Group>,
    declared_classes: &BTreeSet<Name>,
    declared_environments: &BTreeSet<Name>,
    context: &Context<'_>,
) {
    for group in groups.values() {
        group.class.check(context, "class", declared_classes.iter());
        for placement in group.placements.values() {
            placement.environment.check(context, "environment", declared_environments.iter());
        }
    }
    for reference in environments.iter().filter_map(|environment| environment.after.as_ref()) {
        reference.check(context, "environment", declared_environments.iter());
    }
    let after = environments.iter().filter_map(|environment| Some((&environment.name, environment.after.as_ref()?)));
    check_circles("environment", "comes after", &after.collect(), context);
    check_promotions(environments, groups, context);
    check_addresses(groups, context);
}

/// An image is promoted when it has proven itself in the environment before: some group must run its class there.
fn check_promotions(environments: &[Environment], groups: &BTreeMap<Name, Group>, context: &Context<'_>) {
    for environment in environments {
        let Some(before) =
            environment.after.as_ref().filter(|before| environments.iter().any(|e| e.name == before.name))
        else {
            continue;
        };
        for group in groups.values().filter(|group| group.runs_in(&environment.name)) {
            let class = &group.class.name;
            if !groups.values().any(|other| other.class.name == *class && other.runs_in(&before.name)) {
                let message =
                    format!("class `{class}` reaches `{}` after `{before}`, where no group runs it", environment.name);
                let hint = format!("run a group of class `{class}` there, or take `after` away at {}", before.place);
                let place = &group.placements[&environment.name].environment.place;
                context.add(Scope::Elsewhere, place, Refusal::new(message).hint(hint));
            }
        }
    }
}

/// All balancers of a factory may run on one host.
fn check_addresses(groups: &BTreeMap<Name, Group>, context: &Context<'_>) {
    let placements = groups.values().flat_map(|group| group.placements.values());
    let mut balancers: Vec<&Balancer> = placements.filter_map(|placement| placement.balancer.as_ref()).collect();
    balancers.sort_by_key(|Balancer { place, .. }| (place.file != "kiln.toml", &place.file, place.line, place.column));
    for (index, balancer) in balancers.iter().enumerate() {
        if let Some(other) = balancers.iter().take(index).find(|other| collide(balancer.listen, other.listen)) {
            let refusal = Refusal::new(match other.listen == balancer.listen {
                true => format!("`{}` is taken twice", balancer.listen),
                false => format!("`{}` cannot be taken beside `{}`", balancer.listen, other.listen),
            });
            let hint = format!("the other is at {}; use another port", other.place);
            context.add(Scope::Elsewhere, &balancer.place, refusal.hint(hint));
        }
    }
}

/// Whether the second of two listeners would find its address in use. Linux lets `[::]` take IPv4 connections too.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    let (ip, other_ip) = (one.ip(), other.ip());
    one.port() == other.port() && (ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_collide_with_what_they_cover() {
        let check = |one: &str, other: &str, expected: bool| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((collide(one, other), collide(other, one)), (expected, expected), "{one} {other}");
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("0.0.0.0:80", "[::1]:80", false);
        check("[::]:80", "[::1]:80", true);
        check("[::]:80", "127.0.0.1:80", true);
        check("[::]:80", "0.0.0.0:80", true);
        check("[::1]:80", "127.0.0.1:80", false);
    }
}
