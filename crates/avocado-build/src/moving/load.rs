//! From the file of a state to the state.

use std::io::{self, Read};

use avocado_events::{Cancel, Event, Sink};
use avocado_fs::{FileLock, LockPlace};
use avocado_manifest::{Digest, Name};
use avocado_project::Project;

use super::manifest::{SavedTarget, StateManifest};
use super::moving_place::MovingPlace;
use super::request::UnpackStateRequest;
use super::save::has_something;
use super::state_file::{self, MeasuredReader, READ_STAGE, StateFile};
use super::{MovedState, told};
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::options::Options;
use crate::run::in_project;
use crate::trees;

/// What is to be loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadWish<'w> {
    /// The state of this target, not of all that are in the file.
    pub only: Option<&'w Name>,
    /// In the place of a state that is there.
    pub replaces: bool,
    /// The digest that the file has to have.
    pub sha256: Option<Digest>,
}

/// Makes what [`save_state`](crate::save_state) wrote the state of the project. All of it is read,
/// verified and unpacked before the first target has its place, and each has its place whole or not at
/// all.
///
/// What is in it is believed as what a build here made: it is signed with the keys of this machine when
/// it is published.
///
/// # Errors
/// When the file is no saved state, or a damaged one, there is a state already, something in the file
/// leads elsewhere, there is no room for it, or `cancel` asks to stop. Then the state is as it was, or,
/// where the file has several targets and one of them could not get its place, some of them are new.
pub fn load_state(
    options: &Options,
    wish: &LoadWish<'_>,
    from: &mut dyn Read,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<MovedState, BuildError> {
    in_project(options, cancel, sink, |context| {
        load_in(context, wish, from, sink)
    })
}

pub(super) fn load_in(
    context: &BuildContext<'_>,
    wish: &LoadWish<'_>,
    from: &mut dyn Read,
    sink: &dyn Sink,
) -> Result<MovedState, BuildError> {
    let place = MovingPlace::new(&context.layout)?;
    let loaded = told(READ_STAGE, sink, || {
        receive(context, wish, &place, from, sink)
    })?;
    for target in &loaded.targets {
        unpack(context, target, &place, sink)?;
    }
    if context.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    // Until each has its place: a server that exports what goes would export what is gone.
    let mut held = Vec::new();
    for SavedTarget { target, .. } in &loaded.targets {
        held.extend(refuse_served(&context.layout.of_target(target), target)?);
    }
    for SavedTarget { target, .. } in &loaded.targets {
        let layout = context.layout.of_target(target);
        trees::replace(&place.tree(target), layout.prefix())?;
    }
    Ok(loaded)
}

/// Brings the packed state of every target that is wanted here.
fn receive(
    context: &BuildContext<'_>,
    wish: &LoadWish<'_>,
    place: &MovingPlace,
    from: &mut dyn Read,
    sink: &dyn Sink,
) -> Result<MovedState, BuildError> {
    let cancel = context.cancel;
    let mut reader = MeasuredReader::new(from, cancel, sink);
    let mut archive = state_file::open_archive(&mut reader);
    let mut file = StateFile::new(&mut archive, cancel)?;
    let manifest = file.manifest()?;
    let wanted = wanted(&manifest, wish.only)?;
    for target in &wanted {
        check(context, target, wish.replaces)?;
        refuse_served(&context.layout.of_target(&target.target), &target.target)?;
    }
    check_room(context, &wanted)?;
    tell_differences(context, &manifest, &wanted, sink);
    for target in &manifest.targets {
        let to = place.archive(&target.target);
        let to = wanted.contains(target).then_some(&*to);
        file.target(target, to)?;
    }
    file.finish()?;
    let (sha256, size) = reader.finish()?;
    if let Some(stated) = wish.sha256.filter(|stated| *stated != sha256) {
        return Err(BuildError::SavedState {
            what: format!("its digest is {sha256}, and not {stated}"),
        });
    }
    Ok(MovedState {
        targets: wanted,
        sha256,
        size,
    })
}

fn wanted(manifest: &StateManifest, only: Option<&Name>) -> Result<Vec<SavedTarget>, BuildError> {
    let targets = manifest.targets.iter();
    let wanted: Vec<SavedTarget> = targets
        .filter(|target| only.is_none_or(|only| *only == target.target))
        .cloned()
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = manifest.targets.iter().map(|t| t.target.as_str()).collect();
        return Err(BuildError::SavedState {
            what: match only {
                None => "it has the state of no target".to_owned(),
                Some(only) => format!(
                    "it has no state of target {only} (it has {})",
                    names.join(", ")
                ),
            },
        });
    }
    Ok(wanted)
}

