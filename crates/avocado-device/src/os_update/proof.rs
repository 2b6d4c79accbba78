//! After the reboot: the slot that was written proves itself, or the device goes back.
//!
//! The first merge of a boot asks, and where health decides, the end of the trial that it begins. In the
//! initial RAM file system nothing is decided: what it merges is the runtime of the update, if the operating
//! system that it is about to start is that of the update.

use std::fs;
use std::sync::Arc;

use avocado_events::{Event, Sink};
use avocado_manifest::os_bundle::{OsSlot, ReleaseCheck, SlotNaming};
use avocado_manifest::{Manifest, RuntimeId, release_file};

use super::boot_loader::{BootLoader, LoaderOrder};
use super::damaged_marker;
use super::error::OsUpdateError;
use super::failed_update::{self, FailedUpdate};
use super::health;
use super::pending_update::PendingUpdate;
use super::reboot_timer;
use super::slot_policy::{MarkerFacts, SlotState, SlotStep, SlotUpdate};
use crate::activation;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::extension_set::of_runtime;
use crate::merge::{ExtensionMerger, MergeMode, ProvenMerge};
use crate::os_release;
use crate::store::lock::StoreLock;

/// What a boot came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootOutcome {
    /// No update is under way, or it waits for the reboot.
    AsBefore,
    /// Which slot runs could not be known, or the boot loader not be told: nothing is decided. What it takes
    /// to ask and to tell may only be there later in the boot.
    Unsettled,
    /// The operating system of an update is about to be started: its runtime is merged, and nothing is
    /// decided.
    Starting(Arc<Manifest>),
    /// It runs, and its health decides. Its runtime, if it has one, is merged.
    OnTrial {
        /// The runtime.
        runtime: Option<Arc<Manifest>>,
        /// Whether it was not known before that this boot is on trial.
        begins: bool,
    },
    /// The update has proven itself: its runtime is the active one.
    Committed,
    /// It has not. Whether the slot that failed is still the one that runs.
    WentBack {
        /// The device has to be started again.
        runs_still: bool,
    },
}

/// Looks at an update that waits for its proof, and goes on with it.
pub(crate) fn at_merge(
    context: &DeviceContext,
    lock: &StoreLock,
    sink: &dyn Sink,
) -> Result<BootOutcome, FailureReason> {
    let in_initrd = context.paths.initrd_release.exists();
    if in_initrd {
        os_release::keep_initramfs_build_id(&context.paths);
    }
    let marked = match MarkedUpdate::load(context) {
        Ok(None) => return Ok(BootOutcome::AsBefore),
        Ok(Some(marked)) => marked,
        Err(reason) if in_initrd => return Err(reason),
        Err(reason) => {
            damaged_marker::set_aside(context, reason, sink)?;
            // One that stays will be no other later in this boot.
            return Ok(BootOutcome::AsBefore);
        }
    };
    let facts = marked.facts;
    if facts.of_this_boot == Some(true) {
        return Ok(BootOutcome::AsBefore);
    }
    let mut proof = marked.proof(context, lock, sink)?;
    let running = match facts.of_this_boot {
        Some(_) => proof.loader.running(),
        None => proof.pending.running(context, facts, &proof.loader),
    };
    let is_unknown = running.is_err();
    if let Err(reason) = &running {
        sink.emit(Event::warning(format!(
            "an OS update waits for its proof: {}",
            avocado_events::chain(reason)
        )));
    }
    // Without a name for this boot it could not be told from those that are counted.
    let health_decides = !in_initrd && proof.boot_id.is_some() && health::is_asked_for(context);
    let update = proof.found(facts, running.ok(), health_decides);
    if in_initrd {
        let may_be_it = matches!(update.state, SlotState::Unverified | SlotState::OnTrial);
        let runtime = proof.runtime().filter(|_| may_be_it);
        return Ok(match (runtime, proof.builds()) {
            (Some(runtime), Ok(())) => BootOutcome::Starting(runtime),
            _ => BootOutcome::AsBefore,
        });
    }
    let why = match facts.trial_boots {
        0 => String::from("the boot loader did not start the slot that was written"),
        boots if proof.runs => {
            format!("{boots} boots of it were on trial, and none was found healthy")
        }
        _ => String::from(
            "it was on trial, that boot ended before its health was known, and the boot loader started the slot before",
        ),
    };
    let outcome = proof.drive(update, why)?;
    Ok(if is_unknown {
        BootOutcome::Unsettled
    } else {
        outcome
    })
}

/// Whether an update waits that was written before the device was started, and this boot is not known to be
/// on trial; or a marker that cannot be understood.
pub(crate) fn is_unsettled(context: &DeviceContext) -> bool {
    let paths = &context.paths;
    match PendingUpdate::load(context.base()) {
        Ok(None) => false,
        Ok(Some(pending)) => !pending.is_of_this_boot(paths) && !pending.is_on_trial(paths),
        Err(_) => true,
    }
}

