//! What a device comes up with when the active runtime cannot be merged.

use std::os::unix::fs::symlink;

use avocado_device::{DegradedState, PruneOptions};

use super::*;

impl Work {
    /// As a boot leaves it: nothing is merged or mounted, and nothing is known of it.
    fn boot(&self) -> Result<(), DeviceError> {
        self.device.unmerge(true, &Silent).unwrap();
        assert!(!path("app").exists() && !path("base").exists());
        self.device.refresh(&self.events)
    }

    /// The boot failed, with this state, and the device says the same of itself later.
    fn boots_degraded(&self) -> DegradedState {
        let Err(DeviceError::Degraded { state, .. }) = self.boot() else {
            panic!("not degraded");
        };
        assert_eq!(
            self.device.status().unwrap().degraded.as_ref(),
            Some(&*state)
        );
        // A service that starts does not try the same again and again.
        assert!(!self.device.finish_activation(&Silent).unwrap());
        *state
    }

    fn flip(&self, extension: &RuntimeExtension) -> Vec<u8> {
        let path = self.pool_path(extension);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        wrong[right.len() / 2] ^= 1;
        fs::write(path, wrong).unwrap();
        right
    }

    fn point_active_to(&self, target: &str) {
        let active = self.device.paths().base.join("active");
        let _ = fs::remove_file(&active);
        symlink(target, active).unwrap();
    }

    /// It may be the only one that can be merged, while the one before the active one cannot either.
    pub(crate) fn what_is_merged_instead_is_not_pruned(&self) {
        let (second, third) = (self.app("two"), self.app("three"));
        let one = self.stage("1", vec![self.app("one"), self.base()]);
        let two = self.stage("2", vec![second.clone(), self.base()]);
        let three = self.stage("3", vec![third.clone(), self.base()]);
        for manifest in [&one, &two, &three] {
            self.activate(manifest);
        }
        self.flip(&second);
        self.flip(&third);
        assert_eq!(self.boots_degraded().merged.as_ref(), Some(&one.id));
        let options = PruneOptions {
            keep: Some(1),
            ..PruneOptions::default()
        };
        self.device.prune(&options, &Silent).unwrap();
        assert_eq!(self.boots_degraded().merged.as_ref(), Some(&one.id));
        assert_eq!(read("app"), "one");
    }

    pub(crate) fn comes_up_with_the_runtime_before(&self) {
        let (first, second) = (self.app("one"), self.app("two"));
        let one = self.stage("1", vec![first.clone(), self.base()]);
        let two = self.stage("2", vec![second.clone(), self.base()]);
        let foreign = self.image(&TestImage {
            name: "foreign",
            release: "ID=another-distribution\nVERSION_ID=1",
            ..TestImage::default()
        });
        let foreign = self.stage("3", vec![self.base(), foreign]);
        self.activate(&one);
        self.activate(&two);
        let come_up = |wanted: &str| {
            let state = self.boots_degraded();
            assert_eq!(state.wanted.as_ref().map(|id| id.as_str()), Some(wanted));
            assert_eq!(state.merged.as_ref(), Some(&one.id));
            assert_eq!(state.left_out, [""; 0]);
            let said = state.to_string();
            assert!(
                said.contains(wanted) && said.contains(one.id.as_str()),
                "{said}"
            );
            assert_eq!(
                (read("app").as_str(), read("base").as_str()),
                ("one", "base")
            );
            let mut names = self.merged_names();
            names.sort();
            assert_eq!(names, ["app", "base"]);
        };
        // What is wanted stays what is wanted.
        let active = || self.device.inspect(None).unwrap().manifest.id.clone();

        let right = self.flip(&second);
        come_up(two.id.as_str());
        assert_eq!(active(), two.id);
        // Again, with the fallback merged.
        let again = self.device.merge(&Silent).unwrap_err();
        assert!(matches!(again, DeviceError::Degraded { .. }), "{again:?}");
        assert_eq!(read("app"), "one");

        fs::remove_file(self.pool_path(&second)).unwrap();
        come_up(two.id.as_str());

        // Repaired.
        fs::write(self.pool_path(&second), right).unwrap();
        self.device.refresh(&self.events).unwrap();
        assert_eq!(self.device.status().unwrap().degraded, None);
        assert_eq!(read("app"), "two");

        // The OS was updated, or the process was killed before it merged what cannot be merged.
        self.point_active_to(&format!("runtimes/{}", foreign.id));
        self.flip(&second);
        come_up(foreign.id.as_str());
        let error = self.device.activate(two.id.as_str(), &Silent);
        assert!(error.is_err());
        assert!(self.device.status().unwrap().degraded.is_some());

        self.point_active_to("runtimes/gone");
        come_up("gone");
        // And what works again is not degraded.
        self.activate(&one);
        assert_eq!(self.device.status().unwrap().degraded, None);
        self.boot().unwrap();
        assert_eq!(read("app"), "one");
    }

