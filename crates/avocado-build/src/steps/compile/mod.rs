//! Running a section of `sdk.compile`: the project's own script, with the tools of the SDK.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_backend::ToolQuery;
use avocado_engine::{AnyTaskId, Needs, StampKey, Task, TaskId};
use avocado_events::Sink;
use avocado_manifest::Digest;
use avocado_project::{CompileSection, ProjectPackage};
use serde::{Deserialize, Serialize};

use super::hook::Hook;
use super::install::{self, InstallOutput, PackageTree};
use crate::build_context::{BuildContext, FilesOfProject};
use crate::error::{At as _, BuildError};
use crate::known_files::KnownFiles;
use crate::needed;
use crate::plan::{BuildStep, Plan};
use crate::sources::{SourceReader, SourcesDigest};
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::{self, CopyModes};

/// Compilers and their companions that a script finds on PATH. Another version of one may make
/// something else of the same sources.
const TOOLS: [ToolQuery; 7] = [
    version_of("cc"),
    version_of("c++"),
    version_of("ld"),
    version_of("make"),
    version_of("cmake"),
    version_of("cargo"),
    version_of("rustc"),
];

const fn version_of(tool: &'static str) -> ToolQuery {
    ToolQuery {
        tool,
        arguments: &["--version"],
    }
}

/// The directory of the stamps of sections.
pub(crate) const STAMPS: &str = "compile";

/// Running the script that removes what a section compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanRequest {
    section: String,
    script: Hook,
}

impl CleanRequest {
    pub(crate) fn new(section: &str, script: Hook) -> Self {
        CleanRequest {
            section: section.to_owned(),
            script,
        }
    }
}

impl StepRequest for CleanRequest {
    const KIND: &'static str = "clean";
    type Result = ();

    fn runs_hook(&self) -> bool {
        true
    }

    fn work(self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let directory = context.layout.compile(&self.section);
        let log = format!("sdk clean {}", self.section);
        let variables = [("AVOCADO_BUILD_DIR", &directory)];
        self.script.run(context, &log, &variables)
    }
}

/// A section, as it travels to the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CompileRequest {
    section: String,
    script: Option<Hook>,
    /// What it is compiled with. Tools that compile by the times of files know nothing of it: what
    /// another one left is not good for this one.
    with: Digest,
}

/// What a script compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CompileResult {
    /// Of its build directory.
    built: Digest,
}

/// What those who install it consume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CompileOutput {
    /// Of the build directory, and of the project's files: a script may as well build there.
    digest: Digest,
}

/// Adds a section, and what it needs.
pub(crate) fn plan(
    plan: &mut Plan<'_>,
    section: &str,
) -> Result<TaskId<CompileOutput>, BuildError> {
    let key = StampKey {
        component: "sdk",
        directory: STAMPS,
        name: Some(section.to_owned()),
        command: "compile",
    };
    plan.once(&key, |plan| {
        let context = plan.context;
        let section = context.compile_section(section)?;
        let script = section.compile.as_ref();
        let files = script.map_or_else(
            || context.files(),
            |script| context.files_at(&script.place.file),
        );
        needed::for_compile(context.project, section)?;
        let sdk = install::plan_sdk(plan)?;
        let sysroot = install::plan_tree(plan, &PackageTree::TargetSysroot)?;
        Ok(CompileTask {
            context,
            section,
            files,
            sdk,
            sysroot,
            key: key.clone(),
        })
    })
}

/// Adds the sections that the packages of a tree are compiled by.
pub(crate) fn plan_packages(
    plan: &mut Plan<'_>,
    packages: &[ProjectPackage],
) -> Result<Vec<TaskId<CompileOutput>>, BuildError> {
    let mut sections = Vec::new();
    for section in packages.iter().filter_map(ProjectPackage::section) {
        sections.push(self::plan(plan, section)?);
    }
    Ok(sections)
}

/// The parent's side of a section.
struct CompileTask<'a> {
    context: &'a BuildContext<'a>,
    section: &'a CompileSection,
    /// What its script is relative to.
    files: FilesOfProject,
    sdk: TaskId<InstallOutput>,
    sysroot: TaskId<InstallOutput>,
    key: StampKey,
}

