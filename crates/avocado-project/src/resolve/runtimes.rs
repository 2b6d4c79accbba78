use avocado_manifest::{LONGEST_MANIFEST_TEXT, Name};

use crate::decode::{Decoded, NameMap, Spanned, TextOr, decode};
use crate::model::{ExtensionInclusion, Placed, Runtime, SourcePlace, VarFile};
use crate::raw::{RawInclusions, RawRuntime, RawSigning, RawTop, RawVarFile, Text};
use crate::suggest;
use crate::text::quoted;
use crate::yaml::Entry;

use super::context::{ResolveContext, spanned};
use super::dependency_graph::DependencyGraph;
use super::extensions::Extensions;
use super::images::Images;
use super::kernels::Kernels;
use super::permissions::Profiles;
use super::{images, kernels, packages, paths, values, var};

/// What runtimes refer to.
pub(super) struct RuntimeReferences<'a> {
    pub(super) target: &'a Name,
    pub(super) extensions: &'a Extensions,
    pub(super) needs: &'a DependencyGraph,
    pub(super) permissions: &'a Profiles,
    pub(super) kernels: &'a Kernels,
    pub(super) rootfs: &'a mut Images,
    pub(super) initramfs: &'a mut Images,
}

/// The entries of `runtimes`, or of its old name.
pub(super) fn runtime_section<'a>(cx: &mut ResolveContext<'a>) -> &'a [Entry] {
    cx.section("runtimes")
}

/// The runtimes of the current target. Those of other targets are read for their types only:
/// what they refer to may exist for those targets alone.
pub(super) fn runtimes(
    cx: &mut ResolveContext<'_>,
    top: &RawTop,
    around: &mut RuntimeReferences<'_>,
) -> Vec<Runtime> {
    let section = runtime_section(cx);
    if section.is_empty() {
        return synthesised(cx, top, around).into_iter().collect();
    }
    let mut runtimes = Vec::new();
    for entry in section {
        let key = spanned(&entry.key);
        let name = cx.name(&key);
        let Some(raw) = decode::<RawRuntime>(&entry.value, cx.report) else {
            continue;
        };
        let target = raw.value.target.as_ref();
        if target.is_some_and(|target| target.value != around.target.as_str()) {
            continue;
        }
        runtimes.extend(runtime(cx, &key, name, raw, around));
    }
    runtimes
}

/// A project without runtimes that states an OS has one, `default`.
fn synthesised(
    cx: &mut ResolveContext<'_>,
    top: &RawTop,
    around: &mut RuntimeReferences<'_>,
) -> Option<Runtime> {
    let default_target = top.default_target.as_ref()?;
    let states = |section: &&str| cx.root.get(section).is_some();
    ["rootfs", "initramfs", "kernel"]
        .iter()
        .find(|s| states(s))?;
    let key = Spanned {
        value: "default".to_owned(),
        span: default_target.span,
    };
    let raw = Decoded {
        value: RawRuntime::default(),
        dropped: Vec::new(),
    };
    let name = cx.name(&key);
    runtime(cx, &key, name, raw, around)
}

