//! Packages of rpm, as we write them: of files in a tree, with nothing in them but what is stated.
//!
//! They are written in process. So no text of a project is read by another program as a macro or as a
//! line of a specification, the version of a host's tool is in no package, and the same files give
//! the same bytes.

mod file_list;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder, Timestamp};

use crate::error::{At as _, BuildError};
use crate::trees::{self, Tree};

pub(crate) use file_list::FileList;

/// As rpm has it on most systems that use zstd, and seconds faster than the densest.
const LEVEL: i32 = 12;

/// What packages say of the machine that they were made on.
const BUILD_HOST: &str = "reproducible";

/// What a package says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct RpmPackage {
    pub(crate) name: String,
    /// As rpm carries it.
    pub(crate) version: String,
    pub(crate) release: String,
    pub(crate) arch: String,
    /// In one line.
    pub(crate) summary: String,
    pub(crate) description: Option<String>,
    pub(crate) license: String,
    pub(crate) vendor: String,
    pub(crate) url: Option<String>,
    pub(crate) group: Option<String>,
    /// Besides itself.
    pub(crate) provides: Vec<String>,
    /// `name`, or `name >= version`.
    pub(crate) requires: Vec<String>,
}

/// Something of a tree that a package has at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackagedFile {
    /// From the root of the tree, without `/` in front.
    pub(crate) path: PathBuf,
    pub(crate) role: FileRole,
    /// Where it is not that of the file.
    pub(crate) mode: Option<u16>,
}

/// What rpm takes a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FileRole {
    #[default]
    Plain,
    /// An update replaces what was made of it, and keeps that beside.
    Config,
    /// An update leaves what was made of it, and puts the new one beside.
    ConfigToKeep,
    Documentation,
    License,
}

impl From<PathBuf> for PackagedFile {
    fn from(path: PathBuf) -> Self {
        PackagedFile {
            path,
            role: FileRole::default(),
            mode: None,
        }
    }
}

impl RpmPackage {
    /// `name-version-release.arch.rpm`.
    pub(crate) fn file_name(&self) -> String {
        let RpmPackage {
            name,
            version,
            release,
            arch,
            ..
        } = self;
        format!("{name}-{version}-{release}.{arch}.rpm")
    }

    /// Writes the package with these files of `tree`, of a directory nothing that is in it, to `place`, whole or not at all. `epoch` is the
    /// time of everything in it.
    pub(crate) fn write(
        &self,
        tree: &Tree,
        files: &[PackagedFile],
        epoch: u64,
        place: &Path,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        self.check()?;
        self.tell_of_attributes(tree, files, sink)?;
        let refused = |error: rpm::Error| self.refused(&error);
        let time = u32::try_from(epoch).map_err(|_| {
            BuildError::Invalid(format!(
                "`source_date_epoch` is {epoch}, and a package of rpm holds no time after 2106"
            ))
        })?;
        let time = Timestamp(time);
        // The library takes the time of the clock then, and the same files give other bytes each time.
        if time > Timestamp::now() {
            return Err(BuildError::Invalid(format!(
                "`source_date_epoch` is {epoch}, which is later than the clock of this machine says: no \
                 package of rpm can be of a time to come; state an earlier one, or set the clock"
            )));
        }
        let mut package = self.builder(time);
        for user in users_of_groups(tree, files)? {
            package.provides(Dependency::any(user));
        }
        for file in files {
            self.add(&mut package, tree, file, time)?;
        }
        let package = package.build().map_err(refused)?;
        if let Some(directory) = place.parent() {
            fs::create_dir_all(directory).at("create", directory)?;
        }
        let new = trees::unfinished(place);
        trees::clear(&new)?;
        let mut file = BufWriter::new(File::create_new(&new).at("create", &new)?);
        package.write(&mut file).map_err(refused)?;
        file.flush().at("write", &new)?;
        fs::rename(&new, place).at("write", place)
    }

    fn builder(&self, time: Timestamp) -> PackageBuilder {
        let config = BuildConfig::v4()
            .source_date(time)
            .compression(CompressionWithLevel::Zstd(LEVEL))
            .reserved_space(None);
        let mut package = PackageBuilder::new(
            &self.name,
            &self.version,
            &self.license,
            &self.arch,
            &self.summary,
        );
        package
            .using_config(config)
            .release(&self.release)
            .vendor(&self.vendor)
            .build_host(BUILD_HOST)
            .description(self.description.as_ref().unwrap_or(&self.summary));
        if let Some(url) = &self.url {
            package.url(url);
        }
        if let Some(group) = &self.group {
            package.group(group);
        }
        for provided in &self.provides {
            package.provides(Dependency::any(provided));
        }
        for required in self.requires.iter().filter_map(|text| dependency(text)) {
            package.requires(required);
        }
        package
    }

