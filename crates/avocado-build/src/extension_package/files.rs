//! Which files of a project belong to an extension, whatever the target.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use avocado_project::{
    CompileSection, Extension, HiddenNames, PathPattern, Placed, Project, ProjectPackage,
    SourcePlace, check_published, read_text, state_versions,
};
use walkdir::{DirEntry, WalkDir};

use super::links;
use crate::error::{At as _, BuildError};
use crate::trees::{self, CopyModes, Tree};

/// The name that the configuration has in every package.
const CONFIGURATION: &str = "avocado.yaml";

/// The history of a project, which is in no package.
const GIT: &str = ".git";

/// The files of an extension.
pub(super) struct ExtensionFiles<'a> {
    /// For each target that it is for, the one that is meant first.
    projects: &'a [&'a Project],
    name: &'a Name,
    modes: CopyModes,
    /// Where packages are put among the sources, relative to them: an earlier one is no source.
    output: Option<PathBuf>,
}

impl<'a> ExtensionFiles<'a> {
    pub(super) fn new(projects: &'a [&'a Project], name: &'a Name, modes: CopyModes) -> Self {
        ExtensionFiles {
            projects,
            name,
            modes,
            output: None,
        }
    }

    /// Without what is in `directory`, where packages are put; or, where the extension names something
    /// in there, without `package` in it.
    pub(super) fn without_output(mut self, directory: &Path, package: &str) -> Self {
        let below_sources = |project: &&Project| {
            let directory = fs::canonicalize(directory).ok()?;
            let sources = fs::canonicalize(&project.src_dir).ok()?;
            Some(directory.strip_prefix(sources).ok()?.to_owned())
        };
        let output = self.projects.first().and_then(below_sources);
        let has_sources = |output: &PathBuf| {
            output.as_os_str().is_empty()
                || self.named().keys().any(|path| path.starts_with(output))
        };
        self.output = output.map(|output| {
            if has_sources(&output) {
                output.join(package)
            } else {
                output
            }
        });
        self
    }

    /// Copies them to the directory of the extension's name in `tree`.
    pub(super) fn stage(&self, tree: &Tree, sink: &dyn Sink) -> Result<(), BuildError> {
        let [project, ..] = self.projects else {
            return Ok(());
        };
        let configuration = self.configuration()?;
        let mut left_out = BTreeSet::new();
        let named = self.named();
        let patterns = self.patterns();
        let root = Path::new(self.name.as_str());
        tree.make_directories(root)?;
        if patterns.is_empty() {
            self.check_there(project, &named)?;
            for path in named.keys() {
                // The author may name something by a link.
                let from = trees::of_project(&project.src_dir.join(path))?;
                self.copy(&from, path, tree, &mut left_out)?;
            }
        } else {
            for MatchedPath { path, is_named } in matched(&project.src_dir, patterns.into_values())?
            {
                let mut from = project.src_dir.join(&path);
                if is_named {
                    from = trees::of_project(&from)?;
                }
                self.copy(&from, &path, tree, &mut left_out)?;
            }
            let is_missing = |path: &&PathBuf| !tree.has(root.join(path));
            let missing: Vec<PathBuf> = named.keys().filter(is_missing).cloned().collect();
            if !missing.is_empty() {
                sink.emit(Event::warning(format!(
                    "the extension `{}` names what its `package_files` leave out: {}; whoever \
                     installs the package will miss it",
                    self.name,
                    links::list(&missing)
                )));
            }
        }
        let overlays = self.overlays();
        self.tell_of(&left_out, &overlays, sink);
        links::settle(tree, root, &project.src_dir, &overlays, self.modes, sink)?;
        tree.write(root.join(CONFIGURATION), configuration, 0o644)?;
        // Whatever the umask of the user is.
        tree.set_mode(root, 0o755)
    }

    /// What the configuration says, with versions that need no other file and no variable.
    fn configuration(&self) -> Result<String, BuildError> {
        let mut versions = Vec::new();
        for project in self.projects {
            for extension in extensions(project, self.name) {
                if let Some(version) = extension.version.known() {
                    versions.push((extension.place.clone(), version.clone()));
                }
            }
        }
        versions.sort_by_key(|(place, version)| (place.line, place.column, version.to_string()));
        versions.dedup();
        let path = &self.projects[0].config_path;
        let text = read_text(path)?;
        check_published(path, &text)?;
        Ok(state_versions(path, &text, &versions)?)
    }

    /// Everything that the extension, those of this project that it needs, and the sections by which
    /// something is compiled name; and where they do.
    fn named(&self) -> BTreeMap<PathBuf, SourcePlace> {
        let mut named = NamedFiles::default();
        for project in self.projects {
            for extension in extensions(project, self.name) {
                named.add_extension(extension);
            }
            let sections = project.sdk.compile.iter();
            let is_own = |section: &&CompileSection| {
                project.source_of_file(&section.name.place.file).is_none()
            };
            for section in sections.filter(is_own) {
                named.add(section.compile.as_ref());
                named.add(section.clean.as_ref());
                named.add(section.package.as_ref().map(|package| &package.install));
            }
        }
        named.0
    }

    /// `package_files`, of whatever target.
    fn patterns(&self) -> BTreeMap<&str, &Placed<PathPattern>> {
        let projects = self.projects.iter();
        let extensions = projects.filter_map(|project| project.extension(self.name));
        let patterns = extensions.flat_map(|extension| &extension.package_files);
        patterns
            .map(|pattern| (pattern.as_str(), pattern))
            .collect()
    }

    /// Directories whose links are those of a device.
    fn overlays(&self) -> BTreeSet<PathBuf> {
        let projects = self.projects.iter();
        let extensions = projects.flat_map(|project| extensions(project, self.name));
        let overlays = extensions.filter_map(|extension| extension.overlay.as_ref());
        overlays.map(|overlay| overlay.dir.clone()).collect()
    }

    fn check_there(
        &self,
        project: &Project,
        named: &BTreeMap<PathBuf, SourcePlace>,
    ) -> Result<(), BuildError> {
        let mut missing = Vec::new();
        for (path, place) in named {
            let full = project.src_dir.join(path);
            if !full.exists() {
                let message = format!("`{}` does not exist", path.display());
                let hint = format!(
                    "it belongs into the package of `{}`, and is looked for at {}",
                    self.name,
                    full.display()
                );
                missing.push(place.error(message).with_hint(hint));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(BuildError::Project {
            diagnostics: missing,
        })
    }

    /// Copies what is at `from` as `path`, but for what no package has, which is added to `left_out`.
    fn copy(
        &self,
        from: &Path,
        path: &Path,
        tree: &Tree,
        left_out: &mut BTreeSet<PathBuf>,
    ) -> Result<(), BuildError> {
        let mut is_left_out = |below: &Path| {
            // Joining nothing leaves a slash at the end.
            let path: PathBuf = path.join(below).components().collect();
            let output = self.output.as_ref();
            let is_left_out = path.iter().any(|name| name == GIT)
                || output.is_some_and(|output| path.starts_with(output));
            if is_left_out {
                left_out.insert(path);
            }
            is_left_out
        };
        if is_left_out(Path::new("")) {
            return Ok(());
        }
        let to = Path::new(self.name.as_str()).join(path);
        if let Some(parent) = to.parent() {
            tree.make_directories(parent)?;
            for directory in parent.ancestors().filter(|d| !d.as_os_str().is_empty()) {
                tree.set_mode(directory, 0o755)?;
            }
        }
        trees::copy_without(from, tree, &to, self.modes, is_left_out)
    }

    /// Tells what of all that was asked for is in no package. That the history of the sources is not
    /// is no news; an overlay's is in the image that is made of it here.
    fn tell_of(&self, left_out: &BTreeSet<PathBuf>, overlays: &BTreeSet<PathBuf>, sink: &dyn Sink) {
        let (output, git): (Vec<PathBuf>, Vec<PathBuf>) =
            left_out.iter().cloned().partition(|path| {
                let output = self.output.as_ref();
                output.is_some_and(|output| path.starts_with(output))
            });
        if !output.is_empty() {
            sink.emit(Event::warning(format!(
                "the package of `{}` is put where its sources are; what is there is not in it: {}",
                self.name,
                links::list(&output)
            )));
        }
        let of_overlays = git
            .into_iter()
            .filter(|path| overlays.iter().any(|overlay| path.starts_with(overlay)));
        let git: Vec<PathBuf> = of_overlays.collect();
        if !git.is_empty() {
            sink.emit(Event::warning(format!(
                "an overlay of `{}` has what belongs to git, which is in an image that is built here and \
                 in no package: {}; move it out of the overlay",
                self.name,
                links::list(&git)
            )));
        }
    }
}

/// The extension of that name and those of the same project that it needs, which come along with it.
fn extensions<'p>(project: &'p Project, name: &Name) -> Vec<&'p Extension> {
    let own = |name: &Name| {
        let found = project.extension(name);
        found.filter(|extension| extension.fetched_to.is_none())
    };
    let mut found: Vec<&Extension> = Vec::new();
    let mut wanted: VecDeque<&Extension> = own(name).into_iter().collect();
    while let Some(extension) = wanted.pop_front() {
        if found.iter().any(|other| other.name == extension.name) {
            continue;
        }
        found.push(extension);
        let needed = extension.dependencies.iter();
        wanted.extend(needed.filter_map(|dependency| own(&dependency.name)));
    }
    found
}

