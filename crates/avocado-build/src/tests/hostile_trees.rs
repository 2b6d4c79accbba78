//! Steps at work on trees that a hostile package has filled. What is beside a tree is not its
//! business: nothing there is read into a result, written, or removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use avocado_events::Silent;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::BuildError;
use crate::layout::Layout;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::steps::extension_build::ExtensionBuildRequest;
use crate::steps::extension_image::ExtensionImageRequest;
use crate::steps::os_image::OsImageRequest;
use crate::trees::{self, CopyModes};

const SECRET: &str = "the host's own secret";

/// A state directory beside what only the host has.
struct Host {
    directory: TempDir,
    layout: Layout,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("state"), &"t".parse().unwrap());
        let host = Host { directory, layout };
        fs::create_dir_all(host.own("directory")).unwrap();
        fs::write(host.own("secret"), SECRET).unwrap();
        fs::write(host.own("directory/kept"), SECRET).unwrap();
        host
    }

    /// Something of the host.
    fn own(&self, name: &str) -> PathBuf {
        self.directory.path().join("host").join(name)
    }

    fn is_untouched(&self, case: &str) {
        let names = |path: &str| -> Vec<_> {
            let mut names: Vec<_> = fs::read_dir(self.own(path))
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["directory", "secret"], "{case}");
        assert_eq!(names("directory"), ["kept"], "{case}");
        for file in ["secret", "directory/kept"] {
            assert_eq!(
                fs::read_to_string(self.own(file)).unwrap(),
                SECRET,
                "{case}"
            );
        }
    }

    fn work<R: StepRequest>(&self, request: Value) -> Result<R::Result, BuildError> {
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: self.layout.clone(),
            host_layout: self.layout.clone(),
            epoch: 1,
            modes: CopyModes::Keep,
            sink: &Silent,
            loop_mounts: None,
        };
        let request: R = serde_json::from_value(request).unwrap();
        request.work(&context)
    }

    /// Builds the image of a rootfs whose packages made this tree.
    fn os_image(&self, tree: &Tree) -> Result<PathBuf, BuildError> {
        tree.put(&self.layout.prefix().join("rootfs"));
        let user = json!({
            "name": "app", "uid": null, "gid": null, "gecos": null, "home": null, "shell": null,
            "password": null, "groups": [], "last_change": 1, "min_days": 0, "max_days": 9,
            "warn_days": 7, "inactive_days": null, "expire_date": null,
        });
        self.work::<OsImageRequest>(json!({
            "part": "rootfs",
            "name": "default",
            "filesystem": "cpio",
            "overlay": null,
            "post_install": null,
            "permissions": { "users": [user], "groups": [] },
            "runtime": "dev",
            "runtime_version": "1",
            "source_date_epoch": 1,
            "build_id_source": "id",
        }))?;
        let runtime = "dev".parse().unwrap();
        Ok(self.layout.os_image("rootfs", &runtime, "cpio"))
    }

    /// Builds an extension whose packages made this tree.
    fn extension(&self, tree: &Tree) -> Result<PathBuf, BuildError> {
        let name = "app".parse().unwrap();
        tree.put(&self.layout.extension_packages(&name));
        self.work::<ExtensionBuildRequest>(json!({
            "name": "app",
            "version": "1.0",
            "sysext": true,
            "confext": false,
            "overlay": null,
            "post_build": null,
            "enable_services": ["app.service"],
            "modprobe": [],
            "on_merge": [],
            "on_unmerge": [],
            "reload_service_manager": true,
            "sysext_scopes": ["system"],
            "confext_scopes": [],
            "packages": true,
            "base": null,
        }))?;
        Ok(self.layout.extension(&name))
    }
}

