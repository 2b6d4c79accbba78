//! What several fields of a bundle have to hold.

use std::collections::BTreeSet;

use serde_json::Number;

use super::wire::SlotMap;
use super::{BySlot, OsBundleError, OsSlot, SlotNaming};
use crate::{LONGEST_MANIFEST_TEXT, Name};

/// The most artifacts, actions, arguments or partitions that there may be of each.
const MOST: usize = 128;

type Result<T> = std::result::Result<T, OsBundleError>;

/// An amount with its unit (`bytes` unless stated, or blocks of `block_size`, else of 512), in bytes. Of a
/// fraction of a byte nothing is left, as in what was published. `field` is named in errors.
///
/// # Errors
/// [`OsBundleError::Field`] where the unit is not known, or this is no number of bytes.
pub fn stated_bytes(
    field: &str,
    number: &Number,
    unit: Option<&str>,
    block_size: Option<u32>,
) -> Result<u64> {
    let unit_bytes: u64 = match unit.unwrap_or("bytes") {
        "bytes" | "B" => 1,
        "kilobytes" | "kB" | "KB" => 1000,
        "megabytes" | "MB" => 1000 * 1000,
        "gigabytes" | "GB" => 1000 * 1000 * 1000,
        "terabytes" | "TB" => 1000 * 1000 * 1000 * 1000,
        "kibibytes" | "KiB" => 1 << 10,
        "mebibytes" | "MiB" => 1 << 20,
        "gibibytes" | "GiB" => 1 << 30,
        "tebibytes" | "TiB" => 1 << 40,
        "blocks" | "sectors" => block_size.unwrap_or(512).into(),
        other => {
            return Err(OsBundleError::field(
                format!("{field}_unit"),
                format!("the unit `{}` is not known", other.escape_debug()),
            ));
        }
    };
    let whole = number.as_u64().map(|n| n.checked_mul(unit_bytes));
    let amount = whole.unwrap_or_else(|| {
        let amount = number.as_f64()? * unit_bytes as f64;
        // Larger ones are not exact any more.
        let is_exact = amount.is_finite() && (0.0..9_007_199_254_740_992.0).contains(&amount);
        is_exact.then_some(amount as u64)
    });
    amount.ok_or_else(|| OsBundleError::field(field, format!("{number} is no amount")))
}

pub(super) fn distinct_by_slot<T: PartialEq>(
    naming: SlotNaming,
    field: &str,
    map: SlotMap<T>,
) -> Result<BySlot<T>> {
    distinct(field, by_slot(naming, field, map)?)
}

pub(super) fn distinct<T: PartialEq>(field: &str, both: BySlot<T>) -> Result<BySlot<T>> {
    if both.first == both.second {
        return Err(OsBundleError::field(field, "both slots have the same"));
    }
    Ok(both)
}

pub(super) fn by_slot<T>(naming: SlotNaming, field: &str, map: SlotMap<T>) -> Result<BySlot<T>> {
    let mut map = map;
    let mut take = |slot: OsSlot| {
        let name = naming.name(slot);
        map.remove(name)
            .ok_or_else(|| OsBundleError::field(field, format!("the slot `{name}` is missing")))
    };
    let both = BySlot {
        first: take(OsSlot::First)?,
        second: take(OsSlot::Second)?,
    };
    match map.keys().next() {
        None => Ok(both),
        Some(other) => {
            let why = format!("`{}` is no slot of the strategy", other.escape_debug());
            Err(OsBundleError::field(field, why))
        }
    }
}

pub(super) fn arguments(field: &str, command: &[String]) -> Result<()> {
    few(field, command.len())?;
    if command.first().is_none_or(String::is_empty) {
        return Err(OsBundleError::field(field, "it names no program"));
    }
    command
        .iter()
        .try_for_each(|argument| text(field, argument))
}

pub(super) fn device_path(field: &str, path: String) -> Result<String> {
    text(field, &path)?;
    let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if !is_plain {
        let why = format!("`{}` is no path of a device", path.escape_debug());
        return Err(OsBundleError::field(field, why));
    }
    Ok(path)
}

pub(super) fn text(field: &str, text: &str) -> Result<()> {
    if text.len() > LONGEST_MANIFEST_TEXT {
        let why = format!("it is longer than {LONGEST_MANIFEST_TEXT} bytes");
        return Err(OsBundleError::field(field, why));
    }
    if text.chars().any(char::is_control) {
        return Err(OsBundleError::field(field, "it has control characters"));
    }
    Ok(())
}

pub(super) fn few(field: &str, count: usize) -> Result<()> {
    if count > MOST {
        let why = format!("{count} are more than {MOST}");
        return Err(OsBundleError::field(field, why));
    }
    Ok(())
}

pub(super) fn different<'a>(
    field: &str,
    what: &str,
    names: impl Iterator<Item = &'a Name>,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(OsBundleError::field(
                field,
                format!("two have the {what} {name}"),
            ));
        }
    }
    Ok(())
}
