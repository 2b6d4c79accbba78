//! What a job sees, in a mount namespace of the thread that looks.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::mounts::{self, Restriction};
use super::namespace::{enter, unshare};
use crate::job_view::JobView;
use crate::{Mount, MountAccess};
use rustix::thread::UnshareFlags;

/// Lets `look` look at a home directory from namespaces of its own, as far as this user may make
/// them, and answers with that home, as it is on the host afterwards.
fn apart(name: &str, look: impl FnOnce(&Path) + Send) -> Option<TempDir> {
    if !rustix::process::getuid().is_root() {
        avocado_test_support::skip(name, "only root gives one thread its own mounts");
        return None;
    }
    let home = home();
    let separate = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            unshare(UnshareFlags::NEWNS)?;
            look(home.path());
            Ok::<_, rustix::io::Errno>(())
        });
        looking.join().unwrap()
    });
    if let Err(e) = separate {
        avocado_test_support::skip(name, format!("no namespaces here: {e}"));
        return None;
    }
    Some(home)
}

/// A home directory with keys and tools, and a project in it.
fn home() -> TempDir {
    // Temporary directories are covered anyway.
    let home = tempfile::tempdir_in("/srv").unwrap();
    for (path, text) in [
        ("secret", "s"),
        ("keys/k", "s"),
        ("bin/tool", "t"),
        ("project/source", "p"),
        ("project/.avocado/state/x", "x"),
        ("project/keys/k", "s"),
    ] {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

fn view(home: &Path, sources: MountAccess) -> JobView {
    let mount = |source: &str, target: &str, access| Mount {
        source: home.join(source),
        target: target.into(),
        access,
    };
    JobView {
        network: true,
        mounts: vec![
            mount(
                "project/.avocado/state",
                "/opt/_avocado",
                MountAccess::Write,
            ),
            mount("project", "/opt/src", sources),
        ],
        visible: ["project", "bin", "none"]
            .map(|name| home.join(name))
            .into(),
        hidden: vec![home.to_owned(), home.join("project/keys")],
        emulator: None,
    }
}

fn is_read_only(directory: &Path) -> bool {
    let made = fs::write(directory.join("avocado-view-test"), "");
    made.is_err_and(|e| e.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

#[test]
fn a_job_sees_the_project_and_changes_the_state() {
    apart("a_job_sees_the_project_and_changes_the_state", |home| {
        let at = |name: &str| home.join(name);
        enter(&view(home, MountAccess::Read)).unwrap();

        for seen in ["bin/tool", "project/source", "project/.avocado/state/x"] {
            assert!(at(seen).exists(), "{seen}");
        }
        for hidden in ["secret", "keys", "keys/k", "project/keys/k"] {
            assert!(!at(hidden).exists(), "{hidden}");
        }
        assert!(Path::new("/opt/src/source").exists());
        assert!(!Path::new("/opt/src/keys/k").exists());

        for changed in ["/opt/_avocado", "/tmp", "/var/tmp", "/run", "/dev/shm"] {
            fs::write(Path::new(changed).join("f"), "").unwrap();
        }
        for directory in ["/", "/usr", "/etc", "/var", "/srv", "/opt/src"] {
            assert!(is_read_only(Path::new(directory)), "{directory}");
        }
        for directory in ["bin", "project", "project/.avocado/state"] {
            assert!(is_read_only(&at(directory)), "{directory}");
        }
        fs::write("/dev/null", "x").unwrap();
        let devices = fs::read_dir("/dev").unwrap();
        let devices: Vec<_> = devices.map(|e| e.unwrap().file_name()).collect();
        let expected = [
            "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr",
            "ptmx", "pts", "shm",
        ];
        let more = devices.iter().find(|d| !expected.iter().any(|e| e == d));
        assert_eq!(more, None);
        assert!(fs::write("/proc/sys/kernel/core_pattern", "core").is_err());
    });
}

#[test]
fn a_job_without_a_network_has_no_device_of_it() {
    apart("a_job_without_a_network_has_no_device_of_it", |home| {
        let mut view = view(home, MountAccess::Read);
        view.network = false;
        enter(&view).unwrap();
        let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let names: Vec<_> = devices
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        assert_eq!(names, ["lo"]);
    });
}

#[test]
fn the_host_keeps_its_own() {
    let home = apart("the_host_keeps_its_own", |home| {
        enter(&view(home, MountAccess::Write)).unwrap();
        fs::write("/opt/src/built", "1").unwrap();
        fs::write("/opt/_avocado/made", "1").unwrap();
        fs::write(home.join("mine"), "1").unwrap();
        fs::write("/tmp/avocado-view-test", "1").unwrap();
    });
    let Some(home) = home else { return };
    let at = |name: &str| home.path().join(name);
    assert!(at("project/built").exists());
    assert!(at("project/.avocado/state/made").exists());
    assert!(at("keys/k").exists());
    assert!(!at("mine").exists());
    assert!(!Path::new("/tmp/avocado-view-test").exists());
}

/// A package may hold a device, which rpm makes as root.
#[test]
fn a_device_in_the_state_does_not_work() {
    apart("a_device_in_the_state_does_not_work", |home| {
        use rustix::fs::{CWD, FileType, Mode, makedev};
        enter(&view(home, MountAccess::Read)).unwrap();
        for place in ["/opt/_avocado/zero", "/tmp/zero", "/run/zero"] {
            let (kind, mode) = (FileType::CharacterDevice, Mode::from(0o666));
            rustix::fs::mknodat(CWD, place, kind, mode, makedev(1, 5)).unwrap();
            assert!(fs::File::open(place).is_err(), "{place}");
        }
        fs::File::open("/dev/zero").unwrap();
    });
}

#[test]
fn a_home_is_hidden_by_every_name() {
    let home = apart("a_home_is_hidden_by_every_name", |home| {
        let link = home.with_extension("link");
        symlink(home, &link).unwrap();
        enter(&view(&link, MountAccess::Read)).unwrap();
        for path in [home, link.as_path()] {
            assert!(path.join("bin/tool").exists());
            assert!(path.join("project/source").exists());
            assert!(!path.join("secret").exists());
            assert!(!path.join("project/keys/k").exists());
        }
        assert!(!Path::new("/opt/src/keys/k").exists());
    });
    let link = home.map(|home| home.path().with_extension("link"));
    link.map(fs::remove_file).transpose().unwrap();
}

#[test]
fn a_project_may_be_the_home_directory() {
    apart("a_project_may_be_the_home_directory", |home| {
        let project = home.join("project");
        let mut view = view(home, MountAccess::Read);
        view.hidden = vec![project.clone(), project.join("keys")];
        enter(&view).unwrap();
        for place in [project.as_path(), Path::new("/opt/src")] {
            assert!(place.join("source").exists());
            assert!(!place.join("keys/k").exists());
        }
    });
}

#[test]
fn the_root_directory_is_nobodys_home() {
    apart("the_root_directory_is_nobodys_home", |home| {
        let mut view = view(home, MountAccess::Read);
        view.hidden = vec![PathBuf::from("/"), home.join("keys")];
        enter(&view).unwrap();
        assert!(Path::new("/usr").exists());
        assert!(home.join("secret").exists());
        assert!(!home.join("keys/k").exists());
    });
}

#[test]
fn an_older_kernel_makes_mounts_read_only_one_by_one() {
    apart(
        "an_older_kernel_makes_mounts_read_only_one_by_one",
        |home| {
            use rustix::mount::{MountPropagationFlags, mount_change};
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            let below = home.join("with a space");
            mounts::cover(home, c"mode=0755").unwrap();
            fs::create_dir(&below).unwrap();
            mounts::cover(&below, c"mode=0755").unwrap();
            fs::write(below.join("f"), "").unwrap();
            mounts::remount_each(Path::new("/"), Restriction::Writing).unwrap();
            for place in [home, &below, Path::new("/usr")] {
                assert!(is_read_only(place), "{}", place.display());
            }
        },
    );
}
