//! Packages of rpm, as we write them: of files in a tree, with nothing in them but what is stated.
//!
//! They are written in process. So no text of a project is read by another program as a macro or as a
//! line of a specification, the version of a host's tool is in no package, and the same files give
//! the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rpm::{BuildConfig, CompressionWithLevel, Dependency, FileOptions, PackageBuilder, Timestamp};

use crate::error::{At as _, Error};
use crate::trees::{self, Tree};

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

    /// Writes the package with what is at these paths of `tree`, each alone, to `place`, whole or not at all. `epoch` is the
    /// time of everything in it.
    pub(crate) fn write(
        &self,
        tree: &Tree,
        paths: &[PathBuf],
        epoch: u64,
        place: &Path,
    ) -> Result<(), Error> {
        self.check()?;
        let refused = |error: rpm::Error| self.refused(&error);
        let time = u32::try_from(epoch).map_err(|_| {
            Error::Invalid(format!(
                "`source_date_epoch` is {epoch}, and a package of rpm holds no time after 2106"
            ))
        })?;
        let time = Timestamp(time);
        let mut package = self.builder(time);
        for path in paths {
            self.add(&mut package, tree, path, time)?;
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
        path: &Path,
        time: Timestamp,
    ) -> Result<(), Error> {
        let from = tree.shown(path);
        let text = |path: &Path| match path.to_str() {
            Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
            _ => Err(Error::Invalid(format!(
                "`{}` cannot be in a package of rpm, whose paths are printable UTF-8",
                path.to_string_lossy().escape_debug()
            ))),
        };
        let to = format!("/{}", text(path)?);
        let metadata = fs::symlink_metadata(&from).at("look at", &from)?;
        let mode = u16::try_from(metadata.mode() & 0o7777).unwrap_or(0o644);
        let added = if metadata.is_symlink() {
            let target = text(&fs::read_link(&from).at("read", &from)?)?;
            package.with_symlink(FileOptions::symlink(to, target).modified_at(time))
        } else if metadata.is_dir() {
            let options = FileOptions::dir(to).permissions(mode);
            package.with_dir_entry(options.modified_at(time))
        } else if metadata.is_file() {
            let options = FileOptions::new(to).permissions(mode);
            package.with_file(&from, options.modified_at(time))
        } else {
            return Err(Error::Invalid(format!(
                "/{} is a socket, a pipe or a device, which no package that we write has",
                path.display()
            )));
        };
        added.map(drop).map_err(|error| self.refused(&error))
    }

    /// That every text is what its place in a package can hold.
    fn check(&self) -> Result<(), Error> {
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
                return Err(Error::Invalid(format!(
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
                return Err(Error::Invalid(format!(
                    "the {key} of package {} is `{}`: it has to be one line of text",
                    self.name,
                    text.escape_debug()
                )));
            }
        }
        match self.requires.iter().find(|text| dependency(text).is_none()) {
            None => Ok(()),
            Some(text) => Err(Error::Invalid(format!(
                "package {} requires `{text}`, which is no `name`, `name >= version` or `(this or \
                 that)`",
                self.name
            ))),
        }
    }

    fn refused(&self, error: &rpm::Error) -> Error {
        Error::Invalid(format!("package {} cannot be written: {error}", self.name))
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
