//! Turning an extension's sysroot into its image.

use std::os::unix::ffi::OsStrExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::{Event, Sink};
use avocado_manifest::{Digest, DigestHasher, Name};
use avocado_project::{Extension, Filesystem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PACKAGE_STATE;
use super::extension_build::{self, ExtensionBuildOutput, stamp_key};
use super::extension_metadata::release_files;
use crate::artifact::Artifact;
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::images;
use crate::kept_warnings::{self, KeptWarnings};
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::shared_environment;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, Tree, TreeFeatures, var_files};

/// An image, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExtensionImageRequest {
    #[serde(flatten)]
    image: ExtensionImageSpec,
    /// By which the sysroot is known without being read: it is another one after each build, also of
    /// the same bytes, and so no part of the inputs.
    #[serde(default)]
    state: Option<Digest>,
    #[serde(default)]
    features: TreeFeatures,
}

/// What shapes an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ExtensionImageSpec {
    name: Name,
    version: Name,
    filesystem: Filesystem,
    var_files: Vec<String>,
    source_date_epoch: u64,
    /// The digest of what `ext build` made.
    sysroot: Digest,
}

/// What an image step made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExtensionImageOutput {
    pub(crate) image: FileDigest,
    /// What is left out of the image belongs on the var partition: the paths in the sysroot.
    pub(crate) var_paths: Vec<PathBuf>,
    var_content: Digest,
    /// What was warned of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl ExtensionImageOutput {
    /// Makes sure that what was left out of the image is still what it was when that was made.
    pub(crate) fn check_var_content(&self, root: &Tree) -> Result<(), BuildError> {
        if var_content(root, &self.var_paths)? == self.var_content {
            return Ok(());
        }
        let path = root.path().to_owned();
        Err(BuildError::Changed { path })
    }
}

/// Adds the image of an extension, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    name: &Name,
) -> Result<TaskId<ExtensionImageOutput>, BuildError> {
    plan.once(&stamp_key(name, "image"), |plan| {
        let context = plan.context;
        let extension = context.extension(name)?;
        needed::for_extension_image(context.project, extension)?;
        Ok(ExtensionImageTask {
            context,
            extension,
            build: extension_build::plan(plan, name)?,
            version: context.version_of(extension)?,
        })
    })
}

/// The parent's side of an image step.
struct ExtensionImageTask<'a> {
    context: &'a BuildContext<'a>,
    extension: &'a Extension,
    version: &'a Name,
    build: TaskId<ExtensionBuildOutput>,
}

/// Counts how often the same inputs came to mean another image: what was made before is not good any
/// more. The last was that times and attributes of what is left out of an image shape it no more.
const REVISION: u32 = 4;

/// What an image step consumes.
#[derive(Debug, Serialize)]
struct ExtensionImageInputs {
    revision: u32,
    image: ExtensionImageSpec,
    /// The tool that writes the format.
    writer: Option<String>,
}

impl ExtensionImageTask<'_> {
    fn path(&self) -> PathBuf {
        let layout = &self.context.layout;
        layout.extension_image(&self.extension.name, self.version)
    }
}

impl Task for ExtensionImageTask<'_> {
    type Inputs = ExtensionImageInputs;
    type Output = ExtensionImageOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("ext image {}", self.extension.name)
    }

    fn stamp_key(&self) -> StampKey {
        stamp_key(&self.extension.name, "image")
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        vec![self.build.into()]
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<ExtensionImageInputs, BuildError> {
        let extension = self.extension;
        Ok(ExtensionImageInputs {
            revision: REVISION,
            image: ExtensionImageSpec {
                name: extension.name.clone(),
                version: self.version.clone(),
                filesystem: extension.filesystem,
                var_files: extension.var_files.clone(),
                source_date_epoch: self.context.project.source_date_epoch,
                sysroot: needs.digest(self.build)?,
            },
            writer: match images::writer(extension.filesystem) {
                Some(writer) => self.context.tool(writer)?,
                None => None,
            },
        })
    }

    fn run(
        &self,
        inputs: &ExtensionImageInputs,
        needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<ExtensionImageOutput, BuildError> {
        images::check_writer(inputs.image.filesystem, inputs.writer.as_deref())?;
        let built = needs.output(self.build)?;
        let request = ExtensionImageRequest {
            image: inputs.image.clone(),
            state: built.state,
            features: built.features.clone(),
        };
        let warnings = KeptWarnings::new(sink);
        let output = self.context.run_step(&self.stage(), request, &warnings)?;
        Ok(ExtensionImageOutput {
            warnings: warnings.into_texts(),
            ..output
        })
    }

    fn output_files(&self, _output: &ExtensionImageOutput) -> Vec<PathBuf> {
        vec![self.path()]
    }

    fn digest(&self, output: &ExtensionImageOutput) -> Digest {
        let mut hasher = DigestHasher::default();
        hasher.update(output.image.sha256.as_bytes());
        hasher.update(output.var_content.as_bytes());
        hasher.finish()
    }

    fn file_digests(&self, output: &ExtensionImageOutput) -> Vec<(PathBuf, Digest)> {
        vec![(self.path(), output.image.sha256)]
    }

    fn shared_environment(&self) -> Result<Option<Value>, BuildError> {
        Ok(Some(shared_environment::of_image(self.context)))
    }

    fn restored(&self, output: &ExtensionImageOutput, sink: &dyn Sink) -> Result<(), BuildError> {
        kept_warnings::tell(&output.warnings, &self.stage(), sink);
        Ok(())
    }
}

impl BuildStep for ExtensionImageTask<'_> {
    fn artifacts(&self, output: &ExtensionImageOutput) -> Vec<Artifact> {
        let name = format!("{}-{}", self.extension.name, self.version);
        vec![Artifact::new("extension", name, self.path(), output.image)]
    }
}

