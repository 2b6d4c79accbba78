//! `avocadoctl enable`.

use clap::Args;

use super::Context;
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::EnableParameters;

#[derive(Debug, Args)]
#[command(after_help = "\
While no runtime is active, `avocadoctl refresh` merges what is enabled for the release that runs. \
Where one is active, it alone says what is merged.")]
pub(crate) struct EnableArgs {
    /// The VERSION_ID of the operating system [default: that of the running one]
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_release: Option<String>,
    /// Extensions, as `avocadoctl ext list` names them
    #[arg(required = true, value_name = "EXT")]
    pub(crate) extensions: Vec<String>,
}

pub(super) fn run(args: &EnableArgs, context: &Context) -> Result<(), Failure> {
    let request = EnableParameters {
        extensions: args.extensions.clone(),
        os_release: args.os_release.clone(),
    };
    let result = context
        .device(AccessMode::Write)?
        .enable(&request, &context.progress)?;
    context
        .output
        .result(&result, || count_text(result.enabled, "enabled"))
}

/// To how many extensions something was done, for people.
pub(super) fn count_text(number: u64, done: &str) -> String {
    let plural = if number == 1 { " is" } else { "s are" };
    format!("{number} extension{plural} {done}.\n")
}
