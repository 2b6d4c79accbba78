//! The sample project on a machine with UEFI, for which the sample feed has what a board's BSP has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::HarnessError;
use crate::disk_guest::DiskGuest;
use crate::error::file;
use crate::keys::SshKeys;
use crate::project::TestProject;
use crate::tools::source_root;

/// Lets the project have a disk that boots and takes updates of its OS.
///
/// # Errors
/// It cannot be written.
///
/// # Panics
/// The project is not the example `hello`.
pub fn on_a_board(project: &TestProject) -> Result<(), HarnessError> {
    let sdk = "    avocado-sdk-toolchain: \"*\"\n";
    let rootfs = "    kernel-image: \"*\"\n";
    change(
        project,
        &[
            (sdk, "    avocado-bsp-qemux86-64: \"*\"\n"),
            (
                rootfs,
                "    avocado-efi-boot: \"*\"\n    avocado-vm-guest: \"*\"\n",
            ),
        ],
    )
}

/// Puts something behind places of avocado.yaml, each of which is there once.
pub(crate) fn change(project: &TestProject, places: &[(&str, &str)]) -> Result<(), HarnessError> {
    let mut yaml = project.read("avocado.yaml")?;
    for (place, more) in places {
        assert_eq!(yaml.matches(place).count(), 1, "{place}: {yaml}");
        yaml = yaml.replace(place, &format!("{place}{more}"));
    }
    project.write("avocado.yaml", &yaml)
}

/// The files of a board's OS that are the project's own: what it says of itself, how it is started, and its
/// health check.
#[derive(Debug, Clone)]
pub struct BoardFiles<'a> {
    project: &'a TestProject,
    entry: String,
}

impl<'a> BoardFiles<'a> {
    /// Lets a project that is [`on_a_board`] have such files, with the first release, and be open for `keys`.
    ///
    /// # Errors
    /// The project cannot be read or written.
    ///
    /// # Panics
    /// The project is not the example `hello`.
    pub fn first(project: &'a TestProject, keys: &SshKeys) -> Result<Self, HarnessError> {
        change(
            project,
            &[
                (
                    "  dev:\n    extensions: [hello, hello-config]\n",
                    "    stone_include_paths: [board/files]\n",
                ),
                (
                    "  filesystem: erofs-lz4\n  permissions: dev\n",
                    "  overlay: board/rootfs\n",
                ),
            ],
        )?;
        project.write("var/authorized_keys.d/root", &keys.public)?;
        let path = source_root().join("examples/feed/packages/avocado-bsp/stone/entry.conf");
        let entry = fs::read_to_string(&path).map_err(file("read", &path))?;
        // Emulated, and beside all else that this machine does, all is there later than on a board.
        let patient =
            " systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 quiet";
        let files = BoardFiles {
            project,
            entry: entry.replace(" quiet", patient),
        };
        files.release("1", "")?;
        Ok(files)
    }

    /// The next OS says this of itself, and its kernel gets these arguments besides.
    ///
    /// # Errors
    /// The project cannot be written.
    pub fn release(&self, release: &str, arguments: &str) -> Result<(), HarnessError> {
        let text = format!("release={release}\n");
        self.project.write("board/rootfs/etc/board.conf", &text)?;
        let entry = self.entry.replace(" quiet", &format!("{arguments} quiet"));
        self.project.write("board/files/entry.conf", &entry)
    }

    /// Puts a health check into the OS that is built next: a script of the shell.
    ///
    /// # Errors
    /// The project cannot be written.
    pub fn check(&self, body: &str) -> Result<(), HarnessError> {
        let check = "board/rootfs/etc/avocado/health.d/50-check";
        self.project.write(check, &format!("#!/bin/sh\n{body}\n"))?;
        let path = self.project.directory().join(check);
        executable(&path)
    }
}

fn executable(path: &Path) -> Result<(), HarnessError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(file("change", path))
}

/// What runs: the slot, by the partition that is the root, and the release that the OS says.
///
/// # Errors
/// The machine does not answer.
pub fn running(guest: &DiskGuest) -> Result<(String, String), HarnessError> {
    let said = guest.run(
        "findmnt -n -o SOURCE /
         for slot in a b; do readlink -f /dev/disk/by-partlabel/rootfs-$slot; done
         sed -n 's/^release=//p' /etc/board.conf",
    )?;
    let mut lines = said.lines();
    let root = lines.next();
    let slots: Vec<&str> = ["a", "b"]
        .into_iter()
        .filter(|_| lines.next() == root)
        .collect();
    let release = lines.next().unwrap_or_default();
    Ok((slots.join(" and "), release.to_owned()))
}
