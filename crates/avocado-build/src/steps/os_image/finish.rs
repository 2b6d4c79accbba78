//! What makes a tree of packages a file system that an OS starts from.

use std::io::Read as _;
use std::path::Path;

use avocado_backend::{PROGRAM_HEADER, Processor, Tool, ToolQuery};
use avocado_events::Event;

use crate::error::{At as _, BuildError};
use crate::scriptlets::SYSTEMCTL;
use crate::step_context::StepContext;
use crate::trees::Tree;

/// Writes the cache of libraries of a rootfs.
pub(super) const LDCONFIG: ToolQuery = ToolQuery {
    tool: "ldconfig",
    arguments: &["--version"],
};

/// What makes a tree of packages a root file system, where the project has no hook of its own.
pub(super) fn finish_rootfs(context: &StepContext<'_>, root: &Tree) -> Result<(), BuildError> {
    for name in ["bin", "sbin", "lib"] {
        if !root.has(name) {
            let directory = Path::new("usr").join(name);
            root.make_directories(&directory)?;
            root.symlink(&directory, name)?;
        }
    }
    // The kernel travels beside the rootfs, not inside it.
    root.clear("boot")?;
    for name in ["boot", "opt", "var", "proc", "sys", "dev", "run", "tmp"] {
        root.make_directories(name)?;
    }
    root.write("etc/machine-id", "", 0o644)?;
    if root.is_directory("usr/lib/systemd/system-preset") {
        Tool::new(SYSTEMCTL.tool)
            .arg(format!("--root={}", root.path().display()))
            .args(["preset-all", "--preset-mode=enable-only"])
            .run(context.sink)?;
    }
    if root.file("etc/ld.so.conf")?.is_some() {
        write_library_cache(context, root)?;
    }
    Ok(())
}

/// The dynamic linkers of the C library, by whose programs a tree shows what processor it is for.
const LINKERS: [&str; 3] = [
    "usr/sbin/ldconfig",
    "lib/ld-linux-aarch64.so.1",
    "lib64/ld-linux-x86-64.so.2",
];

/// Writes the cache of libraries of a rootfs with the host's tool, which knows the libraries of the
/// host's processor alone.
fn write_library_cache(context: &StepContext<'_>, root: &Tree) -> Result<(), BuildError> {
    match processor_of(root)? {
        Some(processor) if processor != Processor::HOST => {
            // One without entries would be as good as none, and says that it is one.
            root.clear("etc/ld.so.cache")?;
            let directories = directories_outside(root)?;
            if !directories.is_empty() {
                context.sink.emit(Event::warning(format!(
                    "the rootfs is for {processor} and gets no cache of libraries, which this host's \
                     ldconfig cannot write: programs of the device do not find the libraries in {}, \
                     which belong into /usr/lib then",
                    directories.join(", ")
                )));
            }
            Ok(())
        }
        _ => {
            Tool::new(LDCONFIG.tool)
                .arg("-X")
                .arg("-r")
                .arg(root.path())
                .run(context.sink)?;
            // Holds inode numbers and times of the build host's file system.
            root.clear("var/cache/ldconfig")
        }
    }
}

/// The processor that the programs of a tree are for, where it has some that tell.
fn processor_of(root: &Tree) -> Result<Option<Processor>, BuildError> {
    for path in LINKERS {
        // What is no file tells nothing.
        let Ok(Some(file)) = root.file(path) else {
            continue;
        };
        let mut start = Vec::new();
        let length = PROGRAM_HEADER as u64;
        let read = file.take(length).read_to_end(&mut start);
        read.at("read", &root.shown(path))?;
        if let Some(processor) = Processor::of_program(&start) {
            return Ok(Some(processor));
        }
    }
    Ok(None)
}