/// Ends the trial of this boot. `health` is why it is not well, if it is not.
pub(super) fn at_end_of_trial(
    context: &DeviceContext,
    lock: &StoreLock,
    health: Result<(), FailureReason>,
    sink: &dyn Sink,
) -> Result<BootOutcome, FailureReason> {
    let Some(marked) = MarkedUpdate::load(context)? else {
        return Ok(BootOutcome::AsBefore);
    };
    let facts = marked.facts;
    let mut proof = marked.proof(context, lock, sink)?;
    let running = proof.pending.running(context, facts, &proof.loader)?;
    let update = proof.found(facts, Some(running), true);
    let Some(update) = update.judged(facts.healthy || health.is_ok()) else {
        return Ok(BootOutcome::AsBefore);
    };
    if health.is_ok() {
        proof.pending.keep_healthy(context.base())?;
    }
    let why = health.err().map(|reason| avocado_events::chain(&reason));
    proof.drive(update, why.unwrap_or_default())
}

/// The runtime of an update that this boot is on trial with.
pub(crate) fn runtime_on_trial(context: &DeviceContext) -> Option<Arc<Manifest>> {
    let pending = PendingUpdate::load(context.base()).ok().flatten()?;
    let on_trial = pending.is_on_trial(&context.paths);
    runtime_of(context, &pending).filter(|_| on_trial)
}

fn runtime_of(context: &DeviceContext, pending: &PendingUpdate) -> Option<Arc<Manifest>> {
    let id = pending.runtime_id.as_ref()?;
    context.runtimes().read(id).ok().map(Arc::new)
}

/// The update that the marker tells of.
struct MarkedUpdate {
    pending: PendingUpdate,
    naming: SlotNaming,
    facts: MarkerFacts,
    boot_id: Option<String>,
}

impl MarkedUpdate {
    /// None: no update is under way. A marker that names no slot is an error as one that cannot be read.
    fn load(context: &DeviceContext) -> Result<Option<Self>, FailureReason> {
        let boot_id = os_release::boot_id(&context.paths);
        let Some(pending) = PendingUpdate::load(context.base())? else {
            return Ok(None);
        };
        let facts = pending.facts(boot_id.as_deref());
        let (naming, facts) = facts.ok_or(OsUpdateError::Marker)?;
        Ok(Some(MarkedUpdate {
            pending,
            naming,
            facts,
            boot_id,
        }))
    }

    /// What proves it or goes back.
    fn proof<'a>(
        self,
        context: &'a DeviceContext,
        lock: &'a StoreLock,
        sink: &'a dyn Sink,
    ) -> Result<Proof<'a>, FailureReason> {
        Ok(Proof {
            context,
            loader: self.pending.boot_loader(context, self.naming)?,
            pending: self.pending,
            lock,
            sink,
            boot_id: self.boot_id,
            runs: false,
        })
    }
}

/// An update after the reboot.
struct Proof<'a> {
    context: &'a DeviceContext,
    pending: PendingUpdate,
    loader: BootLoader<'a>,
    lock: &'a StoreLock,
    sink: &'a dyn Sink,
    boot_id: Option<String>,
    /// Whether it is known that the slot that was written is the one that runs ([`Proof::found`]).
    runs: bool,
}

