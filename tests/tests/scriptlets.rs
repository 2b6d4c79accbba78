//! The scriptlets of packages, with the real package manager and the tools of this host.

mod common;

use std::fs;
use std::path::Path;

use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::source_root;
use common::{Sandbox, cannot_build, feed};

/// A project that installs from a feed with packages that have scriptlets.
struct Scripted {
    sandbox: Sandbox,
    project: TestProject,
    _feed: SampleFeed,
}

impl Scripted {
    fn new() -> Self {
        let sandbox = Sandbox::fresh();
        let specs = source_root().join("tests/scriptlets");
        let place = sandbox.directory.path().join("feed");
        let feed = feed().with_packages(&place, &specs, "target/qemux86-64", &[]);
        let feed = feed.unwrap();
        let project = sandbox
            .project
            .clone()
            .with_env("AVOCADO_REPO_URL", feed.url());
        Scripted {
            sandbox,
            project,
            _feed: feed,
        }
    }

    fn wants(&self, yaml: &str) {
        let yaml = format!(
            "default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n{yaml}"
        );
        self.project.write("avocado.yaml", &yaml).unwrap();
    }

    /// A file below the state of the target.
    fn read(&self, file: &str) -> String {
        let path = self.project.state().join(file);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn link(&self, file: &str) -> String {
        let target = fs::read_link(self.project.state().join(file)).unwrap();
        target.to_string_lossy().into_owned()
    }

    fn has(&self, file: &str) -> bool {
        self.project.state().join(file).symlink_metadata().is_ok()
    }
}

const LINKS: &str = "rootfs: {packages: {with-links: '*', in-order: '*'}}\n";

#[test]
fn packages_make_users_and_links() {
    if cannot_build("packages_make_users_and_links") {
        return;
    }
    let scripted = Scripted::new();
    let project = &scripted.project;
    scripted.wants(LINKS);
    project.avocado(&["rootfs", "install"]).ok().unwrap();
    let passwd = scripted.read("rootfs/etc/passwd");
    assert_eq!(passwd, "app:x:999:999::/var/lib/app:/bin/false\n");
    assert_eq!(scripted.read("rootfs/etc/group"), "app:x:999:\n");
    // The day of `source_date_epoch`, not that of the build.
    let shadow = scripted.read("rootfs/etc/shadow");
    assert!(shadow.starts_with("app:!:"), "{shadow}");
    let day: u64 = shadow.split(':').nth(2).unwrap().parse().unwrap();
    assert!(day < 20_500, "{shadow}");
    let tool = scripted.link("rootfs/usr/bin/tool");
    assert_eq!(tool, "/usr/share/with-links/file");
    assert_eq!(scripted.link("rootfs/bin"), "usr/bin");
    assert_eq!(scripted.link("rootfs/usr/share/with-links/link"), "file");
    // Every byte of a scriptlet counts.
    assert_eq!(
        scripted.read("rootfs/usr/share/with-links/text"),
        "a\n\nb  \n"
    );
    assert_eq!(
        scripted.read("rootfs/usr/share/in-order/said"),
        "pre\npost\n"
    );
    let environment = scripted.read("rootfs/usr/share/in-order/environment");
    for name in [
        "AVOCADO_EXT_INSTALLROOT",
        "AVOCADO_SYSROOT_SCRIPTS",
        "D",
        "OPKG_OFFLINE_ROOT",
        "RPM_NO_CHROOT_FOR_SCRIPTS",
        "SOURCE_DATE_EPOCH",
    ] {
        assert!(environment.lines().any(|line| line == name), "{name}");
    }
    // The database is where later steps look for it, and whole.
    assert!(scripted.has("rootfs/var/lib/rpm") && !scripted.has(".rootfs.rpm"));
    let again = project.events(&["rootfs", "install"]).unwrap();
    assert_eq!(again.complete()["ran"], 0);

    // The same from nothing.
    let before = tree(&scripted, "rootfs");
    fs::remove_dir_all(project.state().join("rootfs")).unwrap();
    project.avocado(&["rootfs", "install"]).ok().unwrap();
    assert_eq!(tree(&scripted, "rootfs"), before);
}

/// Names and contents of a tree but for the package database, which has the time of the install.
fn tree(scripted: &Scripted, name: &str) -> Vec<(String, Vec<u8>)> {
    let root = scripted.project.state().join(name);
    let entries = walkdir::WalkDir::new(&root).sort_by_file_name();
    let entries = entries.into_iter().map(|entry| entry.unwrap().into_path());
    let below = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    entries
        .filter(|path| !path.starts_with(root.join("var/lib/rpm")))
        .map(|path| {
            let content = match fs::read_link(&path) {
                Ok(target) => target.to_string_lossy().into_owned().into_bytes(),
                Err(_) => fs::read(&path).unwrap_or_default(),
            };
            (below(&path), content)
        })
        .collect()
}

#[test]
fn without_scripts_it_is_said_whose_are_left_out() {
    if cannot_build("without_scripts_it_is_said_whose_are_left_out") {
        return;
    }
    let scripted = Scripted::new();
    let project = &scripted.project;
    scripted.wants(LINKS);
    let run = |arguments: &[&str]| project.events(arguments).unwrap().complete().clone();
    let first = run(&["rootfs", "install", "--no-scripts"]);
    let skipped: Vec<String> = first["skipped_scriptlets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{} {} {}", s["package"], s["scriptlets"], s["reason"]).replace('"', ""))
        .collect();
    assert_eq!(
        skipped,
        [
            "in-order [%pre,%post] --no-scripts",
            "with-links [%post,%posttrans] --no-scripts",
            "with-user [%pre] --no-scripts",
        ]
    );
    assert!(!scripted.has("rootfs/etc/passwd") && scripted.has("rootfs/usr/share/with-user/file"));
    // It is an input of the step like any other.
    assert_eq!(run(&["rootfs", "install", "--no-scripts"])["ran"], 0);
    let second = run(&["rootfs", "install"]);
    assert_eq!(second["ran"], 1);
    assert_eq!(second.get("skipped_scriptlets"), None);
    assert!(scripted.has("rootfs/etc/passwd"));

