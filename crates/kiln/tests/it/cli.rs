//! The command line itself: help, exit codes, what goes to which stream.

use kiln_testkit::{Home, Kiln};

use crate::fixture::{BASE, BINARY, FACTORY, Shop, checked, kiln, says};

#[track_caller]
fn check(arguments: &str, code: i32, texts: &[&str]) {
    let output = checked(kiln(&Home::new(), arguments).run()).code(code);
    assert_eq!(output.stdout, "", "a failure's words go to standard error");
    says(&output, texts);
}

#[test]
fn mistakes_of_usage_end_with_2() {
    check("", 2, &["Usage: kiln [OPTIONS] <COMMAND>"]);
    check("lokc", 2, &["unrecognized subcommand 'lokc'", "'lock'"]);
    check("lock --lsit", 2, &["unexpected argument '--lsit' found", "'--list'"]);
    check("lock --check --dry-run", 2, &["cannot be used with"]);
    check("lock --security", 2, &["--update"]);
    check("lock --update --check", 2, &["cannot be used with"]);
    check("fetch --to out base", 2, &["cannot be used with"]);
    check("init --template shiny", 2, &["[possible values: web, minimal]"]);
}

#[test]
fn no_spec_says_how_to_get_one() {
    for verb in ["lock", "lock --check", "lock --update", "fetch"] {
        check(
            verb,
            2,
            &["error: there is no kiln.toml in .", "hint: kiln init writes one; -C names another directory"],
        );
        check(&format!("-C nowhere {verb}"), 2, &["error: there is no kiln.toml in nowhere", "hint: kiln init"]);
    }
}

#[test]
fn no_lock_is_a_no() {
    let shop = Shop::new(BASE);
    for verb in ["lock --check", "lock --list", "fetch"] {
        says(&shop.run(verb).code(1), &["error: there is no kiln.lock", "hint: kiln lock writes it"]);
    }
}

#[test]
fn settings_that_are_no_settings() {
    let shop = Shop::new(BASE);
    let run = |name, value| checked(shop.kiln("lock").env(name, value).run()).code(2);
    says(
        &run("KILN_HTTP_TIMEOUT", "30"),
        &["KILN_HTTP_TIMEOUT is `30`", "hint: it takes a length of time such as 30s"],
    );
    says(&run("KILN_HTTP_RETRIES", "many"), &["KILN_HTTP_RETRIES is `many`", "hint: it takes a number"]);
    let output = run("http_proxy", "socks5://me:s3cret@proxy.example");
    says(&output, &["use the http proxy: it is not an address such as http://proxy.example:3128"]);
    assert!(!output.report().contains("s3cret"));
}

#[test]
fn a_store_needs_a_place() {
    let shop = Shop::new(BASE);
    let output = shop.kiln("lock").without_env("HOME").without_env("XDG_CACHE_HOME").run();
    says(&checked(output).code(3), &["no directory for the store", "hint: set XDG_CACHE_HOME"]);
    let output = shop.kiln("lock").env("XDG_CACHE_HOME", "/proc/nowhere").run();
    says(&checked(output).code(3), &["/proc/nowhere", "hint: ", "XDG_CACHE_HOME"]);
}

#[test]
fn dash_c_names_the_factory() {
    let shop = Shop::new(BASE);
    let by_path = shop.path("").to_string();
    for arguments in [format!("-C {by_path} lock"), format!("lock -C {FACTORY}"), format!("lock --factory {FACTORY}")] {
        let _ = checked(kiln(&shop.home, &arguments).run()).success();
        assert!(shop.path("kiln.lock").exists());
        fs_err::remove_file(shop.path("kiln.lock")).unwrap();
    }
}

#[test]
fn results_and_progress_go_their_own_ways() {
    let shop = Shop::new(BASE);
    let output = shop.run("lock").success();
    assert!(output.stdout.contains("wrote kiln.lock") && !output.stderr.contains("wrote kiln.lock"));
    assert!(output.stderr.contains("solving class base") && !output.stdout.contains("solving"));
    let quiet = shop.run("--quiet fetch").success();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.starts_with("downloaded and verified "), "{}", quiet.stdout);
}

#[test]
fn a_reader_that_goes_away_ends_the_output_only() {
    let shop = Shop::new(BASE);
    shop.lock();
    let script = format!("({BINARY} lock --list; echo $? >code) | head -n 1");
    let output = Kiln::new("/bin/sh", &shop.home).directory(FACTORY).args(["-c", &script]).run();
    let output = checked(output).success();
    assert_eq!(output.stdout.lines().count(), 1);
    assert_eq!(output.stderr, "");
    assert_eq!(fs_err::read_to_string(shop.path("code")).unwrap(), "0\n");
}

#[test]
fn schema_and_completions_are_printed() {
    let home = Home::new();
    let schema = kiln(&home, "schema").run().success().stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["class"].is_object(), "{schema}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = kiln(&home, &format!("completions {shell}")).run().success().stdout;
        assert!(script.contains("allow-older"), "{script}");
    }
}