impl StepRequest for ExtensionImageRequest {
    const KIND: &'static str = "extension_image";
    type Result = ExtensionImageOutput;

    fn work(self, context: &StepContext<'_>) -> Result<ExtensionImageOutput, BuildError> {
        let image = &self.image;
        let root = Tree::open(&context.layout.extension(&image.name))?;
        let var_paths = var_files::find(&root, &image.var_files)?;
        for unmatched in var_files::unmatched(&root, &image.var_files)? {
            context.sink.emit(Event::warning(format!(
                "`{unmatched}` in var_files of extension `{}` matches nothing in it",
                image.name
            )));
        }
        image.keeps_its_release_files(&root, &var_paths)?;
        image.has_no_os_release(&root, &var_paths)?;
        let mut left_out = var_paths.clone();
        left_out.extend(
            PACKAGE_STATE
                .iter()
                .map(PathBuf::from)
                .filter(|path| root.has(path)),
        );
        let place = context.layout.extension_image(&image.name, &image.version);
        let new = trees::unfinished(&place);
        let filesystem = image.filesystem;
        let features = self.features.without(&root, &left_out, context.epoch)?;
        // Both read the tree, and the writer has more to do than that.
        let (is_as_built, written) = thread::scope(|scope| {
            let check = scope.spawn(|| self.is_as_built(&root));
            let written =
                images::write(context, filesystem, root.path(), &features, &new, &left_out);
            (check.join(), written)
        });
        let is_as_built = is_as_built.unwrap_or_else(|panic| resume_unwind(panic))?;
        if !is_as_built {
            trees::clear(&new)?;
            let path = root.path().to_owned();
            return Err(BuildError::Changed { path });
        }
        written?;
        let image_file = FileDigest::of(&new)?;
        trees::replace(&new, &place)?;
        Ok(ExtensionImageOutput {
            image: image_file,
            var_content: var_content(&root, &var_paths)?,
            var_paths,
            warnings: Vec::new(),
        })
    }
}

impl ExtensionImageRequest {
    /// Whether the sysroot is what the build of the extension left.
    fn is_as_built(&self, root: &Tree) -> Result<bool, BuildError> {
        Ok(trees::has_state(root.path(), self.state)?
            || trees::digest_with_times(root.path())? == self.image.sysroot)
    }
}

impl ExtensionImageSpec {
    /// systemd takes an image with that file for an operating system, and refuses it as an extension.
    fn has_no_os_release(&self, root: &Tree, var_paths: &[PathBuf]) -> Result<(), BuildError> {
        let file = Path::new("usr/lib/os-release");
        if !root.has(file) || var_paths.iter().any(|out| file.starts_with(out)) {
            return Ok(());
        }
        Err(BuildError::Invalid(format!(
            "extension `{}` has /usr/lib/os-release: systemd refuses such an extension on the \
             device; leave out the package or the file of the overlay that brings it",
            self.name
        )))
    }

    /// A device would find no extension in an image without them.
    fn keeps_its_release_files(
        &self,
        root: &Tree,
        var_paths: &[PathBuf],
    ) -> Result<(), BuildError> {
        for file in release_files(&self.name, &self.version) {
            if !root.has(&file) {
                continue;
            }
            let place = root.resolve(&file)?;
            if let Some(path) = var_paths.iter().find(|path| {
                let out = root.shown(path);
                place.starts_with(&out) || root.shown(&file).starts_with(&out)
            }) {
                return Err(BuildError::Invalid(format!(
                    "var_files of extension `{}` leave {} out of its image, and with it the file by which systemd knows the extension",
                    self.name,
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

fn var_content(root: &Tree, paths: &[PathBuf]) -> Result<Digest, BuildError> {
    let mut hasher = DigestHasher::default();
    for path in paths {
        hasher.update(path.as_os_str().as_bytes());
        let content = trees::digest_with_times(&root.shown(path))?;
        hasher.update(content.as_bytes());
    }
    Ok(hasher.finish())
}

/// Where a file that was left out of an image goes on the var partition.
pub(crate) fn var_destination(path: &Path) -> &Path {
    path.strip_prefix("var").unwrap_or(path)
}
