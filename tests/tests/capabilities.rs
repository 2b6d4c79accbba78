//! File capabilities of packages, overlays and hooks, read from the images that hold them, mounted.

mod common;

use std::fs;
use std::path::Path;

use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, source_root};
use common::{Sandbox, cannot_build, feed};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::mount::{UnmountFlags, unmount};

const ATTRIBUTE: &str = "security.capability";

/// `cap_net_bind_service=ep`, as the kernel keeps it: `struct vfs_cap_data` of `linux/capability.h`.
const BIND_SERVICE: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `cap_net_raw=ep`.
const RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// The programs of an overlay, and of a hook.
const PROGRAMS: [(&str, [u8; 20]); 2] = [("usr/bin/laid-over", RAW), ("usr/bin/hooked", RAW)];

const YAML: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {filesystem: FS, packages: {with-capability-os: '*'}, overlay: overlay, post_install: hooks/rootfs}
initramfs: {packages: {libgreeting: '*'}}
extensions:
  app: {version: 1.0.0, types: [sysext], filesystem: FS, packages: {with-capability: '*'}, overlay: overlay, post_build: hooks/app}
runtimes:
  dev: {extensions: [app]}
";

/// An image that is mounted as a device mounts it, read-only.
struct MountedImage<'p>(&'p Path);

impl<'p> MountedImage<'p> {
    fn new(image: &Path, point: &'p Path) -> Self {
        fs::create_dir_all(point).unwrap();
        let mount = ToolCall::new("mount").args(["-o", "loop,ro"]);
        mount.arg(image).arg(point).ok().unwrap();
        MountedImage(point)
    }

    fn capability(&self, program: &str) -> Vec<u8> {
        let mut value = [0; 64];
        let path = self.0.join(program);
        let length = lgetxattr(&path, ATTRIBUTE, &mut value[..]);
        let length = length.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        value[..length].to_vec()
    }
}

impl Drop for MountedImage<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_program_has_its_capabilities_in_the_image_that_a_device_mounts() {
    let name = "a_program_has_its_capabilities_in_the_image_that_a_device_mounts";
    let loops = TestNeed::File("/dev/loop-control".into());
    if cannot_build(name) || skip_without(name, &[TestNeed::Tool("setcap"), loops]) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let directory = sandbox.directory.path();
    let specs = source_root().join("tests/capabilities");
    let feed = feed().with_packages(&directory.join("feed"), &specs, "target/qemux86-64", &[]);
    let feed = feed.unwrap();
    let project = sandbox.project.clone();
    let project = project.with_env("AVOCADO_REPO_URL", feed.url());
    let at = |path: &str| project.directory().join(path);
    write(&at("overlay/usr/bin/laid-over"), "laid over");
    lsetxattr(
        at("overlay/usr/bin/laid-over"),
        ATTRIBUTE,
        &RAW,
        XattrFlags::empty(),
    )
    .unwrap();
    for (hook, variable) in [
        ("hooks/app", "AVOCADO_BUILD_EXT_SYSROOT"),
        ("hooks/rootfs", "AVOCADO_ROOTFS_SYSROOT"),
    ] {
        let file = format!("\"${variable}/usr/bin/hooked\"");
        let text = format!("set -e\necho hooked >{file}\nsetcap cap_net_raw=ep {file}\n");
        write(&at(hook), &text);
    }
    for filesystem in ["squashfs", "erofs", "erofs-lz4"] {
        let yaml = YAML.replace("FS", filesystem);
        project.write("avocado.yaml", &yaml).unwrap();
        let events = project.events(&["build", "--no-var"]).unwrap();
        for (kind, packaged) in [
            ("rootfs", "usr/bin/packaged-os"),
            ("extension", "usr/bin/packaged"),
        ] {
            let mut made = events.artifacts().into_iter();
            let image = made.find(|made| made.kind == kind).unwrap().path;
            let point = directory.join("mounted");
            let mounted = MountedImage::new(&image, &point);
            for (program, capability) in PROGRAMS.into_iter().chain([(packaged, BIND_SERVICE)]) {
                let found = mounted.capability(program);
                assert_eq!(
                    found,
                    capability,
                    "{filesystem} {program} {}",
                    image.display()
                );
            }
        }
    }
}