#[test]
fn help_of_every_verb() {
    let help = |arguments: &str| {
        let text = kiln(&Home::new(), arguments).run().success().stdout;
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>()
    };
    insta::assert_snapshot!(help("--help"), @"
    An image factory: bakes one immutable machine image per class of work, proves it, gives it a
    version, and rolls it out

    Usage: kiln [OPTIONS] <COMMAND>

    Commands:
      init         Write a factory to start from
      lock         Write kiln.lock: the exact packages, indexes and downloads that kiln.toml asks for
      fetch        Bring every locked file into the store, verified
      build        Build the trees of classes: packages, then steps, exactly as kiln.lock has them
      why          Say why something is, or would be, as it is
      shell        Open a shell in a throw-away copy of a class's tree, as the last build left it
      gc           Remove from the store what nothing refers to any more
      export       Write a class's tree as a tar archive, an OCI image or a directory
      doctor       Say what this machine allows Kiln to do, and how to mend what it does not
      schema       Print the JSON schema of kiln.toml, for editors
      completions  Print a completion script for a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
      -C, --factory <DIR>  The factory: the directory with kiln.toml [default: .]
          --json           Write events and the result as JSON lines on standard output
      -q, --quiet          Say nothing but warnings, errors and the result
          --offline        Use no network: what is not in the store or in a file: mirror is an error

    Exit codes:
      0   done
      1   the answer is no: --check found that the lock does not fit, a step or script of a build failed
      2   the command line, the spec or the lock is wrong
      3   the environment refuses: network, permission, disk
      70  a bug in Kiln
      130 interrupted

    Environment:
      KILN_MIRROR        mirrors, separated by blanks, tried before the host's apt sources
      KILN_HTTP_TIMEOUT  how long a server may say nothing (30s)
      KILN_HTTP_RETRIES  how often a request that failed is made again (4)
      CI                 if set, kiln build is --locked
      XDG_CACHE_HOME     the store is in kiln/ there (~/.cache)
      http_proxy, https_proxy, all_proxy, no_proxy
    ");
    insta::assert_snapshot!(help("init --help"), @"
    Write a factory to start from.

    Nothing is overwritten: if one of its files is already there, none is written.

    Usage: kiln init [OPTIONS]

    Options:
          --template <TEMPLATE>
              What to start from

              Possible values:
              - web:     A base class and a web server, with a site, checks and a group of three
              - minimal: One class that boots

              [default: web]

          --name <NAME>
              The factory's name; the directory's name unless given

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C, --factory <DIR>
              The factory: the directory with kiln.toml

              [default: .]

          --json
              Write events and the result as JSON lines on standard output

      -q, --quiet
              Say nothing but warnings, errors and the result

          --offline
              Use no network: what is not in the store or in a file: mirror is an error
    ");
    insta::assert_snapshot!(help("lock --help"), @"
    Write kiln.lock: the exact packages, indexes and downloads that kiln.toml asks for.

    A lock that fits its spec is left alone, and nothing is asked of the network. When the spec has
    changed, locked versions are kept wherever they still answer it.

    Usage: kiln lock [OPTIONS]

    Options:
          --update [<PACKAGE>...]
              Take newer versions from newer indexes: of these packages (or all of a source package), or
              of every package

          --security
              With --update: only what the security suite changed

          --check
              Change nothing; exit 1 and say why if the lock no longer fits the spec or the files it
              names

          --dry-run
              Show what would change; write nothing

          --allow-older
              Accept indexes older than the lock's: a mirror that was rolled back, or an attack

          --list [<CLASS>]
              List the locked packages of a class with its parents' (or of every class, with its steps'
              tools), in the order they are installed

          --why <PACKAGE>
              Say what brought a package into each class that has it

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C, --factory <DIR>
              The factory: the directory with kiln.toml

              [default: .]

          --json
              Write events and the result as JSON lines on standard output

      -q, --quiet
              Say nothing but warnings, errors and the result

          --offline
              Use no network: what is not in the store or in a file: mirror is an error
    ");
    insta::assert_snapshot!(help("fetch --help"), @"
    Bring every locked file into the store, verified.

    What is there already is hashed again, so that a damaged file is found and fetched anew. An
    interrupted fetch goes on where it stopped.

    Usage: kiln fetch [OPTIONS] [CLASSES]...

    Arguments:
      [CLASSES]...
              Only these classes, with what they inherit

    Options:
          --no-toolbox
              Leave Kiln's own tools out

          --from <DIR|URL>
              Look here too, before the mirrors: a mirror's address, or a directory of .deb files

          --to <DIR>
              Write a directory with the indexes as they were signed and every locked file: named in
              KILN_MIRROR as file:///DIR it serves this lock for ever, without a network

      -h, --help
              Print help (see a summary with '-h')

    Global options:
      -C, --factory <DIR>
              The factory: the directory with kiln.toml

              [default: .]

          --json
              Write events and the result as JSON lines on standard output

      -q, --quiet
              Say nothing but warnings, errors and the result

          --offline
              Use no network: what is not in the store or in a file: mirror is an error
    ");
    for verb in ["init", "lock", "fetch", "gc", "doctor", "schema", "completions"] {
        assert!(help("-h").contains(&format!("\n  {verb} ")), "{verb}");
    }
}
