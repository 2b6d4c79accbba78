//! A development VM of its own: `avocado vm` in a state directory of its own. Whatever
//! happens, no process, socket or file of it is left.

pub mod docker;
pub mod http;
pub mod notify;
mod place;
pub mod session;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::HarnessError;
use crate::error::file;
use crate::project::BuildEvents;
use crate::tools::{ToolCall, static_binary};
use crate::wait;

pub use place::Process;
use session::GuestSession;

/// How long one command may take: a start boots a Debian system, perhaps emulated on a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(240);

/// A VM that may run or not.
#[derive(Debug)]
pub struct TestVm {
    place: place::Place,
    program: PathBuf,
    environment: Vec<(String, OsString)>,
}

impl TestVm {
    /// A place for a VM. Gives back what dead processes left of theirs.
    ///
    /// # Errors
    /// The program is not built, or the place cannot be made.
    pub fn new() -> Result<Self, HarnessError> {
        let place = place::Place::take()?;
        let mut search_path = std::env::var_os("PATH").unwrap_or_default();
        search_path.push(":/usr/sbin:/sbin");
        let environment = vec![
            ("PATH".into(), search_path),
            ("HOME".into(), place.home().into_os_string()),
            ("AVOCADO_VM_STATE_DIR".into(), place.state().into()),
            ("AVOCADO_NO_UPDATE_CHECK".into(), "1".into()),
        ];
        Ok(TestVm {
            place,
            program: static_binary("avocado")?,
            environment,
        })
    }

    /// The same VM with another value of one variable.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The state directory. It is not made before the first start.
    pub fn dir(&self) -> PathBuf {
        self.place.state()
    }

    /// A file of the state directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The home directory of the user of the VM.
    pub fn home(&self) -> PathBuf {
        self.place.home()
    }

    /// A directory for files of a test; it goes away with the VM.
    pub fn scratch(&self) -> &Path {
        self.place.root()
    }

    /// A run of `avocado vm …`.
    pub fn vm(&self, arguments: &[&str]) -> ToolCall {
        let call = ToolCall::new(&self.program).clear_env();
        let call = self.environment.iter().fold(call, |c, (k, v)| c.env(k, v));
        call.arg("vm").args(arguments).limit(LIMIT)
    }

    /// Starts it, and answers with what `avocado` told meanwhile.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, arguments: &[&str]) -> Result<BuildEvents, HarnessError> {
        let call = self.vm(&["start"]).args(arguments);
        BuildEvents::parse(&call.args(["--output", "json"]).ok()?)
    }

    /// What `avocado vm status --output json` says.
    ///
    /// # Errors
    /// It fails, or says something else than one JSON object.
    pub fn status(&self) -> Result<Value, HarnessError> {
        let output = self.vm(&["status", "--output", "json"]).ok()?;
        serde_json::from_str(&output.stdout).map_err(|source| HarnessError::NotJson {
            text: output.stdout.clone(),
            source,
        })
    }

    /// Waits until the VM is in `state`; answers with the whole status.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub fn wait_for(&self, state: &str, limit: Duration) -> Result<Value, HarnessError> {
        wait::until(
            &format!("the state {state} of the VM"),
            limit,
            || {
                let status = self.status()?;
                Ok((status["state"] == state).then_some(status))
            },
            || {
                let status = self.status().unwrap_or_default();
                format!("\n{status:#}\n{}", self.log("supervisor.log"))
            },
        )
    }

    /// Everything in a log of the state directory.
    pub fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks the supervisor.
    ///
    /// # Errors
    /// It does not answer; what it refuses is an answer.
    pub fn ask(&self, method: &str) -> Result<Value, HarnessError> {
        let path = self.file("supervisor.sock");
        let mut stream = UnixStream::connect(&path).map_err(file("connect to", &path))?;
        let limit = Some(LIMIT);
        let talk = |stream: &mut UnixStream| {
            stream.set_read_timeout(limit)?;
            let request = json!({"method": method, "params": {}});
            stream.write_all(format!("{request}\n").as_bytes())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok::<_, std::io::Error>(line)
        };
        let line = talk(&mut stream).map_err(file("ask", &path))?;
        serde_json::from_str(&line).map_err(|source| HarnessError::NotJson { text: line, source })
    }

    /// A shell in the guest that stays, through the port of this name: `ssh` wakes the guest and
    /// counts, `infra_ssh` and `internal_ssh` do not.
    ///
    /// # Errors
    /// There is no such port, or the guest's sshd does not answer.
    pub fn session(&self, port: &str) -> Result<GuestSession, HarnessError> {
        let status = self.status()?;
        let number = status["ports"][port].as_u64().unwrap_or_default();
        GuestSession::open(&self.file("ssh-config"), &number.to_string())
    }

    /// The processes that belong to this VM: supervisor, QEMU, tunnel.
    pub fn processes(&self) -> Vec<Process> {
        self.place.processes()
    }

    /// Waits until nothing of a stopped VM is left. Its supervisor says that it is stopped a moment
    /// before it ends itself.
    ///
    /// # Errors
    /// Something stays for longer than `limit`.
    pub fn gone(&self, limit: Duration) -> Result<(), HarnessError> {
        wait::until(
            "the end of everything that belongs to the VM",
            limit,
            || Ok(self.left().is_empty().then_some(())),
            || format!("\n{}", self.left().join("\n")),
        )
    }

    /// What should not be there while the VM is stopped: processes and sockets.
    pub fn left(&self) -> Vec<String> {
        let processes = self.processes().into_iter().map(|p| p.to_string());
        let entries = std::fs::read_dir(self.dir())
            .into_iter()
            .flatten()
            .flatten();
        let sockets = entries.filter(|entry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| std::os::unix::fs::FileTypeExt::is_socket(&kind))
        });
        let sockets = sockets.map(|entry| entry.path().display().to_string());
        processes.chain(sockets).collect()
    }
}