fn runtime(
    cx: &mut ResolveContext<'_>,
    key: &Text,
    name: Option<Name>,
    raw: Decoded<RawRuntime>,
    around: &mut RuntimeReferences<'_>,
) -> Option<Runtime> {
    let raw = raw.value;
    let profiles = around.permissions;
    let rootfs = images::image_of(cx, key, raw.rootfs, around.rootfs, profiles);
    let initramfs = images::image_of(cx, key, raw.initramfs, around.initramfs, profiles);
    let included = raw.extensions.unwrap_or_default();
    let packages = packages::packages(cx, raw.packages, &["runtimes", &key.value]);
    let signing = signing(cx, raw.signing.unwrap_or_default());
    let runtime = Runtime {
        kos: kind(cx, raw.r#type),
        target_board: values::plain(raw.target_board),
        version: raw.version.and_then(|text| version(cx, text)),
        extensions: inclusions(cx, included, around),
        packages: packages.feed,
        project_packages: packages.project,
        kernel: kernels::kernel_of(cx, key, raw.kernel, around.kernels),
        var: var::var_partition(cx, raw.var),
        var_files: var_files(cx, raw.var_files.unwrap_or_default()),
        signing_key: signing.key,
        content_key: signing.content_key,
        blake3: signing.blake3,
        stone_include_paths: paths::stone_include_paths(cx, raw.stone_include_paths),
        stone_manifest: paths::placed_path(cx, raw.stone_manifest.as_ref(), "file"),
        post_build: paths::script(cx, raw.post_build.as_ref()),
        rootfs: rootfs?,
        initramfs: initramfs?,
        name: name?,
    };
    Some(runtime)
}

/// Whether it is one of the type `kos`.
fn kind(cx: &mut ResolveContext<'_>, text: Option<Text>) -> Option<SourcePlace> {
    let text = text?;
    if text.value != "kos" {
        let message = format!("{} is not a type of runtime", quoted(&text));
        cx.report
            .error(text.span, message)
            .hint("the only one is `kos`; most runtimes have none");
    }
    Some(cx.place(text.span))
}

fn version(cx: &mut ResolveContext<'_>, text: Text) -> Option<String> {
    let span = text.span;
    let version = values::lines(cx, Some(vec![text])).pop()?;
    if version.len() > LONGEST_MANIFEST_TEXT {
        let message = format!("this version has {} bytes", version.len());
        let hint = format!("a device takes one of {LONGEST_MANIFEST_TEXT} bytes at most");
        cx.report.error(span, message).hint(hint);
    }
    Some(version)
}

fn inclusions(
    cx: &mut ResolveContext<'_>,
    raw: RawInclusions,
    around: &RuntimeReferences<'_>,
) -> Vec<ExtensionInclusion> {
    let known = around.extensions;
    let mut inclusions: Vec<ExtensionInclusion> = Vec::new();
    let mut spans = Vec::new();
    for Spanned { value, span } in raw {
        let (text, enabled) = match value {
            TextOr::Text(value) => (Spanned { value, span }, true),
            TextOr::Other(entries) => match <[_; 1]>::try_from(entries.0) {
                Ok([(name, settings)]) => (name, settings.and_then(|s| s.enabled).unwrap_or(true)),
                Err(_) => {
                    let message = "each entry names one extension";
                    cx.report
                        .error(span, message)
                        .hint("write `- name` or `- name: {enabled: false}`");
                    continue;
                }
            },
        };
        let declared = || known.declared.iter().map(String::as_str);
        if declared().all(|name| name != text.value) {
            let message = format!("the extension {} does not exist", quoted(&text));
            cx.report
                .error(text.span, message)
                .hint(suggest::hint(&text, declared()));
            continue;
        }
        // One that is declared with an unusable name is reported there.
        let Ok(name) = text.parse::<Name>() else {
            continue;
        };
        if inclusions.iter().any(|known| known.name == name) {
            let message = format!("the extension {} is listed twice", quoted(&text));
            cx.report
                .warning(text.span, message)
                .hint("the first place counts");
            continue;
        }
        spans.push(text.span);
        inclusions.push(ExtensionInclusion {
            name,
            enabled,
            needed_by: None,
        });
    }
    around.needs.complete(cx, inclusions, &spans)
}

fn var_files(cx: &mut ResolveContext<'_>, raw: Vec<Spanned<RawVarFile>>) -> Vec<Placed<VarFile>> {
    let mut files = Vec::new();
    for Spanned { value, span } in raw {
        let (Some(source), Some(dest)) = (value.source, value.dest) else {
            let message = "an entry of `var_files` has a `source` and a `dest`";
            cx.report.error(span, message);
            continue;
        };
        let span = source.span;
        let source = paths::source_path(cx, &source, "source");
        let dest = paths::var_dest(cx, &dest);
        if let (Some(source), Some(dest)) = (source, dest) {
            files.push(cx.placed(VarFile { source, dest }, span));
        }
    }
    files
}

/// How a runtime is signed.
struct Signing {
    key: Option<String>,
    content_key: Option<SourcePlace>,
    blake3: Option<SourcePlace>,
}

fn signing(cx: &mut ResolveContext<'_>, raw: RawSigning) -> Signing {
    let mut blake3 = None;
    if let Some(algorithm) = raw.checksum_algorithm {
        match algorithm.as_str() {
            "sha256" => {}
            "blake3" => blake3 = Some(cx.place(algorithm.span)),
            other => {
                let message = format!("{} is not a checksum algorithm", quoted(other));
                cx.report
                    .error(algorithm.span, message)
                    .hint(suggest::hint(other, ["sha256", "blake3"]));
            }
        }
    }
    Signing {
        key: values::lines(cx, raw.key.map(|key| vec![key])).pop(),
        content_key: cx.place_of(raw.content_key.as_ref()),
        blake3,
    }
}

pub(super) fn signing_keys(
    cx: &mut ResolveContext<'_>,
    list: Vec<Spanned<NameMap<Text>>>,
) -> Vec<(String, String)> {
    let mut keys: Vec<(String, String)> = Vec::new();
    for item in list {
        let [(name, key)] = &item.value.0[..] else {
            let message = "each signing key is one `name: key` pair";
            cx.report.error(item.span, message);
            continue;
        };
        if keys.iter().any(|(known, _)| *known == name.value) {
            let message = format!("the signing key {} is given twice", quoted(name));
            cx.report.error(name.span, message);
            continue;
        }
        keys.push((name.value.clone(), key.value.clone()));
    }
    keys
}

pub(super) fn default_runtime(cx: &mut ResolveContext<'_>, top: &RawTop) -> Option<Name> {
    let default = top.default_runtime.as_ref()?;
    let name = cx.name(default)?;
    let declared = runtime_section(cx);
    let names = || declared.iter().map(|e| e.key.text.as_str());
    if names().all(|known| known != name.as_str()) && !declared.is_empty() {
        let message = format!("the runtime {} does not exist", quoted(default));
        cx.report
            .error(default.span, message)
            .hint(suggest::hint(default, names()));
    }
    Some(name)
}
