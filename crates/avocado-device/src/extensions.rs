//! The extensions that are on the device, and those that are merged where no runtime says which.

use std::path::PathBuf;

use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use serde::Serialize;

use crate::merge::Set;
use crate::merge::release::Class;
use crate::merge::state::Image;
use crate::store::named::{Marks, Named, in_pool};
use crate::{Device, Error, Reason, status};

/// An extension that is on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Extension {
    /// The name. Of one that belongs to no runtime it is that of its file, and may include a
    /// version.
    pub name: Name,
    /// The version, where a runtime says it.
    pub version: Option<Name>,
    /// Its image or directory.
    pub path: PathBuf,
    /// Whether it extends `/usr` and `/opt`. Of an image this is known once it is merged.
    pub sysext: bool,
    /// Whether it extends `/etc`. Of an image this is known once it is merged.
    pub confext: bool,
    /// Whether it is a directory and not an image.
    pub directory: bool,
}

/// Which extensions [`Device::disable`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Every one that is enabled.
    All,
    /// Those with these names.
    Named(&'a [String]),
}

impl Device {
    /// The extensions of the active runtime that are on the device, in its order, and then what
    /// else has a name in the pool and can be enabled.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn extensions(&self) -> Result<Vec<Extension>, Error> {
        let base = &self.paths().base;
        let mut all = Vec::new();
        let mut named = in_pool(base).map_err(Error::Store)?;
        for status in self.status()?.extensions {
            let file = match (&status.image_id, &status.version) {
                (Some(id), _) => id.file_name(),
                (None, Some(version)) => format!("{}-{version}.raw", status.name),
                // One of those with a name.
                (None, None) => continue,
            };
            let path = base.join("images").join(file);
            if path.exists() {
                named.retain(|other| other.path != path);
                all.push(Extension {
                    name: status.name,
                    version: status.version,
                    path,
                    sysext: status.sysext,
                    confext: status.confext,
                    directory: false,
                });
            }
        }
        all.extend(named.into_iter().map(|named| {
            let has = |class: Class| named.path.join(class.release_dir()).is_dir();
            Extension {
                sysext: has(Class::Sysext),
                confext: has(Class::Confext),
                directory: named.path.is_dir(),
                name: named.name,
                version: None,
                path: named.path,
            }
        }));
        Ok(all)
    }

    /// Marks extensions of the pool as wanted with a release of the operating system, the one that
    /// runs unless another one is named: [`Device::merge`] merges them where no runtime is active.
    /// Returns how many they are. Where one of them does not exist, nothing is changed.
    ///
    /// # Errors
    /// [`Error::ExtensionNotFound`], [`Error::Release`], or [`Error::Store`].
    pub fn enable(
        &self,
        names: &[String],
        release: Option<&str>,
        sink: &dyn Sink,
    ) -> Result<u64, Error> {
        let marks = self.marks(release)?;
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let all = in_pool(&self.paths().base).map_err(Error::Store)?;
        let wanted = find(&all, names)?;
        wanted
            .iter()
            .try_for_each(|named| marks.add(named))
            .and_then(|()| marks.settle())
            .map_err(Error::Store)?;
        Ok(count(&wanted))
    }

    /// Ends what [`Device::enable`] did, also where the extension does not exist any more. Returns
    /// how many there were. Where one of them is not enabled, nothing is changed.
    ///
    /// # Errors
    /// As [`Device::enable`].
    pub fn disable(
        &self,
        which: Which<'_>,
        release: Option<&str>,
        sink: &dyn Sink,
    ) -> Result<u64, Error> {
        let marks = self.marks(release)?;
        let _lock = self.lock(sink).map_err(Error::Store)?;
        let mut all = marks.all().map_err(Error::Store)?.unwrap_or_default();
        // What is no link was put there by hand, and nothing could bring it back.
        all.retain(|named| named.path.is_symlink());
        let wanted = match which {
            Which::All => all.iter().collect(),
            Which::Named(names) => find(&all, names)?,
        };
        wanted
            .iter()
            .try_for_each(|named| marks.remove(named))
            .and_then(|()| marks.settle())
            .map_err(Error::Store)?;
        Ok(count(&wanted))
    }

    /// The marks of a release: the named one, or the one that runs.
    fn marks(&self, release: Option<&str>) -> Result<Marks, Error> {
        let release = match release {
            Some(release) => release.to_owned(),
            None => self.release().ok_or(Error::Release(None))?,
        };
        let release = release.parse().map_err(|e| Error::Release(Some(e)))?;
        Ok(Marks::new(&self.paths().base, &release))
    }

    /// The `VERSION_ID` of the operating system that runs.
    fn release(&self) -> Option<String> {
        status::os_release(self.paths(), "VERSION_ID")
    }

    /// What is wanted while no runtime is active: what is enabled for the release that runs. Where
    /// nobody ever enabled anything, and the device has no runtimes at all, it is everything that
    /// has a name: devices without runtimes work like that.
    pub(crate) fn enabled(&self) -> Result<Vec<Named>, Reason> {
        let base = &self.paths().base;
        let release = self.release().and_then(|release| release.parse().ok());
        let marked = match release {
            Some(release) => Marks::new(base, &release).all()?,
            None => None,
        };
        match marked {
            Some(marked) => Ok(marked),
            None if self.runtimes().everything()?.is_empty() => in_pool(base),
            None => Ok(Vec::new()),
        }
    }

    /// The same, to be merged: systemd alone orders them, by their names.
    pub(crate) fn enabled_set(&self, sink: &dyn Sink) -> Result<Set, Reason> {
        let enabled = self.enabled()?;
        if !enabled.is_empty() {
            sink.emit(Event::info(
                "no runtime is active: merging the extensions that are enabled",
            ));
        }
        let images = enabled.into_iter().map(|named| match named.path.exists() {
            true => Ok(Image::named(named)),
            false => Err(Reason::ImageMissing {
                image: named.name.into(),
                path: named.path,
            }),
        });
        Ok(Set {
            runtime: None,
            images: images.collect::<Result<_, _>>()?,
        })
    }
}

/// Those with these names, each once.
fn find<'a>(all: &'a [Named], names: &[String]) -> Result<Vec<&'a Named>, Error> {
    let mut found: Vec<&Named> = Vec::new();
    for name in names {
        let named = all.iter().find(|named| named.name.as_str() == name);
        let named = named.ok_or_else(|| Error::ExtensionNotFound { name: name.clone() })?;
        if !found.contains(&named) {
            found.push(named);
        }
    }
    Ok(found)
}

fn count<T>(all: &[T]) -> u64 {
    all.len() as u64
}
