//! Publishing a runtime as a signed repository. The key never leaves this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::os_bundle::OsBundleChunks;
use avocado_manifest::{Digest, ImageId, Name};
use avocado_project::Runtime;
use avocado_provenance::PROVENANCE_TARGET;
use avocado_tuf::writer::{self, Publication, PublicationTarget, RoleSigners};
use serde::{Deserialize, Serialize};

use super::extension_image::{self, ExtensionImageOutput};
use super::runtime_build::{self, RuntimeBuildOutput};
use crate::artifact::{Artifact, size_of_files};
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::keys::RuntimeKey;
use crate::plan::{BuildStep, Plan};
use crate::provenance;

/// What is published.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RepositoryOutput {
    /// The digest of the runtime's manifest.
    manifest: Digest,
}

/// Adds the publication of a runtime, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    runtime: &Name,
) -> Result<TaskId<RepositoryOutput>, BuildError> {
    plan.once(&stamp_key(runtime), |plan| {
        let context = plan.context;
        let runtime = context.runtime(runtime)?;
        let build = runtime_build::plan(plan, &runtime.name)?;
        let mut images = Vec::new();
        for member in &runtime.extensions {
            images.push(extension_image::plan(plan, &member.name)?);
        }
        Ok(RepositoryTask {
            context,
            runtime,
            key: plan.runtime_key(runtime)?,
            build,
            images,
        })
    })
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "repository",
    }
}

/// A publication.
struct RepositoryTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    key: Arc<RuntimeKey>,
    build: TaskId<RuntimeBuildOutput>,
    /// The images of its extensions, in the order of the runtime's list.
    images: Vec<TaskId<ExtensionImageOutput>>,
}

/// What a publication consumes.
#[derive(Debug, Serialize)]
struct RepositoryInputs {
    manifest: Digest,
    /// The id of the key.
    key: String,
    role: String,
    /// Whether a device would take what is there already.
    current: bool,
}

impl RepositoryTask<'_> {
    fn directory(&self) -> PathBuf {
        self.context.layout.repository(&self.runtime.name)
    }

    fn role(&self) -> String {
        format!("runtime-{}", self.runtime.name)
    }

    /// What is published, by name, as the manifest says it.
    fn subjects(&self, needs: &Needs<'_>) -> Result<BTreeMap<String, Digest>, BuildError> {
        let path = self.context.layout.manifest(&self.runtime.name);
        let manifest = fs::read(&path).at("read", &path)?;
        let is_made = FileDigest {
            sha256: Digest::of(&manifest),
            size: manifest.len() as u64,
        };
        if is_made != needs.output(self.build)?.manifest {
            return Err(BuildError::Changed { path });
        }
        Ok(avocado_provenance::runtime_subjects(&manifest)?)
    }

    /// The statement that is published of what is to be published. It is about these bytes, so it stays
    /// while they do: edits of the project that change nothing of them make no other.
    fn published_statement(&self, needs: &Needs<'_>) -> Result<Option<Vec<u8>>, BuildError> {
        let place = self.directory().join("targets").join(PROVENANCE_TARGET);
        let subjects = self.subjects(needs)?;
        let (project, key) = (self.context.project, &self.key.key);
        Ok(provenance::published(
            &place,
            project,
            self.runtime,
            &subjects,
            key,
        ))
    }

    /// Describes what is to be published, with the statement of how it was made, and hands it to `act`.
    fn publication<R>(
        &self,
        needs: &Needs<'_>,
        statement: &[u8],
        act: impl FnOnce(&Publication<'_>) -> Result<R, BuildError>,
    ) -> Result<R, BuildError> {
        let layout = &self.context.layout;
        let manifest = needs.output(self.build)?.manifest;
        let statement = FileDigest {
            sha256: Digest::of(statement),
            size: statement.len() as u64,
        };
        let name = &self.runtime.name;
        let mut files = vec![
            ("manifest.json".to_owned(), layout.manifest(name), manifest),
            (
                PROVENANCE_TARGET.to_owned(),
                layout.provenance(name),
                statement,
            ),
        ];
        for (member, image) in self.runtime.extensions.iter().zip(&self.images) {
            let extension = self.context.extension(&member.name)?;
            let image = needs.output(*image)?.image;
            let path = layout.extension_image(&extension.name, self.context.version_of(extension)?);
            files.push((ImageId::from_digest(image.sha256).file_name(), path, image));
        }
        if let Some(bundle) = needs.output(self.build)?.os_bundle {
            let id = ImageId::from_digest(bundle.archive.sha256);
            let chunks = OsBundleChunks::file_name(&id);
            files.push((id.file_name(), layout.os_bundle(name), bundle.archive));
            files.push((chunks, layout.os_bundle_chunks(name), bundle.chunks));
        }
        // Two extensions of one content are one target.
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|a, b| a.0 == b.0);
        let targets: Vec<PublicationTarget<'_>> = files
            .iter()
            .map(|(name, path, file)| PublicationTarget {
                name: name.clone(),
                source: path,
                digest: file.sha256,
                length: file.size,
            })
            .collect();
        act(&Publication {
            directory: &self.directory(),
            signers: RoleSigners::one(&self.key.key),
            role: &self.role(),
            targets: &targets,
            now: self.context.options.now,
        })
    }
}

