//! The host backend: jobs are children of this process, each in namespaces of its own.

pub(crate) mod devices;
pub(crate) mod mounts;
pub(crate) mod namespace;
pub(crate) mod owners;
mod tool_identities;
#[cfg(test)]
mod view_tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use avocado_events::{Cancel, Silent, Sink};

use crate::emulation::Emulator;
use crate::job_process::JobProcess;
use crate::job_view::JobView;
use crate::protocol::{JobTerminal, Place, Request, Work};
use crate::terminal::{KeptTerminal, LentTerminal, ignore_interrupts};
use crate::worker::USERS_APART;
use crate::{Backend, BackendError, Capabilities, Emulation, Job, Processor, ToolQuery};
use tool_identities::ToolIdentities;

/// Runs jobs as children of this process, with the tools of this host.
#[derive(Debug)]
pub struct HostBackend {
    program: PathBuf,
    identities: ToolIdentities,
    /// What was found for other processors than this machine's.
    emulations: Mutex<BTreeMap<Processor, Emulation>>,
    processes: AtomicU64,
}

impl HostBackend {
    /// A backend that re-executes `program` as `program step`, with the tools on `search_path`.
    /// What they say of themselves is remembered in the file `identities`, which may be removed
    /// at any time.
    pub fn new(program: PathBuf, search_path: OsString, identities: PathBuf) -> Self {
        HostBackend {
            program,
            identities: ToolIdentities::new(search_path, identities),
            emulations: Mutex::default(),
            processes: AtomicU64::new(0),
        }
    }

    /// The same for who only looks: a tool that is another one than before is said to be that, and is
    /// not asked what it is.
    #[must_use]
    pub fn asking_no_tools(mut self) -> Self {
        self.identities.asks = false;
        self
    }

    /// Starts a child that makes its view of this host, and does nothing there.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn check(&self, cancel: &Cancel, sink: &dyn Sink) -> Result<(), BackendError> {
        self.check_with(None, cancel, sink)
    }

    /// How jobs can start programs for `processor`: what there is, as far as the kernel takes it. Before
    /// Linux 6.7, and where there may be no user namespaces, it takes no emulator for a job. Found once.
    pub fn emulation(&self, processor: Processor) -> Emulation {
        let emulations = self.emulations.lock();
        // Held meanwhile: other steps want to know the same.
        let mut emulations = emulations.unwrap_or_else(PoisonError::into_inner);
        let found = emulations.entry(processor).or_insert_with(|| {
            let found = Emulation::of(processor, self.identities.search_path());
            let is_taken = found.clone().of_job(processor).is_none_or(|emulator| {
                let checked = self.check_with(Some(emulator), &Cancel::new(), &Silent);
                checked.is_ok()
            });
            if is_taken { found } else { Emulation::None }
        });
        found.clone()
    }

    fn check_with(
        &self,
        emulator: Option<Emulator>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<(), BackendError> {
        let mut command = Command::new(&self.program);
        command.arg("step").env_clear();
        if emulator.is_some() {
            command.arg(USERS_APART);
        }
        let process = JobProcess {
            command,
            program: &self.program,
            stage: "",
            cancel,
            sink,
            count: &|| self.count_process(),
            socket: None,
        };
        let view = JobView {
            network: false,
            mounts: Vec::new(),
            visible: Vec::new(),
            hidden: Vec::new(),
            emulator,
        };
        process
            .run(&Request {
                terminal: None,
                place: Place::Host(view),
                loop_mounts: false,
                work: Work::Check,
            })
            .map(drop)
    }

    fn count_process(&self) {
        self.processes.fetch_add(1, Ordering::Relaxed);
    }

    /// The directories of tools, as far as they hold nothing that is hidden: that would bring it
    /// back.
    fn tools_beside<'a>(&'a self, hidden: &'a [PathBuf]) -> impl Iterator<Item = PathBuf> + 'a {
        let directories = std::env::split_paths(self.identities.search_path());
        directories.filter(|path| {
            path.is_absolute() && !hidden.iter().any(|hidden| hidden.starts_with(path))
        })
    }
}

