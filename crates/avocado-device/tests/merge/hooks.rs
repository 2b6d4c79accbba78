//! Commands of extensions, scopes, and what is not ours.

use std::fs;
use std::process::Command;

use avocado_device::{Device, DeviceError, FailureReason};
use avocado_events::Silent;

use crate::{TestImage, Work, path, read};

impl Work {
    pub(crate) fn hooks_run_in_order(&self) {
        let log = self.dir.path().join("log");
        fs::create_dir(&log).unwrap();
        let mark =
            |name: &str| format!("cp -a /usr/share/avocado-test/app {}/{name}", log.display());
        let make = |name: &str| format!("mkdir {}/{name}", log.display());
        let release = |name: &str| {
            format!(
                "ID=_any\nAVOCADO_ON_MERGE=\"{}; {}\"\nAVOCADO_ON_MERGE=\"{}\"\n\
                 AVOCADO_ON_UNMERGE=\"{}\"",
                make("once"),
                make(&format!("on-{name}")),
                "modprobe no-such-module",
                mark(&format!("gone-{name}")),
            )
        };
        let b = self.image(&TestImage {
            name: "b",
            release: &release("b"),
            ..TestImage::default()
        });
        let a = self.image(&TestImage {
            name: "a",
            release: &release("a"),
            ..TestImage::default()
        });
        let app = self.app("five");
        let both = self.stage("hooks", vec![b.clone(), a, app.clone()]);
        self.device
            .activate(both.id.as_str(), &self.events)
            .unwrap();
        let warnings = self.events.warnings();
        assert_eq!(
            warnings.len(),
            1,
            "the module once, and no directory is made twice: {warnings:?}"
        );
        assert!(warnings[0].starts_with("modprobe "), "{warnings:?}");
        for made in ["once", "on-a", "on-b"] {
            fs::remove_dir(log.join(made)).unwrap();
        }
        // Only what goes away is told so, while it is still merged.
        let one = self.stage("hooks, fewer", vec![b, self.app("six")]);
        self.device.activate(one.id.as_str(), &self.events).unwrap();
        assert_eq!(fs::read_to_string(log.join("gone-a")).unwrap(), "five");
        assert!(!log.join("gone-b").exists());
        assert!(log.join("on-b").exists() && !log.join("on-a").exists());
        self.events.take();
        self.activate(&self.stage("no hooks", vec![self.app("six")]));
    }

    /// What was merged before is merged again, and the error says whose command it was.
    pub(crate) fn a_failing_hook_means_going_back(&self) {
        self.begin_with_app();
        let before = self.device.inspect(None).unwrap();
        let merged = self.merged_names();
        for (command, why) in [
            ("false", "false failed"),
            ("/nonexistent", "/nonexistent cannot be started"),
            ("sleep 1000", "sleep 1000 did not end within 2 seconds"),
        ] {
            let picky = self.image(&TestImage {
                name: "picky",
                release: &format!("ID=_any\nAVOCADO_ON_MERGE=\"{command}\""),
                ..TestImage::default()
            });
            let manifest = self.stage(command, vec![picky, self.app("never")]);
            let error = self.device.activate(manifest.id.as_str(), &Silent);
            let Err(DeviceError::Update { source, .. }) = error else {
                panic!("{error:?}");
            };
            let FailureReason::Merge(error) = *source else {
                panic!("{source:?}");
            };
            let DeviceError::Merge {
                restored: true,
                source: FailureReason::Hook { extension, source },
            } = *error
            else {
                panic!("{error:?}");
            };
            assert_eq!(extension, "picky-1.0");
            assert!(source.to_string().contains(why), "{source}");
            assert_eq!(self.device.inspect(None).unwrap(), before);
            assert_eq!(self.merged_names(), merged);
            assert_eq!((read("app").as_str(), self.loops()), ("six", 1));
        }
        // Where nothing was merged before, the extensions are better than none.
        self.device.unmerge(true, &Silent).unwrap();
        let picky = self.image(&TestImage {
            name: "picky",
            release: "ID=_any\nAVOCADO_ON_MERGE=\"false\"",
            ..TestImage::default()
        });
        let manifest = self.stage("picky", vec![picky, self.app("picky")]);
        self.device
            .activate(manifest.id.as_str(), &self.events)
            .unwrap();
        assert_eq!(read("app"), "picky");
        let warnings = self.events.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("picky-1.0"), "{warnings:?}");
        // And a refresh of the very same set has nothing to go back to either, but says it.
        let error = self.device.refresh(&Silent).unwrap_err();
        assert!(
            matches!(
                error,
                DeviceError::Merge {
                    restored: true,
                    source: FailureReason::Hook { .. }
                }
            ),
            "{error:?}"
        );
        assert_eq!(read("app"), "picky");
        let id = before.manifest.id.as_str();
        self.device.activate(id, &Silent).unwrap();
    }

    /// The same images in an initial RAM file system.
    pub(crate) fn respects_the_scope_of_an_initrd(&self) {
        self.begin_with_app();
        let before = self.device.inspect(None).unwrap();
        let scoped = |name: &str, scope: &str| {
            let file = format!("usr/share/avocado-test/{name}");
            self.image(&TestImage {
                name,
                files: &[(&file, "x")],
                release: &format!("ID=_any\nSYSEXT_SCOPE=\"{scope}\""),
                ..TestImage::default()
            })
        };
        let all = vec![
            scoped("in-initrd", "initrd"),
            scoped("in-system", "system portable"),
            scoped("in-both", "system initrd"),
            self.app("scoped"),
        ];
        self.activate(&self.stage("scopes", all));
        assert_eq!(self.merged_names(), ["in-system", "in-both", "app"]);
        let mut paths = self.device.paths().clone();
        paths.initrd_release = self.dir.path().join("initrd-release");
        fs::write(&paths.initrd_release, "").unwrap();
        // systemd looks for the real file, but can be told.
        paths.tools.sysext = self.dir.path().join("sysext-in-initrd");
        let script = "#!/bin/sh\nSYSTEMD_IN_INITRD=1 exec systemd-sysext \"$@\"\n";
        fs::write(&paths.tools.sysext, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&paths.tools.sysext, mode).unwrap();
        let initrd = Device::with_paths(self.device.config().clone(), paths);
        initrd.refresh(&self.events).unwrap();
        assert_eq!(self.merged_names(), ["in-initrd", "in-both"]);
        assert!(path("in-initrd").exists() && !path("in-system").exists());
        let id = before.manifest.id.as_str();
        self.device.activate(id, &Silent).unwrap();
        self.events.take();
    }

    /// Loop devices and links of others are none of our business.
    pub(crate) fn leaves_others_alone(&self) {
        self.begin_with_app();
        let image = self.dir.path().join("foreign");
        fs::write(&image, vec![0; 1 << 20]).unwrap();
        let attach = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image)
            .output();
        let attached = attach.unwrap();
        assert!(attached.status.success(), "{attached:?}");
        let device = String::from_utf8(attached.stdout).unwrap();
        self.device.refresh(&Silent).unwrap();
        self.device.unmerge(true, &Silent).unwrap();
        let listed = Command::new("losetup").arg(device.trim()).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let detach = Command::new("losetup").args(["-d", device.trim()]).status();
        assert!(detach.unwrap().success());
        self.device.merge(&Silent).unwrap();
    }
}
