//! The device's program over a store of its own, without a device around it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cleanup::CleanupGuard;
use crate::error::file;
use crate::tools::ToolCall;
use crate::{HarnessError, wait};

/// How long the service may take until it answers.
const START: Duration = Duration::from_secs(30);

/// A store, the configuration that names it, and the program.
#[derive(Debug, Clone)]
pub struct DeviceAgent {
    program: PathBuf,
    directory: PathBuf,
}

impl DeviceAgent {
    /// An empty store in `directory`, for `program`, the path of a built `avocadoctl`. It trusts
    /// the repositories of `anchor`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(program: &Path, directory: &Path, anchor: &[u8]) -> Result<Self, HarnessError> {
        let agent = DeviceAgent {
            program: program.to_owned(),
            directory: directory.to_owned(),
        };
        let metadata = agent.base().join("metadata");
        fs::create_dir_all(&metadata).map_err(file("make", &metadata))?;
        let root = metadata.join("root.json");
        fs::write(&root, anchor).map_err(file("write", &root))?;
        let conf = agent.config();
        let text = format!(
            "[avocado]\nruntimes_dir = {:?}\nsocket = \"unix:{}\"\n",
            agent.base(),
            agent.socket().display()
        );
        fs::write(&conf, text).map_err(file("write", &conf))?;
        Ok(agent)
    }

    /// The store.
    pub fn base(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Where the service listens, if it runs.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("avocadoctl.conf")
    }

    /// A call of the program. Where the service runs, it is a client of it.
    pub fn call(&self, arguments: &[&str]) -> ToolCall {
        ToolCall::new(&self.program)
            .clear_env()
            .arg("--config")
            .arg(self.config())
            .args(arguments)
    }

    /// The program, to watch it run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Starts the service, and returns when it answers.
    ///
    /// # Errors
    /// It does not.
    pub fn serve(&self) -> Result<AgentService, HarnessError> {
        let path = self.directory.join("serve.log");
        let log = File::create(&path).map_err(file("make", &path))?;
        let mut command = self.command(&["serve"]);
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|source| HarnessError::Start {
            command: format!("{} serve", self.program.display()),
            source,
        })?;
        let pid = Pid::from_child(&child);
        let guard = CleanupGuard::new(move || {
            let _ = kill_process(pid, Signal::KILL);
        })?;
        let service = AgentService {
            child,
            guard: Some(guard),
        };
        let socket = self.socket();
        let connect = || Ok(UnixStream::connect(&socket).ok());
        let log = || fs::read_to_string(&path).map_or_else(|_| String::new(), |s| format!("\n{s}"));
        wait::until("the start of the service", START, connect, log)?;
        Ok(service)
    }
}

/// The service. It ends when this is dropped.
#[derive(Debug)]
pub struct AgentService {
    child: Child,
    guard: Option<CleanupGuard>,
}

impl AgentService {
    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for AgentService {
    fn drop(&mut self) {
        // Until it is waited for, its number cannot belong to another process.
        self.guard.take();
        let _ = self.child.wait();
    }
}
