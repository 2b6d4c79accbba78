//! dnf as the install of a tree has it, for questions: the same snapshot, repositories, credentials
//! and cache. It works on a copy of the tree's package database, so whatever it does, the tree stays
//! what its stamp says.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_backend::Tool;
use avocado_events::{Cancel, Sink};
use avocado_manifest::Name;
use avocado_project::{OsImageConfig, PackageScope};
use serde::{Deserialize, Serialize};

use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::options::Options;
use crate::packages::dnf::{DATABASE, DatabasePlace, Dnf, RepositoryView};
use crate::packages::feed::FeedAccess;
use crate::packages::installed;
use crate::run::in_project;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::steps::install::PackageTree;
use crate::trees::{self, CopyModes, Tree};

/// Commands of dnf that change nothing.
const QUESTIONS: [&str; 22] = [
    "check",
    "check-update",
    "check-upgrade",
    "deplist",
    "group",
    "groupinfo",
    "grouplist",
    "groups",
    "help",
    "info",
    "list",
    "makecache",
    "module",
    "provides",
    "repoinfo",
    "repolist",
    "repoquery",
    "rq",
    "search",
    "updateinfo",
    "whatprovides",
    "--version",
];

/// What dnf ends with where it found nothing wrong: `check-update` has a status for "there are some".
const ANSWERED: [i32; 2] = [0, 100];

/// What dnf said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageAnswer {
    /// 0, or 100 where `check-update` found some.
    pub status: i32,
    /// All of its standard output.
    pub output: String,
}

/// Asks dnf what `arguments` say, of the part of the project that is meant.
///
/// # Errors
/// Where that is no question, or dnf has no answer.
pub fn query_packages(
    options: &Options,
    scope: &PackageScope,
    arguments: &[String],
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<PackageAnswer, BuildError> {
    check(arguments, scope)?;
    in_project(options, cancel, sink, |context| {
        ask(context, scope, arguments, sink)
    })
}

/// That nothing would be changed by it.
fn check(arguments: &[String], scope: &PackageScope) -> Result<(), BuildError> {
    let command = arguments
        .iter()
        .find(|word| !word.starts_with('-') || *word == "--version");
    match command {
        Some(command) if QUESTIONS.contains(&command.as_str()) => Ok(()),
        command => Err(BuildError::NoQuestion {
            command: command.cloned(),
            option: match scope {
                PackageScope::Extension(name) => format!("-e {name}"),
                PackageScope::Runtime(name) => format!("-r {name}"),
                PackageScope::Sdk => "--sdk".to_owned(),
                PackageScope::Rootfs => "--rootfs".to_owned(),
                PackageScope::Initramfs => "--initramfs".to_owned(),
            },
        }),
    }
}

fn ask(
    context: &BuildContext<'_>,
    scope: &PackageScope,
    arguments: &[String],
    sink: &dyn Sink,
) -> Result<PackageAnswer, BuildError> {
    let tree = tree_of(context, scope)?;
    // What reaches the target's packages comes with the SDK.
    let repositories = context.layout.target_repoconf();
    if !repositories.is_dir() {
        return Err(BuildError::Invalid(
            "the repository configuration of the target is not here yet: run `avocado sdk install`"
                .to_owned(),
        ));
    }
    let access = context
        .feed
        .access(&context.lock_file, &context.options.dnf_args, sink)?;
    let request = PackageQueryRequest {
        tree,
        access,
        weak_dependencies: !context.project.sdk.disable_weak_dependencies,
        arguments: arguments.to_vec(),
    };
    let answer = context.run_step("dnf", request, sink);
    answer.map_err(|error| context.feed.after_failure(&context.lock_file, error))
}

/// A question on its way to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackageQueryRequest {
    tree: PackageTree,
    access: FeedAccess,
    weak_dependencies: bool,
    arguments: Vec<String>,
}

impl StepRequest for PackageQueryRequest {
    const KIND: &'static str = "package_query";
    type Result = PackageAnswer;

    fn work(self, context: &StepContext<'_>) -> Result<PackageAnswer, BuildError> {
        let layout = &context.layout;
        let view = match self.tree {
            PackageTree::Sdk => RepositoryView::Sdk,
            _ => RepositoryView::Target,
        };
        let place = layout.work(PLACE);
        let copy = Tree::fresh(&place)?;
        let dnf = Dnf::new(layout, &self.access, view, &place, self.weak_dependencies)?;
        copy_database(&self.tree.root(layout), &copy, dnf.database())?;
        let answer = dnf.query(&self.arguments, &ANSWERED, context.sink);
        dnf.finish(&DatabasePlace::Tree)?;
        trees::clear(&place)?;
        let (status, output) = answer?;
        Ok(PackageAnswer { status, output })
    }
}

