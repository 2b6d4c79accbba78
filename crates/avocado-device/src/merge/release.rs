use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use avocado_manifest::{Name, release_file};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::FailureReason;

/// The two kinds of extension. An image can be both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExtensionClass {
    /// Extends `/usr` and `/opt`.
    Sysext,
    /// Extends `/etc`.
    Confext,
}

impl ExtensionClass {
    pub(crate) const BOTH: [ExtensionClass; 2] = [ExtensionClass::Sysext, ExtensionClass::Confext];

    /// What it extends.
    pub(crate) fn hierarchies(self) -> &'static [&'static str] {
        match self {
            ExtensionClass::Sysext => &["/usr", "/opt"],
            ExtensionClass::Confext => &["/etc"],
        }
    }

    /// The directory, in an image, of the files by which it says that it is of this class.
    pub(crate) fn release_dir(self) -> &'static str {
        match self {
            ExtensionClass::Sysext => "usr/lib/extension-release.d",
            ExtensionClass::Confext => "etc/extension-release.d",
        }
    }

    fn scope_key(self) -> &'static str {
        match self {
            ExtensionClass::Sysext => "SYSEXT_SCOPE",
            ExtensionClass::Confext => "CONFEXT_SCOPE",
        }
    }

    /// The key by which an extension and an operating system can fit beyond a version.
    pub(crate) fn level_key(self) -> &'static str {
        match self {
            ExtensionClass::Sysext => "SYSEXT_LEVEL",
            ExtensionClass::Confext => "CONFEXT_LEVEL",
        }
    }

    /// For people and file names.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ExtensionClass::Sysext => "sysext",
            ExtensionClass::Confext => "confext",
        }
    }
}

/// A command as words: there is no shell.
pub(crate) type HookCommand = Vec<String>;

/// What an extension-release file says that concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExtensionRelease {
    /// Where the extension may be merged; none where it does not say so.
    scopes: Option<Vec<String>>,
    pub(crate) on_merge: Vec<HookCommand>,
    pub(crate) on_unmerge: Vec<HookCommand>,
    pub(crate) modules: Vec<String>,
    pub(crate) services: Vec<String>,
}

impl ExtensionRelease {
    pub(crate) fn parse(class: ExtensionClass, text: &str) -> Self {
        let mut release = ExtensionRelease::default();
        for (key, value) in release_file::assignments(text) {
            let words = || value.split_whitespace().map(str::to_owned);
            match key {
                "AVOCADO_ON_MERGE" => release.on_merge.extend(commands(value)),
                "AVOCADO_ON_UNMERGE" => release.on_unmerge.extend(commands(value)),
                "AVOCADO_MODPROBE" => release.modules.extend(words()),
                "AVOCADO_ENABLE_SERVICES" => release.services.extend(words()),
                key if key == class.scope_key() => {
                    // systemd, which decides the same, takes the last one.
                    release.scopes = Some(words().collect());
                }
                _ => {}
            }
        }
        release
    }

    /// Whether the extension may be merged in this environment, `system` or `initrd`. One that
    /// says nothing is not for the initial RAM file system: so systemd has it.
    pub(crate) fn allows(&self, scope: &str) -> bool {
        match &self.scopes {
            Some(scopes) => scopes.iter().any(|s| s == scope),
            None => scope == "system",
        }
    }

    /// Takes over what another file of the same extension says.
    pub(crate) fn join(&mut self, other: ExtensionRelease) {
        self.on_merge.extend(other.on_merge);
        self.on_unmerge.extend(other.on_unmerge);
        self.modules.extend(other.modules);
        self.services.extend(other.services);
    }
}

fn commands(value: &str) -> impl Iterator<Item = HookCommand> {
    value
        .split(';')
        .map(|command| command.split_whitespace().map(str::to_owned).collect())
        .filter(|command: &HookCommand| !command.is_empty())
}

/// Larger than any extension-release file.
const LIMIT: u64 = 1 << 20;

