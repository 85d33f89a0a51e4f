//! What a program sees and how its end is told.

use std::time::Duration;

use kiln_sandbox::{CancelToken, Command, Ending, SandboxError};

use crate::ground::{for_each_identity, lines, script};

#[test]
fn output_arrives_in_order_and_the_end_is_told() {
    for_each_identity(|ground| {
        let sandbox = ground.plain();
        let (exit, lines) = script(&sandbox, "echo one; echo two >&2; printf 'three\\377'; exit 3");
        assert_eq!(lines, ["one", "two", "three\u{fffd}"]);
        assert_eq!(exit.last_lines, lines);
        assert_eq!(exit.ending, Ending::Code(3));
        assert_eq!(script(&sandbox, "kill -9 $$").0.ending, Ending::Signal(9));
    });
}

#[test]
fn much_output_is_not_lost() {
    for_each_identity(|ground| {
        let all = lines(&ground.plain(), "seq 1 100000");
        assert_eq!((all.len(), all.last().unwrap().as_str()), (100_000, "100000"));
    });
}

#[test]
fn a_program_that_is_not_there_is_named() {
    for_each_identity(|ground| {
        let error = ground
            .plain()
            .run(&Command::new("no-such-program", [""; 0]), &mut |_| {}, &CancelToken::new().unwrap())
            .unwrap_err();
        assert_eq!(error.to_string(), "start no-such-program");
        let SandboxError::Inside { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    });
}

#[test]
fn the_surroundings_are_the_same_everywhere() {
    for_each_identity(|ground| {
        let mut sandbox = ground.plain();
        sandbox.environment.insert("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned());
        let seen = lines(
            &sandbox,
            "id -u; id -G; umask; pwd; hostname; cat; tty || true; ls -A /sys /run /tmp | tr '\\n' ' '; echo; ls /dev | \
             tr '\\n' ' '; echo; ls /proc/self/fd | tr '\\n' ' '; echo; echo $$ | wc -c; ulimit -c; ulimit -n; grep -c : \
             /proc/net/dev",
        );
        let devices = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ";
        let expected = [
            "0",
            "0",
            "0022",
            "/",
            "kiln",
            "not a tty",
            "/run: /sys: block devices /tmp: ",
            devices,
            "0 1 2 3 ",
            "2",
            "0",
            "1024",
            "1",
        ];
        let seen: Vec<String> = seen.into_iter().map(|line| line.replace("  ", " ")).collect();
        assert_eq!(seen, expected);
        let environment = lines(&sandbox, "env -u _ -u PWD -u OLDPWD -u SHLVL | sort");
        assert_eq!(
            environment,
            [
                "HOME=/root",
                "LANG=C.UTF-8",
                "LC_ALL=C.UTF-8",
                "LOGNAME=root",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "SHELL=/bin/sh",
                "SOURCE_DATE_EPOCH=1",
                "TERM=dumb",
                "TZ=UTC",
                "USER=root"
            ]
        );
    });
}

#[test]
fn devices_work() {
    for_each_identity(|ground| {
        let seen = lines(
            &ground.plain(),
            "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c; echo y > /dev/stdout; \
             (echo z > /dev/full) 2>/dev/null || echo full; stat -c '%A %t:%T' /dev/null; stat -c %A /tmp /dev/shm; \
             stat -f -c %T /dev/pts",
        );
        let modes = ["full", "crw-rw-rw- 1:3", "drwxrwxrwt", "drwxrwxrwt", "devpts"];
        assert_eq!(seen, [&["3", "9", "y"], modes.as_slice()].concat());
    });
}

/// A person at a terminal: what is typed arrives, what is shown comes back, and the terminal is as before.
#[test]
fn a_shell_has_a_terminal_of_its_own() {
    for_each_identity(|ground| {
        let mut sandbox = ground.plain();
        let (ending, shown, restored) = ground
            .identity
            .act(move || {
                // Inside, this identity's root is root.
                sandbox.identity = kiln_sandbox::Identity::Root;
                sandbox.limits.timeout = Some(Duration::from_secs(60));
                at_a_terminal(
                    &sandbox,
                    b"trap 'exit 7' INT; tty; stty size; echo rea''dy; while :; do read x; done\n",
                    b"\x03",
                )
            })
            .unwrap();
        assert_eq!(ending, Ending::Code(7), "{shown}");
        assert!(shown.contains("/dev/pts/0") && shown.contains("50 120"), "{shown}");
        assert!(restored);
    });
}

/// Types into a terminal that is this process's, first one thing, and another once the shell itself is at work.
fn at_a_terminal(sandbox: &kiln_sandbox::Sandbox, first: &[u8], then: &'static [u8]) -> (Ending, String, bool) {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&person).unwrap();
    let terminal = ioctl_tiocgptpeer(&person, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    tcsetwinsize(&person, Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    rustix::stdio::dup2_stdin(&terminal).unwrap();
    rustix::stdio::dup2_stdout(&terminal).unwrap();
    let before = tcgetattr(&terminal).unwrap().local_modes;
    rustix::io::write(&person, first).unwrap();
    let watcher = std::thread::spawn(move || {
        let (mut shown, mut bytes, mut typed) = (Vec::new(), [0; 4096], false);
        while !shown.ends_with(b"the end") {
            let length = rustix::io::read(&person, &mut bytes[..]).unwrap();
            shown.extend_from_slice(&bytes[..length]);
            if !typed && shown.windows(5).any(|window| window == b"ready") {
                rustix::io::write(&person, then).unwrap();
                typed = true;
            }
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let command = Command { console: kiln_sandbox::Console::Terminal, ..Command::new("/bin/sh", ["-i"]) };
    let exit = sandbox.run(&command, &mut |_| {}, &CancelToken::new().unwrap()).unwrap();
    let restored = tcgetattr(&terminal).unwrap().local_modes == before;
    rustix::io::write(&terminal, b"the end").unwrap();
    (exit.ending, watcher.join().unwrap(), restored)
}

#[test]
fn time_is_up() {
    for_each_identity(|ground| {
        let mut sandbox = ground.plain();
        sandbox.limits.timeout = Some(Duration::from_millis(300));
        let (exit, lines) = script(&sandbox, "trap '' TERM INT HUP; echo begun; while :; do sleep 1000; done");
        assert_eq!((exit.ending, lines), (Ending::TimedOut, vec!["begun".to_owned()]));
    });
}

#[test]
fn a_flood_of_output_holds_nothing_up() {
    for_each_identity(|ground| {
        let mut sandbox = ground.plain();
        sandbox.limits.timeout = Some(Duration::from_millis(200));
        let mut lines = 0;
        // Slower than the program: there is always more to read.
        let mut show = |_: &str| {
            lines += 1;
            assert!(lines < 10_000, "it goes on after its time is up");
            std::thread::sleep(Duration::from_millis(1));
        };
        let flood = Command::shell("while :; do printf '%08000d\\n' 0; done");
        let exit = sandbox.run(&flood, &mut show, &CancelToken::new().unwrap()).unwrap();
        assert_eq!(exit.ending, Ending::TimedOut);
    });
}

#[test]
fn a_token_ends_it() {
    for_each_identity(|ground| {
        let token = CancelToken::new().unwrap();
        let thrown = token.clone();
        let mut throw = |line: &str| {
            assert_eq!(line, "begun");
            thrown.cancel();
        };
        let command = Command::shell("echo begun; exec sleep 1000");
        assert_eq!(ground.plain().run(&command, &mut throw, &token).unwrap().ending, Ending::Cancelled);
        assert_eq!(ground.plain().run(&command, &mut |_| {}, &token).unwrap().ending, Ending::Cancelled);
    });
}
