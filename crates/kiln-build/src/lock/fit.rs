//! Whether a lock still answers its spec. Asks nothing of the network, so that CI can ask it of every change.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use kiln_model::lock::{Lock, LockedClass, LockedIndex, LockedPackage, Origin};
use kiln_model::spec::{Action, Class, Distribution, Spec};
use serde::Serialize;

use super::architecture_of;
use super::request::{locked_request, tool_names, tool_requests};
use crate::factory::Factory;
use crate::mirror::public_request;
use crate::{Environment, mirror, pin, toolbox};

/// One way in which the lock does not fit: a lower-case sentence fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every way in which the lock does not fit the spec and the files that the spec names; none if it fits.
#[must_use]
pub fn reasons(factory: &Factory, spec: &Spec, lock: &Lock, environment: &Environment<'_>) -> Vec<Reason> {
    let mut found = Vec::new();
    distributions(spec, lock, environment, &mut found);
    let spec_classes: BTreeSet<&str> = spec.classes.keys().map(kiln_model::spec::Name::as_str).collect();
    for name in lock.classes.keys().filter(|name| !spec_classes.contains(name.as_str())) {
        found.push(format!("class {name} is locked and no longer in the spec"));
    }
    for (name, class) in &spec.classes {
        match lock.classes.get(name.as_str()) {
            None => found.push(format!("class {name} is not locked ({})", class.place)),
            Some(locked) => class_reasons(factory, spec, class, locked, &mut found),
        }
    }
    toolbox_reasons(lock, environment, &mut found);
    found.into_iter().map(Reason).collect()
}

fn distributions(spec: &Spec, lock: &Lock, environment: &Environment<'_>, found: &mut Vec<String>) {
    let used: BTreeSet<&str> = spec.classes.values().map(|class| distribution_name(spec, class)).collect();
    for distribution in spec.distributions.values().filter(|distribution| used.contains(distribution.name.as_str())) {
        let architecture = architecture_of(distribution, Some(lock), environment);
        distribution_reasons(distribution.name.as_str(), distribution, &architecture, lock, found);
    }
    let name = toolbox::distribution_name(&environment.host.architecture);
    let architecture = &environment.host.architecture;
    distribution_reasons(&name, &toolbox::distribution(spec), architecture, lock, found);
}

fn distribution_reasons(
    name: &str,
    distribution: &Distribution,
    architecture: &str,
    lock: &Lock,
    found: &mut Vec<String>,
) {
    let Some(locked) = lock.distributions.get(name) else {
        found.push(format!("distribution {name} is not locked"));
        return;
    };
    let family = mirror::facts(distribution.family).name;
    if locked.family != family {
        found.push(format!("distribution {name} is {family}, locked was {}", locked.family));
    }
    if locked.architecture != architecture {
        found.push(format!("distribution {name} is for {architecture}, locked was {}", locked.architecture));
    }
    if locked.snapshot != distribution.snapshot {
        let say = |snapshot: Option<Timestamp>| snapshot.map_or("none".to_owned(), |snapshot| snapshot.to_string());
        found.push(format!(
            "distribution {name}: snapshot is {}, locked was {}",
            say(distribution.snapshot),
            say(locked.snapshot)
        ));
    }
    for repository in &distribution.repositories {
        let said = repository.priority.map(i32::from);
        let mut indexes = locked.indexes.iter().filter(|index| repository.name.as_str() == index.repository);
        if let Some(index) = indexes.find(|index| said.is_some_and(|said| said != index.priority)) {
            let (repository, priority) = (&index.repository, index.priority);
            found.push(format!("distribution {name}: the priority of {repository} is another, locked was {priority}"));
        }
    }
    let wanted: BTreeSet<String> = mirror::index_names(distribution).into_iter().collect();
    let has: BTreeSet<String> = locked.indexes.iter().map(LockedIndex::name).collect();
    found.extend(wanted.difference(&has).map(|index| format!("distribution {name}: index {index} is not locked")));
    found.extend(
        has.difference(&wanted)
            .map(|index| format!("distribution {name}: index {index} is locked and no longer wanted")),
    );
}

