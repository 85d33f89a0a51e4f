//! Small, consistent sets of packages with Debian's names, versions near trixie's, and the relations that matter.
//!
//! Every package is real and empty: a `.deb` with a copyright file. Relations are a cut of the real ones, chosen so that
//! each kind occurs: Pre-Depends, alternatives, versioned Provides, virtual packages, Breaks with Replaces, Conflicts,
//! `all` and `amd64`, Multi-Arch. Each package can be installed; a few exclude each other, as `dracut` and `initramfs-tools` do.

use camino::Utf8PathBuf;

use crate::package::Package;
use crate::repository::{Repository, Suite};

/// What every Debian system has: the essential packages, what they need, apt and the archive's keyring.
#[must_use]
pub fn essential_base() -> Vec<Package> {
    Package::parse_all(ESSENTIAL_BASE)
}

/// What a small web shop asks for on top: systemd, udev, OpenSSH, nginx, certificates, the cloud kernel.
#[must_use]
pub fn shop() -> Vec<Package> {
    Package::parse_all(SHOP)
}

/// What Kiln itself uses: QEMU, HAProxy, firmware, file system tools.
#[must_use]
pub fn toolbox() -> Vec<Package> {
    Package::parse_all(TOOLBOX)
}

impl Suite {
    /// The suite with [`essential_base`], [`shop`] and [`toolbox`] in its current component.
    #[must_use]
    pub fn with_archive(self) -> Self {
        self.packages(essential_base()).packages(shop()).packages(toolbox())
    }
}

impl Repository {
    /// A mirror of Debian: trixie with all of this module, trixie-updates and trixie-security with a newer version each.
    ///
    /// Signed by the keys `archive` and `security`.
    #[must_use]
    pub fn debian(root: impl Into<Utf8PathBuf>) -> Self {
        let newer = |name: &str, version: &str| {
            let all = [essential_base(), shop(), toolbox()].concat();
            let package = all.into_iter().find(|package| package.name() == name);
            package.expect("a package of the archive").at_version(version)
        };
        Self::new(root)
            .suite(Suite::new("trixie").alias("stable").with_archive())
            .suite(Suite::updates("trixie").alias("stable-updates").package(newer("tzdata", "2025b-4+deb13u1")))
            .suite(Suite::security("trixie").alias("stable-security").package(newer("openssl", "3.5.1-1+deb13u1")))
    }
}

const ESSENTIAL_BASE: &str = "
Package: base-files
Version: 13.8
Essential: yes
Priority: required
Pre-Depends: awk
Provides: base
Multi-Arch: foreign

Package: base-passwd
Version: 3.6.7
Essential: yes
Priority: required
Depends: libc6 (>= 2.34), libdebconfclient0 (>= 0.145), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: bash
Version: 5.2.37-2+b5
Source: bash (5.2.37-2)
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38), libtinfo6 (>= 6)
Depends: base-files (>= 2.1.12), debianutils (>= 5.6-0.1)
Multi-Arch: foreign

Package: bsdutils
Version: 1:2.41-5
Source: util-linux (2.41-5)
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38)
Multi-Arch: foreign

Package: coreutils
Version: 9.7-3
Essential: yes
Priority: required
Pre-Depends: libacl1 (>= 2.2.23), libattr1 (>= 1:2.4.44), libc6 (>= 2.38), libgmp10 (>= 2:6.3.0), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: dash
Version: 0.5.12-12
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38)
Depends: debianutils (>= 5.6-0.1)
Multi-Arch: foreign

Package: debconf
Version: 1.5.91
Architecture: all
Priority: required
Provides: debconf-2.0
Multi-Arch: foreign

Package: debianutils
Version: 5.23.2
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38)
Multi-Arch: foreign

Package: diffutils
Version: 1:3.10-4
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38)

Package: dpkg
Version: 1.22.21
Essential: yes
Priority: required
Pre-Depends: libbz2-1.0, libc6 (>= 2.38), liblzma5 (>= 5.4.0), libmd0 (>= 0.0.0), libselinux1 (>= 3.1), libzstd1 (>= 1.5.5), zlib1g (>= 1:1.1.4)
Depends: tar (>= 1.28-1)
Breaks: apt (<< 1.8~)
Multi-Arch: foreign

