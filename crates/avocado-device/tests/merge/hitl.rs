//! Extensions from a server: a process that answers as one, and directories of this machine that are
//! mounted in the place of its exports. What systemd is asked for is written down by a script.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use avocado_device::{Cancel, HitlRequest, HitlWatchEnd};

use super::*;

/// Says that it is there, until it is dropped.
struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let over = ended.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // The record's mark, the call's number, and that it was accepted and is done.
                let reply = [1_u32 << 31 | 24, 1, 1, 0, 0, 0, 0];
                let reply: Vec<u8> = reply.into_iter().flat_map(u32::to_be_bytes).collect();
                if stream.read_exact(&mut [0; 44]).is_ok() {
                    let _ = stream.write_all(&reply);
                }
            }
        });
        Server {
            port,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A device with a manager of services, which mounts from a server.
struct Desk<'a> {
    work: &'a Work,
    device: Device,
    server: Option<Server>,
}

fn script(path: &Path, text: &str) -> PathBuf {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

impl<'a> Desk<'a> {
    /// With `app` merged from its image, which has a service.
    fn new(work: &'a Work) -> Self {
        let dir = work.dir.path();
        let mut paths = work.device.paths().clone();
        paths.systemd = dir.join("manager");
        fs::create_dir_all(&paths.systemd).unwrap();
        // A source of NFS is `host:/name`.
        paths.tools.mount = script(
            &dir.join("mount"),
            &format!(
                "case \"$*\" in *nfs4*) set -- --bind \"{}/${{7##*:/}}\" \"$8\";; esac\nexec mount \"$@\"",
                dir.join("exports").display()
            ),
        );
        paths.tools.systemctl = script(
            &dir.join("systemctl"),
            &format!(
                "echo \"$@\" >>{0}/asked\ncase \"$*\" in *avocado-hitl*) test ! -e {0}/no-watching;; esac",
                dir.display()
            ),
        );
        let desk = Desk {
            work,
            device: Device::with_paths(work.device.config().clone(), paths),
            server: Some(Server::start()),
        };
        let app = work.image(&TestImage {
            name: "app",
            files: &[("usr/share/avocado-test/app", "image")],
            release: "ID=_any\nAVOCADO_ENABLE_SERVICES=app.service",
            ..TestImage::default()
        });
        desk.export("app", "1");
        work.activate(&work.stage("desk", vec![app]));
        desk
    }

    /// Exports an extension with what `revision` says.
    fn export(&self, name: &str, revision: &str) {
        let root = self.work.dir.path().join("exports").join(name);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let gone = self.work.dir.path().join(format!("gone-{revision}"));
        write(
            &format!("usr/lib/extension-release.d/extension-release.{name}"),
            &format!(
                "ID=_any\nAVOCADO_ENABLE_SERVICES={name}.service\nAVOCADO_ON_UNMERGE=\"touch {}\"\n",
                gone.display()
            ),
        );
        write(
            &format!("usr/share/avocado-test/{name}"),
            &format!("desk {revision}"),
        );
        write(
            &format!("usr/lib/systemd/system/new-{revision}.service"),
            "[Service]\n",
        );
        write(".avocado-hitl-revision", revision);
    }

    fn mount(&self, names: &[&str]) -> Result<(), DeviceError> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let port = self.server.as_ref().unwrap().port;
        let request = HitlRequest::new(Ipv4Addr::LOCALHOST.into(), Some(port), names);
        self.device.hitl_mount(&request, &self.work.events)
    }

    /// What systemd was asked for since it was looked at last.
    fn asked(&self) -> Vec<String> {
        let file = self.work.dir.path().join("asked");
        let asked = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        asked.lines().map(str::to_owned).collect()
    }

    fn bound(&self, name: &str) -> bool {
        let drop_in = format!("{name}.service.d/10-hitl-{name}.conf");
        self.device.paths().systemd.join(drop_in).exists()
    }

    /// Nothing is mounted from a server.
    fn is_back(&self) {
        assert_eq!(read("app"), "image");
        assert!(!self.bound("app"));
        assert!(!self.device.paths().run.join("hitl.json").exists());
        assert_eq!(
            fs::read_dir(self.device.paths().run.join("hitl")).map_or(0, Iterator::count),
            0
        );
    }

    /// Watches while `during` runs; the end is what `during` makes of it, or the caller's wish.
    fn watch(&self, during: impl FnOnce()) -> HitlWatchEnd {
        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| self.device.hitl_watch(&cancel, &self.work.events));
            during();
            cancel.cancel();
            watch.join().unwrap().unwrap()
        })
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn shows(text: &'static str) -> impl Fn() -> bool {
    move || fs::read_to_string(path("app")).is_ok_and(|now| now == text)
}

fn at(asked: &[String], what: &str) -> usize {
    let found = asked.iter().position(|line| line == what);
    found.unwrap_or_else(|| panic!("{what}: {asked:?}"))
}

impl Work {
    pub(crate) fn a_server_takes_the_place_of_an_image(&self) {
        let desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        assert_eq!(read("app"), "desk 1");
        assert!(desk.bound("app"));
        let asked = desk.asked();
        // Watched before it is merged, and bound before it is started.
        let reload = at(&asked, "daemon-reload");
        assert!(
            at(&asked, "start -- avocado-hitl.service") < reload,
            "{asked:?}"
        );
        assert!(
            reload < at(&asked, "--no-block restart -- app.service"),
            "{asked:?}"
        );
        // Another merge changes nothing about it.
        desk.device.refresh(&self.events).unwrap();
        assert!(desk.bound("app"));
        desk.asked();

        desk.device
            .hitl_unmount(&["app".to_owned()], &self.events)
            .unwrap();
        desk.is_back();
        let asked = desk.asked();
        // It ends while what it runs from is there, and comes back from the image.
        assert!(
            at(&asked, "stop -- app.service") < at(&asked, "daemon-reload"),
            "{asked:?}"
        );
        at(&asked, "--no-block restart -- app.service");
        assert_eq!(self.events.warnings(), [""; 0]);
    }

