//! An image that hides the operating system is refused: with real images, and what the kernel makes of
//! them.

use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::*;

/// What an image does to hide a part of the operating system, what that is, and by which attribute.
type Hiding = (fn(&Path), &'static str, Option<&'static str>);

const HIDING: [Hiding; 5] = [
    (
        |usr| mark(&usr.join("bin"), OPAQUE, b"y"),
        "/usr/bin",
        Some(OPAQUE),
    ),
    (
        |usr| mark(&usr.join("share"), REDIRECT, b"/lib"),
        "/usr/share",
        Some(REDIRECT),
    ),
    (
        |usr| mark(&usr.join("lib/systemd/system"), OPAQUE, b"y"),
        "/usr/lib/systemd/system",
        Some(OPAQUE),
    ),
    (|usr| white_out(&usr.join("bin")), "/usr/bin", None),
    (
        |usr| white_out(&usr.join("lib/systemd")),
        "/usr/lib/systemd",
        None,
    ),
];

/// Links of the operating system, and where they lead to.
const LINKS: [(&str, &str); 2] = [("sbin", "bin"), ("lib64", "lib")];

const OPAQUE: &str = "trusted.overlay.opaque";
const REDIRECT: &str = "trusted.overlay.redirect";

fn mark(directory: &Path, attribute: &str, value: &[u8]) {
    fs::create_dir_all(directory).unwrap();
    setxattr(directory, attribute, value, XattrFlags::empty()).unwrap();
}

/// What overlayfs makes in its upper layer of a file that was removed.
fn white_out(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

impl Work {
    /// An extension to whose `/usr` something is done.
    fn hider(&self, erofs: bool, change: &dyn Fn(&Path)) -> Manifest {
        let hider = self.image(&TestImage {
            name: "hider",
            release: "ID=_any",
            erofs,
            change: Some(&|tree| change(&tree.join("usr"))),
            ..TestImage::default()
        });
        self.stage("hider", vec![hider, self.app("hidden")])
    }

    fn refuses_to_hide(&self, manifest: &Manifest, at: &str, by: Option<&str>) {
        let reason = self.refusal(manifest);
        let FailureReason::HidesOs {
            extension,
            path,
            attribute,
        } = &reason
        else {
            panic!("{at}: {reason:?}");
        };
        assert_eq!(extension, "hider-1.0");
        assert_eq!((path.as_path(), *attribute), (Path::new(at), by));
        assert_eq!((read("app").as_str(), read("who").as_str()), ("one", "app"));
        self.device.remove(manifest.id.as_str(), &Silent).unwrap();
    }

    pub(crate) fn an_image_that_hides_the_os_is_refused(&self) {
        self.begin_with_two();
        for (change, path, attribute) in HIDING {
            for erofs in [false, true] {
                let manifest = self.hider(erofs, &change);
                self.refuses_to_hide(&manifest, path, attribute);
            }
        }
        // What overlayfs itself does not take for opaque hides nothing.
        let hidden = |usr: &Path| mark(&usr.join("bin"), OPAQUE, b"x");
        self.activate(&self.hider(true, &hidden));
        assert_eq!(read("app"), "hidden");
        assert!(Path::new("/usr/bin/env").exists());
    }

    /// Where `/usr/sbin` and `/usr/lib64` are links, as in the distributions of Yocto.
    pub(crate) fn the_os_behind_links_stays(&self) {
        if !self.make_links() {
            let why = "/usr is an overlay already, and three of them do not go";
            avocado_test_support::skip("the_os_behind_links_stays", why);
            return;
        }
        self.begin_with_two();
        for (name, target) in LINKS {
            let at = format!("/usr/{name}");
            let directory = |usr: &Path| fs::create_dir(usr.join(name)).unwrap();
            self.refuses_to_hide(&self.hider(false, &directory), &at, None);
            let elsewhere = |usr: &Path| symlink("share", usr.join(name)).unwrap();
            self.refuses_to_hide(&self.hider(false, &elsewhere), &at, None);
            // The same link hides nothing.
            let same = |usr: &Path| symlink(target, usr.join(name)).unwrap();
            let manifest = self.hider(false, &same);
            self.activate(&manifest);
            assert_eq!(fs::read_link(&at).unwrap(), Path::new(target));
            let status = Command::new("/usr/sbin/losetup").arg("--version").status();
            assert!(status.unwrap().success());
            self.device.rollback(&Silent).unwrap();
            self.device.remove(manifest.id.as_str(), &Silent).unwrap();
        }
    }

    /// Puts this machine's `/usr` beneath one with the links, in this mount namespace. Whether it can
    /// be done.
    fn make_links(&self) -> bool {
        let links = self.dir.path().join("links");
        for (name, target) in LINKS {
            let (from, to) = (Path::new("/usr").join(name), links.join(target));
            fs::create_dir_all(&to).unwrap();
            symlink(target, links.join(name)).unwrap();
            if from.is_dir() && !from.is_symlink() {
                let mut copy = Command::new("cp");
                copy.arg("--archive").arg(from.join(".")).arg(to);
                assert!(copy.status().unwrap().success());
            }
        }
        let options = format!("lowerdir={}:/usr", links.display());
        let mount = |at: &str| {
            let mut command = Command::new("mount");
            command.args(["-t", "overlay", "-o", &options, "overlay", at]);
            command.status().unwrap().success()
        };
        mount("/usr")
    }
}
