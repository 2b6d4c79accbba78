//! Everything that an update needs, looked at before the first write, and told in one answer.

use std::collections::BTreeMap;

use avocado_manifest::os_bundle::{OsBundleDescription, OsSlot};
use avocado_manifest::{Manifest, Name, OsBundle};
use serde::Serialize;

use super::boot_loader::BootLoader;
use super::bundle_source::BundleSource;
use super::chunked_bundle::ChunkedBundle;
use super::error::OsUpdateError;
use super::failed_update;
use super::partition::PartitionPlace;
use super::pending_update::PendingUpdate;
use super::reboot_timer;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::os_release;

/// What an update of the operating system would do, and what is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OsUpdatePlan {
    /// The build of the operating system that is to be written.
    pub os_build_id: Option<String>,
    /// The slot that it is written to. None: it is not known which one runs.
    pub slot: Option<String>,
    /// What is written where, in this order.
    pub artifacts: Vec<PlannedArtifact>,
    /// What is in the way. With anything here, nothing is written.
    pub problems: Vec<String>,
    /// What could not be compared, or is made besides, and is not in the way.
    pub notes: Vec<String>,
}

/// An artifact of an update, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedArtifact {
    /// What it is.
    pub name: Name,
    /// The partition.
    pub partition: Name,
    /// The size of the artifact, in bytes.
    pub bytes: u64,
    /// The size of the partition in bytes, where it was found.
    pub partition_bytes: Option<u64>,
}

/// An update that can begin.
#[derive(Debug)]
pub(super) struct PreparedUpdate<'a> {
    pub(super) bundle: BundleSource,
    pub(super) loader: BootLoader<'a>,
    /// The slot that runs.
    pub(super) running: OsSlot,
    /// Where each artifact goes.
    pub(super) places: BTreeMap<Name, PartitionPlace>,
}

/// What an update to the OS of `manifest` would do. None: the manifest names no bundle,
/// or it is not on this device yet.
pub(crate) fn plan(context: &DeviceContext, manifest: &Manifest) -> Option<OsUpdatePlan> {
    let named = manifest.os_bundle.as_ref()?;
    if !BundleSource::is_there(context, named) {
        return None;
    }
    let looked = || {
        let waiting = PendingUpdate::load(context.base())?;
        let (_, plan, _) = look_at_source(context, named, waiting.as_ref())?;
        Ok(plan)
    };
    Some(looked().unwrap_or_else(|reason| failed(named, &reason)))
}

/// What writing the OS of `bundle` while it comes would do.
pub(crate) fn plan_of_stream(
    context: &DeviceContext,
    named: &OsBundle,
    bundle: &ChunkedBundle,
) -> OsUpdatePlan {
    match look_at_stream(context, named, bundle) {
        Ok(looked) => looked.plan,
        Err(reason) => failed(named, &reason),
    }
}

/// What is known before an OS is written while it comes.
pub(super) struct StreamLook<'a> {
    pub(super) plan: OsUpdatePlan,
    pub(super) found: Option<FoundSlots<'a>>,
    /// Whether the slot has it already.
    pub(super) is_there: bool,
}

/// Looks for everything that is in the way of writing an OS while it comes.
pub(super) fn look_at_stream<'a>(
    context: &'a DeviceContext,
    named: &OsBundle,
    bundle: &ChunkedBundle,
) -> Result<StreamLook<'a>, FailureReason> {
    let waiting = PendingUpdate::load(context.base())?;
    let sizes = bundle.sizes();
    let (mut plan, found) = look(context, named, &bundle.description, sizes, waiting.as_ref());
    let is_there = match &found {
        Some(found) => bundle.is_in_slot(context, found.target_name(), &found.places)?,
        None => false,
    };
    // The boot loader may start that slot.
    if waiting.is_some() && !is_there {
        plan.problems.push(
            "an OS update waits for its end (`avocadoctl status`), and the slot that would be written has it: \
             reboot the device, or give the update up by activating the runtime that runs"
                .into(),
        );
    }
    Ok(StreamLook {
        plan,
        found,
        is_there,
    })
}

fn failed(named: &OsBundle, reason: &FailureReason) -> OsUpdatePlan {
    OsUpdatePlan {
        problems: vec![avocado_events::chain(reason)],
        ..OsUpdatePlan::of(named.os_build_id.clone())
    }
}

