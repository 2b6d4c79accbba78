//! `avocado config` and `avocado schema`: what avocado.yaml says, and what it may say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use avocado_manifest::Name;
use avocado_project::{Distro, Extension, Packages, Project, VersionSpec};
use avocado_text::{count, table};
use clap::Subcommand;
use serde::Serialize;

use super::project;
use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the project as it is resolved for the target
    Show {
        /// Also what extensions, runtimes and the SDK consist of
        #[arg(long)]
        detail: bool,
    },
    /// Check avocado.yaml for the target, and that what its steps need is there, without building anything
    Check,
}

#[derive(Serialize)]
struct ProjectDocument<'a> {
    config_path: &'a Path,
    src_dir: &'a Path,
    target: &'a Name,
    default_target: Option<&'a str>,
    default_target_board: Option<&'a str>,
    default_runtime: Option<&'a Name>,
    /// `*` alone for all.
    supported_targets: Vec<&'a str>,
    distro: &'a Distro,
    runtimes: Vec<&'a Name>,
    provision_profiles: Vec<&'a str>,
    connect: Option<ConnectDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<DetailDocument<'a>>,
}

#[derive(Serialize)]
struct ConnectDocument<'a> {
    org: Option<&'a str>,
    project: Option<&'a str>,
}

#[derive(Serialize)]
struct DetailDocument<'a> {
    runtimes: Vec<RuntimeDocument<'a>>,
    extensions: Vec<ExtensionDocument<'a>>,
    sdk: SdkDocument<'a>,
}

#[derive(Serialize)]
struct RuntimeDocument<'a> {
    name: &'a Name,
    version: Option<&'a str>,
    rootfs: &'a Name,
    initramfs: &'a Name,
    /// In the order of their priority, with those that others need.
    extensions: Vec<&'a Name>,
    /// For whose sake those are there that the runtime does not state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    needed_by: BTreeMap<&'a Name, &'a Name>,
    packages: &'a Packages,
}

#[derive(Serialize)]
struct ExtensionDocument<'a> {
    name: &'a Name,
    /// Null where what it is made of is not there.
    version: Option<&'a Name>,
    /// The extensions that it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs: Vec<DependencyDocument<'a>>,
    packages: &'a Packages,
}

/// An extension that another one needs.
#[derive(Serialize)]
struct DependencyDocument<'a> {
    name: &'a Name,
    /// Which versions will do; null for all.
    version: Option<&'a VersionSpec>,
}

impl<'a> DependencyDocument<'a> {
    fn all(extension: &'a Extension) -> Vec<Self> {
        let needs = extension.dependencies.iter();
        let needs = needs.map(|dependency| DependencyDocument {
            name: &dependency.name.value,
            version: dependency.version.as_ref(),
        });
        needs.collect()
    }
}

impl fmt::Display for DependencyDocument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{} {version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

#[derive(Serialize)]
struct SdkDocument<'a> {
    image: Option<&'a str>,
    packages: &'a Packages,
    /// The names of what it can compile.
    compile: Vec<&'a str>,
}

pub(super) fn run(session: &Session, command: &ConfigCommand) -> Result<()> {
    let project = project::load(session)?;
    match command {
        ConfigCommand::Show { detail } => show(session, &project, *detail),
        ConfigCommand::Check => check(session, &project),
    }
}

fn show(session: &Session, project: &Project, detail: bool) -> Result<()> {
    let document = document(project, detail);
    session.output.answer(&document, || {
        let overview = overview(&document);
        match &document.detail {
            Some(detail) => {
                let (runtimes, extensions) = (runtime_table(detail), extension_table(detail));
                format!("{overview}\n{runtimes}\n{extensions}")
            }
            None => overview,
        }
    })
}

fn document(project: &Project, detail: bool) -> ProjectDocument<'_> {
    let supported = project.supported_targets.iter().map(String::as_str);
    let supported: Vec<&str> = supported.collect();
    let connect = project.connect.as_ref();
    let profiles = project.provision_profiles.iter();
    ProjectDocument {
        config_path: &project.config_path,
        src_dir: &project.src_dir,
        target: &project.target,
        default_target: project.default_target.as_deref(),
        default_target_board: project.default_target_board.as_deref(),
        default_runtime: project.default_runtime.as_ref(),
        supported_targets: if supported.is_empty() {
            vec!["*"]
        } else {
            supported
        },
        distro: &project.distro,
        runtimes: project.runtimes.iter().map(|r| &r.name).collect(),
        provision_profiles: profiles.map(|profile| profile.name.as_str()).collect(),
        connect: connect.map(|connect| ConnectDocument {
            org: connect.org.as_deref(),
            project: connect.project.as_deref(),
        }),
        detail: detail.then(|| detail_document(project)),
    }
}