Package: findutils
Version: 4.10.0-3
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: grep
Version: 3.11-4
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.34), libpcre2-8-0 (>= 10.32)
Multi-Arch: foreign

Package: gzip
Version: 1.13-1
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.34)

Package: hostname
Version: 3.25
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.34)

Package: init-system-helpers
Version: 1.69~deb13u1
Architecture: all
Essential: yes
Priority: required
Multi-Arch: foreign

Package: libc-bin
Version: 2.41-12
Source: glibc
Essential: yes
Priority: required
Depends: libc6 (>> 2.41), libc6 (<< 2.42)
Multi-Arch: foreign

Package: login.defs
Version: 1:4.17.4-2
Source: shadow
Architecture: all
Priority: required
Multi-Arch: foreign

Package: mawk
Version: 1.3.4.20250131-1
Priority: required
Pre-Depends: libc6 (>= 2.38)
Provides: awk
Multi-Arch: foreign

Package: ncurses-base
Version: 6.5+20250216-2
Source: ncurses
Architecture: all
Essential: yes
Priority: required
Provides: ncurses-runtime
Multi-Arch: foreign

Package: ncurses-bin
Version: 6.5+20250216-2
Source: ncurses
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38), libtinfo6 (>= 6.5)
Multi-Arch: foreign

Package: perl-base
Version: 5.40.1-6
Source: perl
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.38), libcrypt1 (>= 1:4.1.0), dpkg (>= 1.17.17)
Provides: libfile-path-perl, libfile-temp-perl, perlapi-5.40.0

Package: sed
Version: 4.9-2
Essential: yes
Priority: required
Pre-Depends: libacl1 (>= 2.2.23), libc6 (>= 2.38), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: sysvinit-utils
Version: 3.14-4
Source: sysvinit
Essential: yes
Priority: required
Depends: libc6 (>= 2.38)
Breaks: lsb-base (<< 11.3~)
Replaces: lsb-base (<< 11.3~)
Provides: lsb-base (= 11.1.0)
Multi-Arch: foreign

Package: tar
Version: 1.35+dfsg-3.1
Essential: yes
Priority: required
Pre-Depends: libacl1 (>= 2.2.23), libc6 (>= 2.38), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: util-linux
Version: 2.41-5
Essential: yes
Priority: required
Pre-Depends: libblkid1 (>= 2.37.2), libc6 (>= 2.38), libcrypt1 (>= 1:4.1.0), libselinux1 (>= 3.1), libtinfo6 (>= 6)
Multi-Arch: foreign

Package: libacl1
Version: 2.3.2-2+b1
Source: acl (2.3.2-2)
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libattr1
Version: 1:2.5.2-3
Source: attr
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libblkid1
Version: 2.41-5
Source: util-linux
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libbz2-1.0
Version: 1.0.8-6
Source: bzip2
Depends: libc6 (>= 2.4)
Multi-Arch: same

Package: libc6
Version: 2.41-12
Source: glibc
Depends: libgcc-s1
Recommends: libc-bin
Breaks: busybox (<< 1.30.1-6), fakechroot (<< 2.19-3.5)
Multi-Arch: same

Package: libcap2
Version: 1:2.75-10+b1
Source: libcap2 (1:2.75-10)
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libcrypt1
Version: 1:4.4.38-1
Source: libxcrypt
Depends: libc6 (>= 2.36)
Replaces: libc6 (<< 2.29-4)
Multi-Arch: same

Package: libdebconfclient0
Version: 0.280
Source: cdebconf
Depends: libc6 (>= 2.4)
Multi-Arch: same

Package: libgcc-s1
Version: 14.2.0-19
Source: gcc-14
Depends: gcc-14-base (= 14.2.0-19), libc6 (>= 2.35)
Provides: libgcc1 (= 1:14.2.0-19)
Multi-Arch: same

Package: gcc-14-base
Version: 14.2.0-19
Source: gcc-14
Multi-Arch: same

