//! A command of the user's in the environment of the SDK, as the scripts of a project have it.

use std::os::unix::process::ExitStatusExt as _;

use avocado_backend::{SOURCE_MOUNT, Terminal, Tool};
use avocado_events::{Cancel, Sink};
use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::layout::Layout;
use crate::options::Options;
use crate::run::in_project;
use crate::step_context::StepContext;
use crate::step_request::{StepRequest, StepView};
use crate::steps::hook;

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdkCommand {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables beside those that every script has.
    pub variables: Vec<(String, String)>,
}

/// Runs a command in the SDK that is installed, with the standard streams of this process. It sees
/// what a script sees, and changes the sources only. `begins` is called when nothing has to be waited for
/// any more: from then on interrupts are for the command. Answers its exit status, as a shell would.
///
/// # Errors
/// When there is no SDK, the command cannot be started, or `cancel` asks to stop; it is gone then.
pub fn run_sdk_command(
    options: &Options,
    command: SdkCommand,
    begins: impl FnOnce(),
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<u8, BuildError> {
    in_project(options, cancel, sink, |context| {
        if !context.layout.sdk().is_dir() {
            let what = "the SDK is not here yet: run `avocado sdk install`";
            return Err(BuildError::Invalid(what.to_owned()));
        }
        context.backend.prepare()?;
        begins();
        context.run_step("sdk run", command, sink)
    })
}

impl StepRequest for SdkCommand {
    const KIND: &'static str = "sdk_command";
    const TERMINAL: bool = true;
    type Result = u8;

    fn runs_hook(&self) -> bool {
        true
    }

    fn view(&self, _layout: &Layout) -> StepView {
        StepView::Sources
    }

    fn work(self, _context: &StepContext<'_>) -> Result<u8, BuildError> {
        Err(BuildError::Invalid(
            "there is no terminal for a command".to_owned(),
        ))
    }
}

impl SdkCommand {
    /// The child's side.
    pub(crate) fn work_at(
        self,
        context: &StepContext<'_>,
        terminal: Terminal,
    ) -> Result<u8, BuildError> {
        let mut words = hook::in_environment_of_sdk(context);
        words.extend(self.command.iter().map(Into::into));
        let Some((program, arguments)) = words.split_first() else {
            return Err(BuildError::Invalid("there is no command to run".to_owned()));
        };
        let mut tool = Tool::new(program)
            .args(arguments)
            .current_dir(SOURCE_MOUNT)
            .env("HOME", "/tmp")
            .env("SOURCE_DATE_EPOCH", context.epoch.to_string());
        for (name, value) in &self.variables {
            tool = tool.env(name, value);
        }
        let ended = terminal.run(tool)?;
        let signal = || ended.signal().map(|signal| signal + 128);
        let status = ended.code().or_else(signal).unwrap_or(1);
        Ok(u8::try_from(status).unwrap_or(u8::MAX))
    }
}
