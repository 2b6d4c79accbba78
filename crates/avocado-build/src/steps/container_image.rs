//! The step that fetches a container image, in this process: it is the user who has logged in.

use std::path::PathBuf;

use avocado_backend::Processor;
use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::{Digest, Name};
use avocado_project::{DockerImage, Project};
use serde::{Deserialize, Serialize};

use super::install::{self, InstallOutput};
use crate::architecture::Architectures;
use crate::build_context::BuildContext;
use crate::containers::{self, ContainerPlatform, ContainerRegistry, StoredImage};
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::plan::{BuildStep, Plan};
use crate::trees;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerImageOutput {
    pub(crate) image: StoredImage,
    /// An archive that docker loads, below [`Layout::container_images`](crate::layout::Layout::container_images).
    pub(crate) archive: String,
    pub(crate) content: FileDigest,
}

/// Adds the fetching of an image that an extension has.
pub(crate) fn plan<'a>(
    plan: &mut Plan<'a>,
    image: &'a DockerImage,
) -> Result<TaskId<ContainerImageOutput>, BuildError> {
    plan.once(&stamp_key(image), |plan| {
        // Which processor it is for, the SDK says.
        let sdk = install::plan_sdk(plan)?;
        let task = ContainerImageTask {
            context: plan.context,
            image,
            sdk,
            users: users_of(plan.context.project, image),
        };
        task.refuse_another_digest()?;
        Ok(task)
    })
}

/// Where the archive of an image is, among those of all.
pub(crate) fn archive(image: &DockerImage) -> String {
    format!("{}.tar", file_name(image))
}

/// Name and tag as docker shows them: what has the same is one image in its store, however it is spelt.
pub(super) fn familiar_reference(image: &DockerImage) -> String {
    format!("{}:{}", containers::familiar_name(&image.image), image.tag)
}

/// A name for the file system: of an image's own nothing is known but that it may have `/` and `:`.
pub(crate) fn file_name(image: &DockerImage) -> String {
    let digest = Digest::of(familiar_reference(image).as_bytes()).to_string();
    digest.chars().take(24).collect()
}

fn stamp_key(image: &DockerImage) -> StampKey {
    StampKey {
        component: "container-image",
        directory: "container-image",
        name: Some(file_name(image)),
        command: "fetch",
    }
}

/// The extensions that have the image, and how they call it.
fn users_of<'a>(project: &'a Project, image: &DockerImage) -> Vec<(&'a Name, String)> {
    let reference = familiar_reference(image);
    let of_extensions = project.extensions.iter().flat_map(|extension| {
        let images = extension.docker_images.iter();
        images.map(|image| (&extension.name, image))
    });
    let same = of_extensions.filter(|(_, other)| familiar_reference(other) == reference);
    same.map(|(extension, other)| (extension, other.reference()))
        .collect()
}

/// The parent's side, which does all of it.
struct ContainerImageTask<'a> {
    context: &'a BuildContext<'a>,
    image: &'a DockerImage,
    sdk: TaskId<InstallOutput>,
    users: Vec<(&'a Name, String)>,
}

/// What a fetch consumes.
#[derive(Debug, Serialize)]
struct ContainerImageInputs {
    reference: String,
    /// That the project states, or else the lock has.
    digest: Option<Digest>,
    /// That of the target.
    processor: Option<Processor>,
}

