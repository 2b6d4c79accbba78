//! Removing what builds made of one part of a project, so that the next one makes it anew.

use std::path::{Path, PathBuf};

use avocado_backend::Processor;
use avocado_events::{Cancel, Sink};
use avocado_manifest::Name;
use avocado_project::{CompileSection, PackageScope};

use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::layout::Layout;
use crate::options::Options;
use crate::run::in_project;
use crate::steps::compile::{self, CleanRequest};
use crate::steps::hook::Hook;
use crate::trees::Tree;

/// A part of a project, for [`clean_part`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanedPart {
    /// The trees, images and stamps of one part, whatever it is made of. Of the SDK also what was
    /// compiled with it.
    Whole(PackageScope),
    /// What these sections of `sdk.compile` compiled.
    Sections(Vec<String>),
}

/// Removes a part of the state of the project's target, and nothing else; what a section compiled
/// after its script for that (`clean`) has run. Signed repositories stay, for devices remember them;
/// so does what was fetched. Answers what was removed.
///
/// # Errors
/// When the project does not have that part, a script fails, or something cannot be removed.
pub fn clean_part(
    options: &Options,
    part: &CleanedPart,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Vec<PathBuf>, BuildError> {
    in_project(options, cancel, sink, |context| work(context, part, sink))
}

pub(crate) fn work(
    context: &BuildContext<'_>,
    part: &CleanedPart,
    sink: &dyn Sink,
) -> Result<Vec<PathBuf>, BuildError> {
    let state = Tree::open(context.layout.prefix())?;
    let mut places = Vec::new();
    match part {
        CleanedPart::Sections(names) => {
            for name in names {
                let section = context.compile_section(name)?;
                clean_section(context, section, sink)?;
                places.extend(places_of_section(name));
            }
        }
        CleanedPart::Whole(scope) => {
            if *scope == PackageScope::Sdk {
                for section in &context.project.sdk.compile {
                    clean_section(context, section, sink)?;
                }
            }
            places = places_of(context, &state, scope)?;
            let known = inventories_of(&context.layout, &places);
            places.extend(known);
        }
    }
    remove(&state, places)
}

/// Runs what a section has for that, where there is something that it compiled.
fn clean_section(
    context: &BuildContext<'_>,
    section: &CompileSection,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let name: &str = &section.name;
    let Some(script) = &section.clean else {
        return Ok(());
    };
    if !context.layout.compile(name).is_dir() {
        return Ok(());
    }
    let files = context.files_at(&script.place.file);
    let request = CleanRequest::new(name, Hook::new(&files, &script.value)?);
    context.run_step(&format!("sdk clean {name}"), request, sink)
}

/// Each below the state of the target.
fn places_of(
    context: &BuildContext<'_>,
    state: &Tree,
    scope: &PackageScope,
) -> Result<Vec<PathBuf>, BuildError> {
    let project = context.project;
    let at = |path: String| PathBuf::from(path);
    Ok(match scope {
        PackageScope::Extension(name) => {
            let extension = context.extension(name)?;
            let images = match extension.version.get() {
                Ok(version) => vec![at(format!("output/extensions/{name}-{version}.raw"))],
                Err(_) => images_of_any_version(context, state, name)?,
            };
            let stamps = ["install", "build", "image"].into_iter();
            // Not those of `fetch`.
            let stamps = stamps.flat_map(|command| {
                let stamp = format!(".stamps/ext/{name}/{command}");
                [format!("{stamp}.stamp"), format!("{stamp}.inputs.json")].map(PathBuf::from)
            });
            let trees = [
                at(format!("extensions/{name}")),
                at(format!(".work/extensions/{name}")),
            ];
            trees.into_iter().chain(images).chain(stamps).collect()
        }
        PackageScope::Runtime(name) => {
            context.runtime(name)?;
            [
                format!("runtimes/{name}"),
                format!(".work/runtimes/{name}"),
                format!(".work/runtimes-compiled/{name}"),
                format!("output/runtimes/{name}/vm"),
                format!("output/runtimes/{name}/manifest.json"),
                format!(".stamps/runtime/{name}"),
            ]
            .map(PathBuf::from)
            .into()
        }
        PackageScope::Sdk => {
            let names = ["sdk", ".work/bootstrap", ".work/compiled-with"];
            let stamps = [".stamps/sdk", ".stamps/compile"];
            names.into_iter().chain(stamps).map(PathBuf::from).collect()
        }
        PackageScope::Rootfs => os_places(
            context,
            state,
            "rootfs",
            project.rootfs.iter().map(|(n, _)| n),
        ),
        PackageScope::Initramfs => {
            let names = project.initramfs.iter().map(|(name, _)| name);
            os_places(context, state, "initramfs", names)
        }
    })
}

/// Where is kept what is in images that go.
fn inventories_of(layout: &Layout, places: &[PathBuf]) -> Vec<PathBuf> {
    let below = |path: PathBuf| path.strip_prefix(layout.prefix()).map(PathBuf::from).ok();
    let of_image = places
        .iter()
        .map(|place| layout.inventory(&layout.prefix().join(place)));
    let of_directory = places.iter().map(|place| layout.inventories().join(place));
    of_image.chain(of_directory).filter_map(below).collect()
}

/// The images of an extension whose version hangs on something that is not set now. One that may be
/// of an extension with a longer name is not among them.
fn images_of_any_version(
    context: &BuildContext<'_>,
    state: &Tree,
    name: &Name,
) -> Result<Vec<PathBuf>, BuildError> {
    let directory = Path::new("output/extensions");
    if !state.is_directory(directory) {
        return Ok(Vec::new());
    }
    let start = format!("{name}-");
    let others = context.project.extensions.iter();
    let others = others.map(|other| format!("{}-", other.name));
    let others: Vec<String> = others
        .filter(|other| other.len() > start.len() && other.starts_with(&start))
        .collect();
    let is_own = |file: &str| {
        file.starts_with(&start)
            && file.ends_with(".raw")
            && !others.iter().any(|other| file.starts_with(other))
    };
    let names = state.names(directory)?.into_iter();
    let names = names.filter(|file| file.to_str().is_some_and(is_own));
    Ok(names.map(|file| directory.join(file)).collect())
}

/// The trees of an OS's file systems of one kind, and the images of all runtimes that were made of
/// them.
fn os_places<'p>(
    context: &BuildContext<'_>,
    state: &Tree,
    kind: &str,
    names: impl Iterator<Item = &'p Name>,
) -> Vec<PathBuf> {
    let layout = &context.layout;
    let below = |path: PathBuf| path.strip_prefix(layout.prefix()).map(PathBuf::from).ok();
    let trees = names.filter_map(|name| below(layout.os_tree(kind, name)));
    let runtimes = context.project.runtimes.iter().map(|runtime| &runtime.name);
    let images = runtimes.flat_map(|runtime| {
        let directory = PathBuf::from(format!("runtimes/{runtime}"));
        // Whatever file system they have.
        let start = format!("avocado-image-{kind}-{}.", context.project.target);
        let names = state.names(&directory).unwrap_or_default().into_iter();
        let images = names.filter(move |name| name.to_string_lossy().starts_with(&start));
        let images = images.map(move |name| directory.join(name));
        let stamp = format!(".stamps/runtime/{runtime}/{kind}-image");
        let stamps = [format!("{stamp}.stamp"), format!("{stamp}.inputs.json")];
        images.chain(stamps.map(PathBuf::from))
    });
    let stamps = PathBuf::from(format!(".stamps/{kind}"));
    trees.chain(images).chain([stamps]).collect()
}

fn places_of_section(name: &str) -> Vec<PathBuf> {
    let of_sdks = Processor::ALL.into_iter().flat_map(|processor| {
        ["staging", "build"].map(|part| PathBuf::from(format!("sdk/{processor}/{part}")))
    });
    let others = [
        PathBuf::from(".work/compiled-with"),
        PathBuf::from(".stamps").join(compile::STAMPS),
    ];
    let places = of_sdks.chain(others);
    places.map(|place| place.join(name)).collect()
}

/// Removes what is there of `places`. A step may have put a link on the way to one of them, which
/// would lead out of the state.
fn remove(state: &Tree, places: Vec<PathBuf>) -> Result<Vec<PathBuf>, BuildError> {
    let mut removed = Vec::new();
    for place in places {
        if state.look(&place)?.is_some() {
            state.clear(&place)?;
            removed.push(state.shown(&place));
        }
    }
    Ok(removed)
}
