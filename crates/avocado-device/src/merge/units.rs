//! Which units come and go with a change of the merged set, and what has to be read again.

use std::collections::BTreeSet;
use std::fs;

use super::content::{READERS, is_unit};
use super::service_manager::ServiceManager;
use super::state::{MergedExtension, MergedState};
use crate::error::FailureReason;

/// The units that no extension brings any more; of a template all that were made of it.
pub(crate) fn gone(before: &MergedState, now: &MergedState) -> Vec<String> {
    let left: BTreeSet<_> = now
        .extensions
        .iter()
        .flat_map(|e| &e.systemd.units)
        .collect();
    let own = own_unit();
    let units = before.extensions.iter().flat_map(|e| &e.systemd.units);
    let gone: BTreeSet<_> = units
        .filter(|unit| !left.contains(unit) && own.as_ref() != Some(*unit))
        .collect();
    gone.into_iter()
        .map(|unit| unit.replace("@.", "@*."))
        .collect()
}

/// The unit that this process is part of: whoever stops it stops what is being done.
pub(crate) fn own_unit() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = group.rsplit('/');
    parts.find(|part| is_unit(part)).map(str::to_owned)
}

/// The units of extensions that are new, or have other bytes than before.
pub(crate) fn fresh(before: &MergedState, now: &MergedState) -> Vec<String> {
    let units = now.not_in(before).flat_map(|e| &e.systemd.units);
    let units: BTreeSet<_> = units.filter(|unit| !unit.contains("@.")).collect();
    units.into_iter().cloned().collect()
}

/// The jobs that make what changed be read again.
pub(crate) fn readers(
    before: &MergedState,
    now: &MergedState,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let changed = before.not_in(now).chain(now.not_in(before));
    let of = |e: &MergedExtension| e.systemd.readers.iter().cloned().collect::<Vec<_>>();
    let changed: BTreeSet<String> = changed.flat_map(of).collect();
    let readers = READERS.into_iter();
    readers.filter_map(move |(directory, job, unit)| {
        changed.contains(directory).then_some((job, unit))
    })
}

/// Those of `units` that do not run and that something that runs wants.
pub(crate) fn wanted(
    manager: &ServiceManager,
    units: &[String],
) -> Result<Vec<String>, FailureReason> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let idle: Vec<_> = manager
        .show(units)?
        .into_iter()
        .filter(|unit| !unit.runs)
        .collect();
    let by: BTreeSet<_> = idle
        .iter()
        .flat_map(|unit| &unit.wanted_by)
        .cloned()
        .collect();
    let by: Vec<_> = by.into_iter().collect();
    if by.is_empty() {
        return Ok(Vec::new());
    }
    let running = manager.show(&by)?.into_iter().filter(|unit| unit.runs);
    let running: BTreeSet<_> = running.map(|unit| unit.id).collect();
    let wanted = idle
        .into_iter()
        .filter(|unit| unit.wanted_by.iter().any(|by| running.contains(by)));
    Ok(wanted.map(|unit| unit.id).collect())
}
