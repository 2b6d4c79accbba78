//! Never stale: whatever changes in a project, a build gives what a build from nothing gives.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use avocado_testbed::project::TestProject;
use common::{Sandbox, cannot_build};

/// How many changes `./test` makes, and the variable that asks for more.
const CHANGES: (usize, &str) = (78, "AVOCADO_TEST_CHANGES");

/// Keys of the extension, each with the values that it takes in turn.
const FIELDS: [(&str, &[&str]); 18] = [
    ("version", &["1.0.0", "1.0.1"]),
    ("types", &["[sysext, confext]", "[sysext]", "[confext]"]),
    ("filesystem", &["erofs", "squashfs", "erofs-lz4"]),
    (
        "overlay",
        &["overlay/a", "{dir: overlay/a, mode: opaque}", "overlay/b"],
    ),
    ("post_build", &["hooks/a.sh", "hooks/b.sh"]),
    ("packages", &["{}", "{hello-tools: '*'}"]),
    ("enable_services", &["[]", "[probe.service]"]),
    ("modprobe", &["[]", "[loop]", "[loop, dummy]"]),
    ("on_merge", &["[]", "[touch /run/a]", "[touch /run/b]"]),
    ("on_unmerge", &["[]", "[touch /run/a]"]),
    ("reload_service_manager", &["false", "true"]),
    ("scopes", &["[system]", "[system, portable]"]),
    ("sysext_scopes", &["[system]", "[portable]"]),
    ("confext_scopes", &["[system]", "[portable]"]),
    ("var_files", &["[]", "[var/lib/probe]"]),
    (
        "users",
        &["{}", "{probe: {uid: 2000}}", "{probe: {uid: 2001}}"],
    ),
    ("groups", &["{}", "{probes: {gid: 2100}}"]),
    ("summary", &["one", "another"]),
];
const EPOCHS: [&str; 2] = ["1767225600", "1767225601"];

/// A project with an extension that uses all that an extension can have.
struct ProbedProject<'p> {
    project: &'p TestProject,
    /// avocado.yaml without the extension.
    rest: String,
    /// Which of its values each field has.
    values: [usize; FIELDS.len()],
    epoch: usize,
}

impl<'p> ProbedProject<'p> {
    fn new(project: &'p TestProject) -> Self {
        let rest = project.read("avocado.yaml").unwrap();
        for overlay in ["a", "b"] {
            let place = project.directory().join("overlay").join(overlay);
            for (path, text) in [
                ("etc/probe.conf", "a = 1\n"),
                ("etc/empty", ""),
                ("usr/lib/probe/one", "12345678"),
                ("usr/lib/probe/other name", overlay),
                (
                    "usr/lib/systemd/system/probe.service",
                    "[Service]\nExecStart=true\n[Install]\nWantedBy=multi-user.target\n",
                ),
                ("var/lib/probe/seed", "seed\n"),
            ] {
                write(&place.join(path), text.as_bytes());
            }
            symlink("one", place.join("usr/lib/probe/link")).unwrap();
        }
        for hook in ["a", "b"] {
            let text = format!(
                "mkdir -p \"$AVOCADO_BUILD_EXT_SYSROOT/usr/lib/probe\"\n\
                 echo {hook} >\"$AVOCADO_BUILD_EXT_SYSROOT/usr/lib/probe/hooked\"\n"
            );
            write(
                &project.directory().join(format!("hooks/{hook}.sh")),
                text.as_bytes(),
            );
        }
        let probed = ProbedProject {
            project,
            rest,
            values: [0; FIELDS.len()],
            epoch: 0,
        };
        probed.write_yaml();
        probed
    }

    fn write_yaml(&self) {
        let mut yaml = self.rest.replacen(EPOCHS[0], EPOCHS[self.epoch], 1);
        yaml += "  probe:\n";
        for ((key, values), value) in FIELDS.iter().zip(self.values) {
            yaml += &format!("    {key}: {}\n", values[value]);
        }
        self.project.write("avocado.yaml", &yaml).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.directory().join(name)
    }

