//! Noticing that a server is gone, or that what it has changed.
//!
//! Three threads, for none may wait for another one. One asks the servers whether they are there, and
//! cuts off what asks one that is not, whatever is being merged at that moment. One reads what the
//! servers say of their exports, and so may wait for one that is gone. The caller's own thread merges:
//! it takes the lock of the store for that, and waits for hooks and services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use avocado_events::{Cancel, Event, Sink, chain};
use avocado_manifest::Name;

use super::record::{HitlMount, HitlRecord};
use super::server::HitlServer;
use super::{ServerState, export, mounted, take_away};
use crate::context::DeviceContext;
use crate::error::{DeviceError, FailureReason};
use crate::merge::MergeMode;
use crate::merge::service_manager::ServiceManager;
use crate::merge::state::MergedState;
use crate::merging::merge_wanted;
use crate::paths::DevicePaths;

/// The unit that watches.
const UNIT: &str = "avocado-hitl.service";

/// How long it may take to start it.
const LIMIT: Duration = Duration::from_secs(20);

/// How long it is between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// A server that has not answered so many times in a row is gone, each of which takes a second at
/// most; and so is an export whose revision could not be read so often.
const MISSES: u32 = 3;

/// Why watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitlWatchEnd {
    /// Nothing is mounted any more.
    NothingMounted,
    /// The caller asked for it.
    Stopped,
}

/// Starts the unit that watches. Where no units are started at all, that is told: who mounts there
/// has to watch.
pub(super) fn start(paths: &DevicePaths, sink: &dyn Sink) -> Result<(), FailureReason> {
    let Some(manager) = ServiceManager::running(paths) else {
        sink.emit(Event::warning(chain(&FailureReason::HitlUnwatched)));
        return Ok(());
    };
    manager.start(UNIT, LIMIT)
}

/// What is told to the thread that merges.
enum WatchNews {
    /// The server of these mounts is gone, or its exports are. They are cut off already.
    Lost(Vec<HitlMount>),
    /// These have other revisions than those that are merged.
    Changed(Vec<HitlMount>),
}

