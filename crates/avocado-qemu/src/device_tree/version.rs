//! QEMU's version, asked once for each build.

use std::path::Path;

use super::cache::{DeviceTreeCache, version_key};
use super::run::run_qemu;
use crate::binary::BinaryIdentity;
use crate::error::QemuError;

/// Major, minor, micro. Development versions have a micro of 50 and more; release candidates have
/// one of 90 and more below the version that they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QemuVersion(pub(super) u32, pub(super) u32, pub(super) u32);

/// What this QEMU says to `--version`.
pub(super) async fn qemu_version(
    binary: &Path,
    identity: &BinaryIdentity,
    cache: &DeviceTreeCache<'_>,
) -> Result<String, QemuError> {
    let key = version_key(identity);
    let known = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|text| parse(text).is_some());
    if let Some(kept) = cache.find(&key, known) {
        return cache.read(&kept);
    }
    let said = run_qemu(binary, &["--version".into()], cache.directory()).await?;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    if parse(line).is_some() {
        cache.keep(&key, line.as_bytes())?;
    }
    Ok(line.to_owned())
}

/// The version in `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
pub(super) fn parse(text: &str) -> Option<QemuVersion> {
    let (program, version) = text.lines().next()?.split_once(" version ")?;
    if !program.starts_with("QEMU") {
        return None;
    }
    // The micro number ends before `-rc1` and its like.
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let mut numbers = version.get(..end.unwrap_or(version.len()))?.split('.');
    let mut number = || numbers.next()?.parse().ok();
    Some(QemuVersion(number()?, number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let long = format!("QEMU emulator version {}.0.0", "9".repeat(30));
        for (text, version) in [
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)",
                Some((10, 0, 2)),
            ),
            (
                "QEMU emulator version 11.0.0\nCopyright (c) 2003-2026 Fabrice Bellard",
                Some((11, 0, 0)),
            ),
            ("QEMU emulator version 11.0.0-rc2", Some((11, 0, 0))),
            (
                "QEMU emulator version 10.2.91 (v11.0.0-rc1-dirty)",
                Some((10, 2, 91)),
            ),
            (
                "QEMU emulator version 11.0.50 (v11.0.0-812-g66f0b110b6)",
                Some((11, 0, 50)),
            ),
            (
                "QEMU emulator version 6.2.0 (qemu-kvm-6.2.0-12.module_el8)",
                Some((6, 2, 0)),
            ),
            ("QEMU emulator version 9.1.0.1", Some((9, 1, 0))),
            ("QEMU emulator version 11.0", None),
            ("QEMU emulator version", None),
            ("QEMU emulator version x.y.z", None),
            ("some other emulator version 11.0.0", None),
            ("", None),
            ("error\nQEMU emulator version 11.0.0", None),
            (&long, None),
        ] {
            let version = version.map(|(major, minor, micro)| QemuVersion(major, minor, micro));
            assert_eq!(parse(text), version, "{text}");
        }
    }
}