impl Task for RepositoryTask<'_> {
    type Inputs = RepositoryInputs;
    type Output = RepositoryOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime repository {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        let images = self.images.iter().map(|id| AnyTaskId::from(*id));
        images.chain([self.build.into()]).collect()
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<RepositoryInputs, BuildError> {
        let findings = &needs.output(self.build)?.findings;
        if self.context.options.strict && !findings.is_empty() {
            return Err(BuildError::Findings {
                runtime: self.runtime.name.to_string(),
                findings: findings.clone(),
            });
        }
        // Looked at rather than remembered: metadata expire, and a repository that no device may
        // trust tomorrow is not up to date.
        let current = match self.published_statement(needs)? {
            None => false,
            Some(statement) => self.publication(needs, &statement, |publication| {
                Ok(writer::is_current(publication))
            })?,
        };
        Ok(RepositoryInputs {
            manifest: needs.digest(self.build)?,
            key: self.key.key.id().to_string(),
            role: self.role(),
            current,
        })
    }

    fn recorded_inputs(&self, before: RepositoryInputs) -> Result<RepositoryInputs, BuildError> {
        Ok(RepositoryInputs {
            current: true,
            ..before
        })
    }

    fn run(
        &self,
        inputs: &RepositoryInputs,
        needs: &Needs<'_>,
        _sink: &dyn Sink,
    ) -> Result<RepositoryOutput, BuildError> {
        // Steps that ran since the build began can change what is there.
        self.context.layout.check_runtime(&self.runtime.name)?;
        let statement = match self.published_statement(needs)? {
            Some(published) => published,
            None => {
                let subjects = self.subjects(needs)?;
                provenance::signed(self.context, self.runtime, &subjects, &self.key.key)?
            }
        };
        let place = self.context.layout.provenance(&self.runtime.name);
        avocado_fs::write(&place, &statement)?;
        self.publication(needs, &statement, |publication| {
            for target in publication.targets {
                let file = FileDigest {
                    sha256: target.digest,
                    size: target.length,
                };
                file.check(target.source)?;
            }
            Ok(writer::publish(publication)?)
        })?;
        Ok(RepositoryOutput {
            manifest: inputs.manifest,
        })
    }

    fn output_files(&self, _output: &RepositoryOutput) -> Vec<PathBuf> {
        vec![self.directory().join("metadata/timestamp.json")]
    }

    fn digest(&self, output: &RepositoryOutput) -> Digest {
        output.manifest
    }
}

impl BuildStep for RepositoryTask<'_> {
    fn artifacts(&self, output: &RepositoryOutput) -> Vec<Artifact> {
        let directory = self.directory();
        let content = FileDigest {
            sha256: output.manifest,
            size: size_of_files(&directory),
        };
        let name = self.runtime.name.to_string();
        vec![Artifact::new("repository", name, directory, content)]
    }
}
