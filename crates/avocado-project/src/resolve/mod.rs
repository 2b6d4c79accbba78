//! From the raw sections to the model: defaults, references, and every check that has a place in
//! the file.

mod cache;
mod compile;
mod context;
mod dependencies;
mod dependency_graph;
mod extensions;
mod feed;
mod images;
mod kernels;
mod packages;
mod paths;
mod permissions;
mod repositories;
mod repository_access;
mod runtimes;
mod sdk;
mod stated_value;
mod values;
mod var;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_manifest::{Digest, Name};

use crate::diagnostic::Diagnostic;
use crate::interpolate::Templates;
use crate::model::Project;
use crate::overrides;
use crate::raw::RawTop;
use crate::report::Report;
use crate::shape::Shape;
use crate::source::FileId;
use crate::yaml::Node;

use context::ResolveContext;

pub(crate) use context::SourceState;
pub(crate) use images::default_package;

/// Everything that a project is made of.
pub(crate) struct Composition {
    /// The absolute path of avocado.yaml.
    pub(crate) config: PathBuf,
    pub(crate) src_dir: PathBuf,
    /// What is wrong with it, for what needs it.
    pub(crate) unusable_src_dir: Option<Diagnostic>,
    pub(crate) target: Name,
    /// Empty for all.
    pub(crate) supported_targets: Vec<String>,
    /// All files merged, their templates resolved; overrides still stand beside what they override.
    pub(crate) root: Node,
    /// The top level of it, decoded.
    pub(crate) top: RawTop,
    /// What came of the `source` of an extension, by the name of the extension.
    pub(crate) sources: BTreeMap<String, SourceState>,
}

/// Resolves a composed project. What is wrong is added to the report; the project is whole only if
/// there is no error in it.
pub(crate) fn project(
    composition: Composition,
    env: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Project {
    let config_digest = Digest::of(report.file(FileId::MAIN).text.as_bytes());
    let Composition {
        config,
        src_dir,
        unusable_src_dir,
        target,
        supported_targets,
        root,
        top,
        sources,
    } = composition;
    let (root, kernel_overrides) = overrides::apply(
        root,
        Shape::of_project(),
        target.as_str(),
        &supported_targets,
        report,
    );
    let mut cx = ResolveContext {
        root: &root,
        src_dir,
        is_foreign: false,
        sources: &sources,
        kernel_overrides: &kernel_overrides,
        env,
        report,
    };
    let source_date_epoch = values::epoch(&mut cx, top.source_date_epoch.as_ref());
    let mut distro = feed::distro(&mut cx);
    let repositories = repositories::repositories(&mut cx, &mut distro.unusable);
    let sdk = sdk::sdk(&mut cx);
    let permissions = permissions::permissions(&mut cx);
    let mut rootfs = images::images(&mut cx, images::ROOTFS, &permissions);
    let mut initramfs = images::images(&mut cx, images::INITRAMFS, &permissions);
    let kernels = kernels::kernels(&mut cx);
    let extensions = extensions::extensions(&mut cx);
    sdk::tell_versions(&mut cx, &sdk, &extensions.entries);
    let needs = dependency_graph::graph(&mut cx, &extensions);
    let mut references = runtimes::RuntimeReferences {
        target: &target,
        extensions: &extensions,
        needs: &needs,
        permissions: &permissions,
        kernels: &kernels,
        rootfs: &mut rootfs,
        initramfs: &mut initramfs,
    };
    let runtimes = runtimes::runtimes(&mut cx, &top, &mut references);
    let default_runtime = runtimes::default_runtime(&mut cx, &top);
    let provision_profiles = sdk::provision_profiles(&mut cx);
    let connect = sdk::connect(&mut cx);
    let signing_keys = runtimes::signing_keys(&mut cx, top.signing_keys.unwrap_or_default());
    let cache = cache::cache(&mut cx, &signing_keys);
    let templates = Templates::new(root.clone(), target.to_string());
    Project {
        config_path: config,
        config_digest,
        src_dir: cx.src_dir,
        unusable_src_dir,
        target,
        source_date_epoch,
        distro,
        repositories,
        sdk,
        rootfs: rootfs.entries,
        initramfs: initramfs.entries,
        extensions: extensions.entries,
        sources: Vec::new(),
        runtimes,
        default_runtime,
        default_target: top.default_target.map(|text| text.value),
        default_target_board: top.default_target_board.map(|text| text.value),
        supported_targets,
        provision_profiles,
        connect,
        signing_keys,
        cache,
        templates,
        other_state_dir: None,
        is_complete: false,
    }
}
