//! A feed of packages that are made in a moment, with the real tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package whose only file, `/opt/<name>`, holds `content`.
pub(super) struct SmallPackage {
    pub(super) name: &'static str,
    pub(super) epoch: u32,
    pub(super) version: &'static str,
    pub(super) content: &'static str,
}

/// `<directory>/r/target/t`, reached as `file://<directory>`.
pub(super) struct SmallFeed {
    directory: PathBuf,
    work: PathBuf,
}

impl SmallFeed {
    pub(super) fn new(place: &Path) -> Self {
        let feed = SmallFeed {
            directory: place.join("feed"),
            work: place.join("rpmbuild"),
        };
        fs::create_dir_all(&feed.work).unwrap();
        feed
    }

    /// Why there cannot be one here.
    pub(super) fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("it needs root".to_owned());
        }
        let tools = ["dnf", "rpmbuild", "rpmsign", "createrepo_c", "gpg"];
        let missing = tools.into_iter().find(|tool| {
            let mut command = Command::new(tool);
            let silent = command.arg("--version").stdout(Stdio::null());
            !silent.status().is_ok_and(|status| status.success())
        });
        missing.map(|tool| format!("{tool} is not installed"))
    }

    pub(super) fn url(&self) -> String {
        format!("file://{}", self.directory.display())
    }

    fn repository(&self) -> PathBuf {
        self.directory.join("r/target/t")
    }

    /// From now on the feed has these packages and no others.
    pub(super) fn offer(&self, packages: &[SmallPackage]) {
        let repository = self.repository();
        let _ = fs::remove_dir_all(&repository);
        fs::create_dir_all(&repository).unwrap();
        for package in packages {
            self.build(package, None);
        }
        self.index();
    }

    /// The same with one package, which also brings the file `source` as `path`.
    pub(super) fn offer_with(&self, package: &SmallPackage, path: &str, source: &Path) {
        self.offer(&[]);
        self.build(package, Some((path, source)));
        self.index();
    }

    /// Writes another text of the same length into the packages that are there, wherever they hold
    /// the first one. How often that was.
    pub(super) fn forge(&self, from: &str, to: &str) -> usize {
        assert_eq!(from.len(), to.len());
        let mut forged = 0;
        for path in self.packages() {
            let mut bytes = fs::read(&path).unwrap();
            let places = bytes.windows(from.len());
            let places: Vec<usize> = places
                .enumerate()
                .filter(|(_, window)| *window == from.as_bytes())
                .map(|(at, _)| at)
                .collect();
            for at in &places {
                bytes[*at..at + to.len()].copy_from_slice(to.as_bytes());
            }
            forged += places.len();
            fs::write(&path, bytes).unwrap();
        }
        self.index();
        forged
    }

    fn packages(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.repository()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "rpm"))
            .collect()
    }

    /// Signs the packages that are there, with a new key; answers its public half.
    pub(super) fn sign(&self, owner: &str) -> String {
        let home = self.work.join(owner);
        fs::create_dir_all(&home).unwrap();
        let gpg = || {
            let mut command = Command::new("gpg");
            command.arg("--homedir").arg(&home).arg("--batch");
            command
        };
        run(gpg().args([
            "--passphrase",
            "",
            "--quick-generate-key",
            owner,
            "rsa2048",
            "sign",
        ]));
        for path in self.packages() {
            run(Command::new("rpmsign")
                .arg(format!("--define=_gpg_path {}", home.display()))
                .arg(format!("--define=_gpg_name {owner}"))
                // Debian's rpm looks for it under another name.
                .arg(format!("--define=__gpg {}", path_of("gpg").display()))
                .arg("--addsign")
                .arg(path));
        }
        self.index();
        let exported = run(gpg().args(["--armor", "--export", owner]));
        run(Command::new("gpgconf")
            .arg("--homedir")
            .arg(&home)
            .args(["--kill", "all"]));
        exported
    }

    /// The same with one package, with `attributes` of its file as a spec file has them.
    pub(super) fn offer_as(&self, package: &SmallPackage, attributes: &str) {
        self.offer(&[]);
        self.build_as(package, None, attributes);
        self.index();
    }

    fn build(&self, package: &SmallPackage, more: Option<(&str, &Path)>) {
        self.build_as(package, more, "");
    }

    fn build_as(&self, package: &SmallPackage, more: Option<(&str, &Path)>, attributes: &str) {
        let SmallPackage {
            name,
            epoch,
            version,
            content,
        } = package;
        let (install, listed) = more.map_or_else(Default::default, |(path, source)| {
            let source = source.display();
            let install = format!("install -D -m 644 {source} %{{buildroot}}{path}\n");
            (install, format!("{path}\n"))
        });
        let of_feed = name.strip_prefix("kernel-image-");
        let kernel = match name.strip_prefix("kernel-rt-") {
            None if *name == "kernel-own" => Some(*version),
            by_name => by_name.or(of_feed),
        };
        let kernel = kernel.map(|version| {
            let file = format!("/boot/vmlinuz-{version}");
            let install = format!("install -D /dev/null %{{buildroot}}{file}\n");
            // As the feed's kernels have it.
            let provides = of_feed.map(|_| format!("Provides: avocado-kernel-{version}\n"));
            (install, format!("{file}\n"), provides.unwrap_or_default())
        });
        let (kernel_install, kernel_listed, mut provides) = kernel.unwrap_or_default();
        if let Some((module, _)) = name
            .rsplit_once('-')
            .filter(|_| name.starts_with("kernel-module-"))
        {
            provides = format!("Provides: {module} = {version}\n");
        }
        // As kernels have it.
        let part = name.strip_prefix("kernel-rt-").map_or(
            "",
            |_| "%package dbg\nSummary: a part\n%description dbg\n%files dbg\n",
        );
        let spec = format!(
            "Name: {name}\nEpoch: {epoch}\nVersion: {version}\nRelease: r0\nBuildArch: noarch\n\
             Summary: {content}\nLicense: MIT\n{provides}%description\n%install\n\
             mkdir -p %{{buildroot}}/opt\necho '{content}' > %{{buildroot}}/opt/{name}\n\
             {kernel_install}{install}%files\n{attributes} /opt/{name}\n{kernel_listed}{listed}{part}"
        );
        let file = self.work.join("package.spec");
        fs::write(&file, spec).unwrap();
        run(Command::new("rpmbuild")
            .arg(format!("--define=_topdir {}", self.work.display()))
            .arg(format!("--define=_rpmdir {}", self.repository().display()))
            // Two epochs of one version are two files.
            .arg(format!(
                "--define=_rpmfilename %%{{NAME}}-{epoch}-{version}.rpm"
            ))
            .arg("-bb")
            .arg(file));
    }

    fn index(&self) {
        run(Command::new("createrepo_c")
            .args(["--quiet", "--general-compress-type=gz"])
            .arg(self.repository()));
    }
}

fn path_of(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(tool));
    places.find(|place| place.is_file()).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
