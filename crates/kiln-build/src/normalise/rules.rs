//! The rules, and what must be made again when an image first boots.

/// What is done to which files, and why.
#[derive(Debug)]
pub struct Rule {
    /// Which files, below the tree's root: `*` stands for any characters of a name, `**` for every file below.
    pub files: &'static [&'static str],
    /// What is done to them.
    pub action: Action,
    /// Why.
    pub why: &'static str,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes, a directory with all that is in it.
    Remove,
    /// It goes if the packages of a stage made it: what a step makes is meant.
    RemoveOfPackages,
    /// A link to a file of this name goes.
    RemoveLinkTo(&'static str),
    /// It stays with owner and mode, without content.
    Empty,
    /// It stays without content, unless a package ships it as it is.
    EmptyUnlessShipped,
    /// Days of passwords later than the epoch's become the epoch's.
    Days,
    /// Dates of certificates later than the epoch become the epoch.
    Dates,
}

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        files: &["run/*", "tmp/*", "var/tmp/*"],
        action: Action::Remove,
        why: "gone when a machine boots, or left by whoever made it",
    },
    Rule {
        files: &[
            "var/log/alternatives.log",
            "var/log/apt/*",
            "var/log/bootstrap.log",
            "var/log/dpkg.log",
            "var/log/fontconfig.log",
            "var/log/journal/*",
        ],
        action: Action::Remove,
        why: "tells when and where the image was built; whoever writes it makes it",
    },
    Rule {
        files: &["var/log/**"],
        action: Action::EmptyUnlessShipped,
        why: "an image begins with empty logs; daemons expect theirs with owner and mode",
    },
    Rule {
        files: &[
            "etc/group-",
            "etc/gshadow-",
            "etc/passwd-",
            "etc/shadow-",
            "etc/subgid-",
            "etc/subuid-",
            "var/cache/debconf/*-old",
            "var/lib/dpkg/*-old",
        ],
        action: Action::Remove,
        why: "a backup of the moment before the last change",
    },
    Rule {
        files: &["etc/shadow"],
        action: Action::Days,
        why: "notes the day of the build where a program knows no SOURCE_DATE_EPOCH",
    },
    Rule {
        files: &["var/cache/ldconfig/aux-cache"],
        action: Action::Remove,
        why: "inode numbers and times of the build's file system; ldconfig makes it again",
    },
    Rule {
        files: &[
            "var/cache/apt/*.bin",
            "var/cache/apt/archives/*.deb",
            "var/cache/apt/archives/lock",
            "var/cache/apt/archives/partial/*",
            "var/lib/apt/lists/*_*",
            "var/lib/apt/lists/lock",
            "var/lib/apt/lists/partial/*",
        ],
        action: Action::Remove,
        why: "apt's view of a mirror at the time of the build; `apt update` makes it again",
    },
    Rule {
        files: &["etc/ssl/certs/java/cacerts"],
        action: Action::Dates,
        why: "notes when each certificate was added",
    },
    Rule {
        files: &["root/.bash_history", "root/.lesshst", "root/.python_history", "root/.viminfo", "root/.wget-hsts"],
        action: Action::Remove,
        why: "what somebody did while the image was built",
    },
    Rule {
        files: &["etc/machine-id"],
        action: Action::Empty,
        why: "names one machine; empty, systemd takes the one that is given at boot",
    },
    Rule {
        files: &["var/lib/dbus/machine-id"],
        action: Action::Remove,
        why: "names one machine; systemd-tmpfiles links it to /etc/machine-id",
    },
    Rule {
        files: &["var/lib/systemd/credential.secret", "var/lib/systemd/random-seed", "var/lib/urandom/random-seed"],
        action: Action::Remove,
        why: "a secret of one machine; systemd makes it again",
    },
    Rule {
        files: &["etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_*_key.pub"],
        action: Action::Remove,
        why: "proves which machine one talks to",
    },
    Rule {
        files: &["etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/private/ssl-cert-snakeoil.key"],
        action: Action::Remove,
        why: "a key that whoever has the image would know",
    },
    Rule {
        files: &["etc/ssl/certs/*.0"],
        action: Action::RemoveLinkTo("ssl-cert-snakeoil.pem"),
        why: "names the certificate by its digest; goes with it",
    },
    Rule { files: &["etc/bind/rndc.key"], action: Action::Remove, why: "a key that whoever has the image would know" },
    Rule {
        files: &["var/lib/rabbitmq/.erlang.cookie"],
        action: Action::RemoveOfPackages,
        why: "a key that whoever has the image would know",
    },
    Rule {
        files: &["etc/aliases.db"],
        action: Action::Remove,
        why: "a database with a random id, made from /etc/aliases",
    },
    Rule {
        files: &["etc/iscsi/initiatorname.iscsi", "etc/nvme/hostid", "etc/nvme/hostnqn"],
        action: Action::RemoveOfPackages,
        why: "names one machine to its storage",
    },
    Rule {
        files: &["var/lib/postgresql/*/*/*"],
        action: Action::RemoveOfPackages,
        why: "a new cluster, with random identifiers and times all through; its directory and configuration stay",
    },
    Rule {
        files: &[
            "var/lib/mysql/aria_log*",
            "var/lib/mysql/ib*",
            "var/lib/mysql/mariadb_upgrade_info",
            "var/lib/mysql/multi-master.info",
            "var/lib/mysql/mysql",
            "var/lib/mysql/performance_schema",
            "var/lib/mysql/sys",
            "var/lib/mysql/undo*",
        ],
        action: Action::RemoveOfPackages,
        why: "a new database, with times and identifiers all through; its directory and configuration stay",
    },
];

