//! What a var partition is like, as the kernel sees it.

mod common;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, static_binary};
use common::{Sandbox, cannot_build, feed};

const EXTENSIONS: &str = "
    subvolumes:
      lib/database: {nodatacow: true, quota: 1G}
      lib/reference: ro
      lib/given-up: true
";

const RUNTIME: &str = "
    var:
      compression: zstd:3
      subvolumes:
        lib/database: {nodatacow: true, quota: 64M}
        lib/given-up: false
        lib/archive: {compression: lzo}
        lib/archive/inherits: true
        lib/archive/in-place: {nodatacow: true}
        lib/archive/plain: {compression: none, quota: 32M}
        lib/archive/plain/inherits: true
        lib/avocado: {quota: 512M}
";

/// Whether the machine cannot look at one; says so.
fn cannot_look(name: &str) -> bool {
    let tools = ["btrfs", "lsattr", "filefrag"].map(TestNeed::Tool);
    cannot_build(name) || skip_without(name, &tools)
}

/// Adds a key to a section of avocado.yaml, behind its first line.
fn add_behind(project: &TestProject, line: &str, text: &str) {
    let yaml = project.read("avocado.yaml").unwrap();
    let (before, after) = yaml.split_once(line).unwrap();
    let text = text.trim_start_matches('\n');
    let yaml = format!("{before}{line}{text}{after}");
    project.write("avocado.yaml", &yaml).unwrap();
}

/// The mounted image of the runtime `dev`, for as long as this is there.
struct MountedVar {
    point: PathBuf,
}

impl MountedVar {
    fn new(sandbox: &Sandbox) -> Self {
        let point = sandbox.directory.path().join("mnt");
        fs::create_dir_all(&point).unwrap();
        let runtime = sandbox.project.state().join("runtimes/dev");
        ToolCall::new("mount")
            .args(["-o", "loop,ro"])
            .arg(runtime.join("avocado-image-var-qemux86-64.btrfs"))
            .arg(&point)
            .ok()
            .unwrap();
        MountedVar { point }
    }

    fn said(&self, tool: &str, arguments: &[&str], path: &str) -> String {
        let call = ToolCall::new(tool).args(arguments);
        call.arg(self.point.join(path)).ok().unwrap().stdout
    }

    /// Whether the content of a file is compressed.
    fn is_compressed(&self, path: &str) -> bool {
        self.said("filefrag", &["-v"], path).contains("encoded")
    }
}

impl Drop for MountedVar {
    fn drop(&mut self) {
        let unmounted = ToolCall::new("umount").arg(&self.point).ok();
        assert!(
            unmounted.is_ok() || std::thread::panicking(),
            "{unmounted:?}"
        );
    }
}

fn write_seeds(project: &TestProject) {
    let text = "All of it is the same line.\n".repeat(20_000);
    for name in [
        "database/a",
        "reference/a",
        "archive/a",
        "archive/inherits/a",
        "archive/in-place/a",
        "archive/plain/a",
        "archive/plain/inherits/a",
        "other/a",
    ] {
        project.write(&format!("seeds/{name}"), &text).unwrap();
    }
    let place = |name: &str| project.directory().join("seeds").join(name);
    fs::create_dir_all(place("given-up")).unwrap();
    fs::write(place("given-up/a"), "").unwrap();
    add_behind(
        project,
        "    var_files:\n",
        "      - {source: seeds, dest: lib/}\n",
    );
}

#[test]
fn subvolumes_are_what_the_project_says() {
    if cannot_look("subvolumes_are_what_the_project_says") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    write_seeds(project);
    add_behind(project, "    types: [sysext]\n", EXTENSIONS);
    add_behind(project, "    extensions: [hello, hello-config]\n", RUNTIME);
    let events = project.events(&["build"]).unwrap();
    assert_eq!(
        events.steps("success"),
        ["runtime var dev", "runtime vm dev"]
    );
    let told: Vec<_> = events.of("warning").collect();
    assert!(told.is_empty(), "{told:?}");
    let var = MountedVar::new(&sandbox);

    let listed = var.said("btrfs", &["subvolume", "list"], "");
    let mut listed: Vec<&str> = listed
        .lines()
        .map(|line| line.split_once(" path ").unwrap().1)
        .collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            "lib/archive",
            "lib/archive/in-place",
            "lib/archive/inherits",
            "lib/archive/plain",
            "lib/archive/plain/inherits",
            "lib/avocado",
            "lib/database",
            "lib/reference"
        ]
    );
    for (path, read_only) in [("lib/reference", true), ("lib/database", false)] {
        let said = var.said("btrfs", &["property", "get", "-ts"], path);
        assert!(said.contains(&format!("ro={read_only}")), "{path}: {said}");
    }
    for (path, in_place) in [
        ("lib/database/a", true),
        ("lib/archive/a", false),
        ("lib/archive/in-place/a", true),
        ("lib/archive/inherits/a", false),
        ("lib/other/a", false),
    ] {
        let said = var.said("lsattr", &[], path);
        let attributes = said.split_whitespace().next().unwrap();
        assert_eq!(attributes.contains('C'), in_place, "{path}: {said}");
    }
    for (path, compressed) in [
        ("lib/other/a", true),
        ("lib/given-up/a", false),
        ("lib/archive/a", true),
        ("lib/archive/inherits/a", true),
        ("lib/archive/in-place/a", false),
        ("lib/archive/plain/a", false),
        // Whatever the image is mounted with when it is filled.
        ("lib/archive/plain/inherits/a", false),
        ("lib/database/a", false),
        ("lib/reference/a", true),
    ] {
        assert_eq!(var.is_compressed(path), compressed, "{path}");
    }
    let quotas = var.said("btrfs", &["qgroup", "show", "-r", "--raw"], "");
    for (path, limit) in [
        ("lib/database", "67108864"),
        ("lib/archive/plain", "33554432"),
        ("lib/avocado", "536870912"),
        ("lib/reference", "none"),
    ] {
        let inode = var.said("btrfs", &["subvolume", "show"], path);
        let id = inode.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "Subvolume ID").then(|| format!("0/{}", value.trim()))
        });
        let id = id.unwrap();
        let mut columns = quotas
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        let found = columns.find(|columns| columns.first() == Some(&id.as_str()));
        let found = found.unwrap_or_else(|| panic!("{path}: {id}\n{quotas}"));
        assert!(found.contains(&limit), "{path}: {found:?}\n{quotas}");
    }
    holds_the_tree(&sandbox, &var.point);
}

