//! Installs with the real dnf, from a feed that turns against the lock.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use avocado_events::{Event, EventKind, Silent, Sink};
use avocado_project::PackageHeader;
use serde_json::json;
use tempfile::TempDir;

use super::PackageTree;
use super::request::InstallResult;
use super::small_feed::{SmallFeed, SmallPackage};
use super::spec::{InstallSpec, KernelChoice};
use crate::error::BuildError;
use crate::failure_kind::FailureKind;
use crate::layout::Layout;
use crate::packages::feed::FeedAccess;
use crate::step_context::StepContext;
use crate::trees::{self, CopyModes};

/// A tree, the lock of its packages and the feed that they are from.
struct LockedInstall {
    directory: TempDir,
    feed: SmallFeed,
    spec: InstallSpec,
    signing_keys: Option<String>,
}

impl LockedInstall {
    /// Wants `app`, and nothing is locked. `None` where that cannot be tried.
    fn of_app(test: &str) -> Option<Self> {
        if let Some(why) = SmallFeed::missing() {
            avocado_test_support::skip(test, why);
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let feed = SmallFeed::new(directory.path());
        let packages = json!({"template": {"app": "*"}});
        let install = LockedInstall {
            feed,
            spec: InstallSpec {
                tree: PackageTree::Initramfs("default".parse().unwrap()),
                packages: serde_json::from_value(packages).unwrap(),
                locked: BTreeMap::new(),
                headers: BTreeMap::new(),
                repository: None,
                weak_dependencies: true,
                base: None,
                base_kernel: None,
                kernel: None,
                scriptlets: true,
                one_kernel: false,
            },
            signing_keys: None,
            directory,
        };
        // As the feed's own package brings it: it would have signatures not checked.
        let conf = install.layout().target_repoconf();
        fs::create_dir_all(conf.join("etc/dnf/vars")).unwrap();
        fs::create_dir_all(conf.join("etc/yum.repos.d")).unwrap();
        fs::write(conf.join("etc/dnf/vars/arch"), "noarch").unwrap();
        fs::write(
            conf.join("etc/yum.repos.d/t.repo"),
            "[t-target]\nname=t\nbaseurl=${repo_url}/$releasever/target/t\nenabled=1\ngpgcheck=0\n",
        )
        .unwrap();
        Some(install)
    }

    fn layout(&self) -> Layout {
        Layout::new(self.directory.path(), &"t".parse().unwrap())
    }

    fn installed_file(&self) -> PathBuf {
        let root = self.spec.tree.root(&self.layout());
        root.join("opt/app")
    }

    fn run(&self) -> Result<InstallResult, BuildError> {
        self.run_with(&Silent)
    }

    fn run_with(&self, sink: &dyn Sink) -> Result<InstallResult, BuildError> {
        // What dnf was told within the last second counts for it.
        let _ = fs::remove_dir_all(self.layout().dnf_cache());
        self.run_again(sink)
    }

    /// With what dnf has in its cache.
    fn run_again(&self, sink: &dyn Sink) -> Result<InstallResult, BuildError> {
        let context = StepContext {
            search_path: "/usr/bin:/bin".into(),
            target: "t".parse().unwrap(),
            layout: self.layout(),
            host_layout: self.layout(),
            epoch: 0,
            modes: CopyModes::Keep,
            sink,
            loop_mounts: None,
        };
        let access = FeedAccess {
            url: self.feed.url(),
            releasever: "r".into(),
            ca: None,
            tls_verify: true,
            credentials: None,
            repositories: Vec::new(),
            cached: false,
            signing_keys: self.signing_keys.clone(),
            dnf_args: vec![],
        };
        self.spec
            .clone()
            .work(&context, &access, Some("avocado.yaml:8:19"))
    }

    /// Installs, and locks what was installed.
    fn run_and_lock(&mut self) -> PackageHeader {
        let result = self.run().unwrap();
        let versions = result.packages.iter();
        self.spec.locked = versions
            .map(|(name, header)| (name.clone(), header.version.clone()))
            .collect();
        self.spec.headers = result.packages;
        self.spec.headers["app"].clone()
    }
}

fn app(epoch: u32, version: &'static str, content: &'static str) -> SmallPackage {
    SmallPackage {
        name: "app",
        epoch,
        version,
        content,
    }
}

#[test]
fn a_locked_version_with_other_contents_is_refused() {
    let name = "a_locked_version_with_other_contents_is_refused";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    install.feed.offer(&[app(0, "1.0", "good")]);
    let locked = install.run_and_lock();
    assert_eq!(
        (locked.version.as_str(), locked.epoch),
        ("1.0-r0.noarch", 0)
    );
    assert_eq!(locked.digest.len(), "sha256:".len() + 64);
    // The same once more.
    install.run().unwrap();

    install.feed.offer(&[app(0, "1.0", "evil")]);
    let error = install.run().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::PackageChanged));
    let said = error.to_string();
    assert!(said.contains("package app 1.0-r0.noarch"), "{said}");
    assert!(said.contains(&locked.digest), "{said}");
    // The tree is the one from before.
    let content = fs::read_to_string(install.installed_file()).unwrap();
    assert_eq!(content, "good\n");

    // A lock of versions alone is accepted, and completed with what is there.
    install.spec.headers.clear();
    let completed = install.run_and_lock();
    assert_ne!(completed.digest, locked.digest);
}