    fn add(
        &self,
        package: &mut PackageBuilder,
        tree: &Tree,
        file: &PackagedFile,
        time: Timestamp,
    ) -> Result<(), BuildError> {
        let path = &file.path;
        let from = tree.shown(path);
        let text = |path: &Path| match path.to_str() {
            Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
            _ => Err(BuildError::Invalid(format!(
                "`{}` cannot be in a package of rpm, whose paths are printable UTF-8",
                path.to_string_lossy().escape_debug()
            ))),
        };
        let to = format!("/{}", text(path)?);
        let metadata = fs::symlink_metadata(&from).at("look at", &from)?;
        let own_mode = u16::try_from(metadata.mode() & 0o7777).unwrap_or(0o644);
        let mode = file.mode.unwrap_or(own_mode);
        let added = if metadata.is_symlink() {
            let target = text(&fs::read_link(&from).at("read", &from)?)?;
            package.with_symlink(FileOptions::symlink(to, target).modified_at(time))
        } else if metadata.is_dir() {
            let options = FileOptions::dir(to).permissions(mode);
            package.with_dir_entry(options.modified_at(time))
        } else if metadata.is_file() {
            let options = FileOptions::new(to).permissions(mode).modified_at(time);
            let options = match file.role {
                FileRole::Plain => options,
                FileRole::Config => options.config(),
                FileRole::ConfigToKeep => options.config().noreplace(),
                FileRole::Documentation => options.doc(),
                FileRole::License => options.license(),
            };
            package.with_file(&from, options)
        } else {
            return Err(BuildError::Invalid(format!(
                "/{} is a socket, a pipe or a device, which no package that we write has",
                path.display()
            )));
        };
        added.map(drop).map_err(|error| self.refused(&error))
    }

    /// Packages that are written here have no extended attributes.
    fn tell_of_attributes(
        &self,
        tree: &Tree,
        files: &[PackagedFile],
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        let mut lost = Vec::new();
        for file in files {
            let path = tree.shown(&file.path);
            let metadata = fs::symlink_metadata(&path).at("look at", &path)?;
            let attributes = trees::attributes(&path, &metadata).at("read", &path)?;
            if !attributes.is_empty() {
                lost.push(file.path.clone());
            }
        }
        if !lost.is_empty() {
            sink.emit(Event::warning(format!(
                "package {} has no extended attributes, and no capabilities of programs, which are lost: \
                 {}; set them in a hook of whoever installs it",
                self.name,
                trees::list_of(&lost)
            )));
        }
        Ok(())
    }

    /// That every text is what its place in a package can hold.
    fn check(&self) -> Result<(), BuildError> {
        let words = [
            ("name", &self.name, "._+-"),
            ("version", &self.version, "._~^"),
            ("release", &self.release, "._~^"),
            ("arch", &self.arch, "_"),
        ];
        for (key, text, others) in words {
            let allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
            let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if !begins || !text.chars().all(allowed) {
                return Err(BuildError::Invalid(format!(
                    "`{}` cannot be the {key} of a package of rpm, which has letters, digits and \
                     `{others}`",
                    text.escape_debug()
                )));
            }
        }
        let lines = [
            ("summary", Some(&self.summary)),
            ("license", Some(&self.license)),
            ("vendor", Some(&self.vendor)),
            ("url", self.url.as_ref()),
        ];
        let lines = lines
            .into_iter()
            .filter_map(|(key, text)| Some((key, text?)));
        let needed = self.requires.iter().map(|text| ("requires", text));
        for (key, text) in lines.chain(needed) {
            if text.is_empty() || text.contains(char::is_control) {
                return Err(BuildError::Invalid(format!(
                    "the {key} of package {} is `{}`: it has to be one line of text",
                    self.name,
                    text.escape_debug()
                )));
            }
        }
        match self.requires.iter().find(|text| dependency(text).is_none()) {
            None => Ok(()),
            Some(text) => Err(BuildError::Invalid(format!(
                "package {} requires `{text}`, which is no `name`, `name >= version` or `(this or \
                 that)`",
                self.name
            ))),
        }
    }

    fn refused(&self, error: &rpm::Error) -> BuildError {
        BuildError::Invalid(format!("package {} cannot be written: {error}", self.name))
    }
}

