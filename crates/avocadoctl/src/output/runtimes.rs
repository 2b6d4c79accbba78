//! Runtimes for people.

use super::table;
use crate::failure::printable;
use crate::model::{Listed, Runtime};

/// The runtimes as a table.
pub(crate) fn runtimes(listed: &Listed<'_>) -> String {
    let unreadable = listed.unreadable.iter().flatten().map(|found| {
        let (id, why) = (printable(&found.id), printable(&found.why));
        format!("\nCannot be used: {id}\n  {why}\n")
    });
    let unreadable: String = unreadable.collect();
    if listed.runtimes.is_empty() {
        return format!("There are no runtimes on this device.\n{unreadable}");
    }
    let rows = listed.runtimes.iter().map(|r| {
        let mut state = match (r.active, r.previous == Some(true)) {
            (true, _) => "* active".to_owned(),
            (_, true) => "previous".to_owned(),
            _ => String::new(),
        };
        if r.pinned == Some(true) {
            state.push_str(if state.is_empty() {
                "pinned"
            } else {
                ", pinned"
            });
        }
        [
            printable(&r.runtime.name),
            printable(&r.runtime.version),
            r.short_id().to_owned(),
            state,
            minute(&r.built_at),
        ]
    });
    let head = ["RUNTIME", "VERSION", "ID", "STATE", "BUILT"];
    format!("{}{unreadable}", table(head, rows.collect()))
}

/// A runtime in full.
pub(crate) fn runtime(runtime: &Runtime) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        text.push_str(&format!("{name:<10} {}\n", printable(value)));
    };
    field(
        "Runtime:",
        &format!("{} {}", runtime.runtime.name, runtime.runtime.version),
    );
    field("ID:", &runtime.id);
    field("Active:", if runtime.active { "yes" } else { "no" });
    if runtime.previous == Some(true) {
        field("Previous:", "yes, `runtime rollback` goes back to it");
    }
    if runtime.pinned == Some(true) {
        field("Pinned:", "yes");
    }
    field("Built:", &runtime.built_at);
    field(
        "Manifest:",
        &format!("version {}", runtime.manifest_version),
    );
    if let Some(id) = &runtime.os_build_id {
        field("OS build:", id);
    }
    if let Some(id) = &runtime.initramfs_build_id {
        field("Initramfs:", id);
    }
    if runtime.extensions.is_empty() {
        text.push_str("\nThere are no extensions.\n");
        return text;
    }
    let rows = runtime.extensions.iter().map(|e| {
        let image = e
            .image_id
            .clone()
            .unwrap_or_else(|| format!("{}-{}", e.name, e.version).into());
        [printable(&e.name), printable(&e.version), printable(&image)]
    });
    text.push('\n');
    text.push_str(&table(["EXTENSION", "VERSION", "IMAGE"], rows.collect()));
    text
}

/// A time to the minute, if it is in the usual form.
pub(super) fn minute(text: &str) -> String {
    let minute = text
        .get(..16)
        .filter(|t| t.as_bytes().get(10) == Some(&b'T'));
    minute.map_or_else(|| printable(text), |t| t.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(minute("2026-01-02T03:04:05Z"), "2026-01-02 03:04");
        assert_eq!(minute("yesterday"), "yesterday");
        assert_eq!(minute("\u{1b}[2J"), "\\u{1b}[2J");
    }
}
