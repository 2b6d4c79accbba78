//! Files with what earlier runs were told. They may be removed at any time: then the same is asked
//! again.

use std::path::Path;

use avocado_fs::{Durability, WriteOptions, read_if_there};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Far more than any of them ever has; a larger file is none of ours.
const LARGEST_FILE: u64 = 1 << 20;

/// What is in such a file. One that cannot be read or understood is as good as none.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let text = read_if_there(file, LARGEST_FILE).ok().flatten()?;
    serde_json::from_slice(&text).ok()
}

/// That it cannot be written, on a medium that is read-only, costs the next run a question.
pub(crate) fn write<T: Serialize>(file: &Path, known: &T) {
    if let Ok(text) = serde_json::to_vec_pretty(known) {
        let options = WriteOptions::new().durability(Durability::None);
        let _ = options.write(file, &text);
    }
}
