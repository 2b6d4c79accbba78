//! The store of container images that a device's docker finds at its first start.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use avocado_backend::MountAccess;
use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::{DockerImage, Project, Runtime};
use serde::{Deserialize, Serialize};

use super::container_image::{self, ContainerImageOutput};
use crate::build_context::BuildContext;
use crate::containers::{self, DOCKERD, DockerDaemon, StoredImage, TAR};
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::layout::Layout;
use crate::plan::{BuildStep, Plan};
use crate::step_context::StepContext;
use crate::step_request::{StepRequest, StepView};
use crate::trees;

/// What was made: an archive, because a tree of it is of use to root alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerStoreOutput {
    pub(crate) archive: FileDigest,
}

/// Adds the store of a runtime and the images in it; nothing where its extensions have none.
pub(crate) fn plan<'a>(
    plan: &mut Plan<'a>,
    runtime: &'a Runtime,
) -> Result<Option<TaskId<ContainerStoreOutput>>, BuildError> {
    let context = plan.context;
    let images = images_of(context.project, runtime)?;
    let Some(first) = images.first().copied() else {
        return Ok(None);
    };
    let made = plan.once(&stamp_key(&runtime.name), |plan| {
        let images = images
            .iter()
            .map(|image| container_image::plan(plan, image));
        let images = images.collect::<Result<_, _>>()?;
        Ok(ContainerStoreTask {
            context,
            runtime,
            first,
            images,
        })
    });
    made.map(Some)
}

/// Those of all its extensions, each once.
fn images_of<'a>(
    project: &'a Project,
    runtime: &Runtime,
) -> Result<Vec<&'a DockerImage>, BuildError> {
    let mut images: Vec<&DockerImage> = Vec::new();
    let members = runtime.extensions.iter();
    let extensions = members.filter_map(|member| project.extension(&member.name));
    for image in extensions.flat_map(|extension| &extension.docker_images) {
        let reference = container_image::familiar_reference(image);
        let Some(same) = images
            .iter_mut()
            .find(|other| container_image::familiar_reference(other) == reference)
        else {
            images.push(image);
            continue;
        };
        let [one, other] = [&**same, image].map(|image| image.digest.as_ref());
        match (one, other) {
            (Some(one), Some(other)) if one.value != other.value => {
                let message = format!(
                    "`{}` has another `digest` here than at {}",
                    image.reference(),
                    one.place
                );
                let diagnostics = vec![other.place.error(message)];
                return Err(BuildError::Project { diagnostics });
            }
            // The one that says which it is.
            (None, Some(_)) => *same = image,
            _ => {}
        }
    }
    Ok(images)
}

fn stamp_key(runtime: &Name) -> StampKey {
    StampKey {
        component: "runtime",
        directory: "runtime",
        name: Some(runtime.to_string()),
        command: "container-store",
    }
}

/// The parent's side of a store.
struct ContainerStoreTask<'a> {
    context: &'a BuildContext<'a>,
    runtime: &'a Runtime,
    /// The one that is told of where a store cannot be made.
    first: &'a DockerImage,
    images: Vec<TaskId<ContainerImageOutput>>,
}

/// What a store consumes.
#[derive(Debug, Serialize)]
struct ContainerStoreInputs {
    store: ContainerStoreRequest,
    /// The tools that write it and pack it.
    writer: Option<String>,
    packer: Option<String>,
}

