//! A service of docker for one test: with its own store and socket, and without any network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::HarnessError;
use crate::error::file;
use crate::tools::{ToolCall, find};
use crate::wait;

/// How long it may take to start or to end on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A service, until this is dropped.
#[derive(Debug)]
pub struct DockerService {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl DockerService {
    /// One on the store at `root`, with its other files in the directory `work`.
    ///
    /// # Errors
    /// It does not start; its log is told.
    pub fn start(root: &Path, work: &Path) -> Result<Self, HarnessError> {
        fs::create_dir_all(work).map_err(file("make", work))?;
        let (socket, log) = (work.join("docker.sock"), work.join("docker.log"));
        let config = work.join("daemon.json");
        fs::write(&config, "{}").map_err(file("write", &config))?;
        let output = File::create(&log).map_err(file("make", &log))?;
        let errors = output.try_clone().map_err(file("open", &log))?;
        let program = find("dockerd").unwrap_or_else(|| "dockerd".into());
        let child = Command::new(&program)
            .arg("--data-root")
            .arg(root)
            .arg("--exec-root")
            .arg(work.join("exec"))
            .arg("--pidfile")
            .arg(work.join("pid"))
            .arg("--config-file")
            .arg(&config)
            .arg("--host")
            .arg(host(&socket))
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
            ])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(file("start", &program))?;
        let service = DockerService { child, socket, log };
        let is_there = || {
            Ok(service
                .docker(&["version"])
                .run()?
                .status
                .success()
                .then_some(()))
        };
        let said = || fs::read_to_string(&service.log).unwrap_or_default();
        wait::until("docker answers", LIMIT, is_there, said)?;
        Ok(service)
    }

    /// What DOCKER_HOST says to reach it.
    #[must_use]
    pub fn host(&self) -> String {
        host(&self.socket)
    }

    /// A call of its client.
    #[must_use]
    pub fn docker(&self, arguments: &[&str]) -> ToolCall {
        ToolCall::new("docker")
            .env("DOCKER_HOST", self.host())
            .args(arguments)
            .limit(LIMIT)
    }
}

impl Drop for DockerService {
    fn drop(&mut self) {
        // It ends its own parts, and unmounts what it mounted.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let child = &mut self.child;
        let ended = wait::until(
            "docker ends",
            LIMIT,
            || Ok(child.try_wait().ok().flatten()),
            String::new,
        );
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn host(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}
