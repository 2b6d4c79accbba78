//! Merging with the real systemd, mount and image writers, as root in a mount namespace of its
//! own. Where that is not possible, the test is skipped.
#![allow(missing_docs, clippy::print_stderr)]

mod again;
#[path = "../common/mod.rs"]
mod common;
mod enabled;
mod fallback;
mod hiding;
mod hitl;
mod hooks;
mod layers;
#[path = "../common/namespace.rs"]
mod namespace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use avocado_device::{Device, DeviceConfig, DeviceError, DevicePaths, FailureReason, MutableMode};
use avocado_events::{Silent, StepStatus};
use avocado_manifest::{Manifest, RuntimeExtension};
use common::*;
use namespace::{cases, exists, mount_count, with_own_mounts};

cases! { case(Work):
    activates_and_goes_back,
    refuses_what_is_bad,
    leaks_nothing,
    ends_what_was_interrupted,
    is_never_seen_half_done,
    takes_turns,
    respects_scopes_and_switches,
    merges_what_was_decided,
    hooks_run_in_order,
    a_failing_hook_means_going_back,
    respects_the_scope_of_an_initrd,
    leaves_others_alone,
    extends_etc,
    writes_are_lost_or_refused,
    unmerges,
    merges_what_is_enabled,
    comes_up_with_the_runtime_before,
    what_is_merged_instead_is_not_pruned,
    comes_up_with_all_but_what_is_bad,
    comes_up_with_what_is_enabled_and_there,
    a_bad_runtime_never_becomes_active,
    an_active_that_cannot_be_merged_is_told,
    too_many_extensions_are_refused,
    an_overlay_without_the_os_is_not_shown,
    an_overlay_without_a_layer_is_not_shown,
    an_image_that_hides_the_os_is_refused,
    the_os_behind_links_stays,
    a_server_takes_the_place_of_an_image,
    what_a_server_changes_is_merged_as_something_new,
    a_server_that_is_gone_is_left,
    an_export_that_is_gone_is_left,
    a_failed_mount_leaves_nothing_bound,
    what_nothing_watches_is_not_mounted,
    what_was_unmerged_stays_so,
    a_runtime_needs_the_images_that_a_server_covers,
}

/// Runs a case where nothing is merged yet.
fn case(name: &str, body: fn(&Work)) {
    let programs = ["systemd-sysext", "mksquashfs", "mkfs.erofs"];
    with_own_mounts(name, &programs, || {
        begin();
        body(&Work::new());
    });
}

fn begin() {
    let nothing = rustix::mount::MountFlags::empty();
    rustix::mount::mount("test", "/run", "tmpfs", nothing, None).unwrap();
    let shared =
        rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", shared).unwrap();
}

struct Work {
    dir: tempfile::TempDir,
    device: Device,
    events: Events,
}

/// An image under construction.
#[derive(Default)]
struct TestImage<'a> {
    name: &'a str,
    files: &'a [(&'a str, &'a str)],
    release: &'a str,
    /// Extends `/etc` and not `/usr`.
    configures: bool,
    erofs: bool,
    /// What else is done to the tree that it is made of.
    change: Option<&'a dyn Fn(&Path)>,
}