Package: libgmp10
Version: 2:6.3.0+dfsg-3
Source: gmp
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: liblzma5
Version: 5.8.1-1
Source: xz-utils
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libmd0
Version: 1.1.0-2+b1
Source: libmd (1.1.0-2)
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libpcre2-8-0
Version: 10.45-1
Source: pcre2
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libselinux1
Version: 3.8.1-1
Source: libselinux
Depends: libc6 (>= 2.38), libpcre2-8-0 (>= 10.22)
Multi-Arch: same

Package: libtinfo6
Version: 6.5+20250216-2
Source: ncurses
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: libzstd1
Version: 1.5.7+dfsg-1
Source: libzstd
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: zlib1g
Version: 1:1.3.dfsg+really1.3.1-1+b1
Source: zlib (1:1.3.dfsg+really1.3.1-1)
Depends: libc6 (>= 2.14)
Multi-Arch: same

Package: adduser
Version: 3.152
Architecture: all
Priority: important
Depends: passwd (>= 1:4.17.2-5)
Multi-Arch: foreign

Package: apt
Version: 3.0.3
Priority: important
Depends: adduser, debian-archive-keyring, libapt-pkg7.0 (>= 3.0.3), libc6 (>= 2.38), sqv (>= 1.3.0) | gpgv
Recommends: ca-certificates
Breaks: apt-transport-https (<< 1.5~alpha4~)
Replaces: apt-transport-https (<< 1.5~alpha4~)
Provides: apt-transport-https (= 3.0.3)

Package: debian-archive-keyring
Version: 2025.1
Architecture: all
Priority: important
Multi-Arch: foreign

Package: gpgv
Version: 2.4.7-21
Source: gnupg2
Depends: libc6 (>= 2.38), zlib1g (>= 1:1.1.4)
Multi-Arch: foreign

Package: libapt-pkg7.0
Version: 3.0.3
Source: apt
Depends: libbz2-1.0, libc6 (>= 2.38), liblzma5 (>= 5.1.1alpha+20120614), libzstd1 (>= 1.5.5), zlib1g (>= 1:1.2.2.3)
Recommends: apt (>= 3.0.3)
Multi-Arch: same

Package: libpam-modules
Version: 1.7.0-5
Source: pam
Priority: required
Pre-Depends: libc6 (>= 2.38), libpam0g (>= 1.4.0), debconf (>= 0.5) | debconf-2.0
Multi-Arch: same

Package: libpam-runtime
Version: 1.7.0-5
Source: pam
Architecture: all
Priority: required
Depends: debconf (>= 0.5) | debconf-2.0, libpam-modules (>= 1.0.1-6)
Multi-Arch: foreign

Package: libpam0g
Version: 1.7.0-5
Source: pam
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: passwd
Version: 1:4.17.4-2
Source: shadow
Priority: required
Depends: base-passwd (>= 3.6.4), libc6 (>= 2.38), libcrypt1 (>= 1:4.1.0), libpam0g (>= 0.99.7.1), libpam-modules, login.defs
Multi-Arch: foreign

Package: sqv
Version: 1.3.0-3
Source: rust-sequoia-sqv
Depends: libc6 (>= 2.38), libgcc-s1 (>= 4.2)
Multi-Arch: foreign

Package: tzdata
Version: 2025b-4
Architecture: all
Priority: required
Depends: debconf (>= 0.5) | debconf-2.0
Provides: tzdata-trixie
Multi-Arch: foreign
";

const SHOP: &str = "
Package: ca-certificates
Version: 20250419
Architecture: all
Priority: standard
Depends: openssl (>= 1.1.1), debconf (>= 0.5) | debconf-2.0
Multi-Arch: foreign

Package: openssl
Version: 3.5.1-1
Depends: libc6 (>= 2.38), libssl3t64 (>= 3.5.0)
Multi-Arch: foreign

Package: libssl3t64
Version: 3.5.1-1
Source: openssl
Depends: libc6 (>= 2.38), libzstd1 (>= 1.5.5), zlib1g (>= 1:1.1.4)
Breaks: libssl3 (<< 3.5.1-1)
Replaces: libssl3
Provides: libssl3 (= 3.5.1-1)
Multi-Arch: same

