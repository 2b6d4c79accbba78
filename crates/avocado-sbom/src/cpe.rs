//! The name that the vulnerability database of NIST has for a program. Packages do not tell it, so it is a
//! guess: who makes what is well known, else the name stands for both.

use crate::bill::PackageComponent;

/// Packages of sources whose vendor or product has another name there.
const KNOWN: [(&str, &str, &str); 28] = [
    ("bash", "gnu", "bash"),
    ("binutils", "gnu", "binutils"),
    ("bluez5", "bluez", "bluez"),
    ("coreutils", "gnu", "coreutils"),
    ("curl", "haxx", "curl"),
    ("dbus", "freedesktop", "dbus"),
    ("e2fsprogs", "e2fsprogs_project", "e2fsprogs"),
    ("expat", "libexpat_project", "libexpat"),
    ("gcc", "gnu", "gcc"),
    ("glib-2.0", "gnome", "glib"),
    ("glibc", "gnu", "glibc"),
    ("gnutls", "gnu", "gnutls"),
    ("gzip", "gnu", "gzip"),
    ("kmod", "kernel", "kmod"),
    ("libxml2", "xmlsoft", "libxml2"),
    ("linux-yocto", "linux", "linux_kernel"),
    ("ncurses", "gnu", "ncurses"),
    ("openssh", "openbsd", "openssh"),
    ("python3", "python", "python"),
    ("readline", "gnu", "readline"),
    ("rpm", "rpm", "rpm"),
    ("shadow", "shadow_project", "shadow"),
    ("sqlite3", "sqlite", "sqlite"),
    ("sudo", "sudo_project", "sudo"),
    ("systemd", "systemd_project", "systemd"),
    ("tar", "gnu", "tar"),
    ("util-linux", "kernel", "util-linux"),
    ("xz", "tukaani", "xz"),
];

/// `cpe:2.3:…` of a package.
pub(crate) fn guess(package: &PackageComponent) -> String {
    let name = package.source_name().unwrap_or(&package.name);
    let known = KNOWN.iter().find(|(source, ..)| *source == name);
    let (vendor, product) = known.map_or((name, name), |(_, vendor, product)| (vendor, product));
    let part = if product == "linux_kernel" { "o" } else { "a" };
    format!(
        "cpe:2.3:{part}:{}:{}:{}:*:*:*:*:*:*:*",
        escape(vendor),
        escape(product),
        escape(&package.version)
    )
}

/// In a name of CPE 2.3 everything but these has a backslash before it.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => escaped.push(c.to_ascii_lowercase()),
            '.' | '_' | '-' => escaped.push(c),
            c if c.is_ascii_graphic() => escaped.extend(['\\', c]),
            _ => escaped.push('_'),
        }
    }
    escaped
}
