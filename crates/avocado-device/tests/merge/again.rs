//! Merging again and again: no process sees it, and nothing is left of it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

impl Work {
    /// Files that both runtimes have, and those of the OS, are there at any time.
    pub(crate) fn is_never_seen_half_done(&self) {
        self.begin_with_two();
        let one = self.device.inspect(None).unwrap().manifest;
        let two = self.stage("other", vec![self.base(), self.app("other")]);
        let done = AtomicBool::new(false);
        let probe = |file: &str| {
            let (mut opened, mut missed) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) {
                match fs::File::open(file) {
                    Ok(_) => opened += 1,
                    Err(_) => missed += 1,
                }
            }
            (opened, missed)
        };
        std::thread::scope(|scope| {
            let os = scope.spawn(|| probe("/usr/bin/env"));
            let shared = scope.spawn(|| probe("/usr/share/avocado-test/base"));
            for _ in 0..10 {
                self.activate(&two);
                self.device.refresh(&self.events).unwrap();
                self.activate(&one);
            }
            done.store(true, Ordering::Relaxed);
            for (what, probe) in [("the OS", os), ("an extension", shared)] {
                let (opened, missed) = probe.join().unwrap();
                eprintln!("a file of {what}: opened {opened} times, missed {missed} times");
                assert!(opened > 1000);
                assert_eq!(missed, 0);
            }
        });
    }

    /// As if a refresh had been killed between putting the new overlay beneath the old one and
    /// taking the old one away.
    pub(crate) fn ends_what_was_interrupted(&self) {
        self.begin_with_two();
        let mounts = mount_count();
        for hierarchy in ["/usr", "/usr"] {
            let again = Command::new("mount")
                .args(["--bind", hierarchy, hierarchy])
                .status();
            assert!(again.unwrap().success());
        }
        assert!(mount_count() > mounts);
        self.device.refresh(&self.events).unwrap();
        assert_eq!(mount_count(), mounts);
        assert_eq!((read("app").as_str(), self.loops()), ("one", 2));
    }

    /// Several that merge at once, as clients of the service may.
    pub(crate) fn takes_turns(&self) {
        self.begin_with_two();
        let one = self.device.inspect(None).unwrap();
        let mounts = mount_count();
        std::thread::scope(|scope| {
            let id = one.manifest.id.as_str();
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        self.device.refresh(&Silent).unwrap();
                        self.device.merge(&Silent).unwrap();
                        self.device.activate(id, &Silent).unwrap();
                    }
                });
            }
        });
        assert_eq!(self.device.inspect(None).unwrap(), one);
        assert_eq!(self.merged_names(), ["app", "base"]);
        assert_eq!((mount_count(), self.loops()), (mounts, 2));
        assert_eq!(read("app"), "one");
    }

    pub(crate) fn leaks_nothing(&self) {
        self.begin_with_two();
        let mounts = mount_count();
        for _ in 0..200 {
            self.device.refresh(&self.events).unwrap();
        }
        assert_eq!(self.events.warnings(), [""; 0]);
        assert_eq!(self.loops(), 2);
        assert_eq!(mount_count(), mounts);
        assert_eq!(read("app"), "one");
    }
}