Package: systemd
Version: 257.7-1
Priority: important
Pre-Depends: libc6 (>= 2.38), libssl3t64 (>= 3.0.0)
Depends: libsystemd-shared (= 257.7-1), libsystemd0 (= 257.7-1), mount
Recommends: dbus-broker | default-dbus-system-bus | dbus, systemd-timesyncd | time-daemon, linux-sysctl-defaults
Provides: systemd-sysusers (= 257.7-1), systemd-tmpfiles (= 257.7-1)
Conflicts: systemd-standalone-sysusers
Multi-Arch: foreign

Package: systemd-standalone-sysusers
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38)
Conflicts: systemd-sysusers
Provides: systemd-sysusers (= 257.7-1)
Replaces: systemd-sysusers

Package: systemd-sysv
Version: 257.7-1
Source: systemd
Priority: important
Pre-Depends: systemd
Recommends: libpam-systemd, libnss-systemd
Conflicts: sysvinit-core
Replaces: sysvinit-core
Multi-Arch: foreign

Package: sysvinit-core
Version: 3.14-4
Source: sysvinit
Depends: libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0
Conflicts: systemd-sysv

Package: systemd-timesyncd
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), libsystemd-shared (= 257.7-1), systemd
Provides: time-daemon
Conflicts: time-daemon
Replaces: time-daemon
Multi-Arch: foreign

Package: linux-sysctl-defaults
Version: 4.12
Architecture: all
Multi-Arch: foreign

Package: libpam-systemd
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), libpam0g (>= 1.4.0), systemd (= 257.7-1), default-dbus-system-bus | dbus-system-bus, systemd-sysv
Multi-Arch: same

Package: libnss-systemd
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), systemd (= 257.7-1)
Multi-Arch: same

Package: libsystemd-shared
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), libcap2 (>= 1:2.10), libcrypt1 (>= 1:4.4.0), libssl3t64 (>= 3.4.0)
Multi-Arch: same

Package: libsystemd0
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), libcap2 (>= 1:2.10)
Multi-Arch: same

Package: libudev1
Version: 257.7-1
Source: systemd
Depends: libc6 (>= 2.38), libcap2 (>= 1:2.10)
Multi-Arch: same

Package: udev
Version: 257.7-1
Source: systemd
Priority: important
Depends: libc6 (>= 2.38), libsystemd-shared (= 257.7-1), libudev1 (= 257.7-1), systemd | systemd-standalone-sysusers | systemd-sysusers, libkmod2 (>= 15)
Recommends: kmod
Multi-Arch: foreign

Package: mount
Version: 2.41-5
Source: util-linux
Priority: required
Pre-Depends: libblkid1 (>= 2.17.2), libc6 (>= 2.38), libmount1 (>= 2.40)
Multi-Arch: foreign

Package: libmount1
Version: 2.41-5
Source: util-linux
Depends: libblkid1 (>= 2.17.2), libc6 (>= 2.38), libselinux1 (>= 3.1)
Multi-Arch: same

Package: dbus
Version: 1.16.2-2
Depends: dbus-bin (= 1.16.2-2), libc6 (>= 2.38), libdbus-1-3 (= 1.16.2-2)
Provides: dbus-system-bus (= 1.16.2-2), default-dbus-system-bus (= 1.16.2-2)
Multi-Arch: foreign

Package: dbus-bin
Version: 1.16.2-2
Source: dbus
Depends: libc6 (>= 2.38), libdbus-1-3 (= 1.16.2-2)
Multi-Arch: foreign

Package: libdbus-1-3
Version: 1.16.2-2
Source: dbus
Depends: libc6 (>= 2.38), libsystemd0
Recommends: dbus
Multi-Arch: same

Package: kmod
Version: 34.2-2
Depends: libc6 (>= 2.38), libkmod2 (= 34.2-2)
Multi-Arch: foreign

Package: libkmod2
Version: 34.2-2
Source: kmod
Depends: libc6 (>= 2.38), liblzma5 (>= 5.1.1alpha+20120614), libssl3t64 (>= 3.0.0), libzstd1 (>= 1.5.5)
Multi-Arch: same

Package: openssh-client
Version: 1:10.0p1-7
Source: openssh
Depends: adduser, libc6 (>= 2.38), libssl3t64 (>= 3.5.0), passwd, zlib1g (>= 1:1.1.4)
Provides: ssh-client
Multi-Arch: foreign

