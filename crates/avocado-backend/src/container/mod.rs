//! The container backend: each job is the first process of a container of its own, which podman or
//! docker makes of the project's SDK image.

mod engine;
mod image_tools;
mod run_arguments;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use avocado_events::{Cancel, Sink};

use crate::job_process::JobProcess;
use crate::job_socket::JobSocket;
use crate::job_view::JobView;
use crate::protocol::{JobTerminal, Place, Request, Work};
use crate::terminal::KeptTerminal;
use crate::{Backend, BackendError, Capabilities, Emulation, Job, Processor, ToolQuery};
use engine::ContainerImage;
use image_tools::ImageTools;
use run_arguments::RunArguments;

pub use engine::ContainerEngine;

/// The status of an engine's client that made no container.
const ENGINE_FAILED: i32 = 125;
/// Those of one whose container could not start the program in it.
const PROGRAM_FAILED: [i32; 2] = [126, 127];
/// Variables that engines set by themselves.
const OF_ENGINES: [&str; 4] = ["HOME", "HOSTNAME", "TERM", "container"];

/// What containers are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerOptions {
    /// What makes them.
    pub engine: ContainerEngine,
    /// The image, as the engine knows it.
    pub image: String,
    /// The user's own arguments for `ENGINE run`, for what sees the project.
    pub arguments: Vec<String>,
    /// The processor that the tools of the image are for.
    pub processor: Processor,
    /// Whether an image that is not on this machine is brought here.
    pub pulls: bool,
}

/// What a container is made for.
struct ContainerStep<'a> {
    work: Work,
    stage: &'a str,
    /// Where it calls, where the standard streams are the job's.
    socket: Option<&'a JobSocket>,
}

/// Runs jobs in containers, with the tools of their image.
pub struct ContainerBackend<'a> {
    options: ContainerOptions,
    program: PathBuf,
    /// Known from the first time that it was needed.
    image: Mutex<Option<ContainerImage>>,
    tools: ImageTools,
    /// Where a job calls that has the streams of this program.
    socket_directory: PathBuf,
    cancel: &'a Cancel,
    /// Hears of a pull.
    sink: &'a dyn Sink,
    processes: AtomicU64,
}

impl fmt::Debug for ContainerBackend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerBackend")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> ContainerBackend<'a> {
    /// A backend that starts `program` as `program step` in containers. It has to run in them: it is a
    /// static one, or the image has its libraries. What the tools of the image say of themselves is
    /// remembered in the file `identities`, which may be removed at any time; `socket_directory` is made
    /// while a command of the user's runs, of which there is one at a time.
    pub fn new(
        options: ContainerOptions,
        program: PathBuf,
        identities: PathBuf,
        socket_directory: PathBuf,
        cancel: &'a Cancel,
        sink: &'a dyn Sink,
    ) -> Self {
        ContainerBackend {
            options,
            program,
            image: Mutex::new(None),
            tools: ImageTools::new(identities),
            socket_directory,
            cancel,
            sink,
            processes: AtomicU64::new(0),
        }
    }

    /// The same for who only looks: nothing is pulled, and a tool that is not known yet is said to be
    /// another one than before.
    #[must_use]
    pub fn asking_no_tools(mut self) -> Self {
        self.options.pulls = false;
        self.tools.asks = false;
        self
    }

    fn count_process(&self) {
        self.processes.fetch_add(1, Ordering::Relaxed);
    }

    /// The image, for the whole run: what its name means may change meanwhile.
    fn image(&self) -> Result<ContainerImage, BackendError> {
        let ContainerOptions {
            engine,
            image: name,
            pulls,
            ..
        } = &self.options;
        // Held while it is pulled: other steps want it too.
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = &*image {
            return Ok(image.clone());
        }
        let foreign = self.foreign();
        if let Some(processor) = foreign
            && Emulation::of_machine(processor) == Emulation::None
        {
            return Err(BackendError::NoEmulation { processor });
        }
        engine.check_owner(self.cancel)?;
        self.count_process();
        let found = || -> Result<_, BackendError> {
            let found = engine.image(name, self.cancel)?;
            // One for another processor may have the name.
            Ok(found.filter(|image| foreign.is_none_or(|processor| image.is_for(processor))))
        };
        let mut image_found = found()?;
        if image_found.is_none() && *pulls {
            self.count_process();
            engine.pull(name, foreign, self.cancel, self.sink)?;
            image_found = found()?;
        }
        let found = image_found;
        let found = found.ok_or_else(|| BackendError::NoImage {
            image: name.clone(),
            processor: foreign,
        })?;
        Ok(image.insert(found).clone())
    }

    /// The processor of the image, where it is not that of this machine.
    fn foreign(&self) -> Option<Processor> {
        Some(self.options.processor).filter(|processor| *processor != Processor::HOST)
    }

    fn arguments(&self, network: bool) -> RunArguments {
        let mut arguments = RunArguments::new(
            network,
            &self.options.arguments,
            self.options.engine.is_docker(),
        );
        if let Some(processor) = self.foreign() {
            arguments.set_platform(processor);
        }
        arguments
    }

    fn listen(&self) -> Result<JobSocket, BackendError> {
        let place = &self.socket_directory;
        JobSocket::listen_in(place.clone()).map_err(|source| BackendError::Socket {
            directory: place.clone(),
            source,
        })
    }

    fn run_in_container(
        &self,
        image: &ContainerImage,
        arguments: RunArguments,
        step: ContainerStep<'_>,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let name = container_name();
        let mut command = self.options.engine.command();
        let set_by_others = image.variables().chain(OF_ENGINES);
        let forgotten = arguments.not_set_of(set_by_others);
        let (words, environment) = arguments.of_image(&image.id);
        // The container has it from the client.
        command.envs(environment);
        command.args(["run", "--name", &name]).args(words);
        if step.socket.is_none() {
            // Ctrl-C is for us to hear.
            command.process_group(0);
        }
        let process = JobProcess {
            command,
            program: self.options.engine.program(),
            stage: step.stage,
            cancel,
            sink,
            count: &|| self.count_process(),
            socket: step.socket,
        };
        let result = process.run(&Request {
            place: Place::Container { forgotten },
            loop_mounts: false,
            terminal: step.socket.map(|_| JobTerminal::Own),
            work: step.work,
        });
        if result.is_err() {
            // The client is gone; what it started may take a moment longer to notice.
            self.options.engine.remove(&name);
        }
        result.map_err(|error| self.explained(error))
    }

    /// What the engine's client means by its status, where the job said nothing.
    fn explained(&self, error: BackendError) -> BackendError {
        let BackendError::Died { status, said } = error else {
            return error;
        };
        let image = &self.options.image;
        let action = match status.code() {
            Some(ENGINE_FAILED) => format!("make a container of `{image}`"),
            Some(code) if PROGRAM_FAILED.contains(&code) => {
                let program = self.program.display();
                format!("run {program} in a container of `{image}`")
            }
            _ => return BackendError::Died { status, said },
        };
        BackendError::Engine {
            engine: self.options.engine.name(),
            action,
            said,
        }
    }
}