/// Where the copy of a tree's database is meanwhile.
const PLACE: &str = "package-query";

fn tree_of(context: &BuildContext<'_>, scope: &PackageScope) -> Result<PackageTree, BuildError> {
    PackageTree::of_scope(context.project, scope)
        .ok_or_else(|| BuildError::Invalid("the project has no such part".to_owned()))
}

/// Whether there is one: rpm, and dnf even more so, write where they look.
pub(crate) fn copy_database(root: &Path, copy: &Tree, at: &Path) -> Result<bool, BuildError> {
    if !root.is_dir() {
        return Ok(false);
    }
    let installed = Tree::open(root)?;
    if !installed.is_directory(DATABASE) {
        return Ok(false);
    }
    let from = installed.resolve(DATABASE)?;
    trees::copy(&from, copy, at, CopyModes::Keep)?;
    Ok(true)
}

/// The packages of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledTree {
    /// Its name in the project.
    pub name: String,
    /// Each with its version; `None` while it is not installed.
    pub packages: Option<BTreeMap<String, String>>,
}

/// What is installed in the trees of a part of the project. There may be several root file systems
/// and initramfses.
///
/// # Errors
/// Where rpm cannot be asked.
pub fn installed_packages(
    options: &Options,
    scope: &PackageScope,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Vec<InstalledTree>, BuildError> {
    in_project(options, cancel, sink, |context| {
        let project = context.project;
        let all = |list: &[(Name, OsImageConfig)], tree: fn(Name) -> PackageTree| {
            let names = list.iter().map(|(name, _)| name.clone());
            names.map(|name| (name.to_string(), tree(name))).collect()
        };
        let trees: Vec<(String, PackageTree)> = match scope {
            PackageScope::Rootfs => all(&project.rootfs, PackageTree::Rootfs),
            PackageScope::Initramfs => all(&project.initramfs, PackageTree::Initramfs),
            PackageScope::Sdk => vec![("sdk".to_owned(), PackageTree::Sdk)],
            PackageScope::Extension(name) | PackageScope::Runtime(name) => {
                vec![(name.to_string(), tree_of(context, scope)?)]
            }
        };
        let installed = trees.into_iter().map(|(name, tree)| {
            let is_there = tree.root(&context.layout).is_dir();
            let packages = if is_there {
                context.run_step("rpm", InstalledRequest(tree), sink)?
            } else {
                None
            };
            Ok(InstalledTree { name, packages })
        });
        installed.collect()
    })
}

/// What is in a tree.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstalledRequest(PackageTree);

impl StepRequest for InstalledRequest {
    const KIND: &'static str = "installed";
    type Result = Option<BTreeMap<String, String>>;

    fn work(self, context: &StepContext<'_>) -> Result<Self::Result, BuildError> {
        let place = context.layout.work(PLACE);
        let copy = Tree::fresh(&place)?;
        let root = self.0.root(&context.layout);
        if !copy_database(&root, &copy, Path::new(DATABASE))? {
            return Ok(None);
        }
        let tool = Tool::new("rpm").arg("--root").arg(&place);
        let tool = tool.arg("--dbpath").arg(format!("/{DATABASE}"));
        let text = tool
            .args(["-qa", "--qf", installed::QUERY])
            .read(context.sink)?;
        trees::clear(&place)?;
        let packages = installed::parse(&text)?.into_iter();
        Ok(Some(packages.map(|(name, p)| (name, p.version)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_a_tree_is_refused() {
        let checked = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
            check(&words, &PackageScope::Extension("app".parse().unwrap()))
        };
        for line in [
            "repoquery --requires hello",
            "-q list --installed",
            "--repo=x info hello",
            "--version",
            "check-update",
        ] {
            checked(line).unwrap();
        }
        for line in [
            "install hello",
            "remove -y hello",
            "-y upgrade",
            "",
            "shell",
        ] {
            let error = checked(line).unwrap_err();
            assert!(error.hint().unwrap().contains("-e app"), "{line}: {error}");
        }
    }
}