/// Watches until nothing is mounted. Extensions of a server that is gone are unmounted and their
/// images merged again; where what a server has changed, it is merged anew.
pub(crate) fn watch(
    context: &DeviceContext,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<HitlWatchEnd, DeviceError> {
    let ended = Arc::new(AtomicBool::new(false));
    let news = {
        let (sender, news) = mpsc::channel();
        spawn(context, &ended, &sender, probe_all);
        spawn(context, &ended, &sender, read_all);
        news
    };
    let end = loop {
        if HitlRecord::load(&context.paths).mounts.is_empty() {
            break Ok(HitlWatchEnd::NothingMounted);
        }
        if cancel.is_cancelled() {
            break Ok(HitlWatchEnd::Stopped);
        }
        let done = match news.recv_timeout(PAUSE) {
            Ok(WatchNews::Lost(mounts)) => lose(context, &mounts, cancel, sink),
            Ok(WatchNews::Changed(mounts)) => follow(context, &mounts, cancel, sink),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            // Without them, nothing is watched: to begin anew is better.
            Err(RecvTimeoutError::Disconnected) => break Ok(HitlWatchEnd::Stopped),
        };
        match done {
            Err(error) if !cancel.is_cancelled() => break Err(error),
            _ => {}
        }
    };
    ended.store(true, Ordering::Relaxed);
    end
}

/// Does `look` again and again in a thread that nothing waits for, until watching has ended.
fn spawn(
    context: &DeviceContext,
    ended: &Arc<AtomicBool>,
    news: &Sender<WatchNews>,
    look: fn(&DeviceContext, &HitlRecord, &mut MissCount) -> Option<WatchNews>,
) {
    let (context, ended, news) = (context.clone(), ended.clone(), news.clone());
    thread::spawn(move || {
        let mut misses = MissCount::default();
        while !ended.load(Ordering::Relaxed) {
            let record = HitlRecord::load(&context.paths);
            misses.forget_but(&record);
            if let Some(some) = look(&context, &record, &mut misses) {
                // Nothing is left to do where none listens.
                let _ = news.send(some);
            }
            thread::sleep(PAUSE);
        }
    });
}

/// How often in a row something did not answer, by mount.
#[derive(Debug, Default)]
struct MissCount(BTreeMap<(Name, u64), u32>);

impl MissCount {
    fn forget_but(&mut self, record: &HitlRecord) {
        self.0
            .retain(|(name, id), _| record.get(name).is_some_and(|mount| mount.id == *id));
    }

    /// Counts one more look at a mount. Returns whether it is lost now, which is said once.
    fn count(&mut self, mount: &HitlMount, answers: bool) -> bool {
        let key = (mount.name.clone(), mount.id);
        if answers {
            self.0.remove(&key);
            return false;
        }
        let count = self.0.entry(key).or_default();
        *count = count.saturating_add(1);
        *count == MISSES
    }
}

/// Asks the servers whether they are there: each once, and all at the same time.
fn probe_all(
    context: &DeviceContext,
    record: &HitlRecord,
    misses: &mut MissCount,
) -> Option<WatchNews> {
    let servers: BTreeSet<HitlServer> = record.mounts.iter().map(|mount| mount.server).collect();
    let silent: BTreeSet<HitlServer> = thread::scope(|scope| {
        let probes: Vec<_> = servers
            .into_iter()
            .map(|server| (server, scope.spawn(move || server.probe().is_ok())))
            .collect();
        let silent = probes
            .into_iter()
            .filter_map(|(server, probe)| (!probe.join().unwrap_or(false)).then_some(server));
        silent.collect()
    });
    let lost = record
        .mounts
        .iter()
        .filter(|mount| misses.count(mount, !silent.contains(&mount.server)));
    cut_off(context, lost.cloned().collect())
}

/// Reads the revisions of the exports. Where there was one, it can be read unless the server was
/// started anew, and has other files now: what is mounted asks for those that it had.
fn read_all(
    context: &DeviceContext,
    record: &HitlRecord,
    misses: &mut MissCount,
) -> Option<WatchNews> {
    let (mut lost, mut changed) = (Vec::new(), Vec::new());
    for mount in &record.mounts {
        let now = export::revision(&mounted::place(&context.paths, &mount.name));
        let answers = now.is_some() || mount.revision.is_none();
        if misses.count(mount, answers) {
            lost.push(mount.clone());
        }
        if now.is_some() && now != mount.revision {
            changed.push(HitlMount {
                revision: now,
                ..mount.clone()
            });
        }
    }
    cut_off(context, lost).or_else(|| (!changed.is_empty()).then_some(WatchNews::Changed(changed)))
}

/// Cuts off those of `lost` that are mounted still. Before the lock: what holds it may be waiting for
/// their server.
fn cut_off(context: &DeviceContext, lost: Vec<HitlMount>) -> Option<WatchNews> {
    if lost.is_empty() {
        return None;
    }
    let record = HitlRecord::load(&context.paths);
    let lost: Vec<_> = lost.into_iter().filter(|m| record.holds(m)).collect();
    let names: Vec<Name> = lost.iter().map(|mount| mount.name.clone()).collect();
    if names.is_empty() {
        return None;
    }
    let tell = |event: Event| tracing::warn!("{}", event.message);
    mounted::cut_off(&context.paths, &names, &tell);
    Some(WatchNews::Lost(lost))
}

/// Goes back to the images of extensions whose server is gone.
fn lose(
    context: &DeviceContext,
    lost: &[HitlMount],
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let lock = context
        .lock_store(cancel, sink)
        .map_err(DeviceError::Store)?;
    // Another process may have unmounted them meanwhile, or mounted them anew.
    let record = HitlRecord::load(&context.paths);
    let lost: Vec<_> = lost.iter().filter(|mount| record.holds(mount)).collect();
    for mount in &lost {
        sink.emit(Event::warning(format!(
            "{} is gone: {} is merged from its image again",
            mount.server, mount.name
        )));
    }
    let names: Vec<Name> = lost.iter().map(|mount| mount.name.clone()).collect();
    let failed = |(name, source): (Name, FailureReason)| DeviceError::HitlUnmount {
        extension: name.to_string(),
        source: Box::new(source),
    };
    take_away(context, &names, ServerState::Gone, &lock, sink).map_err(failed)
}

/// Merges anew what has another revision than the one that is merged, unless it was unmerged.
fn follow(
    context: &DeviceContext,
    changed: &[HitlMount],
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(), DeviceError> {
    let lock = context
        .lock_store(cancel, sink)
        .map_err(DeviceError::Store)?;
    let mut record = HitlRecord::load(&context.paths);
    let mut any = false;
    for new in changed {
        // Another process may have mounted something else there meanwhile.
        let mut mounts = record.mounts.iter_mut();
        let Some(mount) = mounts.find(|mount| mount.is_same(new)) else {
            continue;
        };
        any |= mount.revision != new.revision;
        mount.revision.clone_from(&new.revision);
    }
    if !any {
        return Ok(());
    }
    record.save(&context.paths).map_err(DeviceError::Store)?;
    if MergedState::load(&context.paths.merged()).is_nothing() {
        return Ok(());
    }
    tracing::info!("the server has something new: merging it");
    if let Err(error) = merge_wanted(context, MergeMode::Always, &lock, sink) {
        // The next change may be the one that makes it right.
        sink.emit(Event::warning(chain(&error)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceConfig;

    fn mount(id: u64, port: u16) -> HitlMount {
        HitlMount {
            name: "app".parse().unwrap(),
            server: HitlServer::new("127.0.0.1".parse().unwrap(), Some(port)),
            id,
            revision: None,
        }
    }

    #[test]
    fn only_misses_in_a_row_of_one_mount_count() {
        let mut misses = MissCount::default();
        let mut look = |mount: &HitlMount, answers| {
            misses.forget_but(&HitlRecord {
                mounts: vec![mount.clone()],
            });
            misses.count(mount, answers)
        };
        let (old, new) = (mount(1, 1), mount(2, 1));
        let looks = [
            (&old, false, false),
            (&old, false, false),
            (&old, true, false),
            (&old, false, false),
            (&old, false, false),
            (&new, false, false),
            (&new, false, false),
            (&new, false, true),
            // It is told once.
            (&new, false, false),
        ];
        for (at, (mount, answers, lost)) in looks.into_iter().enumerate() {
            assert_eq!(look(mount, answers), lost, "{at}");
        }
    }

    /// What was mounted anew while the server of before was asked is not taken away.
    #[test]
    fn a_mount_in_the_place_of_a_lost_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = DevicePaths::new(dir.path().join("base"));
        paths.run = dir.path().join("run");
        paths.systemd = dir.path().join("no-manager");
        let context = DeviceContext::new(DeviceConfig::default(), paths.clone());
        for fresh in [mount(2, 1), mount(1, 2)] {
            let record = HitlRecord {
                mounts: vec![fresh],
            };
            record.save(&paths).unwrap();
            let lost = [mount(1, 1)];
            assert!(cut_off(&context, lost.to_vec()).is_none());
            let silent = |event: Event| panic!("{}", event.message);
            lose(&context, &lost, &Cancel::new(), &silent).unwrap();
            assert_eq!(HitlRecord::load(&paths), record);
        }
    }
}
