//! `kill -9` at any moment, several Kilns at once, a full disk: nothing half, nothing twice, nothing corrupt afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use kiln_model::digest::Sha256;
use kiln_testkit::web::Fault;
use kiln_testkit::{Compression, Kiln, Package};

use crate::fixture::{BASE, BASE_AND_WEB, BINARY, FACTORY, Shop, adding, checked, says, wait_until};

/// A package whose `.deb` is larger than anything that is written at once.
fn large() -> Package {
    // Not compressible, and the same each time.
    let words = (0_u64..100_000).flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Package::new("large", "1").compressed(Compression::None).file("/usr/share/large", words.collect::<Vec<u8>>())
}

const LARGE: &str = "pool/main/l/large/large_1_amd64.deb";

#[test]
fn a_killed_download_goes_on_where_it_stopped() {
    let mut shop = Shop::served(&BASE.replace("nginx", "large"));
    shop.publish(adding(large()));
    shop.lock();
    shop.web().fault(LARGE, Fault::Stall(500_000));
    let running = shop.kiln("fetch --no-toolbox").spawn();
    let digest = Sha256::of(&large().deb());
    let partial = shop.home.cache().join(format!("partial/{digest}"));
    wait_until(|| fs_err::metadata(&partial).is_ok_and(|metadata| metadata.len() >= 256 * 1024));
    assert_eq!(running.kill().status, None);
    shop.web().heal(LARGE);
    shop.web().forget_requests();
    let _ = shop.run("fetch").success();
    let requests = shop.web().requests();
    let request = requests.iter().find(|request| request.path() == LARGE).unwrap();
    assert!(request.header("range").is_some_and(|range| range != "bytes=0-"), "{request:#?}");
    assert_eq!(fs_err::read(shop.stored(&large().deb())).unwrap(), large().deb());
    shop.home.check_no_leftovers();
}

#[test]
fn a_killed_lock_leaves_the_old_one_or_the_new_one() {
    let shop = Shop::new(BASE);
    let old = shop.lock();
    shop.spec(BASE_AND_WEB);
    let new = shop.lock();
    let mut ended = BTreeSet::new();
    for pause in 0..20 {
        shop.write("kiln.lock", &old);
        let _ = fs_err::remove_dir_all(shop.home.cache());
        let running = shop.kiln("lock").spawn();
        std::thread::sleep(Duration::from_millis(pause * pause));
        ended.insert(running.kill().status);
        let text = shop.lock_text();
        assert!(text == old || text == new, "half a lock after {} ms:\n{text}", pause * pause);
        assert_eq!(shop.lock(), new);
        let _ = shop.run("lock --check").success();
    }
    assert!(ended.contains(&None), "none was killed");
    shop.home.check_no_leftovers();
    let entries: Vec<String> =
        shop.path("").read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
    assert_eq!(entries.len(), 3, "{entries:?}");
}

#[test]
fn two_locks_at_once_are_one() {
    let shop = Shop::served(BASE);
    shop.web().fault("dists/trixie/InRelease", Fault::Delay(Duration::from_millis(300)));
    let runs = [shop.kiln("lock").spawn(), shop.kiln("lock").spawn()];
    let outputs = runs.map(|run| checked(run.wait()).success());
    let mut ends: Vec<&str> = outputs.iter().filter_map(|output| output.stdout.lines().last()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["kiln.lock is up to date", "wrote kiln.lock"]);
    let asked = shop.asked();
    assert_eq!(asked.len(), 6, "{asked:#?}");
    let _ = shop.run("lock --check").success();
}