    pub(crate) fn comes_up_with_all_but_what_is_bad(&self) {
        let bad = self.image(&TestImage {
            name: "bad",
            files: &[("usr/share/avocado-test/bad", "x")],
            release: "ID=_any",
            ..TestImage::default()
        });
        let foreign = self.image(&TestImage {
            name: "foreign",
            release: "ID=another-distribution\nVERSION_ID=1",
            ..TestImage::default()
        });
        let (app, base) = (self.app("one"), self.base());
        let all = vec![app.clone(), bad.clone(), foreign.clone(), base.clone()];
        let only = self.stage("1", all);
        self.flip(&bad);
        self.point_active_to(&format!("runtimes/{}", only.id));
        let state = self.boots_degraded();
        assert_eq!(state.merged.as_ref(), Some(&only.id));
        assert_eq!(state.left_out, ["bad-1.0", "foreign-1.0"]);
        assert!(state.to_string().contains("without bad-1.0, foreign-1.0"));
        assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
        assert_eq!(self.merged_names(), ["app", "base"]);

        // Nothing at all is left of it: the device says so.
        for extension in [app, base, foreign] {
            fs::remove_file(self.pool_path(&extension)).unwrap();
        }
        let state = self.boots_degraded();
        assert_eq!((state.merged.as_ref(), state.left_out.len()), (None, 0));
        assert!(state.to_string().ends_with("nothing is merged"), "{state}");
        assert_eq!(self.merged_names(), [""; 0]);
    }

    pub(crate) fn comes_up_with_what_is_enabled_and_there(&self) {
        let images = self.device.paths().base.join("images");
        for name in ["app", "base"] {
            let image = if name == "app" {
                self.app("one")
            } else {
                self.base()
            };
            fs::copy(self.pool_path(&image), images.join(format!("{name}.raw"))).unwrap();
        }
        let names = ["app".to_owned(), "base".to_owned()];
        self.device.enable(&names, None, &Silent).unwrap();
        self.boot().unwrap();
        assert_eq!(self.merged_names(), ["app", "base"]);
        fs::remove_file(images.join("app.raw")).unwrap();
        let state = self.boots_degraded();
        assert_eq!((state.wanted, state.merged), (None, None));
        assert_eq!(state.left_out, ["app"]);
        assert_eq!(self.merged_names(), ["base"]);
    }

    /// What can be seen before is seen before `active` moves.
    pub(crate) fn a_bad_runtime_never_becomes_active(&self) {
        self.begin_with_two();
        let history = self.device.paths().base.join("history.json");
        let before = fs::read(&history).unwrap();
        let foreign = self.image(&TestImage {
            name: "foreign",
            release: "ID=another-distribution\nVERSION_ID=1",
            ..TestImage::default()
        });
        let junk = put_image(&self.device.paths().base, b"neither squashfs nor erofs");
        let junk = extension("junk", "1", &fs::read(&junk).unwrap());
        for bad in [foreign, junk] {
            let manifest = self.stage(&bad.name.to_string(), vec![self.app("new"), bad]);
            let links = fs::read_dir("/run/extensions").unwrap().count();
            let error = self.device.activate(manifest.id.as_str(), &Silent);
            assert!(error.is_err());
            // It is written before `active` moves.
            assert_eq!(fs::read(&history).unwrap(), before);
            assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
            assert_eq!(fs::read_dir("/run/extensions").unwrap().count(), links);
            self.device.merge(&Silent).unwrap();
        }
    }

    /// `active` moved, and the process was killed; what was merged is merged still.
    pub(crate) fn an_active_that_cannot_be_merged_is_told(&self) {
        self.begin_with_two();
        let one = self.device.inspect(None).unwrap().manifest.id.clone();
        let stranger = RuntimeExtension {
            name: "stranger".parse().unwrap(),
            ..self.base()
        };
        let bad = self.stage("bad", vec![self.app("two"), stranger]);
        self.point_active_to(&format!("runtimes/{}", bad.id));
        let error = self.device.finish_activation(&Silent).unwrap_err();
        let DeviceError::Degraded { state, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (state.wanted, state.merged),
            (Some(bad.id), Some(one.clone()))
        );
        assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
        assert!(self.device.status().unwrap().degraded.is_some());
        assert!(!self.device.finish_activation(&Silent).unwrap());
        self.device.rollback(&Silent).unwrap();
        assert_eq!(self.device.inspect(None).unwrap().manifest.id, one);
        assert_eq!(self.device.status().unwrap().degraded, None);
    }
}
