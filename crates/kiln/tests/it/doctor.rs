//! `kiln doctor`, on whatever machine the tests run on.

use kiln_testkit::Home;
use serde_json::Value;

use crate::fixture::{checked, kiln, says};

/// The findings of a run with `--json`, and its exit code.
fn findings(home: &Home) -> (Vec<Value>, Option<i32>) {
    let output = checked(kiln(home, "doctor --json").run());
    let result: Value = serde_json::from_str(output.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(result["result"], "doctor");
    (result["value"]["findings"].as_array().unwrap().clone(), output.status)
}

#[test]
fn the_exit_code_says_whether_something_is_missing() {
    let home = Home::new();
    let (findings, code) = findings(&home);
    let names: Vec<&str> = findings.iter().map(|finding| finding["name"].as_str().unwrap()).collect();
    for name in ["kernel", "ids", "memory", "disk", "kvm"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let missing = findings.iter().any(|finding| finding["state"] == "missing");
    assert_eq!(code, Some(if missing { 3 } else { 0 }), "{findings:?}");
    for finding in findings {
        assert!(finding["state"] == "ok" || finding["cure"].is_string(), "{finding}");
    }
}

/// Free memory and disk are others' too: their figures change between two runs.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}

#[test]
fn the_text_says_the_same() {
    let home = Home::new();
    let (findings, code) = findings(&home);
    let output = checked(kiln(&home, "doctor").run()).code(code.unwrap());
    for finding in findings {
        let words = ["state", "name", "detail"].map(|key| without_numbers(finding[key].as_str().unwrap()));
        let says_it = |line: &str| {
            let found = line.split("  ").map(str::trim).filter(|word| !word.is_empty());
            found.map(without_numbers).eq(words.clone())
        };
        assert!(output.stdout.lines().any(says_it), "{finding} is not in\n{}", output.stdout);
    }
}

#[test]
fn a_store_that_cannot_be_written_is_missing() {
    let home = Home::new();
    let output = kiln(&home, "doctor").env("XDG_CACHE_HOME", "/proc/nowhere").run();
    says(
        &checked(output).code(3),
        &["missing", "store", "cure: make the store's directory yours", "error: this machine lacks what Kiln needs"],
    );
}