/// A database's file is often larger than what is in it.
#[test]
fn a_hole_takes_nothing_of_a_quota() {
    if cannot_look("a_hole_takes_nothing_of_a_quota") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    write_seeds(project);
    let sparse = project.directory().join("seeds/database/sparse");
    File::create(sparse).unwrap().set_len(64 << 20).unwrap();
    let var = "    var: {subvolumes: {lib/database: {nodatacow: true, quota: 2M}}}\n";
    add_behind(project, "    extensions: [hello, hello-config]\n", var);
    project.avocado(&["build"]).ok().unwrap();
    let var = MountedVar::new(&sandbox);
    holds_the_tree(&sandbox, &var.point);
    let sparse = fs::metadata(var.point.join("lib/database/sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks()), (64 << 20, 0));
}

fn holds_the_tree(sandbox: &Sandbox, point: &Path) {
    let tree = sandbox.project.state().join("runtimes/dev/var-staging");
    let compared = ToolCall::new("diff").args(["-r", "--no-dereference"]);
    let compared = compared.arg(point).arg(tree).run().unwrap();
    assert!(compared.status.success(), "{compared}");
}

#[test]
fn what_cannot_be_a_subvolume_is_told() {
    if cannot_look("what_cannot_be_a_subvolume_is_told") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    write_seeds(project);
    let yaml = project.read("avocado.yaml").unwrap();
    for (subvolumes, said) in [
        ("lib/database/a: true", "lib/database/a"),
        (
            "lib/database: {quota: 100K}",
            "the subvolume lib/database gets 560000 bytes from the start, which with what btrfs adds have no place \
             in its `quota` of 100K",
        ),
        // Which leaves nothing for what btrfs needs itself.
        (
            "lib/database: {quota: 560000}",
            "the subvolume lib/database gets 560000 bytes from the start, which with what btrfs adds have no place \
             in its `quota` of 560000",
        ),
        // Which it has no place in whatever it is compressed to.
        (
            "lib/database: {compression: zstd, quota: 4K}",
            "the subvolume lib/database gets 560000 bytes from the start, which with what btrfs adds have no place \
             in its `quota` of 4K",
        ),
    ] {
        project.write("avocado.yaml", &yaml).unwrap();
        let text = format!("    var: {{subvolumes: {{{subvolumes}}}}}\n");
        add_behind(project, "    extensions: [hello, hello-config]\n", &text);
        let failed = project.avocado(&["build"]).run().unwrap();
        assert!(!failed.status.success(), "{subvolumes}");
        assert!(failed.stderr.contains(said), "{subvolumes}: {failed}");
    }
}

/// As in a container, where nothing is mounted.
#[test]
fn the_version_that_makes_it_without_a_mount_is_told() {
    let name = "the_version_that_makes_it_without_a_mount_is_told";
    if cannot_build(name) || skip_without(name, &[TestNeed::Tool("setpriv")]) {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let place = sandbox.directory.path();
    // The work tree may be where no other user can look.
    let program = place.join("avocado");
    fs::copy(static_binary("avocado").unwrap(), &program).unwrap();
    let tools = place.join("tools");
    fs::create_dir(&tools).unwrap();
    let mkfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/var_image/mkfs.btrfs");
    fs::copy(mkfs, tools.join("mkfs.btrfs")).unwrap();
    // The keys of the others are where this one cannot look either.
    fs::remove_dir_all(project.state().join("output/runtimes/dev/repository")).unwrap();
    let keys = place.join("keys-of-nobody");
    let as_nobody = TestProject::new(project.directory(), &feed().url(), &keys).unwrap();
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let words = words.map(OsString::from).into_iter();
    let as_nobody = as_nobody
        .with_program(words.chain([program.into()]))
        .with_env("PATH", format!("{}:/usr/bin:/bin", tools.display()))
        .with_env("HOME", project.directory());
    let yaml = project.read("avocado.yaml").unwrap();
    for (version, compression, needed) in [
        ("6.11.1", "none", "6.12"),
        ("6.11.1", "zstd", "6.13"),
        ("6.12", "zstd", "6.13"),
    ] {
        project.write("avocado.yaml", &yaml).unwrap();
        let var = format!("    var: {{compression: {compression}}}\n");
        add_behind(project, "    extensions: [hello, hello-config]\n", &var);
        fs::write(tools.join("version"), version).unwrap();
        let owned = ToolCall::new("chown").args(["-R", "65534:65534"]);
        owned.arg(place).ok().unwrap();
        let built = as_nobody.avocado(&["build"]).run().unwrap();
        assert!(!built.status.success(), "{version} {compression}");
        let told = format!("with btrfs-progs before {needed} this var image");
        assert!(
            built.stderr.contains(&told),
            "{version} {compression}: {built}"
        );
    }
}
