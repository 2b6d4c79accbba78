//! Where `tracing` goes: beside what the user sees anyway, on standard error.

use std::sync::Arc;

use avocado_log::{Level, LogFilter, LogOutput};

use crate::failure::{Context, Failure, Result};
use crate::output::Output;

/// Records what `AVOCADO_LOG` says, or what fits how often `-v` was given.
pub(crate) fn install(output: &Arc<Output>, verbose: u8, variable: Option<&str>) -> Result<()> {
    let filter = match variable {
        Some(text) => text
            .parse()
            .map_err(|e| Failure::usage("AVOCADO_LOG cannot be used").because(&e))?,
        None => LogFilter::up_to(match verbose {
            0 => Level::WARN,
            1 => Level::INFO,
            _ => Level::DEBUG,
        }),
    };
    let output = output.clone();
    let lines = LogOutput::Lines(Box::new(move |line| output.log(line)));
    avocado_log::install(filter, lines).context(|| "cannot log".into())
}
