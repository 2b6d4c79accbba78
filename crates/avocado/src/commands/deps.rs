//! `avocado … deps`: what a part of the project is made of, and in which versions.

use avocado_manifest::Name;
use avocado_project::{ExtensionDependency, LockFile, Packages, Project, Sysroot};
use avocado_text::table;
use serde::Serialize;

use super::project;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// The packages of one tree.
#[derive(Serialize)]
struct TreeDocument {
    name: String,
    /// The extensions that an extension needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<NeededExtension>,
    packages: Vec<PackageDocument>,
}

#[derive(Serialize)]
struct PackageDocument {
    name: String,
    /// As avocado.yaml asks for it; null for what another package needs.
    wanted: Option<String>,
    /// Null until it is installed.
    locked: Option<String>,
}

#[derive(Serialize)]
struct NeededExtension {
    name: String,
    /// Which versions will do; `*` for all.
    wanted: String,
    /// Null while it is not here.
    version: Option<String>,
}

/// Which trees are asked for.
pub(super) enum DepsOf<'a> {
    Sdk,
    /// One, or all of them.
    Extension(Option<&'a Name>),
    Runtime(Option<&'a Name>),
    Rootfs,
    Initramfs,
}

pub(super) fn run(session: &Session, of: &DepsOf<'_>) -> Result<()> {
    let project = project::load(session)?;
    let lock = LockFile::load(&project.src_dir).map_err(|e| Failure::from_error(&e))?;
    let trees = trees(session, &project, of)?;
    let listed: Vec<TreeDocument> = trees
        .into_iter()
        .map(|(name, wanted, sysroot)| {
            let locked = lock.target(&project.target);
            let locked = locked.and_then(|locked| locked.packages(&sysroot)).cloned();
            TreeDocument {
                name,
                extensions: needed_extensions(&project, &sysroot),
                packages: packages(wanted, locked.unwrap_or_default()),
            }
        })
        .collect();
    session.output.answer(&listed, || {
        let rows = listed.iter().flat_map(|tree| {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            let extensions = tree.extensions.iter().map(move |needed| {
                [
                    tree.name.clone(),
                    format!("extension {}", needed.name),
                    needed.wanted.clone(),
                    or_dash(&needed.version),
                ]
            });
            let packages = tree.packages.iter().map(move |package| {
                [
                    tree.name.clone(),
                    package.name.clone(),
                    or_dash(&package.wanted),
                    or_dash(&package.locked),
                ]
            });
            extensions.chain(packages)
        });
        table(["OF", "PACKAGE", "WANTED", "LOCKED"], rows, None)
    })
}

/// What the extension whose tree it is needs of other extensions.
fn needed_extensions(project: &Project, sysroot: &Sysroot) -> Vec<NeededExtension> {
    let Sysroot::Extension(name) = sysroot else {
        return Vec::new();
    };
    let extension = project.extension(name).into_iter();
    let needed = extension.flat_map(|extension| &extension.dependencies);
    let document = |dependency: &ExtensionDependency| {
        let version = project.extension(&dependency.name);
        let version = version.and_then(|needed| needed.version.known());
        let wanted = dependency.version.as_ref().map(ToString::to_string);
        NeededExtension {
            name: dependency.name.to_string(),
            wanted: wanted.unwrap_or_else(|| "*".to_owned()),
            version: version.map(ToString::to_string),
        }
    };
    needed.map(document).collect()
}

/// What is asked for comes first, then what that needs.
fn packages(wanted: Packages, mut locked: Packages) -> Vec<PackageDocument> {
    let asked: Vec<PackageDocument> = wanted
        .into_iter()
        .map(|(name, wanted)| PackageDocument {
            locked: locked.remove(&name),
            wanted: Some(wanted),
            name,
        })
        .collect();
    let needed = locked.into_iter().map(|(name, locked)| PackageDocument {
        name,
        wanted: None,
        locked: Some(locked),
    });
    asked.into_iter().chain(needed).collect()
}

fn trees(
    session: &Session,
    project: &Project,
    of: &DepsOf<'_>,
) -> Result<Vec<(String, Packages, Sysroot)>> {
    let unknown = |kind: &str, name: &Name| {
        Err(Failure::new(format!(
            "the project has no {kind} `{name}`, or it is not here yet"
        )))
    };
    Ok(match of {
        DepsOf::Sdk => {
            let wanted = project.sdk_packages().template().clone();
            let sysroot = Sysroot::Sdk(session.global.sdk_architecture().to_owned());
            vec![("sdk".to_owned(), wanted, sysroot)]
        }
        DepsOf::Extension(Some(name)) if project.extension(name).is_none() => {
            return unknown("extension", name);
        }
        DepsOf::Runtime(Some(name)) if project.runtime(name).is_none() => {
            return unknown("runtime", name);
        }
        DepsOf::Extension(named) => {
            let meant = |name: &Name| named.is_none_or(|named| named == name);
            let extensions = project.extensions.iter().filter(|e| meant(&e.name));
            let tree = |e: &avocado_project::Extension| {
                let sysroot = Sysroot::Extension(e.name.clone());
                (e.name.to_string(), e.packages.template().clone(), sysroot)
            };
            extensions.map(tree).collect()
        }
        DepsOf::Runtime(named) => {
            let meant = |name: &Name| named.is_none_or(|named| named == name);
            let runtimes = project.runtimes.iter().filter(|r| meant(&r.name));
            let tree = |r: &avocado_project::Runtime| {
                let sysroot = Sysroot::Runtime(r.name.clone());
                (r.name.to_string(), r.packages.template().clone(), sysroot)
            };
            runtimes.map(tree).collect()
        }
        DepsOf::Rootfs => project
            .rootfs
            .iter()
            .map(|(name, os)| {
                let wanted = os.packages.template().clone();
                (name.to_string(), wanted, Sysroot::rootfs(name))
            })
            .collect(),
        DepsOf::Initramfs => project
            .initramfs
            .iter()
            .map(|(name, os)| {
                let wanted = os.packages.template().clone();
                (name.to_string(), wanted, Sysroot::initramfs(name))
            })
            .collect(),
    })
}