impl Work {
    fn new() -> Self {
        // Not below /run, /usr, /opt or /etc, which get mounted over.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let config = DeviceConfig {
            sysext_mutable: MutableMode::No,
            confext_mutable: MutableMode::No,
            hook_timeout: Duration::from_secs(2),
            ..DeviceConfig::default()
        };
        let mut paths = DevicePaths::new(dir.path().join("base"));
        paths.systemd = dir.path().join("no-manager");
        Work {
            device: Device::with_paths(config, paths),
            dir,
            events: Events::default(),
        }
    }

    /// Builds an image into the pool.
    fn image(&self, source: &TestImage<'_>) -> RuntimeExtension {
        let tree = self.dir.path().join("tree");
        let _ = fs::remove_dir_all(&tree);
        let class = if source.configures { "etc" } else { "usr/lib" };
        let release = format!(
            "{class}/extension-release.d/extension-release.{}",
            source.name
        );
        let text = format!("{}\n", source.release);
        for (path, text) in source
            .files
            .iter()
            .chain(&[(release.as_str(), text.as_str())])
        {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        if let Some(change) = source.change {
            change(&tree);
        }
        let image = self.dir.path().join("image");
        let _ = fs::remove_file(&image);
        let mut command = if source.erofs {
            let mut command = Command::new("mkfs.erofs");
            command.args(["-T0", "--all-root"]).arg(&image).arg(&tree);
            command
        } else {
            let mut command = Command::new("mksquashfs");
            command
                .arg(&tree)
                .arg(&image)
                .args(["-noappend", "-all-root", "-quiet"]);
            command
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let bytes = fs::read(&image).unwrap();
        put_image(&self.device.paths().base, &bytes);
        extension(source.name, "1.0", &bytes)
    }

    fn stage(&self, version: &str, extensions: Vec<RuntimeExtension>) -> Manifest {
        let manifest = runtime(version, "2026-01-01T00:00:00Z", extensions);
        let file = manifest_file(self.dir.path(), &manifest);
        self.device.add_from_manifest(&file, &Silent).unwrap();
        manifest
    }

    fn activate(&self, manifest: &Manifest) {
        let entry = self.device.activate(manifest.id.as_str(), &self.events);
        assert!(entry.unwrap().runtime().active);
        assert_eq!(self.events.warnings(), [""; 0]);
    }

    /// Why a runtime is not activated, with what was merged merged still.
    fn refusal(&self, manifest: &Manifest) -> FailureReason {
        let error = self.device.activate(manifest.id.as_str(), &Silent);
        let DeviceError::Update { source, .. } = error.unwrap_err() else {
            panic!("it is not about {}", manifest.id);
        };
        match *source {
            FailureReason::Merge(error) => match *error {
                DeviceError::Merge {
                    restored: true,
                    source,
                } => source,
                other => panic!("{other:?}"),
            },
            other => other,
        }
    }

    /// Begins with two extensions merged, `app` over `base`.
    fn begin_with_two(&self) {
        self.activate(&self.stage("1", vec![self.app("one"), self.base()]));
    }

    /// Begins with `app` merged.
    fn begin_with_app(&self) {
        self.activate(&self.stage("six", vec![self.app("six")]));
    }

    fn app(&self, content: &str) -> RuntimeExtension {
        let files = [
            ("usr/share/avocado-test/app", content),
            ("usr/share/avocado-test/who", "app"),
        ];
        self.image(&TestImage {
            name: "app",
            files: &files,
            release: "ID=_any",
            ..TestImage::default()
        })
    }

    fn base(&self) -> RuntimeExtension {
        let files = [
            ("usr/share/avocado-test/base", "base"),
            ("usr/share/avocado-test/who", "base"),
        ];
        self.image(&TestImage {
            name: "base",
            files: &files,
            release: "ID=_any",
            erofs: true,
            ..TestImage::default()
        })
    }

    /// Which of our files the loop devices of this machine hold.
    fn loops(&self) -> usize {
        let devices = fs::read_dir("/sys/block").unwrap();
        let backing = devices
            .filter_map(|d| fs::read_to_string(d.unwrap().path().join("loop/backing_file")).ok());
        let ours = self.dir.path().to_str().unwrap().to_owned();
        backing.filter(|path| path.starts_with(&ours)).count()
    }

    fn merged_names(&self) -> Vec<String> {
        let all = self.device.status().unwrap().extensions.into_iter();
        all.filter(|e| e.merged)
            .map(|e| e.name.to_string())
            .collect()
    }

    fn activates_and_goes_back(&self) {
        let one = self.stage("1", vec![self.app("one"), self.base()]);
        let two = self.stage("2", vec![self.base(), self.app("two")]);
        self.activate(&one);
        assert_eq!(read("app"), "one");
        assert_eq!(read("base"), "base");
        assert_eq!(read("who"), "app", "the first of the manifest wins");
        assert_eq!(self.merged_names(), ["app", "base"]);
        let status = self.device.status().unwrap();
        let app = &status.extensions[0];
        assert!(app.sysext && !app.confext);
        assert_eq!(app.origin.as_deref(), Some("Loop:app-1.0"));

        // The same name and version with other bytes, and the other way round.
        self.activate(&two);
        assert_eq!(
            (read("app").as_str(), read("who").as_str()),
            ("two", "base")
        );
        self.activate(&one);
        assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));

        // Active already: nothing is done, unless it is not merged.
        self.device.activate(one.id.as_str(), &self.events).unwrap();
        let events = self.events.take();
        assert!(
            events.iter().any(|e| e.status == Some(StepStatus::Skipped)),
            "{events:?}"
        );
        let status = Command::new("systemd-sysext")
            .arg("unmerge")
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(self.merged_names(), [""; 0]);
        self.activate(&one);
        assert_eq!(read("app"), "one");
    }

    /// Each with the set of before still merged afterwards.
    fn refuses_what_is_bad(&self) {
        self.begin_with_two();
        let active = self.device.inspect(None).unwrap();
        let fails = |manifest: &Manifest| -> FailureReason {
            let reason = self.refusal(manifest);
            assert_eq!(self.device.inspect(None).unwrap(), active);
            assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
            assert_eq!(self.merged_names(), ["app", "base"]);
            assert_eq!(self.loops(), 2);
            reason
        };
        // Another file under the name of a mounted one comes first, so that mounts are exchanged.
        let app = || self.app("three");

        let image = put_image(&self.device.paths().base, b"neither squashfs nor erofs");
        let junk = extension("junk", "1", &fs::read(&image).unwrap());
        assert!(matches!(
            fails(&self.stage("junk", vec![app(), junk])),
            FailureReason::ImageKind { .. }
        ));

        let mut half = fs::read(self.pool_path(&self.base())).unwrap();
        half.truncate(half.len() / 2);
        put_image(&self.device.paths().base, &half);
        let half = extension("half", "1", &half);
        let error = fails(&self.stage("half", vec![app(), half]));
        assert!(
            matches!(
                error,
                FailureReason::Tool { .. }
                    | FailureReason::NoRelease { .. }
                    | FailureReason::File { .. }
            ),
            "{error:?}"
        );

        let stranger = RuntimeExtension {
            name: "stranger".parse().unwrap(),
            ..self.base()
        };
        assert!(matches!(
            fails(&self.stage("stranger", vec![app(), stranger])),
            FailureReason::NoRelease { .. }
        ));

        let foreign = self.image(&TestImage {
            name: "foreign",
            release: "ID=another-distribution\nVERSION_ID=1",
            ..TestImage::default()
        });
        let error = fails(&self.stage("foreign", vec![app(), foreign]));
        assert!(
            matches!(
                &error,
                FailureReason::LeftOut { extensions, misfits, .. }
                    if *extensions == ["foreign-1.0"] && misfits[0].field == "ID"
            ),
            "{error:?}"
        );

        let rotten = app();
        let manifest = self.stage("rotten", vec![rotten.clone()]);
        fs::write(self.pool_path(&rotten), "rotten").unwrap();
        assert!(matches!(fails(&manifest), FailureReason::ImageWrong { .. }));
        fs::remove_file(self.pool_path(&rotten)).unwrap();
        assert!(matches!(
            fails(&manifest),
            FailureReason::ImageMissing { .. }
        ));
    }

    fn respects_scopes_and_switches(&self) {
        let initrd = self.image(&TestImage {
            name: "initrd-only",
            files: &[("usr/share/avocado-test/initrd", "x")],
            release: "ID=_any\nSYSEXT_SCOPE=initrd",
            ..TestImage::default()
        });
        let off = RuntimeExtension {
            enabled: false,
            ..self.base()
        };
        self.activate(&self.stage("scoped", vec![initrd, off, self.app("four")]));
        assert_eq!(read("app"), "four");
        assert_eq!(self.merged_names(), ["app"]);
        for absent in ["initrd", "base"] {
            assert!(!path(absent).exists());
        }
        let again = self.device.merge(&self.events);
        again.unwrap();
        assert!(
            self.events
                .take()
                .iter()
                .any(|e| e.status == Some(StepStatus::Skipped))
        );
    }

    fn merges_what_was_decided(&self) {
        let off = RuntimeExtension {
            enabled: false,
            ..self.base()
        };
        let decide = |names: &[&str], enabled| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            self.device.set_extensions_enabled(&names, enabled, &Silent)
        };
        let nothing = decide(&["app"], false).unwrap_err();
        assert!(matches!(nothing, DeviceError::NoActiveRuntime), "{nothing}");
        let manifest = self.stage("decided", vec![off.clone(), self.app("four")]);
        self.activate(&manifest);
        assert_eq!(self.merged_names(), ["app"]);
        // Nothing happens before the next merge, and nothing at all where one is not there.
        let error = decide(&["app", "nope"], false).unwrap_err();
        assert!(matches!(error, DeviceError::ExtensionNotFound { name } if name == "nope"));
        let versioned = format!("app-{}", manifest.extensions[1].version);
        assert_eq!(decide(&["app", &versioned], false).unwrap(), 1);
        assert_eq!(decide(&["base"], true).unwrap(), 1);
        assert_eq!(self.merged_names(), ["app"]);
        self.device.merge(&Silent).unwrap();
        assert_eq!(self.merged_names(), ["base"]);
        assert!(!path("app").exists());
        // It is of this runtime alone, and lasts while another one is active.
        let other = self.stage("other", vec![off, self.app("five")]);
        self.activate(&other);
        assert_eq!(self.merged_names(), ["app"]);
        self.activate(&manifest);
        assert_eq!(self.merged_names(), ["base"]);
        // A decision that cannot be read is told, and the manifest counts.
        let runtimes = self.device.paths().base.join("runtimes");
        let file = runtimes.join(manifest.id.as_str()).join("overrides.json");
        fs::write(&file, "{").unwrap();
        self.events.take();
        self.device.merge(&self.events).unwrap();
        let told = self.events.take();
        let told = told.iter().any(|e| e.message.contains("overrides.json"));
        assert!(told);
        assert_eq!(self.merged_names(), ["app"]);
        assert!(matches!(
            decide(&["app"], false),
            Err(DeviceError::Store(_))
        ));
    }

    fn extends_etc(&self) {
        self.begin_with_app();
        let conf = self.image(&TestImage {
            name: "conf",
            files: &[("etc/avocado-test/conf", "conf")],
            release: "ID=_any",
            configures: true,
            ..TestImage::default()
        });
        let manifest = self.stage("conf", vec![conf, self.app("seven")]);
        let file = Path::new("/etc/avocado-test/conf");
        if !exists("systemd-confext") {
            // Half of a runtime is none.
            let error = self
                .device
                .activate(manifest.id.as_str(), &Silent)
                .unwrap_err();
            let DeviceError::Update { source, .. } = error else {
                panic!("{error:?}");
            };
            let FailureReason::Merge(error) = *source else {
                panic!("{source:?}");
            };
            assert!(
                matches!(
                    *error,
                    DeviceError::Merge {
                        restored: true,
                        source: FailureReason::NoTool { .. }
                    }
                ),
                "{error:?}"
            );
            assert_eq!(read("app"), "six");
            return;
        }
        self.events.take();
        self.activate(&manifest);
        assert_eq!(fs::read_to_string(file).unwrap(), "conf");
        let status = self.device.status().unwrap();
        let conf = &status.extensions[0];
        assert!(conf.merged && conf.confext && !conf.sysext);
        self.activate(&self.stage("no conf", vec![self.app("six")]));
        assert!(!file.exists());
    }

    fn writes_are_lost_or_refused(&self) {
        self.begin_with_app();
        let written = path("written");
        assert!(fs::write(&written, "").is_err(), "read-only, as configured");
        let device = Device::with_paths(DeviceConfig::default(), self.device.paths().clone());
        device.refresh(&self.events).unwrap();
        let warnings = self.events.warnings();
        // Systemd learned it in 256; before, the warning says so and all is read-only.
        let warned = warnings.iter().any(|w| w.contains("read-only"));
        let writable = fs::write(&written, "").is_ok();
        assert_ne!(writable, warned, "{warnings:?}");
        device.refresh(&Silent).unwrap();
        assert!(!written.exists());
        self.device.refresh(&Silent).unwrap();
        assert_eq!(read("app"), "six");
    }

    fn unmerges(&self) {
        self.begin_with_app();
        let mounted = self.loops();
        assert!(mounted > 0);
        self.device.unmerge(false, &Silent).unwrap();
        assert!(!path("app").exists());
        assert_eq!(self.merged_names(), [""; 0]);
        assert_eq!(fs::read_dir("/run/extensions").unwrap().count(), 0);
        assert_eq!(self.loops(), mounted, "ready to be merged again");
        self.device.merge(&Silent).unwrap();
        assert_eq!((read("app").as_str(), self.loops()), ("six", mounted));

        self.device.unmerge(true, &Silent).unwrap();
        assert!(!path("app").exists());
        assert_eq!(self.merged_names(), [""; 0]);
        assert_eq!(self.loops(), 0);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains("/run/avocado"), "{table}");
        assert_eq!(fs::read_dir("/run/extensions").unwrap().count(), 0);
        self.device.unmerge(true, &Silent).unwrap();
        self.device.merge(&Silent).unwrap();
        assert_eq!(read("app"), "six");
        self.device.unmerge(true, &Silent).unwrap();
        assert_eq!(self.loops(), 0);
    }

    fn pool_path(&self, extension: &RuntimeExtension) -> PathBuf {
        let file = extension.image_id.as_ref().unwrap().file_name();
        self.device.paths().base.join("images").join(file)
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/usr/share/avocado-test").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}
