use std::collections::BTreeMap;

use crate::decode::{Spanned, TextOr, decode};
use crate::late::Late;
use crate::model::{PackageOrigin, Packages, ProjectPackage};
use crate::place::SourcePlace;
use crate::raw::{RawPackage, RawPackages, Text};
use crate::text::quoted;
use crate::version_spec::VersionSpec;

use super::context::ResolveContext;
use super::paths;

/// The packages of a tree.
pub(super) struct PackageList {
    /// Those of the feed: name → version. Both reach the package manager as arguments.
    pub(super) feed: Late<Packages>,
    /// Those that the project makes.
    pub(super) project: Vec<ProjectPackage>,
}

impl PackageList {
    /// Those that are installed where nothing is said.
    pub(super) fn default_of(package: &str) -> Self {
        let packages = Packages::from([(package.to_owned(), "*".to_owned())]);
        PackageList {
            feed: Late::new(packages),
            project: Vec::new(),
        }
    }
}

/// The packages of a section.
pub(super) fn packages(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawPackages>,
    section: &[&str],
) -> PackageList {
    let mut project = Vec::new();
    let places = places(cx, raw.as_ref());
    let packages = PackageList {
        feed: Late::new(plain(cx, raw, &mut project)).written_at(places),
        project,
    };
    for_kernels(cx, packages, section)
}

/// The same with those that the section has for some kernels.
pub(super) fn for_kernels(
    cx: &mut ResolveContext<'_>,
    mut packages: PackageList,
    section: &[&str],
) -> PackageList {
    for over in cx.kernel_overrides {
        if over.section != section {
            continue;
        }
        let text = over.key.text.strip_prefix("kernel-").unwrap_or_default();
        let spec = text.parse::<VersionSpec>();
        if let Err(error) = &spec {
            let hint = "write for example `kernel-6.6.*:` or `kernel->=6.6, <6.12:`";
            cx.report.error(over.key.span, error.to_string()).hint(hint);
        }
        let entries = over.value.entries().unwrap_or_default();
        for other in entries.iter().filter(|e| e.key.text != "packages") {
            let key = quoted(&other.key.text);
            let message = format!("{key} cannot differ for a kernel");
            cx.report
                .error(other.key.span, message)
                .hint("only `packages` can: they are installed when the kernel is known");
        }
        let raw = match over.value.get("packages") {
            Some(node) => decode::<Option<RawPackages>>(node, cx.report).map(|raw| raw.value),
            None => None,
        };
        let own = raw.map(|raw| plain(cx, raw, &mut packages.project));
        if let (Ok(spec), Some(own)) = (spec, own) {
            packages.feed.for_kernels(spec, own);
        }
    }
    packages
}

/// Where the versions of packages are stated, or their names where none is.
fn places(cx: &ResolveContext<'_>, raw: Option<&RawPackages>) -> BTreeMap<String, SourcePlace> {
    let entries = raw.into_iter().flat_map(|packages| &packages.0);
    let place = |(name, value): &(Text, Option<Spanned<TextOr<RawPackage>>>)| {
        let span = value.as_ref().map(|value| match &value.value {
            TextOr::Text(_) => value.span,
            TextOr::Other(raw) => raw.version.as_ref().map_or(name.span, |text| text.span),
        });
        (name.value.clone(), cx.place(span.unwrap_or(name.span)))
    };
    entries.map(place).collect()
}

fn plain(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawPackages>,
    project: &mut Vec<ProjectPackage>,
) -> Packages {
    let mut packages = Packages::new();
    for (name, value) in raw.unwrap_or_default().0 {
        match package(cx, &name, value) {
            Some(WantedPackage::Feed(version)) => {
                packages.insert(name.value, version);
            }
            Some(WantedPackage::Project(origin)) => project.push(ProjectPackage {
                name: cx.placed(name.value, name.span),
                origin,
            }),
            None => {}
        }
    }
    packages
}

/// Where a package comes from.
enum WantedPackage {
    /// From the feed, in this version.
    Feed(String),
    Project(PackageOrigin),
}

fn package(
    cx: &mut ResolveContext<'_>,
    name: &Text,
    value: Option<Spanned<TextOr<RawPackage>>>,
) -> Option<WantedPackage> {
    if !is_package(name) {
        let message = format!("{} is not the name of a package", quoted(name));
        cx.report.error(name.span, message);
        return None;
    }
    let any = || WantedPackage::Feed("*".to_owned());
    let Some(Spanned { value, span }) = value else {
        return Some(any());
    };
    let version = match value {
        TextOr::Text(value) => Spanned { value, span },
        TextOr::Other(raw) => {
            if raw.compile.is_some() || raw.install.is_some() {
                let section = raw.compile;
                return Some(WantedPackage::Project(PackageOrigin::Compiled {
                    install: paths::script(cx, raw.install.as_ref()),
                    section: section.map(|text| cx.placed(text.value, text.span)),
                }));
            }
            if let Some(extension) = raw.extensions {
                return Some(WantedPackage::Project(PackageOrigin::Extension {
                    extension: extension.value,
                    config: raw.config.map(|text| text.value),
                }));
            }
            match raw.version {
                Some(version) => version,
                None => return Some(any()),
            }
        }
    };
    if is_package_version(&version) {
        return Some(WantedPackage::Feed(version.value));
    }
    let message = format!("{} is not the version of a package", quoted(&version));
    cx.report
        .error(version.span, message)
        .hint("write \"*\" for any version, or an exact one such as \"1.2.3-r0\"");
    None
}

/// No white space (a template that is resolved later may have some), and nothing that reads as
/// an option.
fn is_package(name: &str) -> bool {
    let space = |c: char| c.is_whitespace() || c.is_control();
    !name.is_empty()
        && !name.starts_with('-')
        && (name.contains("{{") || !name.chars().any(space))
        && !name.chars().any(char::is_control)
}

fn is_package_version(text: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._+~^:*-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(usable)
}