fn detail_document(project: &Project) -> DetailDocument<'_> {
    let runtimes = project.runtimes.iter().map(|runtime| RuntimeDocument {
        name: &runtime.name,
        version: runtime.version.as_deref(),
        rootfs: &runtime.rootfs,
        initramfs: &runtime.initramfs,
        extensions: runtime.extensions.iter().map(|e| &e.name).collect(),
        needed_by: runtime
            .extensions
            .iter()
            .filter_map(|e| Some((&e.name, e.needed_by.as_ref()?)))
            .collect(),
        packages: runtime.packages.template(),
    });
    let extensions = project.extensions.iter();
    let extensions = extensions.map(|extension| ExtensionDocument {
        name: &extension.name,
        version: extension.version.known(),
        needs: DependencyDocument::all(extension),
        packages: extension.packages.template(),
    });
    let sdk = &project.sdk;
    let sections = sdk.compile.iter();
    DetailDocument {
        runtimes: runtimes.collect(),
        extensions: extensions.collect(),
        sdk: SdkDocument {
            image: sdk.image.as_deref(),
            packages: sdk.packages.template(),
            compile: sections.map(|section| section.name.as_str()).collect(),
        },
    }
}

fn overview(document: &ProjectDocument<'_>) -> String {
    let distro = document.distro;
    let place = [&distro.release, &distro.channel];
    let place: Vec<&str> = place.into_iter().flatten().map(String::as_str).collect();
    let connect = document.connect.as_ref();
    let connect = connect.map(|c| [c.org, c.project].into_iter().flatten().collect());
    let connect: Vec<&str> = connect.unwrap_or_default();
    let rows = [
        ("Project", document.config_path.display().to_string()),
        ("Sources", document.src_dir.display().to_string()),
        ("Target", document.target.to_string()),
        ("Supported targets", document.supported_targets.join(", ")),
        (
            "Board",
            document.default_target_board.unwrap_or_default().to_owned(),
        ),
        ("Feed", distro.repo_url.clone()),
        ("Release", place.join("/")),
        ("Runtimes", names(&document.runtimes)),
        (
            "Default runtime",
            document
                .default_runtime
                .map(Name::to_string)
                .unwrap_or_default(),
        ),
        ("Provisioning", document.provision_profiles.join(", ")),
        ("Connect", connect.join("/")),
    ];
    let stated = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let lines = stated.map(|(title, value)| format!("{title:<18}{value}\n"));
    lines.collect()
}

fn runtime_table(detail: &DetailDocument<'_>) -> String {
    let rows = detail.runtimes.iter().map(|runtime| {
        [
            runtime.name.to_string(),
            runtime.rootfs.to_string(),
            runtime.initramfs.to_string(),
            members(runtime),
            packages(runtime.packages),
        ]
    });
    let titles = ["RUNTIME", "ROOTFS", "INITRAMFS", "EXTENSIONS", "PACKAGES"];
    table(titles, rows, None)
}

fn extension_table(detail: &DetailDocument<'_>) -> String {
    let rows = detail.extensions.iter().map(|extension| {
        [
            extension.name.to_string(),
            extension.version.map(Name::to_string).unwrap_or_default(),
            listed(&extension.needs),
            packages(extension.packages),
        ]
    });
    table(["EXTENSION", "VERSION", "NEEDS", "PACKAGES"], rows, None)
}

fn members(runtime: &RuntimeDocument<'_>) -> String {
    let members = runtime.extensions.iter();
    let members = members.map(|name| match runtime.needed_by.get(name) {
        Some(needy) => format!("{name} (needed by {needy})"),
        None => name.to_string(),
    });
    listed(&members.collect::<Vec<_>>())
}

/// Several things in one cell of a table.
fn listed(things: &[impl ToString]) -> String {
    let things: Vec<String> = things.iter().map(ToString::to_string).collect();
    things.join(", ")
}

fn names(names: &[&Name]) -> String {
    listed(names)
}

fn packages(packages: &Packages) -> String {
    let names: Vec<&str> = packages.keys().map(String::as_str).collect();
    names.join(", ")
}

#[derive(Serialize)]
struct CheckDocument<'a> {
    target: &'a Name,
    extensions: u64,
    runtimes: u64,
}

fn check(session: &Session, project: &Project) -> Result<()> {
    // The file can be read all the same, and other steps can be made.
    #[cfg(target_os = "linux")]
    for shortcoming in avocado_build::shortcomings(project) {
        project::warn(session, &shortcoming);
    }
    let document = CheckDocument {
        target: &project.target,
        extensions: project.extensions.len() as u64,
        runtimes: project.runtimes.len() as u64,
    };
    session.output.answer(&document, || {
        format!(
            "{} can be read for {}: {}, {}\n",
            project.config_path.display(),
            project.target,
            count(document.extensions, "extension"),
            count(document.runtimes, "runtime"),
        )
    })
}

/// `avocado schema`.
pub(super) fn schema(session: &Session) -> Result<()> {
    let schema = avocado_project::json_schema();
    session.output.answer(&schema, || format!("{schema:#}\n"))
}
