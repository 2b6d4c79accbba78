//! Figures of the programs, each beside that of a named peer from the same run.
//!
//! ```text
//! scripts/build
//! cargo run --release -p avocado-bench
//! ```
//!
//! Times depend on the machine and on what else it does, so nothing here fails because of one:
//! what is promised without a clock is enforced by `tests/tests/specification.rs`.
// Linux is what is measured, and with.
#![cfg_attr(not(target_os = "linux"), no_main)]
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

mod add;
mod bill;
mod container;
mod cores;
mod cpu_time;
mod failure;
mod hitl;
mod idle;
mod image;
mod list;
mod machine;
mod nothing;
mod shared_cache;
mod start;
mod stats;
mod stream;
mod tasks;
mod vm;
mod watched_run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use avocado_testbed::cleanup;
use avocado_testbed::tools::static_binary;
use clap::{Parser, ValueEnum};

use failure::Failure;

/// Measures the device's program beside its peers.
#[derive(Parser)]
#[command(name = "avocado-bench")]
struct Arguments {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    what: Vec<What>,
    /// The program to measure [default: the static build of avocadoctl]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where the files go; the figures are of its file system [default: the temporary directory]
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// The size of the image that is added
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    size: u64,
    /// How often the image is added and its peers are run
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// How often `List` is called
    #[arg(long, value_name = "N", default_value_t = 5000)]
    calls: usize,
    /// How long the idle service is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    idle: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// `runtime add` of one image over HTTP
    Add,
    /// `runtime add` of an OS that is written to its slot while it is downloaded
    Stream,
    /// `List` with 50 runtimes
    List,
    /// The service while nobody asks it anything
    Idle,
    /// `avocado build` with nothing to do (needs the static avocado and the sample feed)
    Nothing,
    /// `avocado ext image` beside mksquashfs (needs the same)
    Image,
    /// 20 extensions on two processors and on one (needs the same)
    Cores,
    /// `avocado scan` and `avocado sbom` (needs the static avocado and the sample feed)
    Bill,
    /// Builds in containers of podman beside those of this host (needs the static avocado and the sample feed)
    Container,
    /// A build that finds everything in a cache beside `curl` of it (needs the static avocado and the sample feed)
    SharedCache,
    /// `avocado --help`, and reading a project of 2,000 lines (needs the static avocado)
    Start,
    /// The engine of builds with nothing to do, for many tasks
    Tasks,
    /// An edit on the desk until a guest sees it (needs both static programs and NFS-Ganesha)
    Hitl,
    /// The development VM: asleep, waking, its proxy (needs the static avocado)
    TestVm,
}

fn main() -> ExitCode {
    let ended = run(&Arguments::parse());
    cleanup::wait_where_ending();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut line = format!("error: {failure}");
            let mut cause = std::error::Error::source(&failure);
            while let Some(error) = cause {
                line.push_str(&format!(": {error}"));
                cause = error.source();
            }
            println!("{line}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    // What is started here ends with it.
    cleanup::install().map_err(Failure::system("watch for signals"))?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => static_binary("avocadoctl")?,
    };
    let mut place = tempfile::Builder::new();
    place.prefix("avocado-bench.");
    let place = match &arguments.directory {
        Some(directory) => place.tempdir_in(directory),
        None => place.tempdir(),
    };
    let place = place.map_err(Failure::system("make a directory"))?;
    machine::describe(&program, place.path())?;

    let wanted = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    if wanted(What::Add) {
        let directory = place.path().join("add");
        let size = arguments.size << 20;
        add::measure(&program, &directory, size, arguments.rounds.max(1))?;
    }
    if wanted(What::Stream) {
        let directory = place.path().join("stream");
        let size = arguments.size << 20;
        stream::measure(&program, &directory, size, arguments.rounds.max(1))?;
    }
    if wanted(What::List) {
        let directory = place.path().join("list");
        list::measure(&program, &directory, arguments.calls.max(1))?;
    }
    if wanted(What::Idle) {
        let directory = place.path().join("idle");
        let time = Duration::from_secs(arguments.idle.max(1));
        idle::measure(&program, &directory, time)?;
    }
    if wanted(What::Nothing) {
        nothing::measure(&place.path().join("nothing"), arguments.rounds.max(1))?;
    }
    if wanted(What::Image) {
        image::measure(&place.path().join("image"), arguments.rounds.max(1))?;
    }
    if wanted(What::Cores) {
        cores::measure(&place.path().join("cores"), arguments.rounds.max(1))?;
    }
    if wanted(What::Bill) {
        bill::measure(&place.path().join("bill"), arguments.rounds.max(1))?;
    }
    if wanted(What::Container) {
        container::measure(&place.path().join("container"), arguments.rounds.max(1))?;
    }
    if wanted(What::SharedCache) {
        let directory = place.path().join("shared-cache");
        shared_cache::measure(&directory, arguments.rounds.max(1))?;
    }
    if wanted(What::Start) {
        start::measure(&place.path().join("start"))?;
    }
    if wanted(What::Tasks) {
        tasks::measure(&place.path().join("tasks"), arguments.rounds.max(1))?;
    }
    if wanted(What::Hitl) {
        hitl::measure(&place.path().join("hitl"), arguments.rounds.max(1))?;
    }
    if wanted(What::TestVm) {
        let time = Duration::from_secs(arguments.idle.max(1));
        vm::measure(arguments.rounds.max(1), time)?;
    }
    println!("\nload at the end: {}", machine::load());
    Ok(())
}
