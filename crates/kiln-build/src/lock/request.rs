//! What a class asks the solver for, in the lock's words and in the solver's.

use kiln_debian::solve::Wanted;
use kiln_model::lock::{Lock, LockedClass, LockedPackage, LockedRequest, Origin};
use kiln_model::spec::{Class, PackageRequest, RequestKind, Spec};

/// The part of a class's spec that decides its packages.
pub(super) fn locked_request(spec: &Spec, class: &Class) -> LockedRequest {
    let texts = |requests: &[PackageRequest]| requests.iter().map(ToString::to_string).collect();
    LockedRequest {
        from: class.parent().map(|parent| parent.name.to_string()),
        packages: texts(&class.packages),
        kernel: class.kernel.as_ref().map(ToString::to_string),
        exclude: class.exclude.iter().map(|exclusion| exclusion.name.clone()).collect(),
        recommends: spec.recommends(class),
    }
}

/// The distinct sets of tools that a class's steps ask for, in the order of the steps.
pub(super) fn tool_requests(class: &Class) -> Vec<&[PackageRequest]> {
    let mut found: Vec<&[PackageRequest]> = Vec::new();
    for tools in class.steps.iter().map(|step| step.action.tools()).filter(|tools| !tools.is_empty()) {
        if !found.iter().any(|known| tool_names(known) == tool_names(tools)) {
            found.push(tools);
        }
    }
    found
}

/// A set of tools in the lock's words.
pub(crate) fn tool_names(tools: &[PackageRequest]) -> Vec<String> {
    tools.iter().map(ToString::to_string).collect()
}

/// The solver's form of a request by name; `label` gives it back in answers.
pub(super) fn wanted(kind: &RequestKind, label: usize) -> Option<Wanted> {
    let RequestKind::Named { name, constraint } = kind else { return None };
    let constraint = constraint.as_ref().map(|constraint| (constraint.operator, constraint.version.clone()));
    Some(Wanted { name: name.clone(), constraint, label })
}

/// What a locked class asked for, read back from the lock's words; a file or address by the package that it is.
pub(super) fn wanted_again(class: &LockedClass) -> Vec<Wanted> {
    let name_of = |text: &str| {
        let is_it = |package: &&LockedPackage| match &package.origin {
            Origin::Archive { .. } => false,
            Origin::File(path) => path == text,
            Origin::Url(url) => url == text,
        };
        class.packages().find(is_it).map(|package| package.name.clone())
    };
    let wanted = |(label, text): (usize, &String)| match name_of(text) {
        Some(name) => Some(Wanted { name, constraint: None, label }),
        None => wanted(&text.parse::<RequestKind>().ok()?, label),
    };
    class.request.packages.iter().chain(&class.request.kernel).enumerate().filter_map(wanted).collect()
}

/// Requests by name.
pub(super) fn wanted_texts(texts: &[String]) -> Vec<Wanted> {
    let wanted = |(label, text): (usize, &String)| wanted(&text.parse::<RequestKind>().ok()?, label);
    texts.iter().enumerate().filter_map(wanted).collect()
}

/// What a locked class and its parents exclude.
pub(super) fn exclusions_again(lock: &Lock, class: &str) -> Vec<String> {
    let classes = lock.lineage(class).into_iter().filter_map(|name| lock.classes.get(name));
    classes.flat_map(|class| class.request.exclude.clone()).collect()
}
