//! `avocado install` and `avocado uninstall`.

use avocado_events::{Event, Sink};
use avocado_project::{
    PackageEdit, PackageScope, ProjectError, add_packages, check_editable, remove_packages,
};
use clap::Args;

use super::build_run::BuildRun;
use super::project;
use super::scope::{self, ScopeArgs};
use super::tools::ToolArgs;
use crate::failure::{Failure, Result};
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Packages to add to avocado.yaml, to the list of the part that an option names
    #[arg(value_name = "PACKAGES", requires = "scope")]
    packages: Vec<String>,

    #[command(flatten)]
    scope: ScopeArgs,

    /// Install the packages this once: avocado.yaml and avocado.lock stay as they are
    #[arg(long, requires = "packages")]
    no_save: bool,

    #[command(flatten)]
    tools: ToolArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// Packages to remove from avocado.yaml, from the list of the part that an option names
    #[arg(value_name = "PACKAGES", required = true, requires = "scope")]
    packages: Vec<String>,

    #[command(flatten)]
    scope: ScopeArgs,

    #[command(flatten)]
    tools: ToolArgs,
}

type Edit = fn(
    &std::path::Path,
    &str,
    &PackageScope,
    &[String],
) -> std::result::Result<PackageEdit, ProjectError>;

pub(super) fn run(session: &Session, args: &InstallArgs) -> Result<()> {
    let scope = args.scope.scope();
    match scope.as_ref().filter(|_| !args.packages.is_empty()) {
        None => {
            let run = BuildRun::new(session, "install", &args.tools)?;
            run.run(scope::install_goal(scope.as_ref()))
        }
        Some(scope) => {
            let edited = EditedProject::of(session, scope, &args.packages, add_packages)?;
            if !args.no_save {
                edited.check()?;
            }
            for package in &edited.edit.unchanged {
                let listed = format!(
                    "{package} is in the list of {} already",
                    scope::shown(scope)
                );
                session.output.emit(Event::info(listed));
            }
            let run = BuildRun::new(session, "install", &args.tools)?.unsaved(args.no_save);
            run.run_and(scope::install_goal(Some(scope)), |_, _| {
                if !args.no_save {
                    edited.save(
                        session,
                        &format!("added to the list of {}", scope::shown(scope)),
                    )?;
                }
                Ok(Vec::new())
            })
        }
    }
}

pub(super) fn uninstall(session: &Session, args: &UninstallArgs) -> Result<()> {
    let Some(scope) = args.scope.scope() else {
        return Err(Failure::usage(
            "name the part that the packages are removed from",
        ));
    };
    let edited = EditedProject::of(session, &scope, &args.packages, remove_packages)?;
    edited.check()?;
    let run = BuildRun::new(session, "uninstall", &args.tools)?;
    run.run_and(scope::install_goal(Some(&scope)), |_, _| {
        edited.save(
            session,
            &format!("removed from the list of {}", scope::shown(&scope)),
        )?;
        Ok(Vec::new())
    })
}

/// An edit that the whole session goes by, and that is written when it has proved itself.
struct EditedProject<'a> {
    config: std::path::PathBuf,
    before: String,
    scope: &'a PackageScope,
    packages: &'a [String],
    apply: Edit,
    edit: PackageEdit,
}

impl<'a> EditedProject<'a> {
    fn of(
        session: &Session,
        scope: &'a PackageScope,
        packages: &'a [String],
        apply: Edit,
    ) -> Result<Self> {
        packages
            .iter()
            .try_for_each(|package| check(scope, package))?;
        let config = project::config_path(session, std::path::Path::new(""));
        let before = avocado_project::read_text(&config).map_err(|e| Failure::from_project(&e))?;
        let edit = apply(&config, &before, scope, packages);
        let edit = edit.map_err(|e| Failure::from_project(&e))?;
        // The first edit of a session is the only one.
        let _ = session.edited.set(edit.text.clone());
        Ok(EditedProject {
            config,
            before,
            scope,
            packages,
            apply,
            edit,
        })
    }

    /// That it can be saved, before anything is installed for its sake.
    fn check(&self) -> Result<()> {
        if self.edit.changed.is_empty() {
            return Ok(());
        }
        check_editable(&self.config).map_err(|e| Failure::from_project(&e))
    }

    fn save(&self, session: &Session, what: &str) -> Result<()> {
        let again = |text: &str| (self.apply)(&self.config, text, self.scope, self.packages);
        let saved = self.edit.save(&self.config, &self.before, again);
        let saved = saved.map_err(|e| Failure::from_project(&e))?;
        for package in &saved.changed {
            session
                .output
                .emit(Event::info(format!("{package} {what}")));
        }
        Ok(())
    }
}

/// That it is the name of a package and nothing else that dnf understands.
fn check(scope: &PackageScope, package: &str) -> Result<()> {
    // Where packages are installed was a value of `--sdk` once.
    if *scope == PackageScope::Sdk && ["host", "container"].contains(&package) {
        return Err(Failure::usage(format!(
            "`--sdk` is the part that packages are for, and `{package}` is none of them"
        ))
        .hint(format!("`--backend {package}` says where the tools run")));
    }
    let is_name = package.starts_with(|c: char| c.is_ascii_alphanumeric())
        && package
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-()/:".contains(&b));
    if is_name {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "`{}` is no name of a package",
        package.escape_debug()
    ))
    .hint("name packages alone: each gets any version, `\"*\"`, which avocado.yaml can narrow"))
}