fn class_reasons(factory: &Factory, spec: &Spec, class: &Class, locked: &LockedClass, found: &mut Vec<String>) {
    let name = class.name.as_str();
    let distribution = distribution_name(spec, class);
    if distribution != locked.distribution {
        found.push(format!("class {name} is of distribution {distribution}, locked was {}", locked.distribution));
    }
    request_reasons(spec, class, locked, found);
    let tools: Vec<Vec<String>> = tool_requests(class).into_iter().map(tool_names).collect();
    let locked_tools: Vec<&Vec<String>> = locked.tools.iter().map(|tools| &tools.request).collect();
    if tools.iter().collect::<Vec<_>>() != locked_tools {
        found.push(format!("class {name}: the steps' tools changed"));
    }
    file_reasons(factory, name, locked, found);
    download_reasons(class, locked, found);
}

fn distribution_name<'a>(spec: &'a Spec, class: &Class) -> &'a str {
    spec.distribution_of(class).map_or("", |distribution| distribution.name.as_str())
}

fn request_reasons(spec: &Spec, class: &Class, locked: &LockedClass, found: &mut Vec<String>) {
    let (name, place) = (&class.name, &class.place);
    let (now, then) = (locked_request(spec, class), &locked.request);
    if now.from != then.from {
        let say = |from: &Option<String>| from.clone().unwrap_or_else(|| "no class".to_owned());
        found.push(format!("class {name} is from {}, locked was from {} ({place})", say(&now.from), say(&then.from)));
    }
    let lists = [("packages", &now.packages, &then.packages), ("exclude", &now.exclude, &then.exclude)];
    for (key, now, then) in lists {
        let shown = |request: &String| public_request(request);
        let added = now.iter().filter(|request| !then.contains(request));
        found.extend(added.map(|request| format!("class {name}: {key} has `{}` now ({place})", shown(request))));
        let removed = then.iter().filter(|request| !now.contains(request));
        found
            .extend(removed.map(|request| format!("class {name}: {key} no longer has `{}` ({place})", shown(request))));
    }
    if now.kernel != then.kernel {
        let say = |kernel: &Option<String>| kernel.clone().unwrap_or_else(|| "none".to_owned());
        found.push(format!("class {name}: kernel is {}, locked was {} ({place})", say(&now.kernel), say(&then.kernel)));
    }
    if now.recommends != then.recommends {
        found.push(format!("class {name}: recommends is {}, locked was {} ({place})", now.recommends, then.recommends));
    }
}

/// Files of the factory whose bytes are no longer the locked ones.
fn file_reasons(factory: &Factory, name: &str, locked: &LockedClass, found: &mut Vec<String>) {
    for LockedPackage { origin, sha256, .. } in locked.packages_and_tools() {
        let Origin::File(path) = origin else { continue };
        match pin::measure(&factory.path(path)) {
            Ok((digest, _)) if digest == *sha256 => {}
            Ok(_) => found.push(format!("class {name}: {path} has changed")),
            Err(_) => found.push(format!("class {name}: {path} cannot be read")),
        }
    }
}

fn download_reasons(class: &Class, locked: &LockedClass, found: &mut Vec<String>) {
    let name = &class.name;
    let mut wanted = BTreeSet::new();
    for step in &class.steps {
        let Action::Download(download) = &step.action else { continue };
        let url = download.url.as_str();
        wanted.insert(url);
        match locked.downloads.iter().find(|known| known.url == url) {
            None => found.push(format!("class {name}: a download is not locked ({})", step.place)),
            Some(known) if download.sha256.is_some_and(|expected| expected != known.sha256) => {
                found.push(format!("class {name}: a download has another sha256 than is locked ({})", step.place));
            }
            Some(_) => {}
        }
    }
    if locked.downloads.iter().any(|known| !wanted.contains(known.url.as_str())) {
        found.push(format!("class {name}: a download is locked and no longer wanted"));
    }
}

fn toolbox_reasons(lock: &Lock, environment: &Environment<'_>, found: &mut Vec<String>) {
    let architecture = &environment.host.architecture;
    match lock.toolboxes.get(architecture) {
        None => found.push(format!("the toolbox for {architecture} is not locked")),
        Some(locked) if toolbox::packages(architecture).as_ref() != Some(&locked.request) => {
            found.push(format!("the toolbox for {architecture} has other packages in this Kiln"));
        }
        Some(_) => {}
    }
}
