//! `avocado runtime list`.

use avocado_manifest::Name;
use avocado_text::table;
use serde::Serialize;

use crate::commands::project;
use crate::failure::Result;
use crate::session::Session;

#[derive(Serialize)]
struct RuntimeDocument<'a> {
    name: &'a Name,
    /// Null where it follows from the content.
    version: Option<String>,
    rootfs: &'a Name,
    initramfs: &'a Name,
    /// In the order in which they are merged.
    extensions: Vec<&'a Name>,
}

pub(super) fn run(session: &Session) -> Result<()> {
    let project = project::load(session)?;
    let listed: Vec<RuntimeDocument<'_>> = project
        .runtimes
        .iter()
        .map(|runtime| RuntimeDocument {
            name: &runtime.name,
            version: runtime.version.as_ref().map(ToString::to_string),
            rootfs: &runtime.rootfs,
            initramfs: &runtime.initramfs,
            extensions: runtime.extensions.iter().map(|e| &e.name).collect(),
        })
        .collect();
    session.output.answer(&listed, || {
        let row = |runtime: &RuntimeDocument<'_>| {
            let extensions: Vec<&str> = runtime.extensions.iter().map(|e| e.as_str()).collect();
            [
                runtime.name.to_string(),
                runtime.version.clone().unwrap_or_else(|| "-".to_owned()),
                runtime.rootfs.to_string(),
                runtime.initramfs.to_string(),
                extensions.join(","),
            ]
        };
        let rows = listed.iter().map(row);
        table(
            ["NAME", "VERSION", "ROOTFS", "INITRAMFS", "EXTENSIONS"],
            rows,
            None,
        )
    })
}