impl OsUpdatePlan {
    /// Nothing is known of it yet.
    fn of(os_build_id: Option<String>) -> Self {
        OsUpdatePlan {
            os_build_id,
            slot: None,
            artifacts: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// As [`plan`], and ready to begin; what is in the way is an error.
pub(super) fn prepare<'a>(
    context: &'a DeviceContext,
    manifest: &Manifest,
    waiting: Option<&PendingUpdate>,
) -> Result<(PreparedUpdate<'a>, OsUpdatePlan), FailureReason> {
    let named = manifest.os_bundle.as_ref();
    let named = named.ok_or_else(|| refused("the runtime has no OS bundle".into()))?;
    let (bundle, plan, found) = look_at_source(context, named, waiting)?;
    match (plan.problems.as_slice(), found) {
        ([], Some(found)) => {
            let prepared = PreparedUpdate {
                bundle,
                loader: found.loader,
                running: found.running,
                places: found.places,
            };
            Ok((prepared, plan))
        }
        _ => Err(OsUpdateError::Refused(plan.problems).into()),
    }
}

fn refused(why: String) -> FailureReason {
    OsUpdateError::Refused(vec![why]).into()
}

/// Looks at the OS of a runtime, wherever this device has it.
fn look_at_source<'a>(
    context: &'a DeviceContext,
    named: &OsBundle,
    waiting: Option<&PendingUpdate>,
) -> Result<(BundleSource, OsUpdatePlan, Option<FoundSlots<'a>>), FailureReason> {
    let bundle = BundleSource::open(context, named)?;
    let mut problems = Vec::new();
    let sizes = bundle.sizes().unwrap_or_else(|reason| {
        problems.push(avocado_events::chain(&reason));
        BTreeMap::new()
    });
    let (mut plan, found) = look(context, named, bundle.description(), sizes, waiting);
    plan.problems.splice(0..0, problems);
    // Nothing else writes a slot before the boot loader is told: see `apply`.
    if let (BundleSource::Slot(bundle), Some(found)) = (&bundle, &found) {
        let slot = found.target_name();
        match bundle.is_in_slot(context, slot, &found.places) {
            Ok(true) => {}
            Ok(false) => plan.problems.push(format!(
                "the slot {slot} does not have the OS of the runtime, which was written while it was downloaded, \
                 or never: add the runtime again"
            )),
            Err(reason) => plan.problems.push(avocado_events::chain(&reason)),
        }
    }
    Ok((bundle, plan, found))
}

/// What a device has for an update.
pub(super) struct FoundSlots<'a> {
    pub(super) loader: BootLoader<'a>,
    /// The slot that runs.
    pub(super) running: OsSlot,
    /// Where each artifact goes.
    pub(super) places: BTreeMap<Name, PartitionPlace>,
}

impl FoundSlots<'_> {
    /// The name of the slot that is written.
    pub(super) fn target_name(&self) -> &'static str {
        self.loader.naming.name(self.running.other())
    }
}

/// Looks for everything that is in the way of an update with this bundle, whose artifacts have these sizes.
pub(super) fn look<'a>(
    context: &'a DeviceContext,
    named: &OsBundle,
    description: &OsBundleDescription,
    sizes: BTreeMap<Name, u64>,
    waiting: Option<&PendingUpdate>,
) -> (OsUpdatePlan, Option<FoundSlots<'a>>) {
    let mut plan = OsUpdatePlan::of(description.os_build_id.clone());
    same_builds(named, description, &mut plan);
    fits(context, named, description, &mut plan);
    went_back(context, &mut plan);
    reboot_timer::look(context, &mut plan);
    let Some((loader, update)) =
        BootLoader::of(&context.paths, description).zip(description.update.as_ref())
    else {
        plan.problems
            .push("the bundle does not say how it is written".into());
        return (plan, None);
    };
    if update.artifacts.is_empty() {
        plan.problems.push("the bundle has nothing to write".into());
    }
    let running = match running(context, &loader, waiting) {
        Ok(slot) => slot,
        Err(reason) => {
            plan.problems.push(avocado_events::chain(&reason));
            // Programs that are missing are told all the same.
            plan.problems.extend(loader.problems(OsSlot::Second));
            return (plan, None);
        }
    };
    let target = running.other();
    plan.slot = Some(loader.naming.name(target).to_owned());
    plan.problems.extend(loader.problems(target));
    plan.notes.extend(loader.notes());
    let mut places = BTreeMap::new();
    for artifact in &update.artifacts {
        let partition = artifact.partitions.get(target);
        let verified = sizes.get(&artifact.name).copied();
        let bytes = verified.or(artifact.size).unwrap_or_default();
        let layout = description.layout.as_ref();
        let found = PartitionPlace::find_free(&context.paths, layout, partition);
        plan.artifacts.push(PlannedArtifact {
            name: artifact.name.clone(),
            partition: partition.clone(),
            bytes,
            partition_bytes: found.as_ref().ok().map(|place| place.length),
        });
        match found {
            Ok(place) if place.length < bytes => plan.problems.push(format!(
                "{} has {bytes} bytes, and the partition {partition} {}",
                artifact.name, place.length
            )),
            Ok(place) => drop(places.insert(artifact.name.clone(), place)),
            Err(reason) => plan.problems.push(avocado_events::chain(&reason)),
        }
    }
    let found = FoundSlots {
        loader,
        running,
        places,
    };
    (plan, Some(found))
}