/// The bytes of the file by which the image mounted at `root` says that it is this extension and
/// of this class; none if it does not. The versioned name counts first. Without a version, the end
/// of the name may be one.
pub(crate) fn find(
    root: &Path,
    class: ExtensionClass,
    name: &Name,
    version: Option<&Name>,
) -> Result<Option<Vec<u8>>, FailureReason> {
    let name = name.as_str();
    let names = match version {
        Some(version) => [Some(format!("{name}-{version}")), Some(name.to_owned())],
        None => [Some(name.to_owned()), unversioned(name).map(str::to_owned)],
    };
    for name in names.into_iter().flatten() {
        let file = format!("extension-release.{name}");
        let path = Path::new(class.release_dir()).join(file);
        let failed = |e: io::Error| FailureReason::file("read", &root.join(&path))(e);
        let Some(file) = open_in(root, &path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed)?
        else {
            continue;
        };
        let file = File::from(file);
        if !file.metadata().map_err(failed)?.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes).map_err(failed)?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

/// `app` for `app-1.0`. What follows the last dash is a version if it begins with a digit.
pub(crate) fn unversioned(name: &str) -> Option<&str> {
    let (name, version) = name.rsplit_once('-')?;
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some(name)
}

/// Opens a path inside an image: its symlinks do not lead out of it.
pub(crate) fn open_in(root: &Path, path: &Path, how: OFlags) -> io::Result<Option<OwnedFd>> {
    let image = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let how = how | OFlags::CLOEXEC;
    match rustix::fs::openat2(&image, path, how, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_keys_are_read() {
        let text = r#"
            ID=_any
            SYSEXT_SCOPE="system portable"
            CONFEXT_SCOPE=initrd
            AVOCADO_ON_MERGE="depmod"
            AVOCADO_ON_MERGE="touch /a b;  ; echo 'x y'"
            AVOCADO_ON_UNMERGE=sync
            AVOCADO_MODPROBE="one two"
            AVOCADO_ENABLE_SERVICES="a.service b.socket"
            nonsense
        "#;
        let release = ExtensionRelease::parse(ExtensionClass::Sysext, text);
        let commands: Vec<_> = release.on_merge.iter().map(|c| c.join("|")).collect();
        assert_eq!(commands, ["depmod", "touch|/a|b", "echo|'x|y'"]);
        assert_eq!(release.on_unmerge, [["sync"]]);
        assert_eq!(release.modules, ["one", "two"]);
        assert_eq!(release.services, ["a.service", "b.socket"]);
        assert!(release.allows("system") && !release.allows("initrd"));
        assert!(ExtensionRelease::parse(ExtensionClass::Confext, text).allows("initrd"));
        let silent = ExtensionRelease::parse(ExtensionClass::Confext, "ID=_any");
        assert!(silent.allows("system") && !silent.allows("initrd"));
        assert!(!ExtensionRelease::parse(ExtensionClass::Sysext, "SYSEXT_SCOPE=").allows("system"));
    }

    #[test]
    fn only_the_extension_itself_counts_and_links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("image");
        let releases = root.join("usr/lib/extension-release.d");
        fs::create_dir_all(&releases).unwrap();
        let of = |name: &str, version: Option<&Name>| {
            find(
                &root,
                ExtensionClass::Sysext,
                &name.parse().unwrap(),
                version,
            )
            .unwrap()
        };
        let find = |name: &str| of(name, Some(&"1".parse().unwrap()));
        fs::write(releases.join("extension-release.app-extra"), "extra").unwrap();
        assert_eq!(find("app"), None);
        fs::write(releases.join("extension-release.app"), "plain").unwrap();
        assert_eq!(find("app").unwrap(), b"plain");
        fs::write(releases.join("extension-release.app-1"), "versioned").unwrap();
        assert_eq!(find("app").unwrap(), b"versioned");
        assert_eq!(of("app", None).unwrap(), b"plain");
        assert_eq!(of("app-1", None).unwrap(), b"versioned");
        assert_eq!(of("app-2.0", None).unwrap(), b"plain");
        for other in ["app-v4l2", "app-", "app-extra-x", "ap"] {
            assert_eq!(of(&other.replace("app-", "xapp-"), None), None, "{other}");
        }
        assert_eq!(of("app-v4l2", None), None);

        fs::write(dir.path().join("secret"), "secret").unwrap();
        for (name, target) in [("up", "../../../../secret"), ("abs", "/secret")] {
            let link = releases.join(format!("extension-release.{name}"));
            std::os::unix::fs::symlink(target, link).unwrap();
            assert_eq!(find(name), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn commands_have_words_without_space(value in "[a ;\"'=\\PC]*") {
            let text = format!("AVOCADO_ON_MERGE={value}");
            let release = ExtensionRelease::parse(ExtensionClass::Sysext, &text);
            for command in release.on_merge {
                proptest::prop_assert!(!command.is_empty());
                for word in command {
                    proptest::prop_assert!(!word.is_empty() && !word.contains([' ', ';']));
                }
            }
        }
    }
}