/// The digest that rpm tells of an installed package is the one that the package came with.
#[test]
fn a_package_cannot_claim_the_digest_of_another() {
    let name = "a_package_cannot_claim_the_digest_of_another";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    install.feed.offer(&[app(0, "1.0", "good")]);
    let good = install.run_and_lock().digest;
    install.feed.offer(&[app(0, "1.0", "evil")]);
    install.spec.headers.clear();
    let evil = install.run().unwrap().packages["app"].digest.clone();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    assert_eq!(install.feed.forge(&hex(&evil), &hex(&good)), 1);
    let refused = install.run().unwrap_err();
    assert_eq!(
        refused.kind(),
        Some(FailureKind::PackageDamaged),
        "{refused}"
    );
}

/// What is installed is not asked of a database that a package brought.
#[test]
fn a_package_cannot_bring_its_own_database() {
    let name = "a_package_cannot_bring_its_own_database";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    install.feed.offer(&[app(0, "1.0", "good")]);
    install.run_and_lock();
    let place = "/var/lib/rpm/rpmdb.sqlite";
    let forged = install.directory.path().join("forged");
    let root = install.spec.tree.root(&install.layout());
    fs::copy(root.join(&place[1..]), &forged).unwrap();
    install
        .feed
        .offer_with(&app(0, "1.0", "evil"), place, &forged);
    let error = install.run().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::PackageChanged), "{error}");
}

#[test]
fn a_higher_epoch_does_not_take_the_place_of_a_locked_version() {
    let name = "a_higher_epoch_does_not_take_the_place_of_a_locked_version";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    install.feed.offer(&[app(0, "2.0", "good")]);
    let locked = install.run_and_lock();

    install
        .feed
        .offer(&[app(0, "2.0", "good"), app(1, "2.0", "evil")]);
    // Its build time is part of the header.
    install.spec.headers.get_mut("app").unwrap().digest = "sha256:0".into();
    let error = install.run().unwrap_err();
    let said = error.to_string();
    assert!(!said.contains("epoch"), "{said}");

    install.feed.offer(&[app(1, "2.0", "evil")]);
    let error = install.run().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::PackageNotFound), "{error}");
    assert_eq!(locked.epoch, 0);
}

#[test]
fn packages_are_signed_by_a_key_of_the_project_or_refused() {
    let name = "packages_are_signed_by_a_key_of_the_project_or_refused";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    install.feed.offer(&[app(0, "1.0", "good")]);
    // Nobody asks for a signature.
    install.run().unwrap();
    let owner = install.feed.sign("owner");
    install.signing_keys = Some(owner.clone());
    install.run().unwrap();
    let database = install.spec.tree.root(&install.layout());
    assert!(database.join("var/lib/rpm").is_dir());

    install.feed.sign("stranger");
    let refused = |install: &LockedInstall| {
        let error = install.run().unwrap_err();
        assert_eq!(error.kind(), Some(FailureKind::PackageSignature), "{error}");
    };
    refused(&install);
    install.feed.offer(&[app(0, "1.0", "unsigned")]);
    refused(&install);
    let content = fs::read_to_string(install.installed_file()).unwrap();
    assert_eq!(content, "good\n");
}

#[test]
fn what_no_image_holds_of_a_package_is_told() {
    let Some(install) = LockedInstall::of_app("what_no_image_holds_of_a_package_is_told") else {
        return;
    };
    let app = SmallPackage {
        name: "app",
        epoch: 0,
        version: "1.0",
        content: "app",
    };
    let attributes = "%caps(cap_net_raw=ep) %attr(0750, daemon, adm)";
    install.feed.offer_as(&app, attributes);
    let told = Mutex::new(Vec::new());
    let sink = |event: Event| {
        if event.kind == EventKind::Warning {
            told.lock().unwrap().push(event.message);
        }
    };
    install.run_with(&sink).unwrap();
    assert_eq!(
        told.into_inner().unwrap(),
        ["everything in an image belongs to root, and not to whom the packages give /opt/app"]
    );
    // As the image will have it.
    let installed = install.installed_file();
    let metadata = fs::metadata(&installed).unwrap();
    assert_eq!(trees::attributes(&installed, &metadata).unwrap().len(), 1);
}

