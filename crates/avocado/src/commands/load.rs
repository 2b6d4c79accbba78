//! `avocado load`: the state of a project from a file that `avocado save` wrote.

use std::path::PathBuf;

use avocado_manifest::Digest;
use clap::Args;

use crate::failure::Result;
use crate::session::Session;

#[derive(Debug, Args)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "nothing is loaded")
)]
pub(crate) struct LoadArgs {
    /// File that `avocado save` wrote; `-` for standard input
    #[arg(value_name = "FILE", required_unless_present = "input")]
    file: Option<PathBuf>,

    /// The same as FILE
    #[arg(short = 'i', value_name = "FILE", conflicts_with = "file", hide = true)]
    input: Option<PathBuf>,

    /// Put it in the place of a state that is there
    #[arg(short, long)]
    force: bool,

    /// Take only the file with this digest, as `avocado save` or `sha256sum` told it
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<Digest>,
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, _: &LoadArgs) -> Result<()> {
    Err(super::only_on_linux("load"))
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &LoadArgs) -> Result<()> {
    use std::io::Read;

    use avocado_build::{LoadWish, load_state};

    use super::build_run::{cancellable, failure, options};
    use super::moved_state::{is_pipe, summary};
    use crate::failure::Failure;
    use crate::output::WorkStart;

    let file = args.file.as_ref().or(args.input.as_ref());
    let file = file.ok_or_else(|| Failure::usage("name the file to load"))?;
    let mut from: Box<dyn Read> = if is_pipe(file) {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(avocado_fs::open_file(file).map_err(|e| Failure::from_error(&e))?)
    };
    let options = options(session)?;
    let only = session.global.target.as_ref();
    session.output.start(&WorkStart {
        action: "load",
        target: only.map(|target| target.as_str()),
        runtime: None,
    });
    let wish = LoadWish {
        only,
        replaces: args.force,
        sha256: args.sha256,
    };
    let cancel = cancellable(session)?;
    let loaded = load_state(&options, &wish, &mut *from, &cancel, &*session.output);
    let loaded = loaded.map_err(|e| failure(&e))?;
    let file = (!is_pipe(file)).then_some(&**file);
    session.output.complete(summary("Loaded", &loaded, file))
}