    /// Makes the change of this number, and says which.
    fn change(&mut self, number: usize) -> String {
        // The fields, and the arms below.
        let kinds = FIELDS.len() + 8;
        let (round, kind) = (number / kinds, number % kinds);
        if let Some((key, values)) = FIELDS.get(kind) {
            let value = &mut self.values[kind];
            *value = (*value + 1) % values.len();
            let said = format!("{key}: {}", values[*value]);
            self.write_yaml();
            return said;
        }
        // The overlay that is used now and then, and its sibling.
        let overlay = self.path(["overlay/a", "overlay/b"][round % 2]);
        let one = overlay.join("usr/lib/probe/one");
        match kind - FIELDS.len() {
            0 => {
                self.epoch = 1 - self.epoch;
                self.write_yaml();
                format!("source_date_epoch: {}", EPOCHS[self.epoch])
            }
            // As many bytes, and the times that it had.
            1 => {
                let modified = fs::metadata(&one).unwrap().modified().unwrap();
                let mut bytes = fs::read(&one).unwrap();
                let at = round % bytes.len();
                bytes[at] ^= 1 << (round % 7);
                fs::write(&one, bytes).unwrap();
                File::open(&one).unwrap().set_modified(modified).unwrap();
                format!("byte {at} of {}", one.display())
            }
            2 => {
                let mode = fs::metadata(&one).unwrap().permissions().mode() ^ 0o111;
                fs::set_permissions(&one, fs::Permissions::from_mode(mode)).unwrap();
                format!("mode {mode:o} of {}", one.display())
            }
            3 => {
                let link = overlay.join("usr/lib/probe/link");
                let to = format!("target {round}");
                fs::remove_file(&link).unwrap();
                symlink(&to, &link).unwrap();
                format!("link to {to}")
            }
            4 => {
                let names = ["etc/empty", "etc/Empty"].map(|name| overlay.join(name));
                let [from, to] = if names[0].exists() {
                    [&names[0], &names[1]]
                } else {
                    [&names[1], &names[0]]
                };
                fs::rename(from, to).unwrap();
                format!("{} has another name", to.display())
            }
            5 => {
                let directory = overlay.join("usr/lib/probe/directory");
                if directory.exists() {
                    fs::remove_dir(&directory).unwrap();
                } else {
                    fs::create_dir(&directory).unwrap();
                }
                format!("{} comes or goes", directory.display())
            }
            6 => {
                let seed = overlay.join("var/lib/probe/seed");
                write(&seed, format!("seed {round}\n").as_bytes());
                format!("{} has another text", seed.display())
            }
            _ => {
                let hook = self.path(["hooks/a.sh", "hooks/b.sh"][round % 2]);
                let mut text = fs::read_to_string(&hook).unwrap();
                text += &format!(
                    "echo {round} >>\"$AVOCADO_BUILD_EXT_SYSROOT/usr/lib/probe/hooked\"\n"
                );
                fs::write(&hook, text).unwrap();
                format!("{} does more", hook.display())
            }
        }
    }

    /// The image of the extension: what is said of it is what is there.
    fn image(&self) -> (String, String) {
        let events = self.project.events(&["ext", "image", "probe"]).unwrap();
        let artifacts = events.artifacts().into_iter();
        let mut images = artifacts.filter(|a| a.kind == "extension" && a.name.starts_with("probe"));
        let image = images.next().unwrap();
        let (digest, _) = Digest::of_reader(File::open(&image.path).unwrap()).unwrap();
        assert_eq!(digest.to_string(), image.sha256, "{}", image.path.display());
        (image.name, image.sha256)
    }

    /// Forgets that anything of the extension was ever done.
    fn forget(&self) {
        let state = self.path(".avocado/state/qemux86-64");
        for made in [".stamps/ext/probe", "extensions/probe"] {
            fs::remove_dir_all(state.join(made)).unwrap();
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn after_each_change_an_image_is_what_it_would_be_from_nothing() {
    if cannot_build("after_each_change_an_image_is_what_it_would_be_from_nothing") {
        return;
    }
    let sandbox = Sandbox::built();
    let mut probed = ProbedProject::new(&sandbox.project);
    let mut before = probed.image();
    let mut others = 0;
    let wanted = std::env::var(CHANGES.1).map(|count| count.parse().unwrap());
    let wanted = wanted.unwrap_or(CHANGES.0);
    for number in 0..wanted {
        let change = probed.change(number);
        let image = probed.image();
        probed.forget();
        assert_eq!(image, probed.image(), "change {number}: {change}");
        others += usize::from(image != before);
        before = image;
    }
    // Most of the changes can be seen in the image; the others were in what it is not made of.
    assert!(
        others * 2 > wanted,
        "{others} of {wanted} gave another image"
    );
}
