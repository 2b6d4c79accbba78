//! Publishing a runtime as a signed repository. The key never leaves this process.

use std::path::PathBuf;

use avocado_events::Sink;
use avocado_manifest::ImageId;
use avocado_project::Runtime;
use avocado_tuf::writer::{self, Publication, Target};

use super::extension_image::Imaged;
use super::runtime_build::Assembled;
use super::{Context, Made, detail};
use crate::Error;
use crate::graph::{Done, Task, TaskId};
use crate::keys::RuntimeKey;
use crate::stamp::{Outcome, Slot};

/// A publication.
pub(crate) struct RepositoryTask<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) key: &'a RuntimeKey,
    pub(crate) build: TaskId,
    /// The images of its extensions, in the order of the runtime's list.
    pub(crate) images: Vec<TaskId>,
}

impl RepositoryTask<'_> {
    fn directory(&self) -> PathBuf {
        self.context.layout.repository(&self.runtime.name)
    }

    fn role(&self) -> String {
        format!("runtime-{}", self.runtime.name)
    }

    /// Describes what is to be published and hands it to `act`.
    fn publication<R>(
        &self,
        done: &Done<'_>,
        act: impl FnOnce(&Publication<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let layout = &self.context.layout;
        let assembled: Assembled = detail(done.get(self.build)?)?;
        let mut files = vec![(
            "manifest.json".to_owned(),
            layout.manifest(&self.runtime.name),
            assembled.manifest,
        )];
        for (member, image) in self.runtime.extensions.iter().zip(&self.images) {
            let imaged: Imaged = detail(done.get(*image)?)?;
            if let Some(extension) = self.context.project.extension(&member.name) {
                let path = layout.extension_image(&extension.name, &extension.version);
                let id = ImageId::from_digest(imaged.image.sha256);
                files.push((id.file_name(), path, imaged.image));
            }
        }
        // Two extensions of one content are one target.
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|a, b| a.0 == b.0);
        let targets: Vec<Target<'_>> = files
            .iter()
            .map(|(name, path, made)| Target {
                name: name.clone(),
                source: path,
                digest: made.sha256,
                length: made.size,
            })
            .collect();
        act(&Publication {
            directory: &self.directory(),
            key: &self.key.key,
            role: &self.role(),
            targets: &targets,
            now: self.context.options.now,
        })
    }
}

impl Task for RepositoryTask<'_> {
    fn name(&self) -> String {
        format!("runtime repository {}", self.runtime.name)
    }

    fn slot(&self) -> Slot {
        Slot {
            component: "runtime",
            name: Some(self.runtime.name.to_string()),
            command: "repository",
        }
    }

    fn inputs(&self, done: &Done<'_>) -> Result<serde_json::Value, Error> {
        // Looked at rather than remembered: metadata expire, and a repository that nobody may
        // trust tomorrow is not up to date.
        let current = self.publication(done, |publication| Ok(writer::is_current(publication)))?;
        Ok(serde_json::json!({
            "manifest": done.get(self.build)?.digest,
            "key": self.key.key.id(),
            "role": self.role(),
            "current": current,
        }))
    }

    fn settled(&self, mut before: serde_json::Value) -> serde_json::Value {
        before["current"] = true.into();
        before
    }

    fn outputs(&self, _outcome: &Outcome) -> Vec<PathBuf> {
        vec![self.directory().join("metadata/timestamp.json")]
    }

    fn run(&self, done: &Done<'_>, _sink: &dyn Sink) -> Result<Outcome, Error> {
        self.publication(done, |publication| {
            for target in publication.targets {
                let made = Made {
                    sha256: target.digest,
                    size: target.length,
                };
                made.check(target.source)?;
            }
            Ok(writer::publish(publication)?)
        })?;
        Ok(Outcome {
            digest: done.get(self.build)?.digest,
            detail: serde_json::Value::Null,
        })
    }
}
