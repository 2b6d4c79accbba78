//! Where the tools run: on this host, or in a container.

use std::ffi::OsStr;
use std::path::PathBuf;

use avocado_build::{ContainerEngine, ContainerSettings, Processor, find_tool};
use avocado_events::{Event, Sink as _};
use avocado_project::{Project, split_arguments};
use clap::ValueEnum as _;

use crate::commands::tools::BackendChoice;
use crate::failure::{Failure, Result};
use crate::global_args::SdkArchitecture;
use crate::session::Session;

/// What makes containers, the first that is there: podman needs no daemon, and gives what is made to
/// the user who asks.
const ENGINES: [&str; 2] = ["podman", "docker"];
/// Without it this host installs no packages.
const HOST_TOOL: &str = "dnf";

/// The containers that tools are to run in; none where they run on this host.
pub(in crate::commands) fn containers(
    session: &Session,
    choice: Option<BackendChoice>,
    arguments: &[String],
    project: &Project,
) -> Result<Option<ContainerSettings>> {
    let choice = choice_of(session, choice)?;
    let search_path = session.environment.search_path();
    let program = match choice {
        Some(BackendChoice::Podman) => Some(engine(&search_path, "podman")?),
        Some(BackendChoice::Docker) => Some(engine(&search_path, "docker")?),
        _ => ENGINES
            .into_iter()
            .find_map(|name| find_tool(&search_path, name)),
    };
    let is_container = match choice {
        Some(choice) => choice != BackendChoice::Host,
        None if session.global.runs_on.is_some() => false,
        // What is there decides, this host first.
        None => {
            find_tool(&search_path, HOST_TOOL).is_none()
                && project.sdk.image.is_some()
                && program.is_some()
        }
    };
    if !is_container {
        if !arguments.is_empty() {
            let ignored = "--container-arg has no effect: the host backend runs no container";
            session.output.emit(Event::warning(ignored));
        }
        return Ok(None);
    }
    let engine = program.map(|program| ContainerEngine::new(program, session.environment.whole()));
    let arguments = arguments.iter().flat_map(|text| split_arguments(text));
    Ok(Some(ContainerSettings {
        engine,
        arguments: arguments.collect(),
    }))
}

/// The one that was asked for.
fn engine(search_path: &OsStr, name: &str) -> Result<PathBuf> {
    find_tool(search_path, name).ok_or_else(|| {
        Failure::new(format!("{name} is not on PATH"))
            .hint("install it, or run the steps on this machine: --backend host")
    })
}

/// The processor that the SDK's tools are to be for.
pub(super) fn sdk_processor(session: &Session) -> Processor {
    match session.global.sdk_arch {
        None => Processor::HOST,
        Some(SdkArchitecture::Aarch64) => Processor::Aarch64,
        Some(SdkArchitecture::X86_64) => Processor::X86_64,
    }
}

/// Where tools are to run by the word of the user, here or in the environment.
pub(in crate::commands) fn choice_of(
    session: &Session,
    choice: Option<BackendChoice>,
) -> Result<Option<BackendChoice>> {
    match choice {
        Some(choice) => Ok(Some(choice)),
        None => of_environment(session),
    }
}

fn of_environment(session: &Session) -> Result<Option<BackendChoice>> {
    let Some(stated) = session.environment.sdk() else {
        return Ok(None);
    };
    let choice = BackendChoice::from_str(stated, false);
    choice.map(Some).map_err(|_| {
        let known = BackendChoice::value_variants().iter();
        let known = known
            .filter_map(|choice| Some(format!("`{}`", choice.to_possible_value()?.get_name())));
        let known: Vec<String> = known.collect();
        Failure::usage(format!(
            "AVOCADO_SDK is `{}`, not one of {}",
            stated.escape_debug(),
            known.join(", ")
        ))
    })
}
