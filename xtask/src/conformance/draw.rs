//! Which packages to ask for: drawn from the archive, the same for the same seed.

use kiln_model::digest::Sha256;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

use super::archive::Archive;

/// Packages that are asked for together.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) kind: Kind,
    pub(super) names: Vec<String>,
}

/// How a set was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// One to five of all packages.
    Random,
    /// One to five of those that images are made of: they have most of the alternatives.
    Popular,
    /// Something that packages provide, and up to two packages.
    Provided,
    /// Twenty to fifty of all packages.
    Large,
}

/// Of 20 sets in a row, so many are of each kind.
const KINDS: &[(Kind, usize)] = &[(Kind::Random, 10), (Kind::Popular, 7), (Kind::Provided, 1), (Kind::Large, 2)];

/// What images are made of, and what they have to choose between.
const POPULAR: &str = "\
    systemd-sysv udev openssh-server ca-certificates nginx nginx-light apache2 haproxy postgresql mariadb-server redis \
    memcached rabbitmq-server varnish squid bind9 unbound dnsmasq postfix exim4 exim4-daemon-heavy nullmailer msmtp-mta \
    dovecot-imapd rsyslog syslog-ng cron anacron logrotate sudo vim nano emacs-nox less git curl wget rsync tmux screen \
    htop strace gdb build-essential gcc g++ clang make cmake pkg-config golang rustc cargo nodejs npm python3 python3-pip \
    python3-venv python3-dev ansible ansible-core puppet-agent ruby ruby-dev perl php-fpm php-cli php-mysql php \
    default-jre-headless default-jdk openjdk-17-jre-headless tomcat10 docker.io podman containerd runc buildah skopeo \
    qemu-system-x86 qemu-utils libvirt-daemon-system cloud-init cloud-guest-utils ifupdown network-manager netplan.io \
    iproute2 iptables nftables ufw fail2ban wireguard openvpn strongswan chrony ntpsec openntpd linux-image-amd64 \
    linux-image-cloud-amd64 linux-headers-amd64 grub-pc grub-efi-amd64 systemd-boot initramfs-tools dracut firmware-linux-free \
    cryptsetup lvm2 mdadm btrfs-progs xfsprogs e2fsprogs dosfstools parted gdisk nfs-kernel-server nfs-common samba cifs-utils \
    prometheus prometheus-node-exporter grafana zabbix-agent collectd telegraf munin-node snmpd monit auditd apparmor \
    selinux-basics policykit-1 polkitd dbus dbus-user-session gnupg gpg-agent pinentry-curses bash-completion locales \
    tzdata debconf-utils unattended-upgrades apt-listchanges mailutils bsd-mailx mutt lynx w3m jq xfce4 gnome-core \
    kde-plasma-desktop task-xfce-desktop lightdm xorg xterm firefox-esr chromium libreoffice-writer texlive-latex-base \
    imagemagick ffmpeg fonts-dejavu default-mysql-client default-mta awscli sysvinit-core runit s6 mawk gawk";

/// Draws `count` sets; `seed` says which.
pub(super) fn sets(archive: &Archive, count: usize, seed: &str) -> Vec<Set> {
    let mut random = Draw(ChaCha8Rng::from_seed(*Sha256::of(seed.as_bytes()).as_bytes()));
    let popular: Vec<String> = POPULAR.split_whitespace().map(str::to_owned).collect();
    let popular: Vec<String> = popular.into_iter().filter(|name| archive.names.binary_search(name).is_ok()).collect();
    let draw = |number| {
        let kind = kind(number);
        let names = match kind {
            Kind::Random => random.some(&archive.names, 1, 5),
            Kind::Popular => random.some(&popular, 1, 5),
            Kind::Large => random.some(&archive.names, 20, 50),
            Kind::Provided => {
                let mut names = random.some(&archive.provided_names, 1, 1);
                names.extend(random.some(&archive.names, 0, 2));
                names
            }
        };
        Set { kind, names }
    };
    (0..count).map(draw).collect()
}

/// The kinds alternate, so that few sets are of all kinds too.
fn kind(number: usize) -> Kind {
    let total: usize = KINDS.iter().map(|(_, share)| share).sum();
    // 7 has no factor in common with 20: every place is met once in a round.
    let mut place = number * 7 % total;
    for (kind, share) in KINDS {
        if place < *share {
            return *kind;
        }
        place -= share;
    }
    Kind::Random
}

/// Random choices.
struct Draw(ChaCha8Rng);

impl Draw {
    /// Between `least` and `most` of these, each at most once.
    fn some(&mut self, from: &[String], least: usize, most: usize) -> Vec<String> {
        let count = (least + self.below(most - least + 1)).min(from.len());
        let mut names: Vec<String> = Vec::with_capacity(count);
        while names.len() < count {
            let name = &from[self.below(from.len())];
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        let number = self.0.next_u64() % u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(number).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_shares() {
        for (kind, share) in KINDS {
            assert_eq!((0..20).filter(|number| self::kind(*number) == *kind).count(), *share, "{kind:?}");
        }
    }

    #[test]
    fn a_seed_decides_and_names_are_distinct() {
        let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
        let draw = |seed: u64| Draw(ChaCha8Rng::seed_from_u64(seed)).some(&names, 6, 6);
        let mut drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        drawn.sort();
        assert_eq!(drawn, names);
    }
}
