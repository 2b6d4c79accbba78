//! What the lock file may leave out.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Null is what is absent.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The entries that hold something.
pub(super) fn filled<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let mut entries: BTreeMap<String, T> = or_default(deserializer)?;
    entries.retain(|_, value| *value != T::default());
    Ok(entries)
}
