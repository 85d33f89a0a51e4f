//! What whole factories are read as.

use kiln_model::spec::{Action, Base, Class, Constraint, Operator, Probe, RenderTime, RequestKind, Spec};
use kiln_model::units::{Duration, Size};

use super::{EVERYTHING, SHOP, parse, parse_one};

fn class<'a>(spec: &'a Spec, name: &str) -> &'a Class {
    &spec.classes[name]
}

#[test]
fn shop_is_read_whole() {
    let spec = parse_one(SHOP).unwrap();
    assert_eq!(spec.factory.name.as_str(), "shop");
    let web = class(&spec, "web");
    assert_eq!(spec.lineage(web).iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["base", "web"]);
    assert_eq!(spec.distribution_of(web).unwrap().suite, "trixie");
    assert_eq!(spec.kernel(web).unwrap().to_string(), "linux-image-cloud-amd64");
    assert!(!spec.recommends(web));
    assert_eq!(web.packages[1].kind, RequestKind::File("dist/shop-agent_1.2_amd64.deb".into()));
    assert_eq!((web.packages[1].place.line, web.packages[1].place.column), (18, 28));
    assert_eq!(web.packages[1].place.snippet, SHOP.lines().nth(17).unwrap());
    let verbs: Vec<_> = web.steps.iter().map(|step| (step.action.verb(), step.place.line)).collect();
    assert_eq!(verbs, [("copy", 21), ("template", 24), ("download", 28), ("ansible", 31), ("enable", 34)]);
}

