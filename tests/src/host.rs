//! What a test can leave behind on the host, to compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The host's mounts, loop devices, network, processes of devices, and claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostState {
    /// Where something is mounted.
    pub mounts: BTreeSet<PathBuf>,
    /// Loop devices in use, each with its file.
    pub loops: BTreeSet<String>,
    /// Nodes of loop devices.
    pub nodes: BTreeSet<String>,
    /// Network interfaces.
    pub interfaces: BTreeSet<String>,
    /// Named network namespaces.
    pub namespaces: BTreeSet<String>,
    /// Control groups and claims of devices.
    pub claims: BTreeSet<PathBuf>,
    /// Programs that only a device runs on this host, with their process numbers.
    pub processes: BTreeSet<String>,
}

impl HostState {
    /// Looks around.
    pub fn now() -> Self {
        let claims = ["/run/avocado-testbed"]
            .map(PathBuf::from)
            .into_iter()
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .chain(entries("/sys/fs/cgroup"))
            .flat_map(entries)
            .filter(|path| name(path).starts_with("avo"))
            .collect();
        let loops = entries("/sys/block")
            .into_iter()
            .filter(|path| name(path).starts_with("loop"))
            .filter_map(|path| {
                let file = fs::read_to_string(path.join("loop/backing_file")).ok()?;
                Some(format!("{} {}", name(&path), file.trim()))
            })
            .collect();
        HostState {
            mounts: mounts().into_iter().collect(),
            loops,
            nodes: names("/dev", "loop"),
            interfaces: names("/sys/class/net", ""),
            namespaces: names("/run/netns", ""),
            claims,
            processes: device_processes(),
        }
    }

    /// What is here now and was not `before`, and the loop devices' nodes that are missing. Other
    /// things may go away at any time: they belong to other processes.
    pub fn left_since(&self, before: &HostState) -> Vec<String> {
        let paths = |now: &BTreeSet<PathBuf>, then: &BTreeSet<PathBuf>, what: &str| {
            let new = now.difference(then);
            new.map(|path| format!("{what} {}", path.display()))
                .collect::<Vec<_>>()
        };
        let names = |now: &BTreeSet<String>, then: &BTreeSet<String>, what: &str| {
            let new = now.difference(then);
            new.map(|name| format!("{what} {name}")).collect::<Vec<_>>()
        };
        [
            paths(&self.mounts, &before.mounts, "mount"),
            names(&self.loops, &before.loops, "loop device"),
            names(&self.nodes, &before.nodes, "node"),
            names(&before.nodes, &self.nodes, "no more node"),
            names(&self.interfaces, &before.interfaces, "interface"),
            names(&self.namespaces, &before.namespaces, "network namespace"),
            paths(&self.claims, &before.claims, "claim"),
            names(&self.processes, &before.processes, "process"),
        ]
        .concat()
    }
}

/// Processes that are in the control group of a device.
fn device_processes() -> BTreeSet<String> {
    entries("/proc")
        .into_iter()
        .filter(|path| {
            let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            groups.lines().any(|line| line.contains(":/avo"))
        })
        .map(|path| {
            let program = fs::read_to_string(path.join("comm")).unwrap_or_default();
            format!("{} {}", name(&path), program.trim())
        })
        .collect()
}

fn entries(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

fn names(directory: &str, prefix: &str) -> BTreeSet<String> {
    let names = entries(directory).into_iter().map(|path| name(&path));
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Where something is mounted, oldest first.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect()
}

/// Where something is mounted at `directory` or below, oldest first.
pub(crate) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mut mounts = mounts();
    mounts.retain(|mount| mount.starts_with(directory));
    mounts
}

/// Undoes the kernel's `\040` for characters that would break its table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read() {
        assert!(mounts().contains(&PathBuf::from("/")));
        assert!(mounts_below(Path::new("/proc")).contains(&PathBuf::from("/proc")));
        for (field, plain) in [
            (&b"/a\\040b\\134"[..], &b"/a b\\"[..]),
            (b"\\04", b"\\04"),
            (b"\\999", b"\\999"),
            (b"", b""),
        ] {
            assert_eq!(unescape(field), plain);
        }
    }
}
