//! Our own functions inside.

use kiln_sandbox::{CancelToken, Command, Ending, SandboxError, Upper};

use crate::ground::{Ground, for_each_identity};

fn call<T: serde::Serialize + serde::de::DeserializeOwned>(
    ground: &Ground,
    work: impl FnOnce(&kiln_sandbox::Inside<'_>) -> T,
) -> (Result<T, SandboxError>, Vec<String>) {
    let mut lines = Vec::new();
    let token = CancelToken::new().unwrap();
    let result = ground.sandbox(&[], Upper::Discard).call(work, &mut |line| lines.push(line.to_owned()), &token);
    (result, lines)
}

#[test]
fn a_value_comes_back() {
    for_each_identity(|ground| {
        let (value, lines) = call(ground, |inside| {
            let ending = inside.run(&Command::shell("echo from a program; exit 4")).unwrap();
            (ending, "x".repeat(1_000_000), std::fs::exists("/usr/bin/env").unwrap())
        });
        assert_eq!(value.unwrap(), (Ending::Code(4), "x".repeat(1_000_000), true));
        assert_eq!(lines, ["from a program"]);
    });
}

#[test]
fn a_panic_and_a_kill_are_told() {
    for_each_identity(|ground| {
        let (result, _) = call(ground, |_| -> u8 { panic!("the reason") });
        assert!(result.unwrap_err().to_string().contains("the reason"));
        let (result, _) = call(ground, |_| -> u8 { std::process::abort() });
        assert!(matches!(result, Err(SandboxError::Died { signal: Some(6), .. })), "{result:?}");
    });
}

#[test]
fn the_bare_tree_has_no_mounts() {
    for_each_identity(|ground| {
        let (names, _) = call(ground, |inside| {
            let count = |path: &str| std::fs::read_dir(path).unwrap().count();
            let bare = inside.tree();
            (count("/dev") > 0, count(&format!("{bare}/dev")), count(&format!("{bare}/proc")))
        });
        assert_eq!(names.unwrap(), (true, 0, 0));
    });
}

#[test]
fn what_a_program_left_running_is_gone_when_the_next_starts() {
    for_each_identity(|ground| {
        let (endings, lines) = call(ground, |inside| {
            let first = inside.run(&Command::shell("setsid sleep 1000 & sleep 1001 & echo started")).unwrap();
            let second = inside.run(&Command::shell("cat /proc/[0-9]*/comm | sort | tr '\\n' ' '")).unwrap();
            (first, second)
        });
        assert_eq!(endings.unwrap(), (Ending::Code(0), Ending::Code(0)));
        assert!(!lines.last().unwrap().contains("sleep"), "{lines:?}");
    });
}
