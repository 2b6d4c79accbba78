//! `avocado ext list`.

use avocado_manifest::Name;
use serde::Serialize;

use super::{Session, project};
use crate::failure::Result;
use crate::output::text;

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a Name,
    version: &'a Name,
    types: Vec<&'static str>,
    filesystem: avocado_project::Filesystem,
    /// The runtimes of the target that carry it.
    runtimes: Vec<&'a Name>,
}

pub(super) fn list(session: &Session) -> Result<()> {
    let project = project::load(session)?;
    let listed: Vec<Listed<'_>> = project
        .extensions
        .iter()
        .map(|ext| Listed {
            name: &ext.name,
            version: &ext.version,
            types: [(ext.sysext, "sysext"), (ext.confext, "confext")]
                .into_iter()
                .filter_map(|(is, name)| is.then_some(name))
                .collect(),
            filesystem: ext.filesystem,
            runtimes: project
                .runtimes
                .iter()
                .filter(|runtime| runtime.extensions.iter().any(|e| e.name == ext.name))
                .map(|runtime| &runtime.name)
                .collect(),
        })
        .collect();
    session.output.answer(&listed, || {
        let row = |ext: &Listed<'_>| {
            let runtimes: Vec<&str> = ext.runtimes.iter().map(|name| name.as_str()).collect();
            vec![
                ext.name.to_string(),
                ext.version.to_string(),
                ext.types.join(","),
                runtimes.join(","),
            ]
        };
        let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
        text::table(&["NAME", "VERSION", "TYPES", "RUNTIMES"], &rows)
    })
}
