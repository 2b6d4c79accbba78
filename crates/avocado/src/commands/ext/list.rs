//! `avocado ext list`.

use avocado_manifest::Name;
use avocado_project::{Project, Runtime};
use avocado_text::table;
use serde::Serialize;

use crate::commands::project;
use crate::failure::Result;
use crate::session::Session;

#[derive(Serialize)]
struct ExtensionDocument<'a> {
    name: &'a Name,
    /// Null while it is not here, as its types and its file system, and where what it is made of
    /// is not there.
    version: Option<&'a Name>,
    types: Vec<&'static str>,
    filesystem: Option<avocado_project::Filesystem>,
    /// The runtimes of the target that carry it.
    runtimes: Vec<&'a Name>,
    /// Where it comes from, if it is not in the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceDocument>,
}

#[derive(Serialize)]
struct SourceDocument {
    from: String,
    fetched: bool,
}

pub(super) fn run(session: &Session) -> Result<()> {
    let project = project::load(session)?;
    let listed = documents(&project);
    session.output.answer(&listed, || {
        let row = |ext: &ExtensionDocument<'_>| {
            let runtimes: Vec<&str> = ext.runtimes.iter().map(|name| name.as_str()).collect();
            let version = match (ext.version, ext.filesystem) {
                (Some(version), _) => version.to_string(),
                (None, Some(_)) => "(not known)".to_owned(),
                (None, None) => "(not fetched)".to_owned(),
            };
            [
                ext.name.to_string(),
                version,
                ext.types.join(","),
                runtimes.join(","),
            ]
        };
        let rows = listed.iter().map(row);
        table(["NAME", "VERSION", "TYPES", "RUNTIMES"], rows, None)
    })
}

/// Those that are here, in the order of the project, and after them those that are not.
fn documents(project: &Project) -> Vec<ExtensionDocument<'_>> {
    let of = |name: &Name| {
        let runtimes = project.runtimes.iter();
        let has = |runtime: &&Runtime| runtime.extensions.iter().any(|e| e.name == *name);
        let runtimes = runtimes.filter(has).map(|runtime| &runtime.name);
        let source = project.source(name).map(|source| SourceDocument {
            from: source.kind.to_string(),
            fetched: source.fetched_to.is_some(),
        });
        (runtimes.collect(), source)
    };
    let here = project.extensions.iter().map(|ext| {
        let (runtimes, source) = of(&ext.name);
        ExtensionDocument {
            name: &ext.name,
            version: ext.version.known(),
            types: [(ext.sysext, "sysext"), (ext.confext, "confext")]
                .into_iter()
                .filter_map(|(is, name)| is.then_some(name))
                .collect(),
            filesystem: Some(ext.filesystem),
            runtimes,
            source,
        }
    });
    let sources = project.sources.iter();
    let sources = sources.filter(|source| source.section.is_none());
    let sources = sources.map(|source| &source.extension);
    let missing = sources.filter(|name| project.extension(name).is_none());
    let missing = missing.map(|name| {
        let (runtimes, source) = of(name);
        ExtensionDocument {
            name,
            version: None,
            types: Vec::new(),
            filesystem: None,
            runtimes,
            source,
        }
    });
    here.chain(missing).collect()
}
