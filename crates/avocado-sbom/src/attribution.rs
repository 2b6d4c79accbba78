//! Where each file of an image comes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::bill::{
    FileComponent, FileOrigin, ImageComponent, ImageContents, PackageComponent, PackageRef,
};
use crate::installed::InstalledPackage;
use crate::inventory::{ImageInventory, InventoryFile};
use crate::licence;

/// What an image was made of, beside its packages.
#[derive(Debug, Clone, Default)]
pub struct ImageLayers {
    /// The paths of the files in its overlay.
    pub overlay: BTreeSet<String>,
    /// The paths of the files in the tree that its packages were installed to.
    pub installed: BTreeSet<String>,
    /// What scripts of the project ran on it.
    pub scripts: Vec<String>,
    /// The paths of what the build itself writes; one that ends with `/` is that of a directory.
    pub built: Vec<String>,
}

/// The contents of an image: every file of `inventory` with where it comes from, and `packages`.
/// `base` are packages that count as installed and are in another image.
pub fn attribute(
    image: ImageComponent,
    inventory: &ImageInventory,
    packages: &[InstalledPackage],
    base: &[(&str, &[InstalledPackage])],
    layers: &ImageLayers,
) -> ImageContents {
    let owners = owners(inventory, packages);
    let files = inventory.files.iter().map(|file| FileComponent {
        path: file.path.clone(),
        size: file.size,
        mode: file.mode,
        sha256: file.sha256.clone(),
        sha512: file.sha512.clone(),
        origin: origin(file, &owners, layers),
    });
    let mut files: Vec<FileComponent> = files.collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut all = vec![(image.name.as_str(), packages)];
    all.extend(base.iter().copied());
    let providers = providers(&all);
    let mut packages: Vec<PackageComponent> = packages
        .iter()
        .map(|package| component(package, &image.name, &providers))
        .collect();
    packages.sort_by(|a, b| (&a.name, a.evr(), &a.arch).cmp(&(&b.name, b.evr(), &b.arch)));
    ImageContents {
        image,
        packages,
        files,
    }
}

/// Who has a path, and with which bytes; several packages may have the same file.
type Owners<'a> = BTreeMap<String, Vec<(&'a InstalledPackage, Option<&'a str>)>>;

fn owners<'a>(inventory: &ImageInventory, packages: &'a [InstalledPackage]) -> Owners<'a> {
    let mut owners = Owners::new();
    for package in packages {
        for file in &package.files {
            if let Some(path) = inventory.resolve(&file.path) {
                let owner = (package, file.sha256.as_deref());
                owners.entry(path).or_default().push(owner);
            }
        }
    }
    owners
}

fn origin(file: &InventoryFile, owners: &Owners<'_>, layers: &ImageLayers) -> FileOrigin {
    let owners = owners.get(&file.path).map_or(&[][..], Vec::as_slice);
    let brought = owners
        .iter()
        .find(|(_, digest)| *digest == Some(file.sha256.as_str()));
    if let Some((package, _)) = brought {
        return FileOrigin::Package {
            package: package.label(),
            changed: false,
        };
    }
    let owner = owners.first().map(|(package, _)| package.label());
    if layers.overlay.contains(&file.path) {
        return FileOrigin::Overlay { replaces: owner };
    }
    let is_known = owners.iter().any(|(_, digest)| digest.is_some());
    if (is_known || owners.is_empty()) && is_built(&file.path, layers) {
        return FileOrigin::Build;
    }
    if let Some(package) = owner {
        return FileOrigin::Package {
            package,
            changed: is_known,
        };
    }
    if layers.installed.contains(&file.path) {
        FileOrigin::Scriptlets
    } else if !layers.scripts.is_empty() {
        let scripts = layers.scripts.clone();
        FileOrigin::Scripts { scripts }
    } else {
        FileOrigin::Unknown
    }
}

fn is_built(path: &str, layers: &ImageLayers) -> bool {
    layers
        .built
        .iter()
        .any(|built| match built.strip_suffix('/') {
            Some(_) => path.starts_with(built.as_str()),
            None => path == built,
        })
}

/// The packages that are something, or have a path, by its name.
fn providers(all: &[(&str, &[InstalledPackage])]) -> BTreeMap<String, PackageRef> {
    let mut providers = BTreeMap::new();
    for (image, packages) in all {
        for package in *packages {
            let of = PackageRef {
                image: (*image).to_owned(),
                package: package.label(),
            };
            let names = std::iter::once(&package.name).chain(&package.provides);
            let paths = package.files.iter().map(|file| &file.path);
            for name in names.chain(paths) {
                // Those of the image itself come first.
                providers.entry(name.clone()).or_insert_with(|| of.clone());
            }
        }
    }
    providers
}

/// What rpm needs of itself, and of the configuration of the package that says so.
const OF_RPM: [&str; 2] = ["rpmlib(", "config("];

