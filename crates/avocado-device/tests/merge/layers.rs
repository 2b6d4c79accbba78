//! An overlay that lacks something is never shown.

use std::os::unix::fs::PermissionsExt;

use super::*;

impl Work {
    /// Many extensions, whose names are together too long for the options of a mount.
    pub(crate) fn too_many_extensions_are_refused(&self) {
        self.begin_with_two();
        let named: Vec<_> = (0..35)
            .map(|n| {
                let name = format!("{}{n}", "x".repeat(100));
                self.image(&TestImage {
                    name: &name,
                    files: &[(&format!("usr/share/avocado-test/{n}"), "x")],
                    release: "ID=_any",
                    ..TestImage::default()
                })
            })
            .collect();
        let many = runtime("many", "2026-01-01T00:00:00Z", named.clone());
        let file = manifest_file(self.dir.path(), &many);
        self.device.add_from_manifest(&file, &self.events).unwrap();
        // It is known before anything is downloaded.
        let warnings = self.events.warnings();
        assert!(
            warnings[0].contains("all of its 35 extensions"),
            "{warnings:?}"
        );
        let reason = self.refusal(&many);
        let FailureReason::TooManyLayers {
            count,
            needed,
            limit,
            ..
        } = reason
        else {
            panic!("{reason:?}");
        };
        assert_eq!((count, limit), (35, 4095));
        assert!(needed > limit);
        assert_eq!((read("app").as_str(), self.loops()), ("one", 2));
        // As many as go are no problem, and the OS is there.
        let some = self.stage("some", named.into_iter().take(25).collect());
        self.activate(&some);
        assert!(Path::new("/usr/bin/env").exists());
        assert_eq!(self.merged_names().len(), 25);
    }

    pub(crate) fn an_overlay_without_the_os_is_not_shown(&self) {
        self.shows_no(
            &[
                "/run/extensions/01-app-1.0/usr",
                "/run/extensions/00-base-1.0/usr",
            ],
            "no operating system",
        );
    }

    pub(crate) fn an_overlay_without_a_layer_is_not_shown(&self) {
        self.shows_no(&["/run/extensions/00-base-1.0/usr", "/usr"], "no app-1.0:");
    }

    /// A systemd whose overlay is made of `lower` alone.
    fn shows_no(&self, lower: &[&str], lacks: &str) {
        self.begin_with_two();
        let mounts = mount_count();
        let mut paths = self.device.paths().clone();
        let lower = lower.join(":");
        paths.tools.sysext = self.dir.path().join("sysext");
        let script = format!(
            "#!/bin/sh\ncase $1 in refresh)\n\
             systemd-sysext unmerge && exec mount -t overlay sysext -o ro,lowerdir={lower} /usr;;\n\
             status) echo '[{{\"extensions\":[\"01-app-1.0\",\"00-base-1.0\"]}}]';;\n\
             *) exec systemd-sysext \"$@\";;\nesac\n"
        );
        fs::write(&paths.tools.sysext, script).unwrap();
        fs::set_permissions(&paths.tools.sysext, fs::Permissions::from_mode(0o755)).unwrap();
        let cut = Device::with_paths(self.device.config().clone(), paths);
        let error = cut.refresh(&Silent).unwrap_err();
        let DeviceError::Merge {
            restored: true,
            source: source @ FailureReason::LayersMissing { .. },
        } = error
        else {
            panic!("{error:?}");
        };
        assert!(source.to_string().contains(lacks), "{source}");
        assert!(Path::new("/usr/bin/env").exists());
        assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
        assert_eq!(mount_count(), mounts);
    }
}
