//! `avocado verify`: whether a repository is what was built, and who says so.

mod provenance;
#[cfg(target_os = "linux")]
mod rebuild;
mod repository;
mod trusted_keys;

use std::path::PathBuf;

use avocado_manifest::Name;
use clap::Args;

use self::repository::RepositoryPlace;
use super::tools::BuiltWithArgs;
use crate::failure::{Failure, Result};
use crate::output::WorkStart;
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Runtime of the project, as it was published last [default: the default runtime, or the only one]
    #[arg(value_name = "RUNTIME", conflicts_with = "repository")]
    runtime: Option<Name>,

    /// Repository to verify instead: its URL, or the directory with `metadata` and `targets`
    #[arg(long, value_name = "URL|DIR", requires = "keys")]
    repository: Option<String>,

    /// Key that has to have signed it: a name or an id among the signing keys, or a file
    /// `<keyid>.pub` (repeatable: any of them) [default: the key of the runtime]
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,

    /// Make the images once more, from nothing and in a state of their own, and compare: nothing that was
    /// kept, here or in a cache, has a part in it
    #[arg(long, conflicts_with_all = ["repository", "keys"])]
    rebuild: bool,

    /// How many of the images, chosen at random, and at least one: `1%` [default: all]
    #[arg(long, value_name = "PERCENT", requires = "rebuild", value_parser = percent)]
    audit: Option<f64>,

    #[command(flatten)]
    built_with: BuiltWithArgs,
}

/// A part of all images, in percent: `1%` or `1`.
fn percent(text: &str) -> std::result::Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let number = number.filter(|number| *number > 0.0 && *number <= 100.0);
    number.ok_or_else(|| "it is more than 0 and at most 100 percent, as `1%`".to_owned())
}

/// What is verified, and by whose word.
struct VerifiedPlace {
    place: RepositoryPlace,
    keys: Vec<avocado_tuf::PublicKey>,
    /// What it has to be, where a project says so.
    built: Option<BuiltRuntime>,
}

/// A runtime of the project.
struct BuiltRuntime {
    runtime: String,
    target: String,
    board: Option<String>,
    /// Where the images of the OS are, which are in no repository.
    os_images: PathBuf,
}

pub(super) fn run(session: &Session, args: &VerifyArgs) -> Result<()> {
    let Some(repository) = &args.repository else {
        return of_runtime(session, args);
    };
    start(session, None, None);
    provenance::verify(
        session,
        &VerifiedPlace {
            place: RepositoryPlace::parse(repository)?,
            keys: trusted_keys::named(session, &args.keys, None)?,
            built: None,
        },
    )
}

#[cfg(target_os = "linux")]
fn of_runtime(session: &Session, args: &VerifyArgs) -> Result<()> {
    use super::project;
    let project = project::load(session)?;
    let runtime = project::runtime(session, &project, args.runtime.as_ref())?;
    let name = &runtime.name;
    start(session, Some(project.target.as_str()), Some(name.as_str()));
    if args.rebuild {
        let name = name.clone();
        return rebuild::run(session, project, &name, args);
    }
    let layout = project::layout(&project);
    let directory = layout.repository(name);
    if !directory.join("metadata/timestamp.json").exists() {
        let failure = Failure::new(format!("the runtime {name} is not published yet"));
        return Err(failure.hint(format!("run `avocado build -r {name}`")));
    }
    let keys = if args.keys.is_empty() {
        trusted_keys::of_runtime(session, &project, runtime)?
    } else {
        trusted_keys::named(session, &args.keys, Some(&project.src_dir))?
    };
    provenance::verify(
        session,
        &VerifiedPlace {
            place: RepositoryPlace::Directory(directory),
            keys,
            built: Some(BuiltRuntime {
                runtime: name.to_string(),
                target: project.target.to_string(),
                board: runtime.target_board.clone(),
                os_images: layout.runtime(name),
            }),
        },
    )
}

#[cfg(not(target_os = "linux"))]
fn of_runtime(_session: &Session, _args: &VerifyArgs) -> Result<()> {
    Err(super::only_on_linux("verify"))
        .map_err(|failure: Failure| failure.hint("--repository verifies one from here"))
}

fn start(session: &Session, target: Option<&str>, runtime: Option<&str>) {
    session.output.start(&WorkStart {
        action: "verify",
        target,
        runtime,
    });
}