fn component(
    package: &InstalledPackage,
    image: &str,
    providers: &BTreeMap<String, PackageRef>,
) -> PackageComponent {
    let own = PackageRef {
        image: image.to_owned(),
        package: package.label(),
    };
    let mut dependencies = BTreeSet::new();
    let mut is_complete = true;
    let requires = package.requires.iter();
    for name in requires.filter(|name| !OF_RPM.iter().any(|own| name.starts_with(own))) {
        match providers.get(name) {
            Some(provider) if *provider == own => {}
            Some(provider) => {
                dependencies.insert(provider.clone());
            }
            None => is_complete = false,
        }
    }
    let licence = package.licence.as_deref();
    PackageComponent {
        name: package.name.clone(),
        epoch: package.epoch,
        version: package.version.clone(),
        release: package.release.clone(),
        arch: package.arch.clone(),
        licence: licence.and_then(licence::expression),
        vendor: package.vendor.clone(),
        source_rpm: package.source_rpm.clone(),
        url: package.url.clone(),
        summary: package.summary.clone(),
        header_sha256: package.header_sha256.clone(),
        dependencies: dependencies.into_iter().collect(),
        is_complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::ImageRole;
    use crate::installed::InstalledFile;

    fn file(path: &str, digest: &str) -> InventoryFile {
        InventoryFile {
            path: path.into(),
            size: 1,
            mode: 0o644,
            sha256: digest.into(),
            sha512: digest.into(),
        }
    }

    fn package(name: &str, files: &[(&str, &str)], requires: &[&str]) -> InstalledPackage {
        let owned = |(path, digest): &(&str, &str)| InstalledFile {
            path: (*path).into(),
            sha256: Some((*digest).into()),
        };
        InstalledPackage {
            name: name.into(),
            version: "1".into(),
            release: "r0".into(),
            arch: "x".into(),
            files: files.iter().map(owned).collect(),
            requires: requires.iter().map(|name| (*name).into()).collect(),
            ..InstalledPackage::default()
        }
    }

    fn image() -> ImageComponent {
        ImageComponent {
            role: ImageRole::Extension,
            name: "app".into(),
            version: None,
            file_name: "app.raw".into(),
            size: 0,
            sha256: String::new(),
            sha512: String::new(),
        }
    }

    #[test]
    fn each_file_has_the_origin_that_made_its_bytes() {
        let layers = ImageLayers {
            overlay: ["etc/over", "etc/replaced", "etc/as-packaged"]
                .map(Into::into)
                .into(),
            installed: ["etc/made", "usr/lib/x"].map(Into::into).into(),
            scripts: Vec::new(),
            built: vec![
                "usr/lib/extension-release.d/".into(),
                "etc/machine-id".into(),
            ],
        };
        let packages = [package(
            "p",
            &[
                ("/lib/x", "1"),
                ("/etc/replaced", "1"),
                ("/etc/changed", "1"),
                ("/etc/as-packaged", "1"),
            ],
            &[],
        )];
        let of_package = |changed| FileOrigin::Package {
            package: "p-1-r0.x".into(),
            changed,
        };
        let cases = [
            ("usr/lib/x", "1", of_package(false)),
            ("etc/as-packaged", "1", of_package(false)),
            ("etc/changed", "2", of_package(true)),
            (
                "etc/replaced",
                "2",
                FileOrigin::Overlay {
                    replaces: Some("p-1-r0.x".into()),
                },
            ),
            ("etc/over", "2", FileOrigin::Overlay { replaces: None }),
            ("etc/made", "2", FileOrigin::Scriptlets),
            ("etc/machine-id", "2", FileOrigin::Build),
            (
                "usr/lib/extension-release.d/extension-release.app",
                "2",
                FileOrigin::Build,
            ),
            ("etc/machine-id.d", "2", FileOrigin::Unknown),
        ];
        let inventory = ImageInventory {
            files: cases
                .iter()
                .map(|(path, digest, _)| file(path, digest))
                .collect(),
            links: [("lib".to_owned(), "usr/lib".to_owned())].into(),
        };
        let found = attribute(image(), &inventory, &packages, &[], &layers);
        assert_eq!(found.files.len(), cases.len());
        for (path, _, expected) in cases {
            let found = found.files.iter().find(|file| file.path == path).unwrap();
            assert_eq!(found.origin, expected, "{path}");
        }
        // With a script, nobody else is left.
        let scripts = vec!["post_build hook.sh".to_owned()];
        let layers = ImageLayers {
            scripts: scripts.clone(),
            ..layers
        };
        let found = attribute(image(), &inventory, &packages, &[], &layers);
        let last = found
            .files
            .iter()
            .find(|f| f.path == "etc/machine-id.d")
            .unwrap();
        assert_eq!(last.origin, FileOrigin::Scripts { scripts });
    }

    #[test]
    fn what_a_package_needs_is_looked_for_here_and_below() {
        let base = [package("libc", &[("/bin/sh", "1")], &[])];
        let own = [
            package("a", &[], &["b", "/bin/sh", "rpmlib(X)", "a"]),
            package("b", &[], &["missing"]),
        ];
        let found = attribute(
            image(),
            &ImageInventory::default(),
            &own,
            &[("rootfs", &base)],
            &ImageLayers::default(),
        );
        let of = |image: &str, package: &str| PackageRef {
            image: image.into(),
            package: package.into(),
        };
        let a = &found.packages[0];
        assert_eq!(
            a.dependencies,
            [of("app", "b-1-r0.x"), of("rootfs", "libc-1-r0.x")]
        );
        assert!(a.is_complete);
        assert!(!found.packages[1].is_complete);
    }
}
