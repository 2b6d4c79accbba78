//! `avocado scan`: which packages of a runtime have vulnerabilities that are known.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use avocado_manifest::Name;
use avocado_sbom::BillContents;
use avocado_text::{count, table};
use avocado_vulnerability::{
    AdvisoryDatabase, DatabaseError, Finding, VexDocument, VexStatus, scan,
};
use clap::Args;
use serde_json::json;

use super::tools::BuiltWithArgs;
use super::{diff, project};
use crate::failure::{Context, Failure, Result};
use crate::output::{WorkStart, WorkSummary};
use crate::session::Session;

/// The exit code where something was found about which nothing is decided yet.
const FOUND: u8 = 3;

/// Where the files of OSV and Debian are, in a project.
const DATABASE: &str = ".avocado/advisories";

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0, nothing is found, or all of it is settled; 3, something is found; \
                        1, it could not be looked for."
)]
pub(crate) struct ScanArgs {
    /// Runtime to look at, as it was built last [default: the default runtime, or the only one]
    #[arg(short, long, value_name = "RUNTIME", conflicts_with_all = ["sbom", "diff"])]
    runtime: Option<Name>,

    /// Bill to look at, of whatever it is
    #[arg(long, value_name = "FILE", conflicts_with = "diff")]
    sbom: Option<PathBuf>,

    /// Tell what NEW has and OLD has not: each a bill, or a runtime as it was built last
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"])]
    diff: Option<Vec<PathBuf>>,

    /// Directory of OSV's exports (`Debian/all.zip`) and of Debian's tracker (`debian.json`); nothing is
    /// fetched [default: .avocado/advisories of the
    /// project, or of the current directory where there is none]
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,

    /// The ecosystem of the packages, as OSV calls it, such as Debian:13 [default: the only one in the
    /// directory]
    #[arg(long, value_name = "NAME")]
    ecosystem: Option<String>,

    /// What was decided already: a document of OpenVEX
    #[arg(long, value_name = "FILE")]
    vex: Option<PathBuf>,

    /// Add what is found to the document of OpenVEX as under investigation, to decide about it there
    #[arg(long, value_name = "FILE")]
    write_vex: Option<PathBuf>,

    #[command(flatten)]
    built_with: BuiltWithArgs,
}

pub(super) fn run(session: &Session, args: &ScanArgs) -> Result<ExitCode> {
    session.output.start(&WorkStart {
        action: "scan",
        target: None,
        runtime: args.runtime.as_ref().map(Name::as_str),
    });
    let (old, new) = bills(session, args)?;
    let decided = args.vex.as_deref().map(read_vex).transpose()?;
    let names = AdvisoryDatabase::names_in(old.iter().chain([&new]));
    let database = database(session, args, &names)?;
    let mut findings = scan(&new, &database, decided.as_ref());
    let mut gone = Vec::new();
    if let Some(old) = &old {
        let before = scan(old, &database, decided.as_ref());
        let key = |finding: &Finding| (finding.vulnerability().to_owned(), finding.package.clone());
        let (was, is): (BTreeSet<_>, BTreeSet<_>) = (
            before.iter().map(key).collect(),
            findings.iter().map(key).collect(),
        );
        findings.retain(|finding| !was.contains(&key(finding)));
        gone = before;
        gone.retain(|finding| !is.contains(&key(finding)));
    }
    let open = findings
        .iter()
        .filter(|finding| !finding.is_settled())
        .count();
    if let Some(path) = &args.write_vex {
        write_vex(path, decided, &findings)?;
    }
    let mut summary = WorkSummary::default();
    for (key, value) in [
        ("findings", json!(findings)),
        ("open", json!(open)),
        ("packages", json!(new.packages.len())),
        ("advisories", json!(database.entries())),
    ] {
        summary.fields.insert(key.to_owned(), value);
    }
    if old.is_some() {
        summary.fields.insert("gone".to_owned(), json!(gone));
    }
    summary.data = shown(&findings, &gone);
    let settled = findings.len() - open;
    let found = if old.is_some() { "new ones" } else { "found" };
    summary.closing = format!(
        "{} compared with {}: {open} {found}, {settled} settled",
        count(new.packages.len() as u64, "package"),
        if database.entries() == 1 {
            "1 advisory".to_owned()
        } else {
            format!("{} advisories", database.entries())
        },
    );
    session.output.complete(summary)?;
    Ok(match open {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(FOUND),
    })
}

