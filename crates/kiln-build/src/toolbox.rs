//! The tools Kiln runs on the host: which packages they are, and which distribution they come from.

use kiln_model::spec::{Distribution, Family, Place, Spec};

/// The packages of a host's toolbox: an emulator for its own architecture and firmware for it, disks, a balancer.
/// Nothing for an architecture that Kiln does not run machines on.
pub(crate) fn packages(architecture: &str) -> Option<Vec<String>> {
    let machine: &[&str] = match architecture {
        "amd64" => &["qemu-system-x86", "ovmf"],
        "arm64" => &["qemu-system-arm", "qemu-efi-aarch64"],
        _ => return None,
    };
    let common = ["qemu-utils", "haproxy", "e2fsprogs", "systemd-boot-efi"];
    let mut names: Vec<String> = machine.iter().chain(&common).map(|&name| name.to_owned()).collect();
    names.sort();
    Some(names)
}

/// How the lock's names of toolboxes' distributions begin; no distribution of a spec may be called so.
const DISTRIBUTION_PREFIX: &str = "toolbox-";

/// What the lock calls the distribution of a host's toolbox.
pub(crate) fn distribution_name(architecture: &str) -> String {
    format!("{DISTRIBUTION_PREFIX}{architecture}")
}

/// The spec's description of a distribution of the lock; nothing if it has left the spec since.
pub(crate) fn distribution_of(spec: &Spec, lock_name: &str) -> Option<Distribution> {
    if lock_name.starts_with(DISTRIBUTION_PREFIX) {
        return Some(distribution(spec));
    }
    spec.distributions.get(lock_name).cloned()
}

/// The one that `[toolbox]` names, else Debian trixie from where the factory's Debian comes from.
pub(crate) fn distribution(spec: &Spec) -> Distribution {
    if let Some(toolbox) = &spec.toolbox
        && let Some(distribution) = spec.distributions.get(&toolbox.distribution.name)
    {
        return distribution.clone();
    }
    let is_debian = |distribution: &&Distribution| distribution.family == Family::Debian;
    let says_where = |distribution: &&Distribution| distribution.mirror.is_some() || distribution.keyring.is_some();
    let model = spec.distributions.values().filter(is_debian).find(says_where);
    Distribution {
        name: spec.factory.name.clone(),
        family: Family::Debian,
        suite: "trixie".to_owned(),
        components: vec!["main".to_owned()],
        updates: true,
        security: true,
        architecture: None,
        mirror: model.and_then(|model| model.mirror.clone()),
        security_mirror: model.and_then(|model| model.security_mirror.clone()),
        keyring: model.and_then(|model| model.keyring.clone()),
        snapshot: model.and_then(|model| model.snapshot),
        repositories: Vec::new(),
        place: Place { file: String::new(), line: 1, column: 1, snippet: String::new(), width: 1 },
    }
}

#[cfg(test)]
mod tests {
    use kiln_model::diagnostic::Source;
    use kiln_model::spec::{Listing, parse};

    use super::*;

    /// The suite of a lock's distribution, for a spec whose Debian is bookworm.
    fn check(toolbox: &str, lock_name: &str, suite: Option<&str>) {
        let text = format!(
            "[factory]\nname = \"shop\"\n[distribution.web]\nfamily = \"debian\"\nsuite = \"bookworm\"\n\
             mirror = \"http://mirror.example/debian\"\n[class.base]\ndistribution = \"web\"\n{toolbox}"
        );
        let spec = parse(&[Source { name: "kiln.toml".into(), text }], &Listing::new([])).unwrap();
        assert_eq!(distribution_of(&spec, lock_name).map(|found| found.suite).as_deref(), suite, "{lock_name}");
    }

    #[test]
    fn what_left_the_spec_is_not_taken_for_the_toolbox() {
        check("", "web", Some("bookworm"));
        check("", "toolbox-amd64", Some("trixie"));
        check("", "toolbox-arm64", Some("trixie"));
        check("[toolbox]\ndistribution = \"web\"\n", "toolbox-arm64", Some("bookworm"));
        check("", "trixie", None);
        check("", "toolbox", None);
    }
}
