//! Merging without a runtime: what is enabled.

use super::*;
use avocado_device::ExtensionSelection;

const RELEASE: &str = "7";

impl Work {
    /// A device of old: images and directories with names, and no runtimes.
    pub(crate) fn merges_what_is_enabled(&self) {
        let mut paths = self.device.paths().clone();
        paths.base = self.dir.path().join("old");
        paths.os_release = vec![self.dir.path().join("os-release")];
        fs::write(&paths.os_release[0], format!("VERSION_ID={RELEASE}\n")).unwrap();
        let images = paths.base.join("images");
        let old = Device::with_paths(self.device.config().clone(), paths);
        fs::create_dir_all(&images).unwrap();
        for (file, name) in [("tool-1.0.raw", "tool"), ("other.raw", "other")] {
            let mine = format!("usr/share/avocado-test/{name}");
            let who = "usr/share/avocado-test/who";
            let image = self.image(&TestImage {
                name,
                files: &[(&mine, name), (who, name)],
                release: "ID=_any",
                ..TestImage::default()
            });
            fs::copy(self.pool_path(&image), images.join(file)).unwrap();
        }
        let tree = images.join("tree/usr");
        let releases = tree.join("lib/extension-release.d");
        fs::create_dir_all(&releases).unwrap();
        fs::create_dir_all(tree.join("share/avocado-test")).unwrap();
        fs::write(releases.join("extension-release.tree"), "ID=_any\n").unwrap();
        for file in ["tree", "who"] {
            fs::write(tree.join("share/avocado-test").join(file), "tree").unwrap();
        }
        // Images of runtimes have no name, and may be of any kind.
        put_image(&old.paths().base, b"an OS bundle");
        let before = common::tree(&images);
        let merged = || -> Vec<(String, Option<String>)> {
            let all = old.status().unwrap().extensions.into_iter();
            let all = all.filter(|e| e.merged);
            all.map(|e| (e.name.to_string(), e.origin)).collect()
        };
        let there = |names: &[&str]| {
            let all = ["other", "tool", "tree"];
            let found = all.map(|name| path(name).exists());
            assert_eq!(found, all.map(|name| names.contains(&name)));
        };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();

        // No extension was ever enabled.
        old.merge(&self.events).unwrap();
        there(&["other", "tool", "tree"]);

        let enabled = old.enable(&names(&["tree", "tool-1.0"]), None, &Silent);
        assert_eq!(enabled.unwrap(), 2);
        let elsewhere = old.enable(&names(&["other"]), Some("8"), &Silent);
        assert_eq!(elsewhere.unwrap(), 1);
        there(&["other", "tool", "tree"]);
        old.refresh(&self.events).unwrap();
        there(&["tool", "tree"]);
        let origin = |text: &str| Some(text.to_owned());
        assert_eq!(
            merged(),
            [
                ("tool-1.0".to_owned(), origin("Loop:tool-1.0")),
                ("tree".to_owned(), origin("Dir")),
            ]
        );
        assert_eq!(read("who"), "tree", "the last name is on top");
        assert_eq!(self.events.warnings(), [""; 0]);

        // What covers its release files is not to be seen in the directory, nor is it mounted twice.
        assert_eq!(common::tree(&images), before);
        let mounts = mount_count();
        for _ in 0..5 {
            old.refresh(&self.events).unwrap();
        }
        assert_eq!(mount_count(), mounts);
        old.merge(&self.events).unwrap();
        let events = self.events.take();
        let skipped = |e: &avocado_events::Event| e.status == Some(StepStatus::Skipped);
        assert!(events.iter().any(skipped), "{events:?}");

        // One that is gone is an error that names it, and changes nothing.
        fs::rename(images.join("tool-1.0.raw"), images.join("kept")).unwrap();
        let error = old.refresh(&Silent).unwrap_err();
        assert!(
            matches!(&error, DeviceError::Merge { restored: true, source: FailureReason::ImageMissing { image, .. } } if image == "tool-1.0"),
            "{error:?}"
        );
        there(&["tool", "tree"]);
        fs::rename(images.join("kept"), images.join("tool-1.0.raw")).unwrap();

        let disabled = old.disable(ExtensionSelection::Named(&names(&["tree"])), None, &Silent);
        assert_eq!(disabled.unwrap(), 1);
        old.refresh(&self.events).unwrap();
        there(&["tool"]);

        // A runtime alone says what is merged.
        let app = self.app("eight");
        put_image(&old.paths().base, &fs::read(self.pool_path(&app)).unwrap());
        let manifest = runtime("eight", "2026-01-01T00:00:00Z", vec![app]);
        let file = manifest_file(self.dir.path(), &manifest);
        old.add_from_manifest(&file, &Silent).unwrap();
        there(&["tool"]);
        old.activate(manifest.id.as_str(), &self.events).unwrap();
        there(&[]);
        assert_eq!(read("app"), "eight");

        // Once there are runtimes, nothing is merged because nothing was said.
        fs::remove_file(old.paths().base.join("active")).unwrap();
        fs::remove_dir_all(old.paths().base.join("os-releases")).unwrap();
        old.refresh(&self.events).unwrap();
        there(&[]);
        assert!(!path("app").exists());
        old.unmerge(true, &self.events).unwrap();
        assert_eq!(self.loops(), 0);
        assert_eq!(self.events.warnings(), [""; 0]);
    }
}