/// What is looked at, and what it is compared with.
fn bills(session: &Session, args: &ScanArgs) -> Result<(Option<BillContents>, BillContents)> {
    if let Some([old, new]) = args.diff.as_deref() {
        let bill = |place| bill(session, place, &args.built_with);
        return Ok((Some(bill(old)?), bill(new)?));
    }
    if let Some(path) = &args.sbom {
        return Ok((None, diff::read_bill(path)?));
    }
    let loaded = project::load(session)?;
    let runtime = project::runtime(session, &loaded, args.runtime.as_ref())?;
    let bill = diff::of_runtime(session, &runtime.name, &args.built_with)?;
    Ok((None, bill))
}

fn bill(session: &Session, place: &Path, built_with: &BuiltWithArgs) -> Result<BillContents> {
    if place.is_file() {
        return diff::read_bill(place);
    }
    match place.to_str().and_then(|name| name.parse().ok()) {
        Some(name) => diff::of_runtime(session, &name, built_with),
        None => Err(Failure::usage(format!("there is no {}", place.display()))
            .hint("name a bill that `avocado sbom` wrote, or a runtime of the project")),
    }
}

fn database(
    session: &Session,
    args: &ScanArgs,
    names: &BTreeSet<String>,
) -> Result<AdvisoryDatabase> {
    let directory = match &args.db {
        Some(directory) => directory.clone(),
        None => {
            // A bill can be looked at where there is no project.
            let config = project::config_path(session, Path::new(""));
            let is_without = args.sbom.is_some() || args.diff.is_some();
            if is_without && session.global.config.is_none() && !config.exists() {
                PathBuf::from(DATABASE)
            } else {
                project::load(session)?.src_dir.join(DATABASE)
            }
        }
    };
    let read = AdvisoryDatabase::read(&directory, args.ecosystem.as_deref(), names);
    read.map_err(|error| {
        let failure = Failure::from_error(&error);
        match error {
            DatabaseError::Several { .. } | DatabaseError::Unknown { .. } => {
                failure.hint("say which with `--ecosystem NAME`")
            }
            DatabaseError::Read { .. } if !directory.is_dir() => failure.hint(
                "put OSV's export of an ecosystem, or Debian's tracker, into a directory, and name it with `--db DIR`",
            ),
            _ => failure,
        }
    })
}

fn read_vex(path: &Path) -> Result<VexDocument> {
    let text = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    VexDocument::read(&text)
        .map_err(|e| Failure::new(format!("{} cannot be used", path.display())).because(&e))
}

/// Goes on with what the file has, or else with what was decided elsewhere.
fn write_vex(path: &Path, decided: Option<VexDocument>, findings: &[Finding]) -> Result<()> {
    let mut document = if path.is_file() {
        read_vex(path)?
    } else {
        let new = || VexDocument::new("urn:avocado:vex", "avocado scan");
        decided.unwrap_or_else(new)
    };
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
    let now = now.map_err(|e| Failure::from_error(&e))?;
    document.add(findings, &now.to_string());
    let bytes = document
        .write()
        .context(|| format!("cannot write {}", path.display()))?;
    avocado_fs::write(path, &bytes).map_err(|e| Failure::from_error(&e))
}

fn shown(findings: &[Finding], gone: &[Finding]) -> String {
    let row = |finding: &Finding, what: &str| {
        let name = match finding.aliases.first() {
            Some(alias) if !finding.id.contains(alias.as_str()) => {
                format!("{} ({alias})", finding.id)
            }
            _ => finding.id.clone(),
        };
        [
            name,
            finding.package.clone(),
            finding.version.clone(),
            match &finding.fixed {
                Some(fixed) if finding.fixed_in_revision => format!("{fixed} (a revision)"),
                Some(fixed) => fixed.clone(),
                None => "-".to_owned(),
            },
            finding.images.join(", "),
            what.to_owned(),
        ]
    };
    let status = |finding: &Finding| match finding.status {
        None => "open",
        Some(VexStatus::Affected) => "affected",
        Some(VexStatus::UnderInvestigation) => "under investigation",
        Some(VexStatus::NotAffected) => "not affected",
        Some(VexStatus::Fixed) => "fixed",
    };
    let found = findings.iter().map(|finding| row(finding, status(finding)));
    let gone = gone.iter().map(|finding| row(finding, "gone"));
    let rows: Vec<_> = found.chain(gone).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        "VULNERABILITY",
        "PACKAGE",
        "VERSION",
        "FIXED IN",
        "IMAGES",
        "STATUS",
    ];
    table(header, rows, None)
}