/// What has to be made when an image first boots, because [`RULES`] took it out.
#[derive(Debug)]
pub struct FirstBoot {
    /// What it is.
    pub what: &'static str,
    /// It is wanted in trees that have a file of this pattern.
    pub wanted_if: &'static str,
    /// It is missing while no file of this pattern is there.
    pub missing_without: &'static str,
    /// Makes it, for the machine's `/bin/sh`, as root.
    pub script: &'static str,
    /// The units that must wait for it.
    pub before: &'static [&'static str],
}

/// Everything that has to be made. The machine's id, D-Bus's link to it and the random seed are not here: systemd and
/// Kiln's own initrd see to them.
pub const FIRST_BOOT: &[FirstBoot] = &[
    FirstBoot {
        what: "host keys of the SSH server",
        wanted_if: "usr/sbin/sshd",
        missing_without: "etc/ssh/ssh_host_*_key",
        script: "ssh-keygen -A",
        before: &["ssh.service", "ssh.socket", "sshd@.service"],
    },
    FirstBoot {
        what: "snake-oil certificate",
        wanted_if: "usr/sbin/make-ssl-cert",
        missing_without: "etc/ssl/private/ssl-cert-snakeoil.key",
        script: "make-ssl-cert generate-default-snakeoil",
        before: &["network.target"],
    },
    FirstBoot {
        what: "key of BIND's control channel",
        wanted_if: "usr/sbin/named",
        missing_without: "etc/bind/rndc.key",
        script: "rndc-confgen -a && chown bind:bind /etc/bind/rndc.key && chmod 0640 /etc/bind/rndc.key",
        before: &["named.service"],
    },
    FirstBoot {
        what: "name of the machine for NVMe over Fabrics",
        wanted_if: "usr/sbin/nvme",
        missing_without: "etc/nvme/hostnqn",
        script: "nvme gen-hostnqn >/etc/nvme/hostnqn && uuidgen >/etc/nvme/hostid",
        before: &["nvmf-autoconnect.service"],
    },
    FirstBoot {
        what: "name of the machine for iSCSI",
        wanted_if: "usr/sbin/iscsi-iname",
        missing_without: "etc/iscsi/initiatorname.iscsi",
        script: "umask 077; echo \"InitiatorName=$(iscsi-iname -p iqn.1993-08.org.debian:01)\" \
                 >/etc/iscsi/initiatorname.iscsi",
        before: &["iscsid.service", "iscsid.socket"],
    },
    FirstBoot {
        what: "secret of RabbitMQ's nodes",
        wanted_if: "usr/sbin/rabbitmq-server",
        missing_without: "var/lib/rabbitmq/.erlang.cookie",
        script: "umask 377; openssl rand -base64 -out /var/lib/rabbitmq/.erlang.cookie 42 && \
                 chown rabbitmq:rabbitmq /var/lib/rabbitmq/.erlang.cookie",
        before: &["rabbitmq-server.service"],
    },
    FirstBoot {
        what: "database of mail aliases",
        wanted_if: "usr/sbin/postalias",
        missing_without: "etc/aliases.db",
        script: "newaliases",
        before: &["postfix.service"],
    },
    FirstBoot {
        what: "PostgreSQL's clusters",
        wanted_if: "etc/postgresql/*/*/postgresql.conf",
        missing_without: "var/lib/postgresql/*/*/PG_VERSION",
        script: include_str!("postgresql.sh"),
        before: &["postgresql.service", "postgresql@.service"],
    },
    FirstBoot {
        what: "MariaDB's system tables",
        wanted_if: "usr/sbin/mariadbd",
        missing_without: "var/lib/mysql/mysql",
        script: "mariadb-install-db --rpm --cross-bootstrap --user=mysql --disable-log-bin --skip-test-db",
        before: &["mariadb.service"],
    },
];

/// The tables as Markdown, for `docs/determinism.md`.
#[must_use]
pub fn print() -> String {
    let mut text = "| files below the root | what is done | why |\n|---|---|---|\n".to_owned();
    for Rule { files, action, why } in RULES {
        text += &format!("| {} | {} | {why} |\n", code(files), words(*action));
    }
    text += "\n| made at first boot | in trees with | while there is no | before |\n|---|---|---|---|\n";
    for FirstBoot { what, wanted_if, missing_without, before, .. } in FIRST_BOOT {
        text += &format!("| {what} | `{wanted_if}` | `{missing_without}` | {} |\n", before.join(", "));
    }
    text
}

fn code(files: &[&str]) -> String {
    files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(" ")
}

fn words(action: Action) -> String {
    match action {
        Action::Remove => "removed".to_owned(),
        Action::RemoveOfPackages => "removed if packages made it".to_owned(),
        Action::RemoveLinkTo(name) => format!("removed if it is a link to `{name}`"),
        Action::Empty => "emptied".to_owned(),
        Action::EmptyUnlessShipped => "emptied unless a package ships it".to_owned(),
        Action::Days => "days later than the epoch's become the epoch's".to_owned(),
        Action::Dates => "dates later than the epoch become the epoch".to_owned(),
    }
}