/// Directories with libraries that a dynamic linker finds by the cache alone.
fn directories_outside(root: &Tree) -> Result<Vec<String>, BuildError> {
    let mut directories = Vec::new();
    let mut files = vec![Path::new("etc/ld.so.conf").to_owned()];
    let more = Path::new("etc/ld.so.conf.d");
    if root.is_directory(more) {
        let names = root.names(more)?.into_iter().map(|name| more.join(name));
        files.extend(names.filter(|file| file.extension().is_some_and(|e| e == "conf")));
    }
    for file in files {
        let text = root.read(&file)?.unwrap_or_default();
        for line in text.lines() {
            let place = line.split('#').next().unwrap_or_default().trim();
            let place = place.strip_suffix('/').unwrap_or(place);
            let is_known = directories.iter().any(|known| known == place);
            if !place.starts_with('/') || is_known || is_searched_anyway(place) {
                continue;
            }
            let has_libraries = root.is_directory(place)
                && root.names(place)?.iter().any(|name| {
                    let name = name.to_string_lossy();
                    name.ends_with(".so") || name.contains(".so.")
                });
            if has_libraries {
                directories.push(place.to_owned());
            }
        }
    }
    Ok(directories)
}

/// `/lib` and `/usr/lib`, with 64 behind them, and Debian's directories of one architecture below.
fn is_searched_anyway(place: &str) -> bool {
    let below = place.strip_prefix("/usr").unwrap_or(place);
    match below.strip_prefix("/lib") {
        Some("" | "64") => true,
        Some(rest) => rest
            .strip_prefix('/')
            .is_some_and(|name| name.ends_with("-linux-gnu") && !name.contains('/')),
        None => false,
    }
}

/// What makes a tree of packages an initramfs, where the project has no hook of its own.
pub(super) fn finish_initramfs(root: &Tree) -> Result<(), BuildError> {
    root.make_directories("sysroot")?;
    if !root.has("init") {
        root.symlink("/sbin/init", "init")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_initramfs_has_what_the_kernel_starts_and_where_the_root_goes() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        finish_initramfs(&tree).unwrap();
        assert!(root.path().join("sysroot").is_dir());
        let init = root.path().join("init");
        assert_eq!(fs::read_link(&init).unwrap(), Path::new("/sbin/init"));
        // One of the packages is left alone.
        fs::remove_file(&init).unwrap();
        fs::write(&init, "own").unwrap();
        finish_initramfs(&tree).unwrap();
        assert_eq!(fs::read_to_string(&init).unwrap(), "own");
    }

    #[test]
    fn a_tree_says_what_processor_it_is_for_and_what_a_cache_would_be_needed_for() {
        let place = tempfile::tempdir().unwrap();
        let root = Tree::open(place.path()).unwrap();
        assert_eq!(processor_of(&root).unwrap(), None);
        for directory in [
            "usr/sbin",
            "usr/lib/aarch64-linux-gnu",
            "opt/x/lib",
            "opt/empty",
        ] {
            root.make_directories(directory).unwrap();
        }
        let mut program = b"\x7fELF\x02\x01".to_vec();
        program.resize(18, 0);
        program.extend(183u16.to_le_bytes());
        fs::write(place.path().join("usr/sbin/ldconfig"), program).unwrap();
        assert_eq!(processor_of(&root).unwrap(), Some(Processor::Aarch64));

        root.make_directories("etc/ld.so.conf.d").unwrap();
        let include = "include /etc/ld.so.conf.d/*.conf\n";
        root.write("etc/ld.so.conf", include, 0o644).unwrap();
        let listed = "# of x\n/usr/lib/aarch64-linux-gnu\n/opt/x/lib/ # here\n/opt/empty\n/none\n";
        root.write("etc/ld.so.conf.d/x.conf", listed, 0o644)
            .unwrap();
        for library in [
            "usr/lib/aarch64-linux-gnu/liba.so.1",
            "opt/x/lib/libx.so.1.2",
        ] {
            root.write(library, "", 0o644).unwrap();
        }
        assert_eq!(directories_outside(&root).unwrap(), ["/opt/x/lib"]);
    }
}
