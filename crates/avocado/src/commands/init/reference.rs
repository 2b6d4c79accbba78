//! `avocado init --reference`.

use std::path::Path;

use avocado_manifest::Name;
use clap::Args;

use crate::failure::Result;
use crate::session::Session;

/// Where the public reference projects are.
const REFERENCES: &str = "https://github.com/avocado-linux/references";

#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// Start with a copy of this reference project instead
    #[arg(long, value_name = "NAME")]
    pub(crate) reference: Option<Name>,

    /// Where the reference projects are: a directory of this machine, which is used as it is, or a
    /// git repository
    #[arg(
        long,
        value_name = "DIR|URL",
        default_value = REFERENCES,
        requires = "reference"
    )]
    pub(crate) reference_repo: String,

    /// The branch or tag of the repository that they are taken from
    #[arg(long, value_name = "BRANCH", requires = "reference")]
    pub(crate) reference_branch: Option<String>,

    /// The commit of the repository that they are taken from
    #[arg(
        long,
        value_name = "COMMIT",
        requires = "reference",
        conflicts_with = "reference_branch"
    )]
    pub(crate) reference_commit: Option<String>,
}

#[cfg(target_os = "linux")]
pub(super) fn run(session: &Session, args: &ReferenceArgs, name: &Name, dir: &Path) -> Result<()> {
    use avocado_build::{ReferenceWish, take_reference};
    use avocado_events::{Event, Sink};
    use avocado_text::count;
    use serde_json::json;

    use crate::commands::build_run::{cancellable, failure};
    use crate::failure::Failure;
    use crate::output::{WorkStart, WorkSummary};

    if session.global.target.is_some() {
        return Err(
            Failure::usage("--target has no effect with --reference").hint(
                "the reference says which targets it is for; name one of them when it is built",
            ),
        );
    }
    session.output.start(&WorkStart {
        action: "init",
        target: None,
        runtime: None,
    });
    let cancel = cancellable(session)?;
    let source = source(session, args)?;
    let wish = ReferenceWish {
        source: &source,
        name,
        place: dir,
        git_environment: &session.environment.for_fetching(),
    };
    let taken = take_reference(&wish, &cancel, &*session.output).map_err(|e| {
        let failure = failure(&e);
        match e {
            avocado_build::BuildError::WouldReplace { .. } => failure.hint(
                "`avocado init` overwrites nothing; move it away or choose another directory",
            ),
            _ => failure,
        }
    })?;
    let mut files = taken.files;
    let ignored = Path::new(super::GITIGNORE);
    if super::ignore_state(&dir.join(ignored))? && !files.iter().any(|file| file == ignored) {
        files.push(ignored.to_owned());
    }
    let copied = count(files.len() as u64, "file");
    let text = format!("copied {copied} of {name} from {}", taken.repository);
    session.output.emit(Event::info(text));
    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("path", json!(dir)),
        ("files", json!(files)),
        ("reference", json!(name)),
        ("repository", json!(taken.repository)),
        ("commit", json!(taken.commit)),
    ] {
        summary.fields.insert(key.into(), value);
    }
    summary.closing = super::next_steps(dir);
    session.output.complete(summary)
}

/// A directory is used as it is, unless it is asked for what git has of it, or has only that.
#[cfg(target_os = "linux")]
fn source(session: &Session, args: &ReferenceArgs) -> Result<avocado_build::ReferenceSource> {
    use avocado_build::ReferenceSource;

    let reference = args
        .reference_commit
        .as_ref()
        .or(args.reference_branch.as_ref());
    let directory = session
        .environment
        .current_dir()?
        .join(&args.reference_repo);
    let is_bare = directory.join("HEAD").is_file() && directory.join("objects").is_dir();
    if !directory.is_dir() {
        return Ok(ReferenceSource::Git {
            url: args.reference_repo.clone(),
            reference: reference.cloned(),
        });
    }
    if reference.is_none() && !is_bare {
        return Ok(ReferenceSource::Directory(directory));
    }
    Ok(ReferenceSource::Git {
        url: directory.display().to_string(),
        reference: reference.cloned(),
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn run(
    _session: &Session,
    _args: &ReferenceArgs,
    _name: &Name,
    _dir: &Path,
) -> Result<()> {
    Err(crate::commands::only_on_linux("init --reference"))
}
