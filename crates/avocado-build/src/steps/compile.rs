//! Running a section of `sdk.compile`: the project's own script, with the tools of the SDK.

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
            known: &KnownFiles::new(PathBuf::new()),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use avocado_backend::Tool;
    use avocado_events::Silent;

    use super::super::compiled_package::CompiledPackage;
    use super::*;
    use crate::failure_kind::FailureKind;
    use crate::layout::Layout;

    /// What no path should need to be quoted for.
    const AWKWARD: &str = "it's a \"$(touch pwned)\" \n $HOME; ";

    /// A project and its state.
    struct Place {
        directory: tempfile::TempDir,
        layout: Layout,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let state = directory.path().join("state");
            let layout = Layout::new(&state, &"t".parse().unwrap());
            fs::create_dir_all(layout.sdk(crate::architecture::HOST_ARCH)).unwrap();
            let place = Place { directory, layout };
            fs::create_dir_all(place.files().on_host).unwrap();
            place
        }

        fn files(&self) -> FilesOfProject {
            let place = self.directory.path().join(AWKWARD);
            FilesOfProject {
                on_host: place.clone(),
                in_step: place,
                is_foreign: false,
            }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.files().on_host.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn set_up(&self, text: &str) {
            let sdk = self.layout.sdk(crate::architecture::HOST_ARCH);
            fs::write(sdk.join("environment-setup"), text).unwrap();
        }

        fn compile(&self, section: &str, script: &str) -> Result<Digest, BuildError> {
            self.compile_with("tools", section, script)
        }

        fn compile_with(
            &self,
            tools: &str,
            section: &str,
            script: &str,
        ) -> Result<Digest, BuildError> {
            let request = CompileRequest {
                section: section.to_owned(),
                script: Some(Hook::new(&self.files(), Path::new(script))?),
                with: Digest::of(tools.as_bytes()),
            };
            Ok(request.work(&self.context())?.built)
        }

        fn context(&self) -> StepContext<'static> {
            StepContext {
                target: "t".parse().unwrap(),
                layout: self.layout.clone(),
                host_layout: Layout::new(Path::new("/seen"), &"t".parse().unwrap()),
                epoch: 7,
                modes: CopyModes::Keep,
                sink: &Silent,
                loop_mounts: None,
            }
        }
    }

    #[test]
    fn a_program_is_compiled_and_installed() {
        let name = "a_program_is_compiled_and_installed";
        for tool in ["gcc", "make"] {
            if Tool::new(tool).arg("--version").run(&Silent).is_err() {
                avocado_test_support::skip(name, "gcc and make are not here");
                return;
            }
        }
        let place = Place::new();
        // Of more than one word, as for a compiler cache.
        place.set_up("export CC='/usr/bin/env\tgcc'\n");
        place.write("src/main.c", "int main(void) { return ANSWER; }\n");
        place.write(
            "src/Makefile",
            "$(OUT): main.c\n\t$(CC) -DANSWER=$(ANSWER) -o $@ $<\n",
        );
        place.write(
            "compile.sh",
            "set -eu\ncd src\nmake CC=\"$CC\" ANSWER=\"$SOURCE_DATE_EPOCH\" OUT=\"$AVOCADO_BUILD_DIR/answer\"\n",
        );
        let first = place.compile("app", "compile.sh").unwrap();
        assert_eq!(place.compile("app", "compile.sh").unwrap(), first);

        place.write(
            "install.sh",
            "install -D \"$AVOCADO_BUILD_DIR/answer\" \"$AVOCADO_BUILD_EXT_SYSROOT/usr/bin/answer\"\n",
        );
        let sysroot = place.directory.path().join("sysroot");
        let package = serde_json::json!({
            "name": "app",
            "section": "app",
            "install": Hook::new(&place.files(), Path::new("install.sh")).unwrap(),
        });
        let package: CompiledPackage = serde_json::from_value(package).unwrap();
        let variables = [("AVOCADO_BUILD_EXT_SYSROOT", sysroot.as_os_str())];
        let context = place.context();
        package.install(&context, "ext build", &variables).unwrap();
        let status = std::process::Command::new(sysroot.join("usr/bin/answer")).status();
        assert_eq!(status.unwrap().code(), Some(7));

        // Another source, another program.
        let source = "int main(void) { return ANSWER + 1; }\n";
        place.write("src/main.c", source);
        let main = place.files().on_host.join("src/main.c");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        let file = fs::File::options().write(true).open(main).unwrap();
        file.set_modified(later).unwrap();
        assert_ne!(place.compile("app", "compile.sh").unwrap(), first);
    }

    #[test]
    fn what_other_tools_left_is_not_compiled_on() {
        let place = Place::new();
        let script =
            "cd \"$AVOCADO_BUILD_DIR\"\necho >>lines\nwc -l <lines\ntest $(wc -l <lines) -lt 3\n";
        place.write("compile.sh", script);
        let lines = || {
            let file = place.layout.compile("app").join("lines");
            fs::read_to_string(file).unwrap().len()
        };
        place.compile("app", "compile.sh").unwrap();
        place.compile("app", "compile.sh").unwrap();
        assert_eq!(lines(), 2);
        place.compile("app", "compile.sh").unwrap_err();
        // Neither a failure nor another section changes what it was made with.
        place.compile_with("new", "other", "compile.sh").unwrap();
        assert_eq!(lines(), 3);
        place.compile_with("new", "app", "compile.sh").unwrap();
        assert_eq!(lines(), 1);
    }

    #[test]
    fn what_a_script_said_is_kept_and_named() {
        let place = Place::new();
        place.write("compile.sh", "seq 1 500\nprintf '\\377\\n' >&2\nexit 3\n");
        let error = place.compile("the app/1", "compile.sh").unwrap_err();
        let said = error.to_string();
        let log = "/seen/t/logs/sdk-compile-the-app%2F1.log";
        let expected = format!("the script `compile.sh` failed; all that it said is in {log}");
        assert_eq!(said, expected);
        let log = place.layout.log("sdk compile the app/1");
        let kept = fs::read(log).unwrap();
        let lines = kept.split_inclusive(|b| *b == b'\n');
        assert_eq!(lines.clone().count(), 501);
        assert!(lines.clone().any(|line| line == b"1\n"));
        assert!(lines.clone().any(|line| line == b"\xff\n"));
    }

    #[test]
    fn no_name_leaves_its_quotes() {
        for setup in [None, Some("export FROM_SDK=1\n")] {
            let place = Place::new();
            if let Some(text) = setup {
                place.set_up(text);
            }
            let shell = "#!/bin/sh\ntest \"${FROM_SDK:-}\" = \"$(cat from-sdk)\" || exit 1\nprintf %s \"$0\" >\"$AVOCADO_BUILD_DIR/name\"\n";
            place.write("from-sdk", if setup.is_some() { "1" } else { "" });
            for (script, mode) in [
                (format!("dir {AWKWARD}/-e {AWKWARD}.sh"), 0o755),
                (format!("{AWKWARD}'.sh"), 0o644),
            ] {
                place.write(&script, shell);
                let path = place.files().on_host.join(&script);
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                let section = AWKWARD;
                place.compile(section, &script).unwrap();
                let name = place.layout.compile(section).join("name");
                assert_eq!(Path::new(&fs::read_to_string(name).unwrap()), path);
            }
            assert!(!place.files().on_host.join("pwned").exists());
        }
    }

    #[test]
    fn a_script_without_its_interpreter_is_told_as_such() {
        let place = Place::new();
        place.set_up("");
        place.write("compile", "#! /no/such/interpreter -x\n");
        let path = place.files().on_host.join("compile");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = place.compile("app", "compile").unwrap_err();
        assert_eq!(error.kind(), Some(FailureKind::InterpreterMissing));
    }
}