Package: openssh-server
Version: 1:10.0p1-7
Source: openssh
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: adduser, libc6 (>= 2.38), libcrypt1 (>= 1:4.1.0), libpam-modules (>= 0.72-9), libpam-runtime (>= 0.76-14), libpam0g (>= 0.99.7.1), libssl3t64 (>= 3.5.0), libsystemd0, lsb-base, openssh-client (= 1:10.0p1-7), openssh-sftp-server, procps, ucf, debconf (>= 0.5) | debconf-2.0
Recommends: default-logind | logind | libpam-systemd
Provides: ssh-server
Multi-Arch: foreign

Package: openssh-sftp-server
Version: 1:10.0p1-7
Source: openssh
Depends: libc6 (>= 2.38)
Recommends: openssh-server | ssh-server
Multi-Arch: foreign

Package: procps
Version: 2:4.0.4-9
Priority: important
Depends: init-system-helpers (>= 1.29~), libc6 (>= 2.38), libtinfo6 (>= 6)
Provides: watch
Multi-Arch: foreign

Package: ucf
Version: 3.0052
Architecture: all
Depends: coreutils (>= 5.91), debconf (>= 1.5.19) | debconf-2.0
Multi-Arch: foreign

Package: nginx
Version: 1.26.3-3
Depends: iproute2, libc6 (>= 2.38), libcrypt1 (>= 1:4.1.0), libpcre2-8-0 (>= 10.22), libssl3t64 (>= 3.5.0), nginx-common (= 1.26.3-3), zlib1g (>= 1:1.1.4)
Breaks: libnginx-mod-http-lua (<< 1:0.10.28)
Provides: httpd, httpd-cgi, nginx-abi-1.26.3-1

Package: nginx-common
Version: 1.26.3-3
Source: nginx
Architecture: all
Depends: debconf (>= 0.5) | debconf-2.0
Suggests: fcgiwrap, ssl-cert
Multi-Arch: foreign

Package: nginx-core
Version: 1.26.3-3
Source: nginx
Depends: nginx (>= 1.26.3-3), nginx (<< 1.26.3-3.1~)

Package: nginx-light
Version: 1.26.3-3
Source: nginx
Depends: nginx (>= 1.26.3-3), nginx (<< 1.26.3-3.1~), libnginx-mod-http-echo

Package: libnginx-mod-http-echo
Version: 1:0.63-7
Depends: libc6 (>= 2.14), nginx-abi-1.26.3-1
Recommends: nginx

Package: iproute2
Version: 6.15.0-1
Depends: debconf (>= 0.5) | debconf-2.0, libc6 (>= 2.38), libcap2 (>= 1:2.10), libselinux1 (>= 3.1)
Multi-Arch: foreign

Package: linux-image-cloud-amd64
Version: 6.12.41-1
Source: linux-signed-amd64 (6.12.41+1)
Depends: linux-image-6.12.41+deb13-cloud-amd64 (= 6.12.41-1)
Provides: linux-latest-modules-6.12.41+deb13-cloud-amd64