/// The slot that runs. While an update waits for the reboot the loader may say what it starts next.
fn running(
    context: &DeviceContext,
    loader: &BootLoader<'_>,
    waiting: Option<&PendingUpdate>,
) -> Result<OsSlot, FailureReason> {
    let boot_id = os_release::boot_id(&context.paths);
    let facts = waiting.and_then(|pending| pending.facts(boot_id.as_deref()));
    match waiting.zip(facts) {
        Some((pending, (_, facts))) => pending.running(context, facts, loader),
        None => loader.running(),
    }
}

/// The bundle brings the builds that the manifest says.
fn same_builds(named: &OsBundle, description: &OsBundleDescription, plan: &mut OsUpdatePlan) {
    let pairs = [
        ("OS", &named.os_build_id, &description.os_build_id),
        (
            "initramfs",
            &named.initramfs_build_id,
            &description.initramfs_build_id,
        ),
    ];
    for (what, wanted, found) in pairs {
        match (wanted, found) {
            (Some(wanted), Some(found)) if wanted != found => plan.problems.push(format!(
                "the runtime needs the {what} build {wanted}, and its bundle has {found}"
            )),
            (Some(wanted), None) => plan.problems.push(format!(
                "the runtime needs the {what} build {wanted}, and its bundle does not say which it has"
            )),
            _ => {}
        }
    }
}

/// The bundle is for this hardware.
fn fits(
    context: &DeviceContext,
    named: &OsBundle,
    description: &OsBundleDescription,
    plan: &mut OsUpdatePlan,
) {
    let machine = rustix::system::uname();
    let machine = machine.machine().to_string_lossy();
    if architecture(&machine) != architecture(description.architecture.as_str()) {
        plan.problems.push(format!(
            "the bundle is for the architecture {}, and this is {machine}",
            description.architecture
        ));
    }
    match platform(context, named) {
        Some(own) if own != description.platform => plan.problems.push(format!(
            "the bundle is for the platform {}, and this is {own}",
            description.platform
        )),
        Some(_) => {}
        None => plan.notes.push(format!(
            "this device does not know its platform (`avocado.update.platform`): that the bundle is \
             for {} was not compared",
            description.platform
        )),
    }
}

/// The platform of this device: what its configuration says, or the bundle that its active runtime came
/// with.
fn platform(context: &DeviceContext, named: &OsBundle) -> Option<Name> {
    if let Some(platform) = &context.config.platform {
        return Some(platform.clone());
    }
    let active = context.runtimes().active().ok().flatten()?;
    let own = active.os_bundle.as_ref().filter(|own| *own != named)?;
    let bundle = BundleSource::open(context, own).ok()?;
    Some(bundle.description().platform.clone())
}

/// One name for each architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86-64" | "amd64" => "x86_64",
        "arm64" => "aarch64",
        name if name.starts_with("armv7") || name == "armhf" => "arm",
        name => name,
    }
}

/// After an update that failed another slot may run than the loader says.
fn went_back(context: &DeviceContext, plan: &mut OsUpdatePlan) {
    if failed_update::runs_still(context) {
        plan.problems.push(
            "an update has just failed, and the device was not started since: reboot it first"
                .into(),
        );
    }
}