/// Whether the state of a target may have its place.
fn check(
    context: &BuildContext<'_>,
    saved: &SavedTarget,
    replaces: bool,
) -> Result<(), BuildError> {
    let target = &saved.target;
    if !is_of(context.project, target) {
        return Err(BuildError::SavedState {
            what: format!(
                "it has the state of target {target}, which the project is not for (name one with --target)"
            ),
        });
    }
    let layout = context.layout.of_target(target);
    if !replaces && has_something(layout.prefix())? {
        return Err(BuildError::StateThere {
            target: target.to_string(),
            path: layout.prefix().to_owned(),
        });
    }
    Ok(())
}

/// Refuses to replace what `avocado hitl server` exports, and keeps such a server from starting.
fn refuse_served(layout: &Layout, target: &Name) -> Result<Option<FileLock>, BuildError> {
    let path = layout.hitl_lock();
    // Where none ever ran there is no lock, and its directory may not be there.
    if !path.is_file() {
        return Ok(None);
    }
    let lock = LockPlace::file(&path).try_lock()?;
    match lock {
        Some(lock) => Ok(Some(lock)),
        None => Err(BuildError::Served {
            target: target.to_string(),
        }),
    }
}

fn is_of(project: &Project, target: &Name) -> bool {
    let supported = &project.supported_targets;
    let is_supported = supported.iter().any(|name| name == target.as_str());
    supported.is_empty() || is_supported || project.target == *target
}

/// Fails at once where it would fail later: what is said may be wrong, and a full disk is an error as
/// well.
fn check_room(context: &BuildContext<'_>, wanted: &[SavedTarget]) -> Result<(), BuildError> {
    let state = context.project.state_dir();
    let sizes = wanted.iter().map(|target| {
        let content = &target.content;
        let unpacked = content.disk_bytes.saturating_add(content.attribute_bytes);
        unpacked.saturating_add(target.archive.size)
    });
    let needed = sizes.fold(0, u64::saturating_add);
    let found = rustix::fs::statvfs(&state).map_err(io::Error::from);
    let found = found.at("look at the file system of", &state)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if needed > free {
        return Err(BuildError::Io {
            action: "load the state to",
            path: state,
            source: io::Error::new(
                io::ErrorKind::StorageFull,
                format!("it takes {needed} bytes, and {free} are free"),
            ),
        });
    }
    Ok(())
}

/// Tells by what a build will not take for good what was loaded.
fn tell_differences(
    context: &BuildContext<'_>,
    manifest: &StateManifest,
    wanted: &[SavedTarget],
    sink: &dyn Sink,
) {
    let version = &context.options.cli_version;
    if manifest.avocado != *version {
        sink.emit(Event::warning(format!(
            "avocado {} saved it, and this is avocado {version}: every step runs again, with the packages \
             that are in the state",
            manifest.avocado.escape_default()
        )));
    }
    let own = context.layout.sdk_processor();
    for target in wanted {
        let has_sdk = target.architectures.iter().any(|name| name == own.as_str());
        if !target.architectures.is_empty() && !has_sdk {
            sink.emit(Event::warning(format!(
                "the SDK in the state of {} is for {}, and this build takes one for {own}: what is made \
                 with it is made again",
                target.target,
                target.architectures.join(", ").escape_default()
            )));
        }
    }
}

fn unpack(
    context: &BuildContext<'_>,
    saved: &SavedTarget,
    place: &MovingPlace,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let target = &saved.target;
    let stage = format!("load {target}");
    let request = UnpackStateRequest {
        target: target.clone(),
        content: saved.content,
    };
    told(&stage, sink, || {
        context.run_step(&stage, request, sink)?;
        // Where builds follow no link, there is none.
        place.layout(target).check()
    })
}