/// Files and links that packages bring, the links over everything else.
#[derive(Default)]
struct Tree {
    files: Vec<(&'static str, &'static str)>,
    links: Vec<(&'static str, PathBuf)>,
}

impl Tree {
    fn rootfs() -> Self {
        let files = vec![
            ("usr/lib/os-release", "ID=x\nVERSION_ID=7\n"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("etc/shadow", "root:*:1::::::\n"),
            ("etc/group", "root:x:0:\n"),
            ("var/lib/rpm/Packages", "database"),
        ];
        let links = Vec::new();
        Tree { files, links }
    }

    fn extension() -> Self {
        let files = vec![(
            "usr/lib/systemd/system/app.service",
            "[Install]\nWantedBy=multi-user.target\n",
        )];
        let links = Vec::new();
        Tree { files, links }
    }

    fn with(mut self, link: &'static str, target: impl Into<PathBuf>) -> Self {
        self.links.push((link, target.into()));
        self
    }

    fn put(&self, root: &Path) {
        trees::fresh(root).unwrap();
        for (path, text) in &self.files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for (path, target) in &self.links {
            let path = root.join(path);
            trees::clear(&path).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
    }
}

fn holds(file: &Path, text: &str) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[test]
fn names_of_files_in_the_making_are_of_no_use_to_a_rootfs_package() {
    let host = Host::new();
    let secret = host.own("secret");
    let mut tree = Tree::rootfs();
    for link in [
        "usr/lib/.os-release.new",
        "etc/.machine-id.new",
        "etc/.passwd.new",
        "etc/.shadow.new",
        "etc/.group.new",
        "etc/.passwd.old",
        "etc/machine-id",
    ] {
        tree = tree.with(link, &secret);
    }
    let image = host.os_image(&tree).unwrap();
    assert!(holds(
        &image,
        "AVOCADO_OS_BUILD_ID=31cb911a-5b9f-5be9-b1c4-467459601ae6"
    ));
    assert!(holds(&image, "app:x:1000:"));
    assert!(!holds(&image, SECRET));
    host.is_untouched("files in the making");
}

#[test]
fn a_rootfs_package_reads_nothing_of_the_host() {
    for link in [
        "etc/passwd",
        "etc/shadow",
        "etc/group",
        "usr/lib/os-release",
    ] {
        let host = Host::new();
        let tree = Tree::rootfs().with(link, host.own("secret"));
        let error = host.os_image(&tree).unwrap_err();
        assert!(matches!(error, BuildError::Tree { .. }), "{link}: {error}");
        assert!(error.to_string().ends_with(link), "{error}");
        host.is_untouched(link);
    }
}

#[test]
fn a_directory_that_is_a_link_leads_a_rootfs_nowhere_else() {
    for (link, works) in [
        ("etc", false),
        ("usr/lib", false),
        ("usr", false),
        ("var", false),
        ("var/lib", true),
        ("var/lib/rpm", true),
        ("boot", true),
        ("bin", true),
    ] {
        let host = Host::new();
        let tree = Tree::rootfs().with(link, host.own("directory"));
        let built = host.os_image(&tree);
        match built {
            Ok(image) => {
                assert!(works, "{link}");
                assert!(!holds(&image, SECRET), "{link}");
            }
            Err(error) => {
                assert!(
                    !works && matches!(error, BuildError::Tree { .. }),
                    "{link}: {error}"
                );
                assert!(error.to_string().ends_with(link), "{error}");
            }
        }
        host.is_untouched(link);
    }
}

#[test]
fn a_link_within_a_rootfs_is_as_good_as_a_directory() {
    let host = Host::new();
    let mut tree = Tree::rootfs().with("usr/lib/os-release", "/usr/share/os-release");
    tree.files.push(("usr/share/os-release", "VERSION_ID=8\n"));
    let image = host.os_image(&tree).unwrap();
    assert!(holds(
        &image,
        "VERSION_ID=8\nAVOCADO_OS_BUILD_ID=31cb911a-5b9f-5be9-b1c4-467459601ae6"
    ));
}

#[test]
fn an_extension_package_leads_release_file_and_links_nowhere_else() {
    for link in [
        "usr",
        "usr/lib",
        "usr/lib/extension-release.d",
        "usr/lib/systemd/system/multi-user.target.wants",
        "usr/lib/systemd/system/app.service",
    ] {
        let host = Host::new();
        let tree = Tree::extension().with(link, host.own("directory"));
        let error = host.extension(&tree).unwrap_err();
        host.is_untouched(link);
        // Without its unit there is nothing to enable, and that is what is said.
        if matches!(error, BuildError::Tree { .. }) {
            assert!(error.to_string().ends_with(link), "{error}");
        } else {
            assert!(error.to_string().contains("app.service"), "{link}: {error}");
        }
    }
    let host = Host::new();
    let tree = Tree::extension()
        .with("usr/lib/extension-release.d", "../share/releases")
        .with("usr/lib/.extension-release.app-1.0.new", host.own("secret"))
        .with("usr/share/releases/x", "/nothing");
    let built = host.extension(&tree).unwrap();
    assert!(
        built
            .join("usr/share/releases/extension-release.app-1.0")
            .is_file()
    );
    host.is_untouched("links within");
}

/// Which systemd would refuse on the device.
#[test]
fn an_extension_that_claims_to_be_an_operating_system_is_refused() {
    let host = Host::new();
    let mut tree = Tree::extension();
    tree.files.push(("usr/lib/os-release", "ID=x\n"));
    let built = host.extension(&tree).unwrap();
    let image = host.work::<ExtensionImageRequest>(json!({
        "name": "app",
        "version": "1.0",
        "filesystem": "cpio",
        "var_files": [],
        "source_date_epoch": 1,
        "sysroot": trees::digest_with_times(&built).unwrap(),
    }));
    let error = image.unwrap_err().to_string();
    assert!(error.contains("`app` has /usr/lib/os-release"), "{error}");
}

#[test]
fn var_files_take_no_link_for_what_it_leads_to() {
    let host = Host::new();
    let tree = Tree::extension().with("var/lib/app", host.own("directory"));
    let built = host.extension(&tree).unwrap();
    let sysroot = trees::digest_with_times(&built).unwrap();
    let request = |var_files: Value| {
        json!({
            "name": "app",
            "version": "1.0",
            "filesystem": "cpio",
            "var_files": var_files,
            "source_date_epoch": 1,
            "sysroot": sysroot,
        })
    };
    let content = |text: &str| {
        fs::write(host.own("directory/kept"), text).unwrap();
        let made = host.work::<ExtensionImageRequest>(request(json!(["var/lib/app"])));
        serde_json::to_value(made.unwrap()).unwrap()["var_content"].clone()
    };
    assert_eq!(content("one"), content(SECRET));
    // An image without its release file would be no extension for any device.
    for path in ["usr", "usr/lib/**", "usr/lib/extension-release.d"] {
        let error = host
            .work::<ExtensionImageRequest>(request(json!([path])))
            .unwrap_err();
        assert!(error.to_string().contains("var_files"), "{error}");
    }
}