/// `name`, `name >= version` or `(this or that)`.
fn dependency(text: &str) -> Option<Dependency> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [first, ..] if first.starts_with('(') => text.ends_with(')').then(|| Dependency::any(text)),
        [name] => Some(Dependency::any(name)),
        [name, how, version] => match how {
            "=" | "==" => Some(Dependency::eq(name, version)),
            "<" => Some(Dependency::less(name, version)),
            "<=" => Some(Dependency::less_eq(name, version)),
            ">" => Some(Dependency::greater(name, version)),
            ">=" => Some(Dependency::greater_eq(name, version)),
            _ => None,
        },
        _ => None,
    }
}

/// The users and groups that a line of sysusers.d brings together. The library has the package require
/// them, as newer versions of rpm do, and no older feed has a package that provides them.
fn users_of_groups(tree: &Tree, files: &[PackagedFile]) -> Result<Vec<String>, BuildError> {
    let mut provided = Vec::new();
    let is_of_users = |file: &&PackagedFile| {
        file.path.starts_with("usr/lib/sysusers.d")
            && file.path.extension().is_some_and(|suffix| suffix == "conf")
            && !tree.shown(&file.path).is_symlink()
    };
    for file in files.iter().filter(is_of_users) {
        let text = tree.read(&file.path)?.unwrap_or_default();
        for line in text.lines() {
            if let ["m", user, group, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
                provided.extend([format!("user({user})"), format!("group({group})")]);
            }
        }
    }
    Ok(provided)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> RpmPackage {
        RpmPackage {
            name: "app".into(),
            version: "1".into(),
            release: "1".into(),
            arch: "noarch".into(),
            summary: "s".into(),
            license: "l".into(),
            vendor: "v".into(),
            ..RpmPackage::default()
        }
    }

    #[test]
    fn a_package_requires_no_user_that_a_feed_does_not_have() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&directory.path().join("tree")).unwrap();
        let path = PathBuf::from("usr/lib/sysusers.d/app.conf");
        tree.write(&path, "u app -\nm app audio\n", 0o644).unwrap();
        let package = package();
        let place = directory.path().join("out").join(package.file_name());
        package
            .write(&tree, &[path.into()], 0, &place, &avocado_events::Silent)
            .unwrap();
        let written = rpm::Package::open(&place).unwrap().metadata;
        let provided = written.get_provides().unwrap();
        let required = written.get_requires().unwrap();
        let foreign = required.iter().filter(|r| !r.name.starts_with("rpmlib("));
        for required in foreign {
            let mut names = provided.iter().map(|p| &p.name);
            assert!(names.any(|name| *name == required.name), "{required:?}");
        }
        assert_eq!(written.get_build_host().unwrap(), "reproducible");
    }

    #[test]
    fn a_package_is_of_no_time_to_come() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&directory.path().join("tree")).unwrap();
        let place = directory.path().join("app.rpm");
        let write =
            |epoch: u64| package().write(&tree, &[], epoch, &place, &avocado_events::Silent);
        let why = write(u64::from(u32::MAX)).unwrap_err().to_string();
        assert!(why.contains("later than the clock"), "{why}");
        assert!(!place.exists());
        write(1).unwrap();
        let written = rpm::Package::open(&place).unwrap().metadata;
        assert_eq!(written.get_build_time().unwrap(), 1);
    }

    #[test]
    fn attributes_that_a_package_does_not_hold_are_told() {
        const NAME: &str = "attributes_that_a_package_does_not_hold_are_told";
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&directory.path().join("tree")).unwrap();
        let path = PathBuf::from("usr/bin/app");
        tree.write(&path, "", 0o755).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::lsetxattr(tree.shown(&path), "user.x", b"1", flags).is_err() {
            return avocado_test_support::skip(NAME, "the file system has no attributes");
        }
        let said = std::sync::Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let package = package();
        let place = directory.path().join(package.file_name());
        package
            .write(&tree, &[path.into()], 0, &place, &sink)
            .unwrap();
        let said = said.into_inner().unwrap();
        assert!(said[0].contains("are lost: /usr/bin/app;"), "{said:?}");
    }

    #[test]
    fn what_a_package_requires_is_written_as_rpm_does() {
        for good in [
            "glibc",
            "glibc >= 2.39",
            "lib = 1.0-r0",
            "(a or b)",
            "/bin/sh",
        ] {
            assert!(dependency(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a ~ 1", "a >= 1 b", "(a or b"] {
            assert!(dependency(bad).is_none(), "{bad}");
        }
    }
}
