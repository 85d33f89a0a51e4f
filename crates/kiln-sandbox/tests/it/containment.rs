//! Programs that mean harm, or do it by mistake.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use fs_err as fs;
use kiln_sandbox::{CancelToken, Command, Ending, Identity, SandboxError, Upper};

use crate::ground::{for_each_identity, lines, script};

/// Processes of the host whose command line has this word.
fn running(word: &str) -> usize {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.filter(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())).count()
}

/// Waits, for a time that only a broken sandbox needs, until no process has this word.
fn assert_none_runs(word: &str) {
    for _ in 0..1000 {
        if running(word) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} processes are left", running(word));
}

/// A number of seconds that no other test, and no other run, sleeps.
fn marker(number: u32) -> String {
    format!("{}{number:02}", 1_000_000 + std::process::id())
}

#[test]
fn daemons_end_with_the_program() {
    for_each_identity(|ground| {
        let marker = marker(1);
        let daemons = format!(
            "trap '' TERM HUP; (setsid sleep {marker} >/dev/null 2>&1 &) ; sh -c 'setsid sh -c \"(sleep {marker} &)\"'; \
             cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c {marker}"
        );
        let seen = lines(&ground.plain(), &daemons);
        assert!(seen.last().unwrap().parse::<usize>().unwrap() >= 2, "{seen:?}");
        assert_eq!(running(&marker), 0);
    });
}

#[test]
fn nothing_outlives_kiln() {
    for_each_identity(|ground| {
        let marker = marker(2);
        let pid_file = ground.path("pid");
        let identity = ground.identity;
        // A process that has a sandbox of its own, as Kiln is one, and is killed.
        let result = identity.act(|| {
            let mut sandbox = ground.plain();
            sandbox.identity = Identity::Root;
            let kill_self = |line: &str| {
                assert_eq!(line, "begun");
                fs::write(&pid_file, running(&marker).to_string()).unwrap();
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
            };
            let script = format!("setsid sleep {marker} & sleep {marker} & sleep 0.1; echo begun; sleep {marker}");
            sandbox.run(&Command::shell(script), &mut { kill_self }, &CancelToken::new().unwrap()).map(|_| ()).is_ok()
        });
        assert!(matches!(result, Err(SandboxError::Died { .. })), "{result:?}");
        let seen = identity.act(|| fs::read_to_string(&pid_file).unwrap()).unwrap();
        assert!(seen.parse::<usize>().unwrap() >= 2, "{seen}");
        assert_none_runs(&marker);
    });
}

#[test]
fn a_fork_bomb_runs_into_its_limit() {
    for_each_identity(|ground| {
        let mut sandbox = ground.plain();
        sandbox.limits.processes = 60;
        sandbox.limits.timeout = Some(Duration::from_secs(60));
        let bomb = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; echo unlimited";
        let (exit, lines) = script(&sandbox, bomb);
        assert_ne!(exit.ending, Ending::Code(0));
        assert!(lines.iter().any(|line| line.contains("ork")) && !lines.contains(&"unlimited".to_owned()), "{lines:?}");
    });
}

#[test]
fn a_full_disk_is_the_programs_own() {
    for_each_identity(|ground| {
        let mut sandbox = ground.sandbox(&[], Upper::Memory(ground.path("full")));
        sandbox.limits.layer_bytes = Some(1 << 20);
        sandbox.limits.temporary_bytes = Some(1 << 20);
        for path in ["/file", "/tmp/file", "/run/file", "/dev/file", "/dev/shm/file"] {
            let (exit, lines) = script(&sandbox, &format!("head -c 3000000 /dev/zero > {path}"));
            assert_eq!(exit.ending, Ending::Code(1), "{path}");
            assert!(lines.concat().contains("No space left on device"), "{path}: {lines:?}");
            kiln_sandbox::layer::remove_tree(&ground.path("full"), ground.identity).unwrap();
        }
    });
}

#[test]
fn the_host_cannot_be_changed() {
    for_each_identity(|ground| {
        let mode = fs::metadata("/dev/null").unwrap().mode();
        let attempts = [
            "echo 1 > /proc/sys/kernel/domainname",
            "echo x > /proc/sys/kernel/core_pattern",
            "echo h > /proc/sysrq-trigger",
            "mount -t tmpfs x /tmp",
            "mount -o remount,rw /proc/sys",
            "umount /proc/sys",
            "mknod /node c 1 3",
            "hostname other",
            "date -s @0",
            "touch /usr/x",
            "mkdir /sys/x",
            "nice -n -20 true 2>&1 | grep -q . && false",
            "chroot /proc/1/root true",
            "for one in /proc/1/fd/*; do readlink $one && exit 0; done; false",
            "unshare -m true",
            "dmesg --console-off",
        ];
        for attempt in attempts {
            let (exit, lines) = script(&ground.plain(), &format!("( {attempt} ) 2>&1"));
            assert!(!exit.ending.is_success(), "{attempt} worked: {lines:?}");
        }
        script(&ground.plain(), "chmod 600 /dev/null; rm -f /dev/null /dev/zero; echo > /dev/null");
        assert_eq!(fs::metadata("/dev/null").unwrap().mode(), mode);
    });
}

#[test]
fn there_is_no_network_but_the_loopback_interface() {
    for_each_identity(|ground| {
        let sandbox = ground.plain();
        let outcome = sandbox.call(
            |_| {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let own = std::net::TcpStream::connect(listener.local_addr().unwrap()).is_ok();
                // Addresses that are documentation's, so that nothing is asked even where the sandbox fails.
                let far = ["192.0.2.1:80", "[2001:db8::1]:80"];
                (own, far.map(|to| std::net::TcpStream::connect(to).unwrap_err().kind().to_string()))
            },
            &mut |_| {},
            &CancelToken::new().unwrap(),
        );
        assert_eq!(outcome.unwrap(), (true, ["network unreachable"; 2].map(str::to_owned)));
    });
}

/// A tree is hostile: a symbolic link where something is mounted must not lead out of it.
#[test]
fn links_of_the_tree_stay_in_the_tree() {
    for_each_identity(|ground| {
        let outside = ground.path("outside");
        let links = ground.path("links");
        let prepare = || {
            fs::create_dir(&outside).unwrap();
            fs::create_dir(&links).unwrap();
            for name in ["tmp", "run"] {
                fs::os::unix::fs::symlink(format!("{outside}/{name}"), links.join(name)).unwrap();
            }
        };
        ground.identity.act(prepare).unwrap();
        let token = CancelToken::new().unwrap();
        let result = ground.sandbox(&["links"], Upper::Discard).run(&Command::shell("true"), &mut |_| {}, &token);
        assert!(matches!(result, Err(SandboxError::Inside { .. })), "{result:?}");
        assert_eq!(ground.identity.act(|| fs::read_dir(&outside).unwrap().count()).unwrap(), 0);
    });
}
