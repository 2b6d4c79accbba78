use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use avocado_manifest::Name;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::Reason;

/// The two kinds of extension. An image can be both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Extends `/usr` and `/opt`.
    Sysext,
    /// Extends `/etc`.
    Confext,
}

impl Class {
    pub(crate) const BOTH: [Class; 2] = [Class::Sysext, Class::Confext];

    /// What it extends.
    pub(crate) fn hierarchies(self) -> &'static [&'static str] {
        match self {
            Class::Sysext => &["/usr", "/opt"],
            Class::Confext => &["/etc"],
        }
    }

    /// The directory, in an image, of the files by which it says that it is of this class.
    pub(crate) fn release_dir(self) -> &'static str {
        match self {
            Class::Sysext => "usr/lib/extension-release.d",
            Class::Confext => "etc/extension-release.d",
        }
    }

    fn scope_key(self) -> &'static str {
        match self {
            Class::Sysext => "SYSEXT_SCOPE",
            Class::Confext => "CONFEXT_SCOPE",
        }
    }

    /// For people and file names.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Sysext => "sysext",
            Class::Confext => "confext",
        }
    }
}

/// A command as words: there is no shell.
pub(crate) type Command = Vec<String>;

/// What an extension-release file says that concerns us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Release {
    /// Where the extension may be merged; none where it does not say so.
    scopes: Option<Vec<String>>,
    pub(crate) on_merge: Vec<Command>,
    pub(crate) on_unmerge: Vec<Command>,
    pub(crate) modules: Vec<String>,
    pub(crate) services: Vec<String>,
}

impl Release {
    pub(crate) fn parse(class: Class, text: &str) -> Self {
        let mut release = Release::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else {
                continue;
            };
            let value = unquoted(value.trim());
            let words = || value.split_whitespace().map(str::to_owned);
            match key {
                "AVOCADO_ON_MERGE" => release.on_merge.extend(commands(value)),
                "AVOCADO_ON_UNMERGE" => release.on_unmerge.extend(commands(value)),
                "AVOCADO_MODPROBE" => release.modules.extend(words()),
                "AVOCADO_ENABLE_SERVICES" => release.services.extend(words()),
                key if key == class.scope_key() => {
                    release.scopes.get_or_insert_default().extend(words());
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
    pub(crate) fn join(&mut self, other: Release) {
        self.on_merge.extend(other.on_merge);
        self.on_unmerge.extend(other.on_unmerge);
        self.modules.extend(other.modules);
        self.services.extend(other.services);
    }
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

fn commands(value: &str) -> impl Iterator<Item = Command> {
    value
        .split(';')
        .map(|command| command.split_whitespace().map(str::to_owned).collect())
        .filter(|command: &Command| !command.is_empty())
}

/// Larger than any extension-release file.
const LIMIT: u64 = 1 << 20;

/// The bytes of the file by which the image mounted at `root` says that it is this extension and
/// of this class; none if it does not. The versioned name counts first. Without a version, the end
/// of the name may be one.
pub(crate) fn find(
    root: &Path,
    class: Class,
    name: &Name,
    version: Option<&Name>,
) -> Result<Option<Vec<u8>>, Reason> {
    let name = name.as_str();
    let names = match version {
        Some(version) => [Some(format!("{name}-{version}")), Some(name.to_owned())],
        None => [Some(name.to_owned()), unversioned(name).map(str::to_owned)],
    };
    for name in names.into_iter().flatten() {
        let file = format!("extension-release.{name}");
        let path = Path::new(class.release_dir()).join(file);
        let failed = |e: io::Error| Reason::file("read", &root.join(&path))(e);
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
fn unversioned(name: &str) -> Option<&str> {
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

/// The value of a key in an os-release file, of the first of `files` that exists.
pub(crate) fn os_release_value(files: &[std::path::PathBuf], key: &str) -> Option<String> {
    let text = files.iter().find_map(|f| fs::read_to_string(f).ok())?;
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(k, _)| *k == key)
        .map(|(_, value)| unquoted(value.trim()).to_owned())
        .find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let release = Release::parse(Class::Sysext, text);
        let commands: Vec<_> = release.on_merge.iter().map(|c| c.join("|")).collect();
        assert_eq!(commands, ["depmod", "touch|/a|b", "echo|'x|y'"]);
        assert_eq!(release.on_unmerge, [["sync"]]);
        assert_eq!(release.modules, ["one", "two"]);
        assert_eq!(release.services, ["a.service", "b.socket"]);
        assert!(release.allows("system") && !release.allows("initrd"));
        assert!(Release::parse(Class::Confext, text).allows("initrd"));
        let silent = Release::parse(Class::Confext, "ID=_any");
        assert!(silent.allows("system") && !silent.allows("initrd"));
        assert!(!Release::parse(Class::Sysext, "SYSEXT_SCOPE=").allows("system"));
    }

    #[test]
    fn only_the_extension_itself_counts_and_links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("image");
        let releases = root.join("usr/lib/extension-release.d");
        fs::create_dir_all(&releases).unwrap();
        let of = |name: &str, version: Option<&Name>| {
            find(&root, Class::Sysext, &name.parse().unwrap(), version).unwrap()
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

    #[test]
    fn os_release_values() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("none"), dir.path().join("os-release")];
        assert_eq!(os_release_value(&files, "ID"), None);
        fs::write(
            &files[1],
            "ID=\"avocado\"\nEMPTY=\nAVOCADO_OS_BUILD_ID=x1\n",
        )
        .unwrap();
        assert_eq!(os_release_value(&files, "ID").unwrap(), "avocado");
        assert_eq!(
            os_release_value(&files, "AVOCADO_OS_BUILD_ID").unwrap(),
            "x1"
        );
        assert_eq!(os_release_value(&files, "EMPTY"), None);
    }

    proptest::proptest! {
        #[test]
        fn commands_have_words_without_space(value in "[a ;\"'=\\PC]*") {
            let text = format!("AVOCADO_ON_MERGE={value}");
            let release = Release::parse(Class::Sysext, &text);
            for command in release.on_merge {
                proptest::prop_assert!(!command.is_empty());
                for word in command {
                    proptest::prop_assert!(!word.is_empty() && !word.contains([' ', ';']));
                }
            }
        }
    }
}
