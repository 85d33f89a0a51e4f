//! Version numbers, judged by dpkg.

use std::cmp::Ordering;
use std::process::Command;

use kiln_debian::version::{Version, compare};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::run;

/// Each costs a process or two.
const GENERATED_PAIRS: usize = 300;

fn dpkg_says(left: &str, operator: &str, right: &str) -> bool {
    let output = run(Command::new("dpkg").args(["--compare-versions", left, operator, right]));
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("dpkg cannot compare {left} {operator} {right}: {output:?}"),
    }
}

fn check_pair(left: &str, right: &str) {
    let operator = match compare(left, right) {
        Ordering::Less => "lt-nl",
        Ordering::Equal => "eq",
        Ordering::Greater => "gt-nl",
    };
    assert!(dpkg_says(left, operator, right), "dpkg denies {left} {operator} {right}");
}

/// The same values in every run.
fn samples<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn order_agrees_with_dpkg() {
    let known =
        ["1.0", "1.0~rc1", "1.0-1", "1.0-1+b1", "1:0.9", "1.0+dfsg-1", "01.00", "1.0.", "1.0-0", "1.0a", "1.0-~"];
    for left in known {
        for right in known {
            check_pair(left, right);
        }
    }
    // Few characters, so that long common beginnings and equal versions come up.
    let version = "([01]:)?[0-2][0-2a~+.-]{0,5}(-[01a~+.]{1,3})?".prop_filter("ends well", |text| !text.ends_with('-'));
    for (left, right) in samples(&(version.clone(), version), GENERATED_PAIRS) {
        check_pair(&left, &right);
    }
}

#[test]
fn validity_agrees_with_dpkg() {
    let known =
        ["", "1:", ":1", "1-", "-1", "a", "1_", "1 2", "1:1:1", "1::1", "~1", "1~", "9999999999:1", "1:a", "1-1-"];
    let odd = samples(&"[0-9a_:~+. -]{1,6}", 150);
    let spaced = |text: &str| text.trim() != text;
    // dpkg takes off white space around the whole, which no index has.
    for text in known.into_iter().chain(odd.iter().map(String::as_str)).filter(|text| !spaced(text)) {
        let output = run(Command::new("dpkg").args(["--validate-version", "--", text]));
        assert_eq!(Version::parse(text).is_ok(), output.status.success(), "{text:?}: {output:?}");
    }
}
