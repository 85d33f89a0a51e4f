//! Our own functions inside.

use fs_err as fs;
use kiln_sandbox::{Bind, CancelToken, Command, Ending, Sandbox, SandboxError, Upper};

use crate::ground::{Ground, for_each_identity};

fn call<T: serde::Serialize + serde::de::DeserializeOwned>(
    ground: &Ground,
    work: impl FnOnce(&kiln_sandbox::Inside<'_>) -> T,
) -> (Result<T, SandboxError>, Vec<String>) {
    call_in(&ground.sandbox(&[], Upper::Discard), work)
}

fn call_in<T: serde::Serialize + serde::de::DeserializeOwned>(
    sandbox: &Sandbox,
    work: impl FnOnce(&kiln_sandbox::Inside<'_>) -> T,
) -> (Result<T, SandboxError>, Vec<String>) {
    let mut lines = Vec::new();
    let token = CancelToken::new().unwrap();
    let result = sandbox.call(work, &mut |line| lines.push(line.to_owned()), &token);
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

#[test]
fn what_was_bound_can_be_shown_elsewhere_and_taken_away() {
    for_each_identity(|ground| {
        let factory = ground.write("factory", Vec::new(), |root| {
            fs::write(root.join("shown"), "shown").unwrap();
            fs::write(root.join("hidden"), "hidden").unwrap();
        });
        let mut sandbox = ground.plain();
        sandbox.binds.push(Bind { from: factory, to: "/run/whole".into(), read_only: true });
        let (seen, lines) = call_in(&sandbox, |inside| {
            fs::write("/run/one", "").unwrap();
            inside.bind("/run/whole/shown".into(), "/run/one".into()).unwrap();
            inside.unbind("/run/whole".into()).unwrap();
            let script = "cat /run/one; echo; ls -A /run/whole | wc -l; ! { echo x > /run/one; } 2>/dev/null";
            inside.run(&Command::shell(script)).unwrap()
        });
        assert_eq!(seen.unwrap(), Ending::Code(0), "{lines:?}");
        assert_eq!(lines, ["shown", "0"]);
    });
}

#[test]
fn a_directory_is_shown_without_a_trace_of_where_it_lies() {
    for_each_identity(|ground| {
        let store = ground.write("store", Vec::new(), |root| fs::write(root.join("shown"), "shown").unwrap());
        let mut sandbox = ground.plain();
        sandbox.binds.push(Bind { from: store.clone(), to: "/run/whole".into(), read_only: true });
        let (seen, lines) = call_in(&sandbox, |inside| {
            fs::create_dir("/run/one").unwrap();
            inside.show("/run/whole".into(), "/run/one".into()).unwrap();
            inside.unbind("/run/whole".into()).unwrap();
            let script = "cat /run/one/shown; echo; ls -A /run; ls -d /run/one/s*n; grep /run/one /proc/self/mounts | cut -d ' ' -f 1-3; \
                          ! { echo x > /run/one/new; } 2>/dev/null";
            inside.run(&Command::shell(script)).unwrap()
        });
        assert_eq!(seen.unwrap(), Ending::Code(0), "{lines:?}");
        assert_eq!(lines, ["shown", "one", "whole", "/run/one/shown", "overlay /run/one overlay"]);
    });
}

#[test]
fn the_first_process_is_called_as_an_init_system_is() {
    for_each_identity(|ground| {
        let (_, lines) =
            call(ground, |inside| inside.run(&Command::shell("cat /proc/1/comm; ! test -s /proc/modules")).unwrap());
        assert_eq!(lines, ["systemd"]);
    });
}

#[test]
fn a_stream_comes_out_while_the_function_works() {
    use std::io::Read as _;
    for_each_identity(|ground| {
        let write = |out: &mut dyn std::io::Write| {
            let written = (0..100).try_for_each(|number: u8| out.write_all(&[number; 100_000]));
            (rustix::process::getuid().as_raw(), written.is_ok())
        };
        let read = |mut stream: std::fs::File| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            (0..100).all(|number: u8| bytes[usize::from(number) * 100_000..][..100_000] == [number; 100_000])
        };
        assert_eq!(ground.identity.stream(write, read).unwrap(), ((0, true), true));
        let (value, ()) = ground.identity.stream(write, drop).unwrap();
        assert_eq!(value, (0, false), "nobody reads");
    });
}
