//! What is stated of how a runtime was made; `docs/provenance.md` says what each field means.
//!
//! Whatever is stated follows from the project, its lock and what was made: no times, no paths and no
//! names of this machine.

mod inputs;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use avocado_backend::Processor;
use avocado_manifest::Digest;
use avocado_project::{Filesystem, Project, Runtime, Sysroot, TargetLock};
use avocado_provenance::{
    BUILD_TYPE, BUILDER_ID, BuildDefinition, DigestSet, ExternalParameters, InternalParameters,
    PAYLOAD_TYPE, ProvenanceBuilder, ProvenanceStatement, ResourceDescriptor, RunDetails,
    SignedEnvelope, SlsaProvenance,
};
use avocado_sbom::rpm_package_url;
use avocado_tuf::SigningKey;
use serde_json::json;

use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::images;

/// The statement, signed, as a line of JSON.
pub(crate) fn signed(
    context: &BuildContext<'_>,
    runtime: &Runtime,
    subjects: &BTreeMap<String, Digest>,
    key: &SigningKey,
) -> Result<Vec<u8>, BuildError> {
    let statement = ProvenanceStatement::about(subjects, predicate(context, runtime)?);
    let envelope = SignedEnvelope::sign(PAYLOAD_TYPE, statement.to_payload()?, key)?;
    Ok(envelope.to_line()?)
}

/// The statement that is published, if it is one of this key about these subjects, for this target and
/// board: what is made stays as it was made, whatever the project has come to be without making
/// something else.
pub(crate) fn published(
    place: &Path,
    project: &Project,
    runtime: &Runtime,
    subjects: &BTreeMap<String, Digest>,
    key: &SigningKey,
) -> Option<Vec<u8>> {
    let bytes = avocado_fs::read_at_most(place, avocado_provenance::LONGEST_ENVELOPE).ok()?;
    let trusted = [key.public().clone()];
    let verified = avocado_provenance::verify(&bytes, &trusted).ok()?;
    let parameters = &verified.statement.predicate.build_definition;
    let parameters = &parameters.external_parameters;
    let is_of_it = parameters.runtime == runtime.name.as_str()
        && parameters.target == project.target.as_str()
        && parameters.target_board == runtime.target_board
        && verified.statement.check_subjects(subjects).is_ok();
    is_of_it.then_some(bytes)
}

fn predicate(context: &BuildContext<'_>, runtime: &Runtime) -> Result<SlsaProvenance, BuildError> {
    let (project, options) = (context.project, context.options);
    let config = project.config_path.file_name();
    let config = config.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut dependencies = vec![ResourceDescriptor {
        name: Some(config.clone()),
        digest: DigestSet::sha256(project.config_digest),
        ..ResourceDescriptor::default()
    }];
    dependencies.extend(inputs::of_project(context, runtime)?);
    {
        let lock_file = context.lock_file();
        let nothing = TargetLock::default();
        let lock = lock_file.target(&project.target).unwrap_or(&nothing);
        dependencies.extend(sources::snapshot(lock));
        dependencies.extend(sources::of_git(project, runtime, lock));
        let sdk = options.sdk_processor;
        dependencies.extend(packages(project, runtime, sdk, lock));
    }
    let mut version = BTreeMap::from([("avocado".to_owned(), options.cli_version.clone())]);
    for filesystem in filesystems(context, runtime)? {
        if let Some(query) = images::writer(filesystem)
            && let Some(identity) = context.tool(query)?
        {
            version.insert(query.tool.to_owned(), identity);
        }
    }
    Ok(SlsaProvenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                project: config,
                runtime: runtime.name.to_string(),
                target: project.target.to_string(),
                target_board: runtime.target_board.clone(),
                further_dnf_arguments: !options.dnf_args.is_empty(),
                without_scriptlets: !options.scriptlets,
            },
            internal_parameters: InternalParameters {
                source_date_epoch: project.source_date_epoch,
            },
            resolved_dependencies: dependencies,
        },
        run_details: RunDetails {
            builder: ProvenanceBuilder {
                id: BUILDER_ID.to_owned(),
                version,
            },
        },
    })
}

/// The formats of the images of a runtime.
fn filesystems(
    context: &BuildContext<'_>,
    runtime: &Runtime,
) -> Result<Vec<Filesystem>, BuildError> {
    let mut filesystems = vec![
        context.os_image("rootfs", &runtime.rootfs)?.filesystem,
        context
            .os_image("initramfs", &runtime.initramfs)?
            .filesystem,
    ];
    for member in &runtime.extensions {
        filesystems.push(context.extension(&member.name)?.filesystem);
    }
    Ok(filesystems)
}

/// The locked packages of the trees that the runtime is made of and with: each once, with all the
/// trees that have it.
fn packages(
    project: &Project,
    runtime: &Runtime,
    sdk: Processor,
    lock: &TargetLock,
) -> Vec<ResourceDescriptor> {
    let extensions = runtime.extensions.iter().map(|member| &member.name);
    let includes = sources::used(project, runtime);
    let includes = includes.map(|source| &source.extension);
    let trees = [
        Sysroot::Sdk(sdk.to_string()),
        Sysroot::TargetSysroot,
        Sysroot::rootfs(&runtime.rootfs),
        Sysroot::initramfs(&runtime.initramfs),
        Sysroot::Runtime(runtime.name.clone()),
    ];
    let trees = trees
        .into_iter()
        .chain(extensions.cloned().map(Sysroot::Extension))
        .chain(includes.cloned().map(Sysroot::Include));
    let mut found: BTreeMap<(String, Option<String>), BTreeSet<String>> = BTreeMap::new();
    for tree in trees {
        let headers = lock.headers(&tree);
        for (name, version) in lock.packages(&tree).into_iter().flatten() {
            let (version, arch) = version.rsplit_once('.').unwrap_or((version, ""));
            let header = headers.get(name);
            let url = rpm_package_url(name, version, arch, header.map_or(0, |h| h.epoch));
            let digest = header.and_then(|h| h.digest.strip_prefix("sha256:"));
            let key = (url, digest.map(ToOwned::to_owned));
            found.entry(key).or_default().insert(tree.key());
        }
    }
    let described = found.into_iter().map(|((url, header), trees)| {
        let mut annotations = BTreeMap::from([("trees".to_owned(), json!(trees))]);
        // No digest of the package: in-toto knows none of a part of a file.
        if let Some(header) = header {
            annotations.insert("rpmHeaderSha256".to_owned(), json!(header));
        }
        ResourceDescriptor {
            uri: Some(url),
            annotations,
            ..ResourceDescriptor::default()
        }
    });
    described.collect()
}
