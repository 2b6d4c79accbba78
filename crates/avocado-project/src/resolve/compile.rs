//! What the SDK compiles.

use crate::decode::{NameMap, Spanned, decode};
use crate::model::{CompilePackage, CompileSection, SplitPackage};
use crate::raw::{RawCompilePackage, RawSdkCompile, RawSplitPackage};
use crate::text::quoted;

use super::context::{ResolveContext, spanned};
use super::values::{all_plain, plain, rpm_metadata};
use super::{packages, paths};

/// The sections of `sdk.compile`.
pub(super) fn sections(cx: &mut ResolveContext<'_>) -> Vec<CompileSection> {
    let Some(node) = cx.root.get("sdk").and_then(|sdk| sdk.get("compile")) else {
        return Vec::new();
    };
    let Some(entries) = node.entries() else {
        let message = format!("`compile` must be a map, found {}", node.describe());
        cx.report.error(node.span, message);
        return Vec::new();
    };
    let mut sections = Vec::new();
    for entry in entries {
        let name = spanned(&entry.key);
        let Some(raw) = decode::<RawSdkCompile>(&entry.value, cx.report) else {
            continue;
        };
        let raw = raw.value;
        sections.push(CompileSection {
            compile: paths::script(cx, raw.compile.as_ref()),
            clean: paths::script(cx, raw.clean.as_ref()),
            packages: packages::packages(cx, raw.packages, &["sdk", "compile", &name]).feed,
            package: raw.package.and_then(|raw| package(cx, raw)),
            name: cx.placed(name.value, name.span),
        });
    }
    sections
}

fn package(cx: &mut ResolveContext<'_>, raw: Spanned<RawCompilePackage>) -> Option<CompilePackage> {
    let Spanned { value: raw, span } = raw;
    for (key, given) in [("install", &raw.install), ("version", &raw.version)] {
        if given.is_none() {
            cx.report.error(span, format!("the package has no `{key}`"));
        }
    }
    let split = raw.split.unwrap_or_default();
    Some(CompilePackage {
        name: plain(raw.name),
        rpm: rpm_metadata!(raw),
        requires: all_plain(raw.requires),
        files: all_plain(raw.files),
        split: split_packages(cx, split),
        install: paths::script(cx, raw.install.as_ref())?,
        version: plain(raw.version)?,
    })
}

fn split_packages(cx: &mut ResolveContext<'_>, raw: NameMap<RawSplitPackage>) -> Vec<SplitPackage> {
    let mut packages = Vec::new();
    for (name, raw) in raw.0 {
        let Some(files) = raw.files else {
            let message = format!("the package {} has no `files`", quoted(&name));
            cx.report.error(name.span, message);
            continue;
        };
        packages.push(SplitPackage {
            name: name.value,
            files: all_plain(Some(files)),
            summary: plain(raw.summary),
            description: plain(raw.description),
            requires: all_plain(raw.requires),
        });
    }
    packages
}
