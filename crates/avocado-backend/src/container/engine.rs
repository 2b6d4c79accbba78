//! The program that makes containers: podman or docker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use avocado_events::{Cancel, Event, Silent, Sink};
use serde::Deserialize;

use crate::{BackendError, Processor, Tool, ToolError};

/// How long a service may take to end a container that it was told to end.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// How often it is asked meanwhile.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(50);

/// An image that is on this machine.
#[derive(Debug, Clone)]
pub(super) struct ContainerImage {
    /// What identifies it: another content has another one.
    pub(super) id: String,
    /// The processor that it is for, as the engine calls it.
    architecture: String,
    config: ImageConfig,
}

/// Of the configuration of the OCI image format, what matters here.
#[derive(Debug, Clone, Deserialize)]
struct ImageConfig {
    /// `NAME=VALUE`, as its containers have it; some engines have nothing for none.
    #[serde(rename = "Env", default)]
    environment: Option<Vec<String>>,
}

impl ContainerImage {
    /// Whether its programs are for that processor.
    pub(super) fn is_for(&self, processor: Processor) -> bool {
        processor.is_called(&self.architecture)
    }

    /// The names of the variables that it gives to its containers.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let environment = self.config.environment.iter().flatten();
        environment.map(|variable| {
            variable
                .split_once('=')
                .map_or(&**variable, |(name, _)| name)
        })
    }
}

/// A container engine, as its client's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEngine {
    program: PathBuf,
    environment: BTreeMap<OsString, OsString>,
}

impl ContainerEngine {
    /// The engine with this client, which gets this environment: where the user's home is, how a
    /// daemon is reached.
    #[must_use]
    pub fn new(program: PathBuf, environment: BTreeMap<OsString, OsString>) -> Self {
        ContainerEngine {
            program,
            environment,
        }
    }

    /// The client's program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A call of the client.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(&self.environment);
        command
    }

    fn tool(&self) -> Tool {
        let mut tool = Tool::new(&self.program).clear_environment();
        for (name, value) in &self.environment {
            tool = tool.env(name, value);
        }
        tool
    }

    fn failed(&self, action: String, error: ToolError) -> BackendError {
        match error {
            ToolError::Failed { output, .. } => BackendError::Engine {
                engine: self.name(),
                action,
                said: output.iter().map(|line| format!("\n    {line}")).collect(),
            },
            other => other.into(),
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether it is docker; else it is podman.
    pub(super) fn is_docker(&self) -> bool {
        self.name() == "docker"
    }

    /// That what root makes in a container belongs to the user who started it, or that this is root.
    /// A daemon that runs as root would leave files that the user can neither change nor remove.
    pub(super) fn check_owner(&self, cancel: &Cancel) -> Result<(), BackendError> {
        if rustix::process::geteuid().is_root() || !self.is_docker() {
            return Ok(());
        }
        let info = self
            .tool()
            .args(["info", "--format", "{{json .SecurityOptions}}"])
            .cancelled_by(cancel);
        let options = info
            .read(&Silent)
            .map_err(|e| self.failed("reach its service".to_owned(), e))?;
        let options: Vec<String> = serde_json::from_str(&options).unwrap_or_default();
        if options.iter().any(|option| option == "name=rootless") {
            return Ok(());
        }
        Err(BackendError::Engine {
            engine: self.name(),
            action: "leave what is made to this user".to_owned(),
            said: ": its service runs as root. Podman, or a service of the user's own, can"
                .to_owned(),
        })
    }

    /// The image of that name; nothing where it is not on this machine.
    pub(super) fn image(
        &self,
        image: &str,
        cancel: &Cancel,
    ) -> Result<Option<ContainerImage>, BackendError> {
        let inspect = self
            .tool()
            .args(["image", "inspect", "--format"])
            .arg("{{.Id}} {{.Architecture}} {{json .Config}}")
            .args(["--", image])
            .cancelled_by(cancel);
        match inspect.read(&Silent) {
            Ok(said) => {
                let mut words = said.splitn(3, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (id, architecture, config) = (word(), word(), word());
                Ok(Some(ContainerImage {
                    id: id.trim().to_owned(),
                    architecture: architecture.to_owned(),
                    config: serde_json::from_str(config).map_err(BackendError::Result)?,
                }))
            }
            Err(ToolError::Failed { .. }) if !cancel.is_cancelled() => {
                // It says no for what is not there, and where its service does not answer.
                let version = self.tool().arg("version").cancelled_by(cancel);
                match version.read(&Silent) {
                    Ok(_) => Ok(None),
                    Err(error) => Err(self.failed("reach its service".to_owned(), error)),
                }
            }
            Err(error) => Err(self.failed(format!("tell what the image `{image}` is"), error)),
        }
    }

    /// Brings an image to this machine, the one for that processor where one is stated.
    pub(super) fn pull(
        &self,
        image: &str,
        processor: Option<Processor>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<(), BackendError> {
        sink.emit(Event::info(format!(
            "pulling the container image `{image}`, which is not on this machine"
        )));
        let mut pull = self.tool().arg("pull");
        if let Some(processor) = processor {
            pull = pull.arg(format!("--platform={}", processor.platform()));
        }
        let pull = pull.args(["--", image]).cancelled_by(cancel);
        pull.run(sink)
            .map_err(|e| self.failed(format!("pull the image `{image}`"), e))
    }

    /// Ends a container, whatever it does, if there is one of that name, and waits until it is gone.
    pub(super) fn remove(&self, name: &str) {
        // What is not there any more is what is wanted.
        let _ = self.tool().args(["rm", "--force", name]).read(&Silent);
        // A service that is already at it, because the container's client is gone, says no at once.
        let asked = Instant::now();
        while self.has_container(name) && asked.elapsed() < REMOVAL_LIMIT {
            thread::sleep(REMOVAL_INTERVAL);
        }
    }

    /// Whether there is a container of that name, as far as its service can be asked.
    fn has_container(&self, name: &str) -> bool {
        let inspect = ["container", "inspect", "--format", "{{.Id}}", name];
        self.tool().args(inspect).read(&Silent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_removal_that_somebody_else_has_begun_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("left");
        fs::write(&left, "xxx").unwrap();
        let program = directory.path().join("docker");
        let service = "#!/bin/sh\ncase $1 in rm) exit 1;; esac\n\
                       read -r times <\"$LEFT\" || test -n \"$times\" || exit 1\n\
                       printf %s \"${times%x}\" >\"$LEFT\"\n";
        fs::write(&program, service).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = [("LEFT".into(), left.clone().into_os_string())];
        let engine = ContainerEngine::new(program, environment.into());
        engine.remove("one");
        assert_eq!(fs::read_to_string(&left).unwrap(), "");
    }
}