Package: linux-image-6.12.41+deb13-cloud-amd64
Version: 6.12.41-1
Source: linux-signed-amd64 (6.12.41+1)
Depends: kmod, linux-base (>= 4.12~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool
Breaks: initramfs-tools (<< 0.120+deb8u2)
Recommends: apparmor

Package: linux-base
Version: 4.12
Architecture: all
Depends: debconf (>= 0.5) | debconf-2.0
Multi-Arch: foreign

Package: initramfs-tools
Version: 0.148.3
Architecture: all
Depends: klibc-utils (>= 2.0.4-8~), kmod, udev
Provides: linux-initramfs-tool

Package: klibc-utils
Version: 2.0.14-1
Source: klibc
Depends: libklibc (= 2.0.14-1)

Package: libklibc
Version: 2.0.14-1
Source: klibc

Package: dracut
Version: 106-6
Architecture: all
Depends: kmod, udev
Provides: linux-initramfs-tool
Conflicts: initramfs-tools

Package: apparmor
Version: 4.1.0-1
Depends: debconf (>= 0.5) | debconf-2.0, libc6 (>= 2.38)

Package: postgresql-common
Version: 278
Architecture: all
Depends: adduser, debconf (>= 0.5) | debconf-2.0, ucf
Multi-Arch: foreign
";

const TOOLBOX: &str = "
Package: qemu-system-x86
Version: 1:10.0.3+ds-0+deb13u1
Source: qemu
Depends: libc6 (>= 2.38), libglib2.0-0t64 (>= 2.83.0), qemu-system-common (>> 1:10.0.3+ds-0+), qemu-system-data (>> 1:10.0.3+ds-0+), seabios (>= 1.16.3-2~)
Recommends: qemu-utils (>= 1:10.0.3+ds-0+deb13u1), ovmf
Provides: qemu-kvm
Multi-Arch: foreign

Package: qemu-system-arm
Version: 1:10.0.3+ds-0+deb13u1
Source: qemu
Depends: libc6 (>= 2.38), libglib2.0-0t64 (>= 2.83.0), qemu-system-common (>> 1:10.0.3+ds-0+), qemu-system-data (>> 1:10.0.3+ds-0+)
Recommends: qemu-utils, qemu-efi-aarch64
Multi-Arch: foreign

Package: qemu-system-common
Version: 1:10.0.3+ds-0+deb13u1
Source: qemu
Depends: libc6 (>= 2.38), libglib2.0-0t64 (>= 2.83.0)
Multi-Arch: foreign

Package: qemu-system-data
Version: 1:10.0.3+ds-0+deb13u1
Source: qemu
Architecture: all
Multi-Arch: foreign

Package: qemu-utils
Version: 1:10.0.3+ds-0+deb13u1
Source: qemu
Depends: libc6 (>= 2.38), libglib2.0-0t64 (>= 2.83.0), libzstd1 (>= 1.5.5), zlib1g (>= 1:1.2.0)
Multi-Arch: foreign

Package: libglib2.0-0t64
Version: 2.84.3-1
Source: glib2.0
Depends: libc6 (>= 2.38), libmount1 (>= 2.35.2), libpcre2-8-0 (>= 10.23), libselinux1 (>= 3.1), zlib1g (>= 1:1.2.2)
Breaks: libglib2.0-0 (<< 2.79.3-1~)
Replaces: libglib2.0-0
Provides: libglib2.0-0 (= 2.84.3-1)
Multi-Arch: same

Package: seabios
Version: 1.16.3-2
Architecture: all
Multi-Arch: foreign

Package: ovmf
Version: 2025.02-8
Source: edk2
Architecture: all
Multi-Arch: foreign

Package: qemu-efi-aarch64
Version: 2025.02-8
Source: edk2
Architecture: all
Multi-Arch: foreign

Package: haproxy
Version: 3.0.11-1
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: adduser, libc6 (>= 2.38), libcap2 (>= 1:2.10), libcrypt1 (>= 1:4.3.0), libpcre2-8-0 (>= 10.22), libssl3t64 (>= 3.0.0), libsystemd0

Package: e2fsprogs
Version: 1.47.2-3+b3
Source: e2fsprogs (1.47.2-3)
Priority: required
Pre-Depends: libblkid1 (>= 2.36), libc6 (>= 2.38), libext2fs2t64 (= 1.47.2-3+b3), libss2 (>= 1.47.2)
Recommends: logsave
Multi-Arch: foreign

Package: libext2fs2t64
Version: 1.47.2-3+b3
Source: e2fsprogs (1.47.2-3)
Depends: libblkid1 (>= 2.36), libc6 (>= 2.38)
Replaces: libext2fs2
Provides: libext2fs2 (= 1.47.2-3+b3)
Multi-Arch: same

Package: libss2
Version: 1.47.2-3+b3
Source: e2fsprogs (1.47.2-3)
Depends: libc6 (>= 2.38)
Multi-Arch: same

Package: logsave
Version: 1.47.2-3+b3
Source: e2fsprogs (1.47.2-3)
Depends: libc6 (>= 2.38)
Multi-Arch: foreign

Package: systemd-boot-efi
Version: 257.7-1
Source: systemd
Multi-Arch: same
";