impl Proof<'_> {
    /// Where the update is, now that it is known which slot runs, or that this cannot be known.
    fn found(
        &mut self,
        facts: MarkerFacts,
        running: Option<OsSlot>,
        health_decides: bool,
    ) -> SlotUpdate {
        let update = SlotUpdate::found(facts, running, health_decides);
        self.runs = running == Some(update.target());
        update
    }

    fn runtime(&self) -> Option<Arc<Manifest>> {
        runtime_of(self.context, &self.pending)
    }

    /// Does what is to be done. `why` is the reason where it begins with going back.
    fn drive(&self, begin: SlotUpdate, mut why: String) -> Result<BootOutcome, FailureReason> {
        let base = self.context.base();
        let mut update = begin;
        let mut outcome = BootOutcome::AsBefore;
        while let Some(step) = update.step() {
            let done = match step {
                SlotStep::Verify => self.verify(),
                SlotStep::CountBoot => self.pending.count_boot(base, self.boot_id.clone()),
                SlotStep::CommitLoader(slot) => self.loader.tell(LoaderOrder::Keep, slot),
                SlotStep::ActivateRuntime => self.activate_runtime(),
                SlotStep::RestoreLoader(slot) => self.loader.tell(LoaderOrder::GoBack, slot),
                SlotStep::KeepReason => {
                    self.sink
                        .emit(Event::warning(format!("the OS update failed: {why}")));
                    if self.runs {
                        failed_update::note_running(&self.context.paths);
                    }
                    self.keep(&why, self.boot_id.clone().filter(|_| self.runs))
                }
                SlotStep::RemoveMarker => PendingUpdate::remove(base).map(|()| {
                    reboot_timer::cancel(self.context, self.sink);
                }),
                // Of the time before the reboot.
                SlotStep::ForbidSlot(_)
                | SlotStep::WriteSlot(_)
                | SlotStep::WriteMarker
                | SlotStep::SwitchLoader(_) => Ok(()),
            };
            let reason = match done {
                Ok(()) => {
                    match step {
                        SlotStep::ActivateRuntime => {
                            outcome = BootOutcome::Committed;
                            self.sink
                                .emit(Event::info("the OS update has proven itself"));
                            // That it could not be settled before is over.
                            failed_update::forget_running(&self.context.paths);
                            FailedUpdate::forget(base).unwrap_or_else(|reason| self.warn(&reason));
                        }
                        SlotStep::RestoreLoader(_) => {
                            let runs_still = self.runs;
                            outcome = BootOutcome::WentBack { runs_still };
                        }
                        _ => {}
                    }
                    update = update.done();
                    continue;
                }
                Err(reason) => reason,
            };
            match (step, update.failed()) {
                (SlotStep::Verify, Some(next)) => {
                    why = avocado_events::chain(&reason);
                    update = next;
                }
                (_, Some(next)) => {
                    self.warn(&reason);
                    update = next;
                }
                // All is decided, and comes out the same when the marker is found again.
                (SlotStep::RemoveMarker, None) => {
                    self.warn(&reason);
                    return Ok(outcome);
                }
                // The marker is there still, and the next merge goes on from it.
                (_, None) => {
                    let kept = self.keep(&avocado_events::chain(&reason), None);
                    kept.unwrap_or_else(|reason| self.warn(&reason));
                    return Err(reason);
                }
            }
        }
        if update.state == SlotState::OnTrial {
            outcome = BootOutcome::OnTrial {
                runtime: self.runtime(),
                begins: begin.state != SlotState::OnTrial,
            };
        }
        Ok(outcome)
    }

    fn keep(&self, why: &str, boot_id: Option<String>) -> Result<(), FailureReason> {
        let pending = &self.pending;
        FailedUpdate::new(
            pending.runtime_id.clone(),
            pending.os_build_id.clone(),
            why,
            boot_id,
        )
        .save(self.context.base())
    }

    fn warn(&self, reason: &FailureReason) {
        self.sink
            .emit(Event::warning(avocado_events::chain(reason)));
    }

    /// Whether this is the operating system that was written, and its runtime can be merged.
    fn verify(&self) -> Result<(), FailureReason> {
        self.builds()?;
        let Some(id) = &self.pending.runtime_id else {
            return Ok(());
        };
        let manifest = self.context.runtimes().read(id)?;
        if let Some(mismatch) = self.context.os_mismatch(&manifest) {
            return Err(not_proven(format!(
                "runtime {id} needs {}, and this is {}",
                mismatch.needed, mismatch.running
            )));
        }
        let set = of_runtime(self.context, &manifest, &[]).map_err(|set| set.reason)?;
        let merger = ExtensionMerger::new(self.context, self.lock, self.sink);
        let proven = merger.prove(&set, MergeMode::Always);
        proven.map(ProvenMerge::abandon).map_err(|f| f.set.reason)
    }

    /// Whether the operating system and the initial RAM file system say what the bundle expects.
    fn builds(&self) -> Result<(), FailureReason> {
        let paths = &self.context.paths;
        let text = os_release::text(paths).unwrap_or_default();
        let of_os = self.pending.verify.clone().or_else(|| {
            let build = self.pending.os_build_id.as_deref()?;
            Some(ReleaseCheck::of_build(build))
        });
        if let Some(check) = of_os {
            let said = release_file::value(&text, &check.field);
            expect("the OS", &check, said)?;
        }
        let Some(check) = &self.pending.verify_initramfs else {
            return Ok(());
        };
        let running = os_release::initramfs_build_id(paths);
        let in_file = || {
            let text = fs::read_to_string(check.path.as_deref()?).ok()?;
            release_file::value(&text, &check.field).map(str::to_owned)
        };
        match running.or_else(in_file) {
            Some(said) => expect("the initramfs", check, Some(&said)),
            None => {
                self.sink.emit(Event::warning(format!(
                    "the initramfs does not say which build it is ({}): that it is {} was not compared",
                    paths.os.initramfs_build_id.display(),
                    check.expected
                )));
                Ok(())
            }
        }
    }

    fn activate_runtime(&self) -> Result<(), FailureReason> {
        let Some(next) = &self.pending.runtime_id else {
            return Ok(());
        };
        let runtimes = self.context.runtimes();
        let before: Option<RuntimeId> = runtimes.active_id().ok().flatten();
        if before.as_ref() == Some(next) {
            return runtimes.sync_to_disk();
        }
        activation::enter_history(self.context, before.as_ref(), next, self.sink)?;
        runtimes.activate(next)
    }
}

fn expect(what: &str, check: &ReleaseCheck, said: Option<&str>) -> Result<(), FailureReason> {
    let ReleaseCheck {
        field, expected, ..
    } = check;
    match said {
        Some(said) if said == expected => Ok(()),
        Some(said) => Err(not_proven(format!(
            "{what} that was started says {field}={said}, and {expected} was written"
        ))),
        None => Err(not_proven(format!(
            "{what} that was started has no {field}, and {expected} was written"
        ))),
    }
}

fn not_proven(why: String) -> FailureReason {
    OsUpdateError::NotProven(why).into()
}
