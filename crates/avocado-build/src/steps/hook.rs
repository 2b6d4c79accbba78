//! The user's own scripts: the only programs that are started as the files they are.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use avocado_backend::{SOURCE_MOUNT, Tool, ToolError};
use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};

use crate::build_context::FilesOfProject;
use crate::error::{At as _, BuildError};
use crate::step_context::StepContext;
use crate::trees;

const WITH_ENVIRONMENT: &str = include_str!("with-environment.sh");

/// A script of the project, with the digest of its content: editing it is a change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// What a step sees its project as.
    #[serde(default = "source_mount", skip_serializing_if = "is_source_mount")]
    project: PathBuf,
    path: PathBuf,
    content: Digest,
}

impl Hook {
    /// Describes the script at `path` below `files`.
    pub(crate) fn new(files: &FilesOfProject, path: &Path) -> Result<Self, BuildError> {
        let file = files.find(path)?;
        let bytes = std::fs::read(&file).at("read", &file)?;
        Ok(Hook {
            project: files.in_step.clone(),
            path: path.to_owned(),
            content: Digest::of(&bytes),
        })
    }

    /// As the project names it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it in the directory of its project, with the published variables and those of the SDK.
    /// All that it says is kept under the name `log`.
    pub(crate) fn run<V: AsRef<OsStr>>(
        &self,
        context: &StepContext<'_>,
        log: &str,
        variables: &[(&str, V)],
    ) -> Result<(), BuildError> {
        let file = self.project.join(&self.path);
        let is_executable = {
            use std::os::unix::fs::PermissionsExt as _;
            let metadata = std::fs::metadata(&file).at("look at", &file)?;
            metadata.permissions().mode() & 0o111 != 0
        };
        let mut command = in_environment_of_sdk(context);
        if is_executable {
            interpreter_is_there(&file)?;
        } else {
            // A script that nobody made executable is one for the shell, as it always was.
            command.push("bash".into());
        }
        command.push(file.clone().into());
        let place = context.layout.log(log);
        trees::write(&place, "")?;
        let output = File::options().append(true).open(&place);
        let mut tool = Tool::new(&command[0])
            .args(&command[1..])
            .called(file.to_string_lossy())
            .log_to(output.at("open", &place)?)
            .current_dir(&self.project)
            // Compilers and their companions keep things there. It ends with the step.
            .env("HOME", "/tmp")
            .env("SOURCE_DATE_EPOCH", context.epoch.to_string());
        for (key, value) in variables {
            tool = tool.env(key, value);
        }
        tool.run(context.sink).map_err(|error| BuildError::Hook {
            script: self.path.clone(),
            log: context.host_layout.log(log),
            source: Box::new(error.into()),
        })
    }
}

/// What a command of the user's begins with, so that it has the environment of the SDK.
pub(crate) fn in_environment_of_sdk(context: &StepContext<'_>) -> Vec<OsString> {
    let setup = context.layout.sdk().join("environment-setup");
    if !setup.is_file() {
        return Vec::new();
    }
    // It names the compiler and its companions, in the way of a shell.
    let shell = ["bash", "-c", WITH_ENVIRONMENT, "bash"];
    let shell = shell.into_iter().map(OsString::from);
    shell.chain([setup.into()]).collect()
}

/// Starting it through the SDK's environment, its failure to start would be one of the shell.
fn interpreter_is_there(script: &Path) -> Result<(), BuildError> {
    let mut start = Vec::new();
    let file = File::open(script).at("open", script)?;
    file.take(4096).read_to_end(&mut start).at("read", script)?;
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let Some(line) = line.strip_prefix(b"#!") else {
        return Ok(());
    };
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace);
    let interpreter = Path::new(OsStr::from_bytes(&line[..end.unwrap_or(line.len())]));
    match fs::metadata(interpreter) {
        Err(source) if interpreter.is_absolute() => Err(ToolError::Start {
            tool: script.display().to_string(),
            source,
        }
        .into()),
        _ => Ok(()),
    }
}

pub(super) fn source_mount() -> PathBuf {
    SOURCE_MOUNT.into()
}

pub(super) fn is_source_mount(path: &Path) -> bool {
    path == Path::new(SOURCE_MOUNT)
}