impl Task for ContainerStoreTask<'_> {
    type Inputs = ContainerStoreInputs;
    type Output = ContainerStoreOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("runtime container-store {}", self.runtime.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.runtime.name)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        self.images.iter().map(|id| AnyTaskId::from(*id)).collect()
    }

    /// As the var partition, which is all that it is for.
    fn failure_stops_others(&self) -> bool {
        false
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<ContainerStoreInputs, BuildError> {
        let images = self.images.iter().map(|id| Ok(needs.output(*id)?.clone()));
        Ok(ContainerStoreInputs {
            store: ContainerStoreRequest {
                runtime: self.runtime.name.clone(),
                images: images.collect::<Result<_, BuildError>>()?,
            },
            writer: self.context.tool(&DOCKERD)?,
            packer: self.context.tool(&TAR)?,
        })
    }

    fn run(
        &self,
        inputs: &ContainerStoreInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<ContainerStoreOutput, BuildError> {
        let context = self.context;
        if !context.backend.capabilities().loop_mounts {
            let message = "`docker_images` takes a docker of its own in the step, which only root can start, and \
                           only outside a container";
            let hint = "run this as root with `--backend host` and without --runs-on; no deployment needs the \
                        var partition: `avocado build --no-var` leaves it out";
            let diagnostics = vec![self.first.image.place.error(message).with_hint(hint)];
            return Err(BuildError::Project { diagnostics });
        }
        let place = context.layout.container_stores();
        fs::create_dir_all(&place).at("create", &place)?;
        context.run_step(&self.stage(), inputs.store.clone(), sink)
    }

    fn output_files(&self, _output: &ContainerStoreOutput) -> Vec<PathBuf> {
        vec![self.context.layout.container_store(&self.runtime.name)]
    }

    fn digest(&self, output: &ContainerStoreOutput) -> Digest {
        output.archive.sha256
    }
}

impl BuildStep for ContainerStoreTask<'_> {}

/// A store, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerStoreRequest {
    runtime: Name,
    images: Vec<ContainerImageOutput>,
}

impl StepRequest for ContainerStoreRequest {
    const KIND: &'static str = "container_store";
    // dockerd looks what it can do by mounting it.
    const LOOP_MOUNTS: bool = true;
    type Result = ContainerStoreOutput;

    fn view(&self, layout: &Layout) -> StepView {
        let below = |place: PathBuf| {
            let below = place.strip_prefix(layout.prefix()).map(PathBuf::from);
            below.unwrap_or(place)
        };
        StepView::Parts(vec![
            (below(layout.container_images()), MountAccess::Read),
            (below(layout.container_stores()), MountAccess::Write),
        ])
    }

    fn work(self, context: &StepContext<'_>) -> Result<ContainerStoreOutput, BuildError> {
        let Some(loop_mounts) = context.loop_mounts else {
            let what = "this backend does not let a step start docker";
            return Err(BuildError::Invalid(what.to_owned()));
        };
        let place = context.layout.container_store(&self.runtime);
        let root = place.with_extension("new");
        trees::fresh(&root)?;
        let began = SystemTime::now();
        let from = context.layout.container_images();
        DockerDaemon::run(loop_mounts, &root, context.sink, |daemon| {
            for image in &self.images {
                let archive = from.join(&image.archive);
                image.content.check(&archive)?;
                daemon.load(&archive)?;
            }
            Ok(())
        })?;
        let images: Vec<StoredImage> = self.images.into_iter().map(|image| image.image).collect();
        containers::settle(&root, &images, began, context.epoch)?;
        let new = trees::unfinished(&place);
        trees::clear(&new)?;
        containers::pack(loop_mounts, &root, &new, context.sink)?;
        let archive = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        trees::clear(&root)?;
        Ok(ContainerStoreOutput { archive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::test_project::TestProject;

    #[test]
    fn each_image_is_there_once_and_two_digests_of_one_are_told() {
        let digest = |letter: &str| format!("'sha256:{}'", letter.repeat(64));
        for (name, of_b, is_same) in [
            ("redis", digest("a"), true),
            ("redis", "~".to_owned(), true),
            ("redis", digest("b"), false),
            ("docker.io/library/redis", digest("a"), true),
            ("docker.io/library/redis", digest("b"), false),
            ("docker.io/redis", digest("b"), false),
        ] {
            let yaml = format!(
                "default_target: t\nextensions:\n  a: {{version: 1.0.0, docker_images: [{{image: redis, tag: '7', digest: {}}}, \
                 {{image: redis, tag: '8'}}]}}\n  b: {{version: 1.0.0, docker_images: [{{image: {name}, tag: '7', digest: {of_b}}}]}}\n\
                 runtimes: {{dev: {{extensions: [b, a]}}}}\n",
                digest("a")
            );
            let project = TestProject::new(&yaml);
            let project = &project.options.project;
            let found = images_of(project, &project.runtimes[0]);
            match found {
                Ok(images) => {
                    assert!(is_same, "{name} {of_b}");
                    assert_eq!(images.len(), 2);
                    assert!(images[0].digest.is_some());
                }
                Err(error) => {
                    assert!(!is_same, "{name} {of_b}");
                    assert_eq!(error.diagnostics()[0].line, 3);
                }
            }
        }
    }
}