impl Backend for HostBackend {
    fn capabilities(&self) -> Capabilities {
        // In a user namespace, where a step of another user than root runs, block devices can
        // neither be mounted nor opened.
        let privileged = namespace::is_privileged();
        Capabilities {
            loop_mounts: privileged,
            devices: privileged,
            network: true,
        }
    }

    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let lent = if job.terminal {
            let lent = LentTerminal::new().map_err(|source| BackendError::Start {
                program: self.program.clone(),
                source,
            })?;
            Some(lent)
        } else {
            None
        };
        let loop_mounts = job.loop_mounts && self.capabilities().loop_mounts;
        // The kernel lets root of a user namespace mount no disk.
        let emulated = job.emulates.filter(|_| !loop_mounts);
        let emulator = emulated.and_then(|for_| self.emulation(for_).of_job(for_));
        let users_apart = emulator.is_some();
        let tools = self.tools_beside(&job.hidden);
        let request = Request {
            terminal: lent.as_ref().map(|lent| JobTerminal::Lent(lent.numbers())),
            place: Place::Host(JobView {
                network: job.network,
                mounts: job.mounts.clone(),
                visible: job.visible.iter().cloned().chain(tools).collect(),
                hidden: job.hidden.clone(),
                emulator,
            }),
            loop_mounts,
            work: Work::Job(job.request.clone()),
        };
        let mut command = Command::new(&self.program);
        command
            .arg("step")
            .env_clear()
            .envs(&job.environment)
            .env("PATH", self.identities.search_path());
        if users_apart {
            command.arg(USERS_APART);
        }
        if lent.is_some() {
            ignore_interrupts(&mut command);
        }
        let process = JobProcess {
            command,
            program: &self.program,
            stage: &job.stage,
            cancel,
            sink,
            count: &|| self.count_process(),
            socket: None,
        };
        let kept = job.terminal.then(KeptTerminal::new);
        let result = process.run(&request);
        if let (Some(kept), Err(_)) = (kept, &result) {
            kept.restore();
        }
        result
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        self.identities.get(query, &|| self.count_process())
    }

    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError> {
        self.emulation(processor).identity()
    }

    fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::protocol::{Failure, FailureOrigin, Line};

    /// Runs a step whose process takes the request, and then does what a shell script says.
    fn run(script: &str) -> Result<u32, BackendError> {
        run_request(
            &format!("cat >/dev/null\n{script}"),
            serde_json::Value::Null,
        )
    }

    fn run_request(script: &str, request: serde_json::Value) -> Result<u32, BackendError> {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("program"));
        // Signals do what they do by default, even where this was started without an interrupt key.
        let shell = "#!/usr/bin/env -S --default-signal /bin/sh";
        fs::write(&text, format!("{shell}\n{script}\n")).unwrap();
        // Not written by this process, whose other children might hold it open.
        let mut install = Command::new("install");
        let installed = install.args(["-m", "755"]).args([&text, &program]).status();
        assert!(installed.unwrap().success());
        let job = Job {
            stage: "step".to_owned(),
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".into())]),
            mounts: Vec::new(),
            visible: Vec::new(),
            hidden: Vec::new(),
            network: true,
            terminal: false,
            emulates: None,
            loop_mounts: false,
            request,
        };
        let backend = HostBackend::new(program, "/usr/bin:/bin".into(), dir.path().join("tools"));
        job.run_on(&backend, &Cancel::new(), &avocado_events::Silent)
    }

    fn line(origin: FailureOrigin, causes: &[&str]) -> String {
        let causes = causes.iter().map(|c| (*c).to_owned()).collect();
        serde_json::to_string(&Line::Failure(Failure { origin, causes })).unwrap()
    }

    #[test]
    fn a_signal_to_stop_counts_more_than_what_was_said_before_it() {
        let failure = line(FailureOrigin::Job(None), &["dnf failed"]);
        // Ctrl-C ends a tool first, the step has a word to say about it, and then ends as well.
        for signal in ["INT", "TERM", "HUP"] {
            let result = run(&format!("echo '{failure}'; kill -{signal} $$"));
            assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
        }
        // More than a pipe holds: it is gone before it has the request.
        let request = || serde_json::Value::String("x".repeat(1 << 20));
        let result = run_request("kill -INT $$", request());
        assert!(matches!(result, Err(BackendError::Cancelled)), "{result:?}");
        let result = run_request("exit 1", request());
        assert!(
            matches!(result, Err(BackendError::Died { .. })),
            "{result:?}"
        );
        let result = run(&format!("echo '{failure}'; exit 1"));
        assert!(
            matches!(result, Err(BackendError::Failed { .. })),
            "{result:?}"
        );
        let result = run("kill -SEGV $$");
        assert!(
            matches!(result, Err(BackendError::Died { .. })),
            "{result:?}"
        );
        // What is done is done.
        let done = serde_json::to_string(&Line::Result(7.into())).unwrap();
        assert_eq!(run(&format!("echo '{done}'; kill -INT $$")).unwrap(), 7);
    }

    #[test]
    fn an_emulator_that_no_step_can_have_is_none() {
        let mut others = Processor::ALL.into_iter();
        let other = others.find(|p| *p != Processor::HOST).unwrap();
        if Emulation::of_machine(other) != Emulation::None {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join(format!("qemu-{other}-static"));
        // Of 64 bits, without segments.
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(64, 0);
        fs::write(&program, header).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, executable).unwrap();
        let search_path = place.path().as_os_str().to_owned();
        let found = Emulation::of(other, &search_path);
        assert_eq!(found, Emulation::OfJobs(program));
        let tools = place.path().join("tools");
        let backend = HostBackend::new("/bin/false".into(), search_path, tools);
        assert_eq!(backend.emulation(other), Emulation::None);
        assert_eq!(backend.emulator_identity(other).unwrap(), None);
        assert_eq!(backend.processes(), 1);
    }

    #[test]
    fn the_kind_of_a_failure_arrives_beside_its_words() {
        let origin = FailureOrigin::Job(Some("storage_full".into()));
        let failure = line(origin, &["cannot write x", "no space"]);
        let error = run(&format!("echo '{failure}'; exit 1")).unwrap_err();
        let said = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(said.as_deref(), Some("no space"));
        let BackendError::Failed { kind, message, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(kind.as_deref(), Some("storage_full"));
        assert_eq!(message, "cannot write x");

        let failure = line(FailureOrigin::Namespace, &["cannot unshare"]);
        let error = run(&format!("echo '{failure}'; exit 1")).unwrap_err();
        assert!(matches!(error, BackendError::Namespace { .. }), "{error:?}");
    }
}