impl ContainerImageTask<'_> {
    fn locked(&self) -> Option<Digest> {
        let lock = self.context.lock_file();
        let lock = lock.target(&self.context.project.target)?;
        let own = lock.container_image(&self.image.reference());
        let mut of_users = self.users.iter();
        own.or_else(|| of_users.find_map(|(_, reference)| lock.container_image(reference)))
    }

    fn pinned(&self) -> Option<Digest> {
        let stated = self.image.digest.as_ref().map(|digest| digest.value);
        stated.or_else(|| self.locked())
    }

    /// Where the lock is not to change: stops before the first step if it would.
    fn refuse_another_digest(&self) -> Result<(), BuildError> {
        if !self.context.is_locked() {
            return Ok(());
        }
        let reference = self.image.reference();
        let what = match (self.locked(), &self.image.digest) {
            (Some(locked), Some(stated)) if locked != stated.value => format!(
                "sha256:{locked} of the container image `{reference}` is locked, and {} states \
                 sha256:{}",
                stated.place, stated.value
            ),
            (Some(_), _) => return Ok(()),
            // What is missing is told.
            (None, _) if self.context.options.frozen => return Ok(()),
            (None, _) => format!("a digest of the container image `{reference}` would be locked"),
        };
        Ok(self.context.lock_file().refuse_if_locked(&what)?)
    }

    fn processor(&self) -> Result<Option<Processor>, BuildError> {
        let of_target = Architectures::of_target(&self.context.layout.target_repoconf())?;
        Ok(of_target.processor())
    }

    fn fetch(
        &self,
        inputs: &ContainerImageInputs,
        sink: &dyn Sink,
    ) -> Result<ContainerImageOutput, BuildError> {
        let (context, image) = (self.context, self.image);
        let Some(processor) = inputs.processor else {
            let what = "it is not known how registries call the processor of this target";
            return Err(BuildError::Invalid(what.to_owned()));
        };
        let registry = ContainerRegistry {
            environment: &context.options.fetch_environment,
            cancel: context.cancel,
            sink,
        };
        let digest = match inputs.digest {
            Some(digest) => digest,
            None => registry.digest_of(&image.image, &image.tag)?,
        };
        let name = archive(image);
        let place = context.layout.container_images();
        std::fs::create_dir_all(&place).at("create", &place)?;
        let place = place.join(&name);
        let new = trees::unfinished(&place);
        trees::clear(&new)?;
        registry.fetch(&image.image, &image.tag, digest, processor, &new)?;
        let platform = registry.platform_of(&new)?;
        if !platform.runs_on(processor) {
            trees::clear(&new)?;
            return Err(self.of_another_platform(&platform, processor));
        }
        // Not before it is known that the device can run it, and so that a lock that is not to change stops
        // it before anything is replaced.
        self.lock(digest)?;
        let content = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        Ok(ContainerImageOutput {
            image: StoredImage {
                name: image.image.value.clone(),
                tag: image.tag.clone(),
                digest,
            },
            archive: name,
            content,
        })
    }

    fn of_another_platform(&self, is: &ContainerPlatform, processor: Processor) -> BuildError {
        let reference = self.image.reference();
        let wanted = ContainerPlatform::of(processor);
        let message = format!(
            "the container image `{reference}` is for {is}, and the target `{}` is {wanted}",
            self.context.project.target
        );
        let hint = format!("state an image that there is for {wanted} too, or alone");
        let digest = self.image.digest.as_ref();
        let place = digest.map_or(&self.image.image.place, |digest| &digest.place);
        let diagnostics = vec![place.error(message).with_hint(hint)];
        BuildError::Project { diagnostics }
    }

    fn lock(&self, digest: Digest) -> Result<(), BuildError> {
        let mut lock = self.context.lock_file();
        let target = lock.target_mut(&self.context.project.target);
        for (extension, reference) in &self.users {
            target.set_container_image(extension, reference, digest);
        }
        lock.save()?;
        Ok(())
    }
}

impl Task for ContainerImageTask<'_> {
    type Inputs = ContainerImageInputs;
    type Output = ContainerImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("container-image fetch {}", self.image.reference())
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(self.image)
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        vec![self.sdk.into()]
    }

    /// As the var partition, which is all that it is for.
    fn failure_stops_others(&self) -> bool {
        false
    }

    fn inputs(&self, _needs: &Needs<'_>) -> Result<ContainerImageInputs, BuildError> {
        Ok(ContainerImageInputs {
            reference: self.image.reference(),
            digest: self.pinned(),
            processor: self.processor()?,
        })
    }

    /// Which digest it is, the first fetch settles.
    fn recorded_inputs(
        &self,
        before: ContainerImageInputs,
    ) -> Result<ContainerImageInputs, BuildError> {
        Ok(ContainerImageInputs {
            digest: self.pinned(),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &ContainerImageInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<ContainerImageOutput, BuildError> {
        let fetched = if self.context.options.frozen {
            let missing = vec![format!("the container image `{}`", self.image.reference())];
            Err(BuildError::NotInCache { missing })
        } else {
            self.fetch(inputs, sink)
        };
        fetched.map_err(|error| BuildError::ContainerImage {
            image: self.image.reference(),
            stated_at: self.image.image.place.to_string(),
            source: Box::new(error),
        })
    }

    fn output_files(&self, output: &ContainerImageOutput) -> Vec<PathBuf> {
        vec![self.context.layout.container_images().join(&output.archive)]
    }

    fn digest(&self, output: &ContainerImageOutput) -> Digest {
        output.content.sha256
    }
}

impl BuildStep for ContainerImageTask<'_> {}
