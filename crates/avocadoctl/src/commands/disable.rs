//! `avocadoctl disable`.

use clap::Args;

use super::Context;
use super::enable::count_text;
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::DisableParameters;

#[derive(Debug, Args)]
#[command(after_help = "What is merged stays merged until `avocadoctl refresh`.")]
pub(crate) struct DisableArgs {
    /// The VERSION_ID of the operating system [default: that of the running one]
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_release: Option<String>,
    /// Every extension that is enabled
    #[arg(long, conflicts_with = "extensions")]
    pub(crate) all: bool,
    /// Extensions that are enabled
    #[arg(required_unless_present = "all", value_name = "EXT")]
    pub(crate) extensions: Vec<String>,
}

pub(super) fn run(args: &DisableArgs, context: &Context) -> Result<(), Failure> {
    let request = DisableParameters {
        extensions: (!args.all).then(|| args.extensions.clone()),
        all: args.all.then_some(true),
        os_release: args.os_release.clone(),
    };
    let result = context
        .device(AccessMode::Write)?
        .disable(&request, &context.progress)?;
    context
        .output
        .result(&result, || count_text(result.disabled, "disabled"))
}