/// What a section consumes.
#[derive(Debug, Serialize)]
struct CompileInputs {
    compile: CompileRequest,
    sdk: Digest,
    sysroot: Digest,
    source_date_epoch: u64,
    sources: Vec<SourcesDigest>,
    environment: BTreeMap<&'static str, String>,
    tools: Vec<Option<String>>,
}

impl Task for CompileTask<'_> {
    type Inputs = CompileInputs;
    type Output = CompileOutput;
    type Error = BuildError;

    fn stage(&self) -> String {
        format!("sdk compile {}", &**self.section.name)
    }

    fn stamp_key(&self) -> StampKey {
        self.key.clone()
    }

    fn needs(&self) -> Vec<AnyTaskId> {
        vec![self.sdk.into(), self.sysroot.into()]
    }

    fn inputs(&self, needs: &Needs<'_>) -> Result<CompileInputs, BuildError> {
        let script = self.section.compile.as_deref();
        let mut tools = Vec::new();
        for query in &TOOLS {
            tools.push(self.context.tool(query)?);
        }
        let (sdk, sysroot) = (needs.digest(self.sdk)?, needs.digest(self.sysroot)?);
        let source_date_epoch = self.context.project.source_date_epoch;
        let environment = self.context.told_to_scripts();
        let with = format!("{sdk} {sysroot} {source_date_epoch} {tools:?} {environment:?}");
        Ok(CompileInputs {
            compile: CompileRequest {
                section: self.section.name.value.clone(),
                script: script.map(|p| Hook::new(&self.files, p)).transpose()?,
                with: Digest::of(with.as_bytes()),
            },
            sdk,
            sysroot,
            source_date_epoch,
            sources: self.context.sources_of(&self.files),
            environment,
            tools,
        })
    }

    fn recorded_inputs(&self, before: CompileInputs) -> Result<CompileInputs, BuildError> {
        let sources = before.sources.into_iter();
        Ok(CompileInputs {
            sources: sources.map(SourcesDigest::recorded).collect(),
            ..before
        })
    }

    fn run(
        &self,
        inputs: &CompileInputs,
        _needs: &Needs<'_>,
        sink: &dyn Sink,
    ) -> Result<CompileOutput, BuildError> {
        let request = inputs.compile.clone();
        let result = self.context.run_step(&self.stage(), request, sink)?;
        let mut text = result.built.to_string();
        for sources in self.context.sources_of(&self.files) {
            text += &format!(" {}", sources.or_unique());
        }
        Ok(CompileOutput {
            digest: Digest::of(text.as_bytes()),
        })
    }

    fn output_files(&self, _output: &CompileOutput) -> Vec<PathBuf> {
        vec![self.context.layout.compile(&self.section.name)]
    }

    fn digest(&self, output: &CompileOutput) -> Digest {
        output.digest
    }
}

impl BuildStep for CompileTask<'_> {}

impl StepRequest for CompileRequest {
    const KIND: &'static str = "compile";
    type Result = CompileResult;

    fn runs_hook(&self) -> bool {
        self.script.is_some()
    }

    fn work(self, context: &StepContext<'_>) -> Result<CompileResult, BuildError> {
        let directory = self.directory(context)?;
        if let Some(script) = &self.script {
            let log = format!("sdk compile {}", self.section);
            script.run(context, &log, &[("AVOCADO_BUILD_DIR", &directory)])?;
        }
        // Of this run alone: what is here now is looked at once.
        let reader = SourceReader {
            modes: CopyModes::Keep,
            known: &KnownFiles::new(PathBuf::new(), PathBuf::new()),
            hidden: Vec::new(),
            project: None,
        };
        Ok(CompileResult {
            built: reader.read(&directory).or_unique(),
        })
    }
}

impl CompileRequest {
    /// Where the script compiles. What an earlier run left there is what makes the next one fast.
    fn directory(&self, context: &StepContext<'_>) -> Result<PathBuf, BuildError> {
        let directory = context.layout.compile(&self.section);
        let record = context.layout.compiled_with(&self.section);
        let with = self.with.to_string();
        if std::fs::read_to_string(&record).is_ok_and(|earlier| earlier == with) {
            std::fs::create_dir_all(&directory).at("create", &directory)?;
        } else {
            trees::fresh(&directory)?;
            trees::write(&record, with)?;
        }
        Ok(directory)
    }
}