    pub(crate) fn what_a_server_changes_is_merged_as_something_new(&self) {
        let desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        desk.asked();
        let told = |revision: &str| self.dir.path().join(format!("gone-{revision}"));
        let end = desk.watch(|| {
            desk.export("app", "2");
            // What was merged is told that it goes, and it alone.
            until("the change", || told("1").exists());
            assert!(!told("2").exists());
            let asked = || fs::read_to_string(self.dir.path().join("asked")).unwrap_or_default();
            until("the service", || asked().contains("restart -- app.service"));
            until("the unit", || asked().contains("new-2.service"));
        });
        assert_eq!(end, HitlWatchEnd::Stopped);
        desk.device
            .hitl_unmount(&["app".to_owned()], &self.events)
            .unwrap();
        desk.is_back();
    }

    pub(crate) fn a_server_that_is_gone_is_left(&self) {
        let mut desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        let server = desk.server.take();
        let end = desk.watch(|| {
            assert_eq!(read("app"), "desk 1");
            drop(server);
            until("the image", shows("image"));
            until("the end", || {
                !desk.device.paths().run.join("hitl/app").exists()
            });
        });
        assert!(matches!(
            end,
            HitlWatchEnd::NothingMounted | HitlWatchEnd::Stopped
        ));
        desk.is_back();
        // What was lost ends with its mount, and is not waited for.
        let asked = desk.asked();
        assert!(
            !asked.iter().any(|line| line == "stop -- app.service"),
            "{asked:?}"
        );
    }

    /// A server that was started anew answers, and has nothing of what is mounted.
    pub(crate) fn an_export_that_is_gone_is_left(&self) {
        let desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        desk.watch(|| {
            fs::remove_file(self.dir.path().join("exports/app/.avocado-hitl-revision")).unwrap();
            until("the image", shows("image"));
            until("the end", || {
                !desk.device.paths().run.join("hitl/app").exists()
            });
        });
        desk.is_back();
    }

    /// Of several all are mounted or none, and what was mounted before is not then.
    pub(crate) fn a_failed_mount_leaves_nothing_bound(&self) {
        let desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        desk.asked();
        let error = desk.mount(&["app", "other"]).unwrap_err();
        assert!(
            matches!(&error, DeviceError::HitlMount { extension, .. } if extension == "other"),
            "{error:?}"
        );
        desk.is_back();
        at(&desk.asked(), "daemon-reload");
        // And with nothing mounted before, nothing is done at all.
        desk.mount(&["other"]).unwrap_err();
        assert_eq!(desk.asked(), [""; 0]);
        desk.is_back();
    }

    pub(crate) fn what_nothing_watches_is_not_mounted(&self) {
        let desk = Desk::new(self);
        fs::write(self.dir.path().join("no-watching"), "").unwrap();
        let error = desk.mount(&["app"]).unwrap_err();
        let said = avocado_events::chain(&error);
        assert!(said.contains("start -- avocado-hitl.service"), "{said}");
        desk.is_back();
    }

    pub(crate) fn what_was_unmerged_stays_so(&self) {
        let mut desk = Desk::new(self);
        let merged = || path("app").exists();
        desk.mount(&["app"]).unwrap();
        desk.device.unmerge(true, &self.events).unwrap();
        assert!(!merged() && !desk.bound("app"));
        let record = desk.device.paths().run.join("hitl.json");
        let known = |what: &str| fs::read_to_string(&record).is_ok_and(|text| text.contains(what));
        desk.watch(|| {
            desk.export("app", "22222");
            until("the change", || known("22222"));
        });
        assert!(!merged());
        desk.device
            .hitl_unmount(&["app".to_owned()], &self.events)
            .unwrap();
        assert!(!merged() && !record.exists());
        desk.device.merge(&self.events).unwrap();
        // The same where the server goes.
        desk.mount(&["app"]).unwrap();
        desk.device.unmerge(true, &self.events).unwrap();
        let server = desk.server.take();
        desk.watch(|| {
            drop(server);
            until("the end", || !record.exists());
        });
        assert!(!merged());
        desk.device.merge(&self.events).unwrap();
        desk.is_back();
    }

    /// The image that is not merged now is after the next boot.
    pub(crate) fn a_runtime_needs_the_images_that_a_server_covers(&self) {
        let desk = Desk::new(self);
        desk.mount(&["app"]).unwrap();
        let next = self.stage("next", vec![self.app("next")]);
        let image = self.pool_path(&next.extensions[0]);
        let bytes = fs::read(&image).unwrap();
        fs::remove_file(&image).unwrap();
        let before = self.device.inspect(None).unwrap();
        let error = desk.device.activate(next.id.as_str(), &Silent).unwrap_err();
        assert!(
            matches!(&error, DeviceError::Update { source, .. }
                if matches!(**source, FailureReason::ImageMissing { .. })),
            "{error:?}"
        );
        assert_eq!(self.device.inspect(None).unwrap(), before);
        fs::write(&image, bytes).unwrap();
        desk.device.activate(next.id.as_str(), &Silent).unwrap();
        assert_eq!(read("app"), "desk 1");
    }
}
