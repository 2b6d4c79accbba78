//! What a device will see of the extensions of a runtime, merged: which file wins where two have
//! one, and what it will never see.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use walkdir::{DirEntry, WalkDir};

use super::hiding::MERGED_DIRECTORIES;
use super::{Tree, is, list_of};
use crate::error::{At as _, BuildError};

/// An extension of a runtime.
pub(crate) struct MergeLayer<'a> {
    pub(crate) name: &'a str,
    pub(crate) tree: Tree,
    pub(crate) sysext: bool,
    pub(crate) confext: bool,
    /// What its image does not have, sorted.
    pub(crate) left_out: Vec<PathBuf>,
    pub(crate) enable_services: &'a [String],
}

impl MergeLayer<'_> {
    /// What a device shows of it.
    fn hierarchies(&self) -> impl Iterator<Item = &'static str> {
        let usr = self.sysext.then_some(["usr", "opt"]);
        let etc = self.confext.then_some("etc");
        usr.into_iter().flatten().chain(etc)
    }

    fn leaves_out(&self, path: &Path) -> bool {
        self.left_out.iter().any(|out| path.starts_with(out))
    }
}

/// What there is to tell of these layers, of which the first wins, over a rootfs.
pub(crate) fn findings(
    rootfs: &Tree,
    layers: &[MergeLayer<'_>],
) -> Result<Vec<String>, BuildError> {
    let mut told = Overlaps::new(rootfs, layers)?.describe(layers);
    for layer in layers {
        told.extend(never_shown(layer)?);
        for service in layer.enable_services {
            if !has_unit(rootfs, layers, service) {
                told.push(format!(
                    "extension `{}` enables {service}, but no device will have it: neither the \
                     rootfs nor what is merged of the runtime's extensions has such a unit",
                    layer.name
                ));
            }
        }
    }
    Ok(told)
}

/// Paths that more than one has.
#[derive(Default)]
struct Overlaps {
    /// By the layer that wins and the one that does not.
    of_layers: Vec<((usize, usize), Vec<PathBuf>)>,
    /// By the layer that wins over the rootfs.
    of_rootfs: Vec<(usize, Vec<PathBuf>)>,
}

impl Overlaps {
    fn new(rootfs: &Tree, layers: &[MergeLayer<'_>]) -> Result<Self, BuildError> {
        let mut overlaps = Overlaps::default();
        let mut first: HashMap<PathBuf, usize> = HashMap::new();
        for (at, layer) in layers.iter().enumerate() {
            for hierarchy in layer.hierarchies() {
                overlaps.add(rootfs, layers, at, hierarchy, &mut first)?;
            }
        }
        Ok(overlaps)
    }

    fn add(
        &mut self,
        rootfs: &Tree,
        layers: &[MergeLayer<'_>],
        at: usize,
        hierarchy: &str,
        first: &mut HashMap<PathBuf, usize>,
    ) -> Result<(), BuildError> {
        let layer = &layers[at];
        // Where the rootfs has no directory: nothing of it is behind that.
        let mut beyond: Option<PathBuf> = None;
        let mut walk = walk(&layer.tree, hierarchy).into_iter();
        while let Some(entry) = walk.next() {
            let Some(entry) = found(entry, &layer.tree)? else {
                break;
            };
            let path = entry.path().strip_prefix(layer.tree.path());
            let path = path.unwrap_or(entry.path()).to_owned();
            if layer.leaves_out(&path) {
                walk.skip_current_dir();
                continue;
            }
            let is_directory = entry.file_type().is_dir();
            if let Some(winner) = first.get(&path).copied() {
                let there = layers[winner].tree.shown(&path);
                let both = there.symlink_metadata().at("look at", &there)?.is_dir() && is_directory;
                if !both && !is_same(&there, entry.path())? {
                    add_to(&mut self.of_layers, (winner, at), path);
                    if is_directory {
                        walk.skip_current_dir();
                    }
                }
                continue;
            }
            first.insert(path.clone(), at);
            if beyond
                .as_ref()
                .is_some_and(|beyond| path.starts_with(beyond))
            {
                continue;
            }
            let there = rootfs.look(&path)?;
            let directory = there
                .as_ref()
                .is_some_and(|there| is(there, FileType::Directory));
            if is_directory && !directory {
                beyond = Some(path);
            } else if !is_directory
                && there.is_some()
                && !directory
                && !is_same(&rootfs.shown(&path), entry.path())?
            {
                add_to(&mut self.of_rootfs, at, path);
            }
        }
        Ok(())
    }

    fn describe(self, layers: &[MergeLayer<'_>]) -> Vec<String> {
        let name = |at: usize| layers[at].name;
        let of_layers = self.of_layers.into_iter().map(|((winner, other), paths)| {
            format!(
                "extensions `{0}` and `{1}` both have {2}: that of `{0}` wins, which the runtime \
                 names first",
                name(winner),
                name(other),
                list_of(&paths)
            )
        });
        let of_rootfs = self.of_rootfs.into_iter().map(|(winner, paths)| {
            let (name, paths) = (name(winner), list_of(&paths));
            format!("extension `{name}` hides files of the rootfs that are not the same: {paths}")
        });
        of_layers.chain(of_rootfs).collect()
    }
}

fn add_to<K: PartialEq>(groups: &mut Vec<(K, Vec<PathBuf>)>, key: K, path: PathBuf) {
    match groups.iter_mut().find(|(known, _)| *known == key) {
        Some((_, paths)) => paths.push(path),
        None => groups.push((key, vec![path])),
    }
}

/// What is in the tree of an extension, and in no place that a device shows.
fn never_shown(layer: &MergeLayer<'_>) -> Result<Vec<String>, BuildError> {
    let mut groups: Vec<(&str, Vec<PathBuf>)> = Vec::new();
    let shown: Vec<_> = layer.hierarchies().collect();
    for top in layer.tree.names("")? {
        let name = top.to_str().unwrap_or_default();
        let place = layer.tree.shown(&top);
        let is_merged_link = MERGED_DIRECTORIES.contains(&name) && place.is_symlink();
        if shown.contains(&name) || is_merged_link {
            continue;
        }
        let why = match name {
            "etc" => "only a confext shows /etc",
            "usr" | "opt" => "only a sysext shows /usr and /opt",
            "var" => "/var is the device's own: `var_files` name what belongs there",
            _ => "nothing is merged but /usr, /opt and /etc",
        };
        for entry in walk(&layer.tree, &top) {
            let Some(entry) = found(entry, &layer.tree)? else {
                break;
            };
            let path = entry.path().strip_prefix(layer.tree.path());
            let path = path.unwrap_or(entry.path());
            if !entry.file_type().is_dir() && !layer.leaves_out(path) {
                add_to(&mut groups, why, path.to_owned());
            }
        }
    }
    let told = groups.into_iter().map(|(why, paths)| {
        let (name, paths) = (layer.name, list_of(&paths));
        format!("extension `{name}` has what no device will show: {paths} ({why})")
    });
    Ok(told.collect())
}

/// Whether a device will have this unit, or the template of which it is an instance.
fn has_unit(rootfs: &Tree, layers: &[MergeLayer<'_>], service: &str) -> bool {
    let names: Vec<_> = unit_names(service).collect();
    let holds = |tree: &Tree, directory: &str| {
        let mut names = names.iter();
        names.any(|name| tree.has(Path::new(directory).join(name)))
    };
    let (etc, usr) = ("etc/systemd/system", "usr/lib/systemd/system");
    [etc, usr, "lib/systemd/system"]
        .iter()
        .any(|directory| holds(rootfs, directory))
        || layers.iter().any(|layer| {
            layer.sysext && holds(&layer.tree, usr) || layer.confext && holds(&layer.tree, etc)
        })
}

/// The names under which the unit of a service is found: its own, and that of the template of which
/// it is an instance.
pub(crate) fn unit_names(service: &str) -> impl Iterator<Item = String> {
    let template = service
        .split_once('@')
        .and_then(|(name, rest)| Some(format!("{name}@{}", &rest[rest.rfind('.')?..])));
    std::iter::once(service.to_owned()).chain(template)
}

fn walk(tree: &Tree, top: impl AsRef<Path>) -> WalkDir {
    let walk = WalkDir::new(tree.path().join(top));
    walk.follow_root_links(false).sort_by_file_name()
}

/// None where the tree has no such directory.
fn found(entry: walkdir::Result<DirEntry>, tree: &Tree) -> Result<Option<DirEntry>, BuildError> {
    match entry.map_err(io::Error::from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.at("read", tree.path()).map(Some),
    }
}

/// Whether it makes no difference which of the two is there. Neither is followed.
fn is_same(a: &Path, b: &Path) -> Result<bool, BuildError> {
    let look = |path: &Path| path.symlink_metadata().at("look at", path);
    let (one, other) = (look(a)?, look(b)?);
    let (kind, size) = (one.file_type(), one.len());
    if one.mode() != other.mode() || size != other.len() {
        return Ok(false);
    }
    if kind.is_symlink() {
        let target = |path: &Path| fs::read_link(path).at("read", path);
        return Ok(target(a)? == target(b)?);
    }
    if kind.is_file() {
        let open = |path: &Path| File::open(path).at("open", path);
        return same_bytes(open(a)?, open(b)?).at("read", b);
    }
    let device = kind.is_char_device() || kind.is_block_device();
    Ok(!device || one.rdev() == other.rdev())
}

fn same_bytes(mut a: File, mut b: File) -> io::Result<bool> {
    const LENGTH: u64 = 1 << 16;
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        for (file, bytes) in [(&mut a, &mut one), (&mut b, &mut other)] {
            bytes.clear();
            file.take(LENGTH).read_to_end(bytes)?;
        }
        if one != other || one.is_empty() {
            return Ok(one == other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Place(tempfile::tempdir().unwrap());
            fs::create_dir(place.0.path().join("rootfs")).unwrap();
            place
        }

        fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn link(&self, path: &str, target: &str) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
            self
        }

        fn tree(&self, name: &str) -> Tree {
            let path = self.0.path().join(name);
            fs::create_dir_all(&path).unwrap();
            Tree::open(&path).unwrap()
        }

        fn layer<'a>(&self, name: &'a str, types: &str, services: &'a [String]) -> MergeLayer<'a> {
            MergeLayer {
                name,
                tree: self.tree(name),
                sysext: types.contains("sysext"),
                confext: types.contains("confext"),
                left_out: vec!["var/lib/rpm".into(), "var/lib/seed".into()],
                enable_services: services,
            }
        }

        fn findings(&self, layers: &[MergeLayer<'_>]) -> Vec<String> {
            findings(&self.tree("rootfs"), layers).unwrap()
        }
    }

    #[test]
    fn of_two_files_the_one_of_the_first_extension_wins() {
        let place = Place::new();
        place
            .file("a/usr/bin/tool", "of a")
            .file("b/usr/bin/tool", "of b")
            .file("a/usr/lib/same", "same")
            .file("b/usr/lib/same", "same")
            .link("a/usr/lib/l", "x")
            .link("b/usr/lib/l", "y")
            .link("a/usr/lib/d", "elsewhere")
            .file("b/usr/lib/d/deep", "")
            .file("a/etc/f", "of a")
            .file("b/etc/f", "of b");
        let layers = ["a", "b"].map(|name| place.layer(name, "sysext", &[]));
        let told = place.findings(&layers);
        assert_eq!(
            told,
            [
                "extensions `a` and `b` both have /usr/bin/tool, /usr/lib/d, /usr/lib/l: that of \
                 `a` wins, which the runtime names first",
                "extension `a` has what no device will show: /etc/f (only a confext shows /etc)",
                "extension `b` has what no device will show: /etc/f (only a confext shows /etc)",
            ]
        );
        let layers = ["b", "a"].map(|name| place.layer(name, "sysext confext", &[]));
        let told = place.findings(&layers);
        let first =
            "extensions `b` and `a` both have /usr/bin/tool, /usr/lib/d, /usr/lib/l, /etc/f:";
        assert!(told[0].starts_with(first), "{told:?}");
        assert!(told[0].contains("that of `b` wins"), "{told:?}");
        assert_eq!(told.len(), 1);
        // A sysext has no part in /etc, and a confext none in /usr.
        let layers = [
            place.layer("a", "confext", &[]),
            place.layer("b", "sysext", &[]),
        ];
        let told = place.findings(&layers);
        assert!(told.iter().all(|told| !told.contains("both")), "{told:?}");
    }

    #[test]
    fn other_files_of_the_rootfs_are_hidden() {
        let place = Place::new();
        place
            .file("rootfs/usr/lib/os", "of the rootfs")
            .file("rootfs/usr/lib/same", "same")
            .file("rootfs/real/f", "behind a link")
            .link("rootfs/usr/link", "../real")
            .file("a/usr/lib/os", "of a")
            .file("a/usr/lib/same", "same")
            .file("a/usr/link/f", "another");
        let layers = [place.layer("a", "sysext", &[])];
        assert_eq!(
            place.findings(&layers),
            ["extension `a` hides files of the rootfs that are not the same: /usr/lib/os"]
        );
    }

    #[test]
    fn what_no_merge_shows_is_told() {
        let place = Place::new();
        place
            .file("a/usr/lib/f", "")
            .file("a/srv/f", "")
            .file("a/lib/f", "")
            .file("a/var/lib/rpm/db", "")
            .file("a/var/lib/seed/f", "")
            .file("a/var/lib/other", "")
            .link("a/bin", "usr/bin")
            .file("c/usr/lib/f", "")
            .file("c/opt/f", "");
        let layers = [
            place.layer("a", "sysext confext", &[]),
            place.layer("c", "confext", &[]),
        ];
        let told = place.findings(&layers);
        assert_eq!(
            told,
            [
                "extension `a` has what no device will show: /lib/f, /srv/f (nothing is merged but \
                 /usr, /opt and /etc)",
                "extension `a` has what no device will show: /var/lib/other (/var is the device's \
                 own: `var_files` name what belongs there)",
                "extension `c` has what no device will show: /opt/f, /usr/lib/f (only a sysext \
                 shows /usr and /opt)",
            ]
        );
    }

    #[test]
    fn an_enabled_service_has_to_be_on_the_device() {
        let place = Place::new();
        place
            .file("rootfs/usr/lib/systemd/system/os@.service", "")
            .file("a/etc/systemd/system/hidden.service", "")
            .file("b/usr/lib/systemd/system/of-b.service", "");
        let services = ["os@1.service", "of-b.service", "hidden.service"].map(ToOwned::to_owned);
        let layers = [
            place.layer("a", "sysext", &services),
            place.layer("b", "sysext", &[]),
        ];
        let told = place.findings(&layers);
        let told: Vec<_> = told
            .iter()
            .filter(|told| told.contains("enables"))
            .collect();
        assert!(told[0].contains("enables hidden.service"), "{told:?}");
        assert_eq!(told.len(), 1);
    }
}
