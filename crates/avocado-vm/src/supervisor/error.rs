//! What can go wrong with a running VM, in one type.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::SupervisorFailure;

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// The state directory, the image, a disk or a key.
    #[error(transparent)]
    Vm(#[from] crate::VmError),
    /// QEMU.
    #[error(transparent)]
    Qemu(#[from] avocado_qemu::QemuError),
    /// A name in the launch or in the image that means nothing here.
    #[error(transparent)]
    Name(#[from] avocado_qemu::UnknownName),
    /// A port for users is taken.
    #[error("port {port} on 127.0.0.1 is taken{by}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who has it, as far as that is known: empty, or ` by …`.
        by: String,
        /// Why it could not be taken.
        #[source]
        source: io::Error,
    },
    /// A socket of ours could not be served.
    #[error("cannot listen on {what}")]
    Listen {
        /// The socket's path or address.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU ended before the guest answered.
    #[error("QEMU ended before the guest answered ({status}){}", said(.stderr, .console))]
    EarlyExit {
        /// How it ended.
        status: String,
        /// What QEMU said.
        stderr: String,
        /// The last lines of the guest's console.
        console: String,
    },
    /// The guest did not answer in time.
    #[error("the guest did not answer on its ssh port within {} s{}", limit.as_secs(), said("", .console))]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// The last lines of its console.
        console: String,
    },
    /// A command or another client of QEMU stopped the VM while it started.
    #[error("the VM was stopped while it started")]
    Stopped,
    /// The operating system refused something that the supervisor needs.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should travel between our processes cannot be put into JSON: most likely a path in it
    /// is not Unicode.
    #[error("cannot put {what} into JSON")]
    Encode {
        /// What should travel.
        what: &'static str,
        /// Why it cannot.
        #[source]
        source: serde_json::Error,
    },
    /// What came over a channel of ours is not what it should be.
    #[error("{what} is not understood")]
    Protocol {
        /// What came.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// There is no supervisor to talk to.
    #[error("the VM is not running")]
    NotRunning,
    /// The supervisor does not answer.
    #[error("the supervisor of the VM does not answer")]
    NoAnswer(#[source] io::Error),
    /// The supervisor ended without a word.
    #[error("the supervisor ended unexpectedly{}", said("", .log))]
    SupervisorGone {
        /// The last lines of its log.
        log: String,
    },
    /// The supervisor says no. Its causes are told one after the other.
    #[error("{}", .0.message)]
    Refused(SupervisorFailure),
    /// The program that supervises could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What QEMU and the guest said last, below an error's own line.
fn said(stderr: &str, console: &str) -> String {
    let mut text = String::new();
    if !stderr.is_empty() {
        text.push_str(": ");
        text.push_str(stderr);
    }
    if !console.is_empty() {
        text.push_str("\n--- its last lines\n");
        text.push_str(console);
    }
    text
}

impl SupervisorError {
    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            SupervisorError::Vm(error) => return error.hint().map(str::to_owned),
            SupervisorError::Refused(failure) => return failure.hint.clone(),
            SupervisorError::PortTaken { .. } => {
                "choose another one (--ssh-port, --infra-port), or end the program that has this one"
            }
            SupervisorError::EarlyExit { .. } | SupervisorError::NotReady { .. } => {
                "`avocado vm logs` shows the whole console of the guest"
            }
            SupervisorError::NotRunning => "start it with `avocado vm start`",
            SupervisorError::NoAnswer(_) => {
                "if this lasts, `avocado vm stop --force` ends the VM; or end the supervisor alone: the \
                 guest goes on, and `avocado vm start` takes it over"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// The error as it travels to the command that asked for something.
    pub(crate) fn failure(&self) -> SupervisorFailure {
        if let SupervisorError::Refused(failure) = self {
            return failure.clone();
        }
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        SupervisorFailure {
            message: self.to_string(),
            causes,
            hint: self.hint(),
        }
    }
}