    let said = project.avocado(&["rootfs", "install", "--no-scripts"]);
    let said = said.ok().unwrap().stdout;
    assert!(said.contains("SCRIPTLETS NOT RUN"), "{said}");
    assert!(said.contains("%post %posttrans"), "{said}");
}

#[test]
fn a_scriptlet_that_fails_or_cannot_run_is_named() {
    if cannot_build("a_scriptlet_that_fails_or_cannot_run_is_named") {
        return;
    }
    let scripted = Scripted::new();
    let project = &scripted.project;
    scripted.wants("rootfs: {packages: {that-fails: '*'}}\n");
    let failed = project.avocado(&["rootfs", "install"]).run().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    for words in [
        "the scriptlet %post of package that-fails failed",
        "no luck here",
        "--no-scripts",
    ] {
        assert!(failed.stderr.contains(words), "{words}: {failed}");
    }
    // Nothing is taken for installed.
    assert!(!scripted.has("rootfs"));
    project
        .avocado(&["rootfs", "install", "--no-scripts"])
        .ok()
        .unwrap();

    scripted.wants("rootfs: {packages: {in-lua: '*'}}\n");
    let events = project.events(&["rootfs", "install"]).unwrap();
    let skipped = events.complete()["skipped_scriptlets"].to_string();
    assert!(
        skipped.contains("%post") && skipped.contains("Lua"),
        "{skipped}"
    );
    assert!(skipped.contains("%trigger"), "{skipped}");
}

/// An extension has what the rootfs does not have, and no accounts.
#[test]
fn scriptlets_of_an_extension_change_no_accounts() {
    if cannot_build("scriptlets_of_an_extension_change_no_accounts") {
        return;
    }
    let scripted = Scripted::new();
    let project = &scripted.project;
    scripted.wants(
        "rootfs: {packages: {in-order: '*'}}
permissions: {dev: {users: {root: {password: 'x'}}}}
extensions: {app: {version: 1.0.0, packages: {with-links: '*'}}}
runtimes: {dev: {extensions: [app]}}
",
    );
    let output = project.avocado(&["ext", "install", "app"]).ok().unwrap();
    let tree = ".work/extensions/app";
    let tool = scripted.link(&format!("{tree}/usr/bin/tool"));
    assert_eq!(tool, "/usr/share/with-links/file");
    for file in ["etc", "usr/share/in-order"] {
        assert!(!scripted.has(&format!("{tree}/{file}")), "{file}");
    }
    let told = "scriptlets add the user or group `app`, which an extension cannot bring";
    assert!(output.stderr.contains(told), "{output}");

    // Whom the rootfs has is there.
    scripted.wants(
        "rootfs: {packages: {with-user: '*'}}
extensions: {app: {version: 1.0.0, packages: {with-links: '*'}}}
runtimes: {dev: {extensions: [app]}}
",
    );
    let output = project.avocado(&["ext", "install", "app"]).ok().unwrap();
    assert!(!output.stderr.contains("scriptlets add"), "{output}");
    assert!(!scripted.has(&format!("{tree}/etc")));
    drop(scripted.sandbox);
}