#[test]
fn the_stated_kernel_is_installed_and_nothing_for_another_one() {
    let name = "the_stated_kernel_is_installed_and_nothing_for_another_one";
    let Some(mut install) = LockedInstall::of_app(name) else {
        return;
    };
    let package = |name, version| SmallPackage {
        name,
        epoch: 0,
        version,
        content: "x",
    };
    install.feed.offer(&[
        app(0, "1.0", "good"),
        package("kernel-image-6.6.52", "6.6.52"),
        package("kernel-image-6.12.1", "6.12.1"),
        package("kernel-rt-6.6.52", "6.6.52"),
        package("kernel-own", "6.1.9"),
        package("kernel-module-x-6.6.52", "6.6.52"),
        package("kernel-module-x-6.12.1", "6.12.1"),
    ]);
    install.spec.tree = PackageTree::Rootfs("default".parse().unwrap());
    let packages = json!({"template": {"app": "*", "kernel-module-x": "*"}});
    install.spec.packages = serde_json::from_value(packages).unwrap();
    install.spec.one_kernel = true;
    for (pinned, wanted, chosen) in [
        (None, "6.6.*", "6.6.52"),
        (None, ">=6, <6.10", "6.6.52"),
        (None, "6.12.1", "6.12.1"),
        (None, ">=6", "6.12.1"),
        (Some("6.6.52"), ">=6", "6.6.52"),
    ] {
        install.spec.kernel = Some(KernelChoice {
            package: None,
            pinned: pinned.map(str::to_owned),
            wanted: Some(wanted.parse().unwrap()),
        });
        let result = install.run().unwrap();
        assert_eq!(result.kernel.as_deref(), Some(chosen), "{wanted}");
        let kernels = result.packages.keys().filter(|n| n.starts_with("kernel-"));
        let kernels: Vec<&str> = kernels.map(String::as_str).collect();
        let expected = ["image", "module-x"].map(|what| format!("kernel-{what}-{chosen}"));
        assert_eq!(kernels, expected, "{wanted}");
        assert!(install.layout().kernel(chosen).join("Image").exists());
    }
    // Another package brings it, by its name or by its version.
    for (package, wanted, chosen, name) in [
        ("kernel-rt", None, "6.6.52", "kernel-rt-6.6.52"),
        ("kernel-own", None, "6.1.9", "kernel-own"),
        ("kernel-own", Some(">=6"), "6.1.9", "kernel-own"),
    ] {
        install.spec.packages = serde_json::from_value(json!({"template": {"app": "*"}})).unwrap();
        install.spec.kernel = Some(KernelChoice {
            package: Some(package.to_owned()),
            pinned: None,
            wanted: wanted.map(|wanted| wanted.parse().unwrap()),
        });
        let result = install.run().unwrap();
        assert_eq!(result.kernel.as_deref(), Some(chosen), "{package}");
        let kernels = result.packages.keys().filter(|n| n.starts_with("kernel-"));
        assert_eq!(kernels.collect::<Vec<_>>(), [name], "{package}");
        assert!(install.layout().kernel(chosen).join("Image").exists());
    }
    install.spec.kernel = Some(KernelChoice {
        package: Some("kernel-none".to_owned()),
        pinned: None,
        wanted: None,
    });
    let error = install.run().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::KernelNotFound), "{error}");
    assert!(error.to_string().contains("`kernel-none`"), "{error}");
    let packages = json!({"template": {"app": "*", "kernel-module-x": "*"}});
    install.spec.packages = serde_json::from_value(packages).unwrap();

    // A tree that is laid over it gets what is for its kernel, too.
    install.spec.kernel = None;
    install.spec.tree = PackageTree::Extension("app".parse().unwrap());
    install.spec.base_kernel = Some("6.6.52".to_owned());
    let packages = install.run().unwrap().packages;
    assert!(packages.contains_key("kernel-module-x-6.6.52"));

    install.spec.tree = PackageTree::Rootfs("default".parse().unwrap());
    install.spec.kernel = Some(KernelChoice {
        package: None,
        pinned: None,
        wanted: Some("9.99*".parse().unwrap()),
    });
    let error = install.run().unwrap_err();
    assert_eq!(error.kind(), Some(FailureKind::KernelNotFound));
    assert_eq!(
        error.to_string(),
        "the feed has no kernel `9.99*` (avocado.yaml:8:19) (it has 6.6.52, 6.12.1)"
    );
}

#[test]
fn a_damaged_index_of_dnf_is_made_again() {
    let Some(install) = LockedInstall::of_app("a_damaged_index_of_dnf_is_made_again") else {
        return;
    };
    install.feed.offer(&[app(0, "1.0", "app")]);
    install.run().unwrap();
    for share in [0, 50, 90, 99] {
        let cache = install.layout().dnf_cache();
        let mut damaged = 0;
        for entry in walkdir::WalkDir::new(&cache) {
            let entry = entry.unwrap();
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|e| e == "solv" || e == "solvx")
            {
                let length = entry.metadata().unwrap().len();
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_len(length * share / 100).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0);
        install.run_again(&Silent).unwrap();
        assert!(install.installed_file().is_file());
    }
}