/// Paths below the source directory, each with the first place that names it.
#[derive(Default)]
struct NamedFiles(BTreeMap<PathBuf, SourcePlace>);

impl NamedFiles {
    fn add_extension(&mut self, extension: &Extension) {
        if let Some(overlay) = &extension.overlay {
            self.add_at(&overlay.dir, &overlay.place);
        }
        self.add(extension.post_build.as_ref());
        for script in extension
            .project_packages
            .iter()
            .map(ProjectPackage::install)
        {
            self.add(script);
        }
        for path in &extension.stone_include_paths {
            self.add(Some(path));
        }
    }

    fn add(&mut self, path: Option<&Placed<PathBuf>>) {
        if let Some(path) = path {
            self.add_at(path, &path.place);
        }
    }

    fn add_at(&mut self, path: &Path, place: &SourcePlace) {
        let entry = self.0.entry(path.to_owned());
        entry.or_insert_with(|| place.clone());
    }
}

/// Something that `package_files` mean.
struct MatchedPath {
    path: PathBuf,
    /// Without a wildcard: a link stands for what it leads to.
    is_named: bool,
}

/// What `package_files` mean, in the order of the names, without what is below something else of it.
/// A pattern that means nothing is an error.
fn matched<'p>(
    src_dir: &Path,
    patterns: impl Iterator<Item = &'p Placed<PathPattern>>,
) -> Result<Vec<MatchedPath>, BuildError> {
    let mut patterns: Vec<_> = patterns.map(|pattern| (pattern, false)).collect();
    let mut found: Vec<MatchedPath> = Vec::new();
    let walk = WalkDir::new(src_dir).min_depth(1).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(is_packaged) {
        let entry = entry.map_err(std::io::Error::from).at("read", src_dir)?;
        let path = entry.path().strip_prefix(src_dir).unwrap_or(entry.path());
        let mut is_wanted = false;
        let mut is_named = false;
        for (pattern, has_matched) in &mut patterns {
            if pattern.matches(path, HiddenNames::NoMatch) {
                (*has_matched, is_wanted) = (true, true);
                is_named |= path.as_os_str() == pattern.as_str();
            }
        }
        // All that is below something comes along with it.
        let is_known = || {
            found
                .last()
                .is_some_and(|last| path.starts_with(&last.path))
        };
        if is_wanted && !is_known() {
            found.push(MatchedPath {
                path: path.to_owned(),
                is_named,
            });
        }
    }
    let unmatched = patterns.iter().filter(|(_, has_matched)| !has_matched);
    let diagnostics = unmatched.map(|(pattern, _)| {
        let text = pattern.as_str().escape_debug();
        let message = format!("`package_files` has `{text}`, and there is no such file");
        let hint = format!("it is looked for in {}", src_dir.display());
        pattern.place.error(message).with_hint(hint)
    });
    let diagnostics: Vec<_> = diagnostics.collect();
    if diagnostics.is_empty() {
        return Ok(found);
    }
    Err(BuildError::Project { diagnostics })
}

/// Neither the state of builds nor the history of the project is part of its sources.
fn is_packaged(entry: &DirEntry) -> bool {
    let of_builds = [".avocado", "avocado.lock"].map(OsStr::new);
    let name = entry.file_name();
    name != GIT && !(entry.depth() == 1 && of_builds.contains(&name))
}
