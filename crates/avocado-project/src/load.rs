use std::fs::File;
use std::io::Read;
use std::path::Path;

use semver::{Prerelease, Version, VersionReq};

use crate::diagnostic::{Report, quoted};
use crate::interpolate::{self, Context};
use crate::resolve::{self, Request};
use crate::yaml::{self, Node, Span, Value, line};
use crate::{Diagnostic, Error, Project};

/// What a project is resolved for, and with.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// The avocado.yaml.
    pub config: &'a Path,
    /// The target from the command line. It comes before `AVOCADO_TARGET`, which comes before
    /// `default_target`.
    pub target: Option<&'a str>,
    /// The environment: `AVOCADO_TARGET`, `AVOCADO_TARGET_BOARD`, `AVOCADO_RUNTIME`,
    /// `AVOCADO_REPO_URL`, `AVOCADO_SDK_REPO_URL`, `AVOCADO_RELEASEVER`,
    /// `AVOCADO_SDK_REPO_RELEASE`, `AVOCADO_DISTRO_RELEASE`, `AVOCADO_DISTRO_CHANNEL`,
    /// `AVOCADO_REPO_CA`, `AVOCADO_REPO_INSECURE`, and what `{{ env.X }}` names. Options of the
    /// command line that take the place of a variable are answered here. An empty value counts
    /// as not set, except for `{{ env.X }}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The version that `cli_requirement` is compared with, for example `0.41.0`.
    pub cli_version: &'a str,
}

/// A project that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What a person should know about it, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads avocado.yaml and resolves it for one target.
///
/// # Errors
/// [`Error::Read`] when the file cannot be read; [`Error::Invalid`] with as many mistakes as can
/// be told apart in one go.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, Error> {
    let read = |source| Error::Read {
        path: options.config.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more; a device file has no end.
    File::open(options.config)
        .and_then(|file| {
            file.take(yaml::MAX_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(read)?;
    let config = std::path::absolute(options.config).map_err(read)?;

    if bytes.len() > yaml::MAX_BYTES {
        let mut report = Report::new(options.config, "");
        let mib = yaml::MAX_BYTES >> 20;
        report.error(None, format!("the file is larger than {mib} MiB"));
        return Err(Error::Invalid {
            diagnostics: report.finish(),
        });
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            return Err(not_utf8(options.config, good));
        }
    };
    let mut report = Report::new(options.config, text);
    let project = resolve(options, &config, &mut report);
    match project {
        Some(project) if !report.has_errors() => Ok(Loaded {
            project,
            warnings: report.finish(),
        }),
        _ => Err(Error::Invalid {
            diagnostics: report.finish(),
        }),
    }
}

fn resolve(options: &LoadOptions<'_>, config: &Path, report: &mut Report<'_>) -> Option<Project> {
    let root = yaml::parse(report)?;
    if !matches!(root.value, Value::Mapping(_)) && !root.is_null() {
        let found = root.describe();
        report.error(
            root.span,
            format!("the project must be a map, found {found}"),
        );
        return None;
    }
    // Before everything else: a newer format may be wrong in the eyes of this program.
    check_requirement(&root, options.cli_version, report);
    if report.has_errors() {
        return None;
    }
    let mut context = Context {
        env: options.env,
        target: None,
    };
    let target = options
        .target
        .map(str::to_owned)
        .filter(|target| !target.is_empty())
        .or_else(|| context.variable("AVOCADO_TARGET"))
        .or_else(|| interpolate::peek(&root, &["default_target"], &context, report));
    context.target = target.as_deref();
    let root = interpolate::interpolate(root, &context, report);
    // What was not resolved would only look wrong in other ways.
    if report.has_errors() {
        return None;
    }
    let request = Request {
        config,
        target: target.as_deref().filter(|target| !target.is_empty()),
        env: options.env,
    };
    resolve::project(root, &request, report)
}

fn check_requirement(root: &Node, cli_version: &str, report: &mut Report<'_>) {
    let Some(node) = root.get("cli_requirement") else {
        return;
    };
    let Some(text) = node.as_text() else {
        // Null states nothing; another shape is reported with the other types.
        return;
    };
    let requirement = match VersionReq::parse(text) {
        Ok(requirement) => requirement,
        Err(error) => {
            let message = format!("{} is not a version requirement: {error}", quoted(text));
            report
                .error(node.span, message)
                .hint("write for example \">=0.41.0\" or \">=0.41.0, <1.0.0\"");
            return;
        }
    };
    let Ok(mut version) = Version::parse(cli_version) else {
        let message = format!("{} is not a version to compare with", quoted(cli_version));
        report.error(node.span, message);
        return;
    };
    // A pre-release of 1.0.0 has what 1.0.0 has.
    version.pre = Prerelease::EMPTY;
    version.build = semver::BuildMetadata::EMPTY;
    if !requirement.matches(&version) {
        let text = quoted(text);
        let message = format!("the project needs avocado {text}, and this is {cli_version}");
        report
            .error(node.span, message)
            .hint("use another version of avocado, or change `cli_requirement`");
    }
}

/// `good` are the bytes before the first one that is not UTF-8.
fn not_utf8(file: &Path, good: &[u8]) -> Error {
    let text = String::from_utf8_lossy(good);
    let (line, column) = line::place(&text, text.len());
    let span = Span {
        line,
        column,
        start: good.len(),
        end: good.len(),
    };
    let mut report = Report::new(file, &text);
    report.error(span, "the file is not UTF-8 here");
    Error::Invalid {
        diagnostics: report.finish(),
    }
}
