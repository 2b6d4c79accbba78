//! The step that fetches an extension from a git repository.

use std::path::PathBuf;

use avocado_engine::{AnyTaskId, Needs, StampKey, Task};
use avocado_events::Sink;
use avocado_manifest::Digest;
use avocado_project::{ExtensionSource, GitSource, SourceKind};
use serde::{Deserialize, Serialize};

use super::checkout::Checkout;
use crate::build_context::BuildContext;
use crate::error::{At as _, BuildError};
use crate::plan::{BuildStep, Plan};
use crate::steps::extension_build;
use crate::trees;

/// Adds the fetching of an extension from a git repository.
pub(super) fn plan<'a>(plan: &mut Plan<'a>, source: &'a ExtensionSource) -> Result<(), BuildError> {
    let SourceKind::Git {
        url,
        sparse_checkout,
        ..
    } = &source.kind
    else {
        return Ok(());
    };
    let Some(asked) = source.kind.git_source() else {
        return Ok(());
    };
    let key = extension_build::stamp_key(&source.extension, "fetch");
    let made = plan.once(&key, |plan| {
        let task = GitFetchTask {
            context: plan.context,
            source,
            asked,
            url,
            sparse_checkout,
        };
        let refused = task.refuse_another_commit();
        refused.map_err(|error| BuildError::fetch(source, error))?;
        Ok(task)
    });
    made.map(drop)
}

/// A step that runs in this process.
struct GitFetchTask<'a> {
    context: &'a BuildContext<'a>,
    source: &'a ExtensionSource,
    /// What the lock has it under.
    asked: GitSource,
    url: &'a str,
    sparse_checkout: &'a [String],
}

/// What a fetch consumes.
#[derive(Debug, Serialize)]
struct GitFetchInputs {
    /// Without secrets: inputs are kept, and told.
    git: GitSource,
    sparse_checkout: Vec<String>,
    /// That the lock has.
    commit: Option<String>,
}

/// What a fetch brought.
#[derive(Debug, Serialize, Deserialize)]
struct GitFetchOutput {
    /// Of the files.
    digest: Digest,
}

impl GitFetchTask<'_> {
    fn locked_commit(&self) -> Option<String> {
        let lock = self.context.lock_file();
        let lock = lock.target(&self.context.project.target)?;
        let commit = lock.commit(&self.source.extension, &self.asked)?;
        Some(commit.to_owned())
    }

    /// Where the lock is not to change: stops before the first step, which may download something, if
    /// the project asks for something else by now, or if nothing is locked at all.
    fn refuse_another_commit(&self) -> Result<(), BuildError> {
        if !self.context.is_locked() || self.locked_commit().is_some() {
            return Ok(());
        }
        let lock_file = self.context.lock_file();
        let lock = lock_file.target(&self.context.project.target);
        let shown = |git: &GitSource| match &git.reference {
            Some(reference) => format!("`{reference}` of {}", git.url),
            None => git.url.clone(),
        };
        let asked = shown(&self.asked);
        let what = match lock.and_then(|lock| lock.last_commit(&self.source.extension)) {
            Some((git, commit)) => {
                let place = self.source.version_at.as_ref().map(ToString::to_string);
                let place = place.unwrap_or_else(|| self.source.stated_at.clone());
                let locked = shown(&git);
                format!("commit {commit} of {locked} is locked, and {place} states {asked}")
            }
            // What is missing is told.
            None if self.context.options.frozen => return Ok(()),
            None => format!("a commit of {asked} would be locked"),
        };
        Ok(lock_file.refuse_if_locked(&what)?)
    }

    fn fetch(&self, commit: Option<&str>, sink: &dyn Sink) -> Result<GitFetchOutput, BuildError> {
        let context = self.context;
        let layout = &context.layout;
        let includes = layout.includes();
        let place = layout.include(&self.source.extension);
        let new = trees::unfinished(&place);
        trees::fresh(&new)?;
        let checkout = Checkout {
            environment: &context.options.fetch_environment,
            url: self.url,
            reference: self.asked.reference.as_deref(),
            sparse: self.sparse_checkout,
            place: &new,
            sink,
            cancel: context.cancel,
        };
        let commit = checkout.make(commit)?;
        // First, so that a lock that is not to change stops it before anything is replaced.
        self.lock(&commit)?;
        let digest = trees::digest(&new, context.modes())?;
        self.source.forget(&includes).at("write to", &includes)?;
        trees::replace(&new, &place)?;
        self.source.note(&includes).at("write to", &includes)?;
        Ok(GitFetchOutput { digest })
    }

    fn lock(&self, commit: &str) -> Result<(), BuildError> {
        let mut lock = self.context.lock_file();
        let target = lock.target_mut(&self.context.project.target);
        target.set_commit(&self.source.extension, &self.asked, commit);
        lock.save()?;
        Ok(())
    }
}

impl Task for GitFetchTask<'_> {
    type Inputs = GitFetchInputs;
    type Output = GitFetchOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("ext fetch {}", self.source.extension)
    }

    fn stamp_key(&self) -> StampKey {
        extension_build::stamp_key(&self.source.extension, "fetch")
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        Vec::new()
    }

    fn inputs(&self, _needs: &Needs<'_>) -> Result<GitFetchInputs, BuildError> {
        Ok(GitFetchInputs {
            git: self.asked.clone(),
            sparse_checkout: self.sparse_checkout.to_vec(),
            commit: self.locked_commit(),
        })
    }

    /// Which commit it is, the first fetch settles.
    fn recorded_inputs(&self, before: GitFetchInputs) -> Result<GitFetchInputs, BuildError> {
        Ok(GitFetchInputs {
            commit: self.locked_commit(),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &GitFetchInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<GitFetchOutput, BuildError> {
        if self.context.options.frozen {
            let missing = match &inputs.commit {
                Some(commit) => format!("commit {commit} of the repository"),
                None => "the repository".to_owned(),
            };
            let error = BuildError::NotInCache {
                missing: vec![missing],
            };
            return Err(BuildError::fetch(self.source, error));
        }
        let fetched = self.fetch(inputs.commit.as_deref(), sink);
        fetched.map_err(|error| BuildError::fetch(self.source, error))
    }

    fn output_files(&self, _output: &GitFetchOutput) -> Vec<PathBuf> {
        let layout = &self.context.layout;
        let record = self.source.record(&layout.includes());
        vec![layout.include(&self.source.extension), record]
    }

    fn digest(&self, output: &GitFetchOutput) -> Digest {
        output.digest
    }
}

impl BuildStep for GitFetchTask<'_> {}