impl Backend for ContainerBackend<'_> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            loop_mounts: false,
            devices: false,
            network: true,
        }
    }

    fn prepare(&self) -> Result<(), BackendError> {
        self.image().map(drop)
    }

    fn run(
        &self,
        job: &Job,
        cancel: &Cancel,
        sink: &dyn Sink,
    ) -> Result<serde_json::Value, BackendError> {
        let socket = job.terminal.then(|| self.listen()).transpose()?;
        let kept = job.terminal.then(KeptTerminal::new);
        let image = self.image()?;
        let view = JobView {
            network: job.network,
            mounts: job.mounts.clone(),
            visible: job.visible.clone(),
            hidden: job.hidden.clone(),
            emulator: None,
        };
        let mut arguments = self.arguments(job.network);
        arguments.set_environment(&job.environment);
        arguments.mount_program(&self.program)?;
        arguments.mount_view(&view)?;
        if let Some(socket) = &socket {
            arguments.attach(socket.directory(), is_at_terminal())?;
        }
        let step = ContainerStep {
            work: Work::Job(job.request.clone()),
            stage: &job.stage,
            socket: socket.as_ref(),
        };
        let result = self.run_in_container(&image, arguments, step, cancel, sink);
        if let (Some(kept), Err(_)) = (kept, &result) {
            kept.restore();
        }
        result
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        let image = match self.image() {
            Err(BackendError::NoImage { .. }) if !self.tools.asks => return Ok(None),
            image => image?,
        };
        // What the user adds to containers may be another tool, or other libraries for it.
        let place = [std::slice::from_ref(&image.id), &self.options.arguments].concat();
        self.tools.get(&place, query, || {
            let mut arguments = self.arguments(true);
            arguments.mount_program(&self.program)?;
            let step = ContainerStep {
                work: Work::ToolIdentity {
                    tool: query.tool.to_owned(),
                    arguments: query.arguments.iter().map(|a| (*a).to_owned()).collect(),
                },
                stage: "",
                socket: None,
            };
            let answer = self.run_in_container(&image, arguments, step, self.cancel, self.sink)?;
            serde_json::from_value(answer).map_err(BackendError::Result)
        })
    }

    fn emulator_identity(&self, processor: Processor) -> Result<Option<String>, BackendError> {
        Emulation::of_machine(processor).identity()
    }

    fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }
}

/// Whether all three streams are a terminal's: the engine makes one of them where it makes a
/// terminal, and what the user sends elsewhere is to get there.
fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// One that no other container of this machine has.
fn container_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let own = rustix::process::getpid().as_raw_nonzero();
    // Numbers of processes come again, and are others in another namespace.
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    format!(
        "avocado-{own}-{}{:09}-{number}",
        clock.tv_sec, clock.tv_nsec
    )
}
