//! Steps on another machine, with a real one: a guest with an ssh server and the tools of a build, to
//! which the project comes over NFS.

use std::fs;
use std::path::Path;

use avocado_test_support::skip;
use avocado_testbed::nfs_guest;
use avocado_testbed::project::TestProject;
use avocado_testbed::remote_guest::{self, RemoteGuest};
use avocado_testbed::tools::skip_without;

const YAML: &str = "\
default_target: qemux86-64
supported_targets: [qemux86-64]
source_date_epoch: 1767225600
extensions:
  my-app:
    version: 1.0.0
    types: [sysext]
    overlay: overlay
";

/// A project with one extension, which needs no feed.
fn project(place: &Path) -> TestProject {
    let directory = place.join("a project");
    fs::create_dir_all(&directory).unwrap();
    let project = TestProject::new(&directory, "http://127.0.0.1:1", &place.join("keys")).unwrap();
    project.write("avocado.yaml", YAML).unwrap();
    project
        .write("overlay/usr/share/my-app/a", "image\n")
        .unwrap();
    project
}

/// The same project with a way to the guest.
fn with_guest(project: TestProject, guest: &RemoteGuest) -> TestProject {
    let mut path = guest.bin().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path.push(":/usr/sbin:/sbin");
    project.with_env("PATH", path)
}

/// The guest of all cases, and where it is.
struct Machine {
    guest: RemoteGuest,
    _place: tempfile::TempDir,
}

/// Says why there is none.
fn machine(name: &str) -> Option<Machine> {
    if skip_without(name, &remote_guest::needs()) {
        return None;
    }
    let parts = nfs_guest::kernel().and_then(|kernel| Ok((kernel, remote_guest::system()?)));
    let (kernel, system) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            skip(name, error.to_string());
            return None;
        }
    };
    let place = tempfile::tempdir().unwrap();
    let guest = RemoteGuest::boot(&place.path().join("guest"), &kernel, &system, &[]).unwrap();
    Some(Machine {
        guest,
        _place: place,
    })
}

#[test]
fn what_is_made_there_is_what_would_be_made_here() {
    let name = "what_is_made_there_is_what_would_be_made_here";
    let Some(machine) = machine(name) else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let here = project(&place.path().join("here"));
    let there = project(&place.path().join("there"));
    let there = with_guest(there, &machine.guest);
    let build = ["ext", "image", "my-app"];
    here.avocado(&build).ok().unwrap();
    let remote = ["ext", "image", "my-app", "--runs-on", "root@builder"];
    there.avocado(&remote).ok().unwrap();
    let image = |project: &TestProject| {
        fs::read(project.state().join("output/extensions/my-app-1.0.0.raw")).unwrap()
    };
    assert!(image(&here) == image(&there), "other bytes");
    let events = there.events(&remote).unwrap();
    assert_eq!(events.complete()["ran"], 0, "{events:?}");
}
