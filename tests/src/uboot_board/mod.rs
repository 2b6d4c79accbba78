//! The sample project on a machine that Debian's U-Boot starts, with the variables of RAUC: a board whose stone manifest
//! and boot script are the project's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::HarnessError;
use crate::board::change;
use crate::error::file;
use crate::keys::SshKeys;
use crate::nfs_guest::copy;
use crate::project::TestProject;
use crate::tools::{TestNeed, ToolCall, find};

/// What the kernel is started with besides its slot.
const ARGUMENTS: &str = "ro avocado.var=PARTLABEL=var console=ttyS0 net.ifnames=0 panic=5 \
    systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 quiet";

/// The size of one copy of the environment.
const ENVIRONMENT: &str = "0x4000";

/// What a test with it needs on this machine, besides a machine ([`crate::disk_guest::needs`]).
pub fn needs() -> Vec<TestNeed> {
    let tools = [
        "fw_printenv",
        "fw_setenv",
        "ldd",
        "mkenvimage",
        "mkfs.fat",
        "mkimage",
    ];
    tools.map(TestNeed::Tool).into()
}

/// The files of the board that are in the project.
#[derive(Debug, Clone, Copy)]
pub struct UbootBoard<'a> {
    project: &'a TestProject,
}

impl<'a> UbootBoard<'a> {
    /// Lets a project have a disk for this board, with the first release of an OS, and be open for `keys`.
    ///
    /// # Errors
    /// The project cannot be read or written, or a tool fails.
    ///
    /// # Panics
    /// The project is not the example `hello`.
    pub fn first(project: &'a TestProject, keys: &SshKeys) -> Result<Self, HarnessError> {
        change(
            project,
            &[
                ("    kernel-image: \"*\"\n", "    avocado-vm-guest: \"*\"\n"),
                (
                    "  dev:\n    extensions: [hello, hello-config]\n",
                    "    stone_manifest: board/stone.json\n    stone_include_paths: [board/files]\n",
                ),
                (
                    "  filesystem: erofs-lz4\n  permissions: dev\n",
                    "  overlay: board/rootfs\n",
                ),
            ],
        )?;
        project.write("var/authorized_keys.d/root", &keys.public)?;
        let board = UbootBoard { project };
        project.write("board/stone.json", include_str!("stone.json"))?;
        board.loader()?;
        board.programs()?;
        board.release("1", "")?;
        Ok(board)
    }

    /// The next OS says this of itself, and its kernel gets these arguments besides.
    ///
    /// # Errors
    /// The project cannot be written.
    pub fn release(&self, release: &str, arguments: &str) -> Result<(), HarnessError> {
        let text = format!("release={release}\n");
        self.project.write("board/rootfs/etc/board.conf", &text)?;
        let text = format!("arguments={ARGUMENTS}{arguments}\n");
        self.project.write("board/files/arguments", &text)
    }

    /// The script of U-Boot, and its variables at first.
    fn loader(&self) -> Result<(), HarnessError> {
        let counts: Vec<_> = (0..=255).map(|count| format!("{count:x}")).collect();
        let script = include_str!("boot.cmd").replace("@counts@", &counts.join(" "));
        self.project.write("board/boot.cmd", &script)?;
        self.project
            .write("board/variables", include_str!("variables"))?;
        let board = self.project.directory().join("board");
        let files = board.join("files");
        fs::create_dir_all(&files).map_err(file("make", &files))?;
        let image = ToolCall::new("mkimage").args(["-A", "x86", "-T", "script", "-C", "none"]);
        let image = image.arg("-d").arg(board.join("boot.cmd"));
        image.arg(files.join("boot.scr")).ok()?;
        let image = ToolCall::new("mkenvimage").args(["-r", "-s", ENVIRONMENT, "-o"]);
        let image = image.arg(files.join("environment.bin"));
        image.arg(board.join("variables")).ok()?;
        Ok(())
    }

    /// The programs that the OS changes the variables with: those of this machine.
    fn programs(&self) -> Result<(), HarnessError> {
        let config = "board/rootfs/etc/fw_env.config";
        self.project.write(config, include_str!("fw_env.config"))?;
        let usr = self.project.directory().join("board/rootfs/usr");
        for name in ["fw_printenv", "fw_setenv"] {
            let program = find(name).unwrap_or_default();
            copy(&program, &usr.join("bin").join(name))?;
            let libraries = ToolCall::new("ldd").arg(&program).ok()?.stdout;
            let needed = ["libubootenv", "libyaml", "libz."];
            for library in libraries
                .split_whitespace()
                .filter(|word| word.starts_with('/') && needed.iter().any(|n| word.contains(n)))
            {
                let below = library.trim_start_matches("/usr").trim_start_matches('/');
                copy(Path::new(library), &usr.join(below))?;
            }
        }
        let watchdog = "board/rootfs/usr/lib/systemd/system.conf.d/50-watchdog.conf";
        let text = "[Manager]\nRuntimeWatchdogSec=2min\n";
        self.project.write(watchdog, text)?;
        // A file system in /var that takes its whole partition.
        let wants = usr.join("lib/systemd/system/local-fs.target.wants");
        fs::create_dir_all(&wants).map_err(file("make", &wants))?;
        let link = wants.join("systemd-growfs@var.service");
        symlink("../systemd-growfs@.service", &link).map_err(file("make", &link))
    }
}
