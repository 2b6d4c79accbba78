//! Where `tracing` goes: the service's to the journal, a command's to standard error.

use std::io::Write;

use avocado_log::{JournalSocket, Level, LogFilter, LogOutput, is_journal};

use crate::commands::Command;
use crate::failure::{Failure, chain};

/// Records what `AVOCADO_LOG` says, or what fits the command and how often `-v` was given.
pub(crate) fn install(
    command: &Command,
    verbose: u8,
    variable: Option<&str>,
    journal_stream: Option<&str>,
) -> Result<(), Failure> {
    let is_service = matches!(command, Command::Serve(_));
    let filter = match variable {
        Some(text) => text.parse().map_err(|error| {
            Failure::Configuration(format!("AVOCADO_LOG cannot be used: {}", chain(&error)))
        })?,
        // The service tells who changed what; a command tells its result.
        None => LogFilter::up_to(match (verbose, is_service) {
            (0, false) => Level::WARN,
            (0, true) | (1, false) => Level::INFO,
            _ => Level::DEBUG,
        }),
    };
    let output = if is_service && is_journal(journal_stream) {
        match JournalSocket::connect("avocadoctl") {
            Ok(journal) => LogOutput::Journal(journal, Box::new(write_line)),
            Err(_) => LogOutput::Lines(Box::new(write_line)),
        }
    } else {
        LogOutput::Lines(Box::new(write_line))
    };
    avocado_log::install(filter, output)
        .map_err(|error| Failure::Configuration(format!("cannot log: {error}")))
}

fn write_line(line: &str) {
    // There is nowhere to report that the log is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}