#[test]
fn shop_has_what_is_usual_where_it_says_nothing() {
    let spec = parse_one(SHOP).unwrap();
    let trixie = &spec.distributions["trixie"];
    assert!(trixie.updates && trixie.security && trixie.repositories.is_empty());
    assert_eq!((&trixie.mirror, &trixie.architecture, &trixie.snapshot), (&None, &None, &None));
    let group = &spec.groups["web"];
    assert_eq!((group.cpus, group.egress, group.shell), (1, false, false));
    assert_eq!(group.max_lifetime, Some(Duration::from_seconds(14 * 24 * 60 * 60)));
    let health = group.health.as_ref().unwrap();
    assert_eq!((&health.probe, health.port), (&Probe::Http("/healthz".to_owned()), 80));
    let dev = &group.placements["dev"];
    assert_eq!((dev.count, dev.memory), (3, Size::from_mebibytes(512)));
    assert_eq!(dev.update.progress_deadline.to_string(), "10m15s");
    assert_eq!(dev.config["GREETING"], "hello");
    assert_eq!(dev.balancer.as_ref().unwrap().listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn every_key_is_read() {
    let spec = parse_one(EVERYTHING).unwrap();
    assert_eq!(spec.toolbox.as_ref().unwrap().distribution.name.as_str(), "trixie");
    let trixie = &spec.distributions["trixie"];
    assert_eq!(trixie.snapshot.unwrap().to_string(), "2026-08-01T00:00:00Z");
    assert_eq!(trixie.architecture.unwrap().as_str(), "arm64");
    assert_eq!((trixie.updates, trixie.security), (false, true));
    assert_eq!(trixie.security_mirror.as_ref().unwrap().as_str(), "file:///srv/security");
    let repository = &trixie.repositories[0];
    assert_eq!((repository.priority, repository.keyring.path.as_str()), (Some(990), "keys/shop.asc"));
    let names: Vec<_> = spec.environments.iter().map(|environment| environment.name.as_str()).collect();
    assert_eq!(names, ["dev", "staging"]);
    assert_eq!(spec.environments[1].soak, Duration::from_seconds(90 * 60));
}

#[test]
fn classes_inherit() {
    let spec = parse_one(EVERYTHING).unwrap();
    let base = class(&spec, "base");
    assert!(matches!(&base.base, Base::Distribution(reference) if reference.name.as_str() == "trixie"));
    let constraint = Some(Constraint { operator: Operator::LaterOrEqual, version: "1.26".to_owned() });
    assert_eq!(base.packages[1].kind, RequestKind::Named { name: "nginx".to_owned(), constraint });
    assert_eq!(base.exclude[0].name, "exim4-base");
    let web = class(&spec, "web");
    assert!(spec.recommends(web) && web.recommends.is_none());
    let checks: Vec<_> = web.checks.iter().flat_map(|check| &check.paths).map(|path| path.as_str()).collect();
    assert_eq!(checks, ["checks/web.yaml", "checks/db.yaml"]);
}

#[test]
fn every_kind_of_step_is_read() {
    let spec = parse_one(EVERYTHING).unwrap();
    let actions: Vec<&Action> = class(&spec, "web").steps.iter().map(|step| &step.action).collect();
    let [copy, template, group, user, enable, disable, mask, download, shell, script, ansible, puppet] = actions[..]
    else {
        panic!("{} steps", actions.len());
    };
    let Action::Copy(copy) = copy else { panic!("{copy:?}") };
    assert_eq!(copy.from.paths, ["site/about.html", "site/index.html"]);
    assert_eq!((copy.target.to.as_str(), copy.target.mode.unwrap().bits()), ("/srv/www", 0o640));
    let Action::Template(template) = template else { panic!("{template:?}") };
    assert_eq!((template.at, template.sample["GREETING"].as_str()), (RenderTime::Boot, "hello"));
    let Action::Group(group) = group else { panic!("{group:?}") };
    assert_eq!((group.name.as_str(), group.gid, group.system), ("shop", Some(900), true));
    let Action::User(user) = user else { panic!("{user:?}") };
    assert_eq!((user.name.as_str(), user.uid, user.group.as_deref()), ("shop", Some(901), Some("shop")));
    assert_eq!(user.shell.as_deref(), Some("/usr/sbin/nologin".into()));
    assert_eq!(enable, &Action::Enable(vec!["nginx.service".to_owned()]));
    assert_eq!(disable, &Action::Disable(vec!["apt-daily.timer".to_owned()]));
    assert_eq!(mask.verb(), "mask");
    let Action::Download(download) = download else { panic!("{download:?}") };
    assert!(download.unpack && download.sha256.is_some() && download.url.as_str().ends_with("/app-3.1.tar.zst"));
    assert_eq!((download.strip, download.target.into, copy.target.into), (1, true, false));
    let Action::Shell(shell) = shell else { panic!("{shell:?}") };
    assert_eq!(shell.text, "set -eu\nmake install\n");
    assert_eq!((shell.surroundings.env["EMPTY"].as_str(), shell.surroundings.tools.len()), ("", 2));
    let Action::Script(script) = script else { panic!("{script:?}") };
    assert_eq!(script.arguments, ["--fast", ""]);
    let Action::Ansible(ansible) = ansible else { panic!("{ansible:?}") };
    assert_eq!(ansible.variables["nested"], serde_json::json!({ "deep": true }));
    assert_eq!(ansible.variables["users"], serde_json::json!(["a", "b"]));
    assert_eq!(puppet.tools()[0].to_string(), "puppet-agent");
}

#[test]
fn environments_change_what_they_say_and_no_more() {
    let spec = parse_one(EVERYTHING).unwrap();
    let web = &spec.groups["web"];
    let (dev, staging) = (&web.placements["dev"], &web.placements["staging"]);
    assert_eq!((dev.memory, staging.memory), (Size::from_mebibytes(512), Size::from_mebibytes(1024)));
    assert_eq!((dev.update.max_surge, dev.update.max_unavailable, dev.update.soak.to_string().as_str()), (2, 1, "15s"));
    assert_eq!((staging.update.max_surge, staging.update.max_unavailable), (0, 1));
    assert_eq!(
        (staging.update.soak.to_string(), staging.update.progress_deadline.to_string()),
        ("1m".into(), "5m".into())
    );
    assert_eq!(spec.groups["agents"].health.as_ref().unwrap().probe, Probe::Tcp);
}

#[test]
fn further_files_add_classes_and_groups() {
    let db = "[class.db]\nfrom = \"base\"\npackages = [\"postgresql\"]\n";
    let fleet = "[group.db]\nclass = \"db\"\nprovider = \"local\"\nmemory = \"1GiB\"\nin.dev.count = 2\n";
    let spec = parse(&[("kiln.toml", SHOP), ("kiln.d/db.toml", db), ("kiln.d/fleet.toml", fleet)]).unwrap();
    let db = class(&spec, "db");
    assert_eq!((db.place.to_string(), spec.lineage(db).len()), ("kiln.d/db.toml:1".to_owned(), 2));
    assert_eq!(spec.groups["db"].placements["dev"].count, 2);
}

#[test]
fn an_empty_factory_is_a_factory() {
    let spec = parse_one("factory.name = \"empty\"").unwrap();
    assert!(spec.classes.is_empty() && spec.groups.is_empty());
}

#[test]
fn a_place_makes_the_mistake_that_others_find_later() {
    let spec = parse_one(SHOP).unwrap();
    let diagnostic = class(&spec, "web").packages[0].place.diagnostic("`nginx-light` has no candidate");
    insta::assert_snapshot!(diagnostic.with_hint("see `kiln lock --why`"), @r#"
    error: `nginx-light` has no candidate
      --> kiln.toml:18:13
       |
    18 | packages = ["nginx-light", "./dist/shop-agent_1.2_amd64.deb"]
       |             ^^^^^^^^^^^^^
    hint: see `kiln lock --why`
    "#);
}