#[test]
fn two_fetches_at_once_ask_for_each_file_once() {
    let mut shop = Shop::served(&BASE.replace("\"nginx\"", "\"nginx\", \"large\""));
    shop.publish(adding(large()));
    shop.lock();
    shop.web().forget_requests();
    shop.web().fault(LARGE, Fault::Trickle(100_000, Duration::from_millis(50)));
    let runs = [shop.kiln("fetch").spawn(), shop.kiln("fetch").spawn()];
    for run in runs {
        let _ = checked(run.wait()).success();
    }
    let asked = shop.asked();
    assert_eq!(asked.len(), asked.iter().collect::<BTreeSet<_>>().len(), "{asked:#?}");
    shop.home.check_no_leftovers();
}

#[test]
fn a_fetch_goes_on_when_the_one_it_waits_for_is_killed() {
    let mut shop = Shop::served(&BASE.replace("nginx", "large"));
    shop.publish(adding(large()));
    shop.lock();
    shop.web().fault_times(LARGE, Fault::Stall(300_000), 1);
    let first = shop.kiln("fetch --no-toolbox").spawn();
    wait_until(|| shop.asked().iter().any(|path| path == LARGE));
    let second = shop.kiln("fetch --no-toolbox").spawn();
    wait_until(|| shop.home.cache().join("partial").read_dir_utf8().is_ok_and(|entries| entries.count() > 0));
    let _ = first.kill();
    let _ = checked(second.wait()).success();
}

/// Runs a script where it may mount, for itself alone; nothing where this machine does not let anybody do so.
fn with_mounts(shop: &Shop, script: &str) -> Option<kiln_testkit::Output> {
    let run = |how: &str, script: &str| {
        Kiln::new("/usr/bin/unshare", &shop.home).directory(FACTORY).args([how, "/bin/sh", "-euc", script]).run()
    };
    let probe = "mount -t tmpfs -o size=64k tmpfs \"$TMPDIR\"";
    let how = ["-m", "-rm"].into_iter().find(|how| run(how, probe).status == Some(0));
    if how.is_none() {
        kiln_testkit::cannot_test("nobody may have a mount namespace here, so no disk can be made small");
    }
    how.map(|how| run(how, script))
}

#[test]
fn a_full_disk_under_the_store_is_named_and_survived() {
    let mut shop = Shop::new(&BASE.replace("nginx", "large"));
    shop.publish(adding(large()));
    shop.lock();
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    // Six hundred kilobytes are free, and then all of it.
    let script = format!(
        "mount -t tmpfs -o size=8000k tmpfs \"$XDG_CACHE_HOME\"; head -c 7400k /dev/zero >\"$XDG_CACHE_HOME/filler\"
         code=0; {BINARY} fetch || code=$?; echo code $code >&2
         rm \"$XDG_CACHE_HOME/filler\"; {BINARY} fetch; {BINARY} fetch --offline; {BINARY} lock --check"
    );
    let Some(output) = with_mounts(&shop, &script) else { return };
    let output = checked(output).success();
    says(
        &output,
        &["error: download into ", "more bytes are needed", "o space left on device", "hint: make room", "code 3"],
    );
    says(&output, &["were there and intact", "kiln.lock fits kiln.toml"]);
}

#[test]
fn a_full_disk_under_the_factory_keeps_the_old_lock() {
    let shop = Shop::new(BASE);
    let old = shop.lock();
    shop.spec(BASE_AND_WEB);
    // Room for the factory and the old lock, none for a new one beside it.
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs \"$XDG_RUNTIME_DIR\"; cp ./* \"$XDG_RUNTIME_DIR\"; cd \"$XDG_RUNTIME_DIR\";
         head -c 100000 /dev/zero >filler || true; code=0; {BINARY} lock || code=$?; echo code $code >&2;
         cmp kiln.lock \"$OLDPWD/kiln.lock\"; rm filler; ls -A; {BINARY} lock"
    );
    let Some(output) = with_mounts(&shop, &script) else { return };
    let output = checked(output);
    says(&output, &["error: write the lock", "o space left on device", "code 3"]);
    assert!(!output.stdout.contains(".kiln.lock.new"), "{}", output.report());
    assert_eq!(shop.lock_text(), old);
}
