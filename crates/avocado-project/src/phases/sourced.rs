use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use super::composed::{ComposedProject, Loaded};
use super::merge::{FetchedFile, Merge};
use super::options::LoadOptions;
use super::source::{ExtensionSource, SOURCED_SECTIONS, SourceKind, SourcedSection, source};
use super::{target, text_file};
use crate::decode::decode;
use crate::error::ProjectError;
use crate::interpolate::{self, InterpolationContext};
use crate::model::state_dir;
use crate::overrides;
use crate::raw::{RawSource, RawTop};
use crate::report::Report;
use crate::resolve::{Composition, SourceState};
use crate::shape::{Reading, Shape};
use crate::text::quoted;
use crate::yaml::{Node, Value};

/// The second phase: it is known for which target the project is, and what has to be fetched.
pub struct SourcedProject {
    composition: Composition,
    sources: Vec<ExtensionSource>,
    report: Report,
}

impl SourcedProject {
    pub(super) fn find(
        config: PathBuf,
        root: Node,
        mut report: Report,
        options: &LoadOptions<'_>,
    ) -> Result<Self, ProjectError> {
        let Some(composition) = prepare(config, root, options, &mut report) else {
            return Err(ProjectError::invalid(report));
        };
        let mut project = SourcedProject {
            composition,
            sources: Vec::new(),
            report,
        };
        project.collect_sources();
        Ok(project)
    }

    /// The extensions that come from elsewhere, in the order of the file.
    pub fn sources(&self) -> &[ExtensionSource] {
        &self.sources
    }

    /// Whether the project is wrong already; then fetching is of no use, and
    /// [`ComposedProject::resolve`] says why.
    pub fn has_errors(&self) -> bool {
        self.report.has_errors()
    }

    /// Where the files of those extensions are that are here, as the project asks for them: what
    /// an earlier build fetched, and directories of this machine. Nothing is fetched.
    pub fn fetched(&self) -> BTreeMap<Name, PathBuf> {
        let composition = &self.composition;
        let state = state_dir(&composition.src_dir);
        let includes = state.join(&composition.target).join("includes");
        let found = self.sources.iter().filter_map(|source| {
            let place = source.find(&includes)?;
            Some((source.extension.clone(), place))
        });
        found.collect()
    }

    /// The project as far as fetching needs it: its target, its feed and its sources. What else it
    /// is made of may hang on what is fetched.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] where the feed or a source is wrong.
    pub fn for_fetching(mut self, options: &LoadOptions<'_>) -> Result<Loaded, ProjectError> {
        if let Value::Mapping(entries) = &mut self.composition.root.value {
            // What is fetched comes from the feed, or from a repository beside it.
            entries.retain(|entry| ["distro", "repos", "sdk"].contains(&&*entry.key.text));
        }
        let composed = ComposedProject {
            composition: self.composition,
            sources: self.sources,
            report: self.report,
            is_for_fetching: true,
        };
        composed.resolve(options)
    }

    /// Merges what was fetched: `fetched` has, for each extension, the directory with its own
    /// avocado.yaml. One that was not fetched is no extension of the project that comes of it;
    /// its source says so.
    ///
    /// What this project says comes before what a fetched one says.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] where a fetched file is no project, or has a template that cannot
    /// be resolved.
    pub fn compose(
        self,
        options: &LoadOptions<'_>,
        fetched: &BTreeMap<Name, PathBuf>,
    ) -> Result<ComposedProject, ProjectError> {
        let SourcedProject {
            mut composition,
            mut sources,
            mut report,
        } = self;
        let errors_before = report.error_count();
        let context = context(&composition.target, options);
        let mut merge = Merge {
            root: &mut composition.root,
            context: &context,
            cli_version: options.cli_version,
            report: &mut report,
        };
        for source in &mut sources {
            let Some(directory) = fetched.get(&source.extension) else {
                continue;
            };
            let Some((path, text)) = fetched_text(source, directory, merge.report) else {
                continue;
            };
            let file = FetchedFile {
                extension: source.extension.as_str(),
                path: &path,
                text,
                include: &source.include,
                stated_at: source.span,
            };
            let along = match &source.section {
                Some(section) => {
                    merge.add_section(&file, section);
                    Vec::new()
                }
                None => merge.add(&file),
            };
            let state = SourceState::FetchedTo(directory.clone());
            let name = source.extension.to_string();
            for name in along.into_iter().chain([name]) {
                composition.sources.insert(name, state.clone());
            }
            source.fetched_to = Some(directory.clone());
        }
        if !fetched.is_empty() {
            interpolate::interpolate_merged(&mut composition.root, &context, &mut report);
        }
        if report.error_count() > errors_before {
            return Err(ProjectError::invalid(report));
        }
        Ok(ComposedProject {
            composition,
            sources,
            report,
            is_for_fetching: false,
        })
    }

    fn collect_sources(&mut self) {
        // The overrides are applied for good once everything is merged, and speak then.
        let (root, _) = overrides::apply(
            self.composition.root.clone(),
            Shape::of_project(),
            self.composition.target.as_str(),
            &self.composition.supported_targets,
            &mut self.report.scratch(),
        );
        let extensions = root.get("extensions").and_then(Node::entries);
        for entry in extensions.unwrap_or_default() {
            let name = &entry.key.text;
            let Some(node) = entry.value.get("source").filter(|node| !node.is_null()) else {
                continue;
            };
            let errors_before = self.report.error_count();
            // One with an unusable name is reported with the other names.
            let (Some(raw), Ok(extension)) =
                (decode::<RawSource>(node, &mut self.report), name.parse())
            else {
                self.composition
                    .sources
                    .insert(name.clone(), SourceState::Wrong);
                continue;
            };
            let src_dir = &self.composition.src_dir;
            let report = &mut self.report;
            let source = source(extension, None, raw.value, node.span, src_dir, report);
            let wrong = self.report.error_count() > errors_before;
            self.note_source(name.clone(), source.filter(|_| !wrong));
        }
        for section in SOURCED_SECTIONS {
            if let Some(node) = root.get(section) {
                self.collect_sources_of_section(section, node);
            }
        }
    }

    /// The sources of a section that is one thing or a map of named ones.
    fn collect_sources_of_section(&mut self, section: &str, node: &Node) {
        let entries = match Shape::of_project().field(section).read(node) {
            Reading::Names(_) => node.entries().unwrap_or_default().iter(),
            _ => [].iter(),
        };
        let entries = entries.map(|entry| (entry.key.text.as_str(), &entry.value));
        let lone = ("default", node);
        for (entry, node) in std::iter::once(lone).chain(entries) {
            let Some(node) = node.get("source").filter(|node| !node.is_null()) else {
                continue;
            };
            let name = SourcedSection::source_name(section, entry);
            let taken = self.composition.root.get("extensions");
            if taken.is_some_and(|extensions| extensions.get(&name).is_some()) {
                let message = format!(
                    "{} is fetched under the name of an extension",
                    quoted(section)
                );
                let hint = format!("give the extension {} another name", quoted(&name));
                self.report.error(node.span, message).hint(hint);
            }
            let errors_before = self.report.error_count();
            // One with an unusable name is reported with the other names.
            let (Some(raw), Ok(fetched_as)) =
                (decode::<RawSource>(node, &mut self.report), name.parse())
            else {
                self.note_source(name, None);
                continue;
            };
            let sourced = SourcedSection {
                section: section.to_owned(),
                entry: entry.to_owned(),
            };
            let src_dir = &self.composition.src_dir;
            let report = &mut self.report;
            let source = source(
                fetched_as,
                Some(sourced),
                raw.value,
                node.span,
                src_dir,
                report,
            );
            let wrong = self.report.error_count() > errors_before;
            self.note_source(name, source.filter(|_| !wrong));
        }
    }

    /// One that is wrong is `None`.
    fn note_source(&mut self, name: String, source: Option<ExtensionSource>) {
        let state = match source {
            Some(_) => SourceState::NotFetched,
            None => SourceState::Wrong,
        };
        self.composition.sources.insert(name, state);
        self.sources.extend(source);
    }
}

/// Resolves the templates and finds the target. `None` where nothing more can be said.
fn prepare(
    config: PathBuf,
    root: Node,
    options: &LoadOptions<'_>,
    report: &mut Report,
) -> Option<Composition> {
    let mut context = InterpolationContext {
        env: options.env,
        target: None,
    };
    let wanted = options
        .target
        .map(str::to_owned)
        .filter(|target| !target.is_empty())
        .or_else(|| context.variable("AVOCADO_TARGET"))
        .or_else(|| interpolate::peek(&root, &["default_target"], &context, report));
    context.target = wanted.as_deref();
    let mut root = interpolate::interpolate(root, &context, report);
    // What was not resolved would only look wrong in other ways.
    if report.has_errors() {
        return None;
    }
    if let Value::Mapping(entries) = &mut root.value {
        Shape::of_project().rename_old_keys(entries, report);
    }
    let top: RawTop = decode(&root, report)?.value;
    let supported_targets = match &top.supported_targets {
        Some(stated) => target::supported(stated, report),
        None => Vec::new(),
    };
    let wanted = wanted.as_deref().filter(|target| !target.is_empty());
    let target = target::target(wanted, &top, &supported_targets, report);
    let (src_dir, unusable_src_dir) = target::source_dir(&config, top.src_dir.as_ref(), report);
    // Without it everything else would be wrong as well.
    Some(Composition {
        target: target?,
        src_dir,
        unusable_src_dir,
        config,
        root,
        top,
        supported_targets,
        sources: BTreeMap::new(),
    })
}

fn context<'a>(target: &'a Name, options: &LoadOptions<'a>) -> InterpolationContext<'a> {
    InterpolationContext {
        env: options.env,
        target: Some(target.as_str()),
    }
}

/// The avocado.yaml of a fetched directory, under either of its names. Without a readable one
/// there is nothing to merge, which is reported.
fn fetched_text(
    source: &ExtensionSource,
    directory: &Path,
    report: &mut Report,
) -> Option<(PathBuf, String)> {
    let what = match &source.section {
        Some(section) => section.to_string(),
        None => format!("the extension `{}`", source.extension),
    };
    let path = ["avocado.yaml", "avocado.yml"]
        .map(|file| directory.join(file))
        .into_iter()
        .find(|path| path.exists());
    let Some(path) = path else {
        let message = format!("what was fetched for {what} has no avocado.yaml");
        report
            .error(source.span, message)
            .hint(format!("it is looked for in {}", directory.display()));
        return None;
    };
    // What is fetched says nothing of what else is on this machine.
    let is_local = matches!(source.kind, SourceKind::Path { .. });
    let leads_out = match (path.canonicalize(), directory.canonicalize()) {
        (Ok(path), Ok(directory)) => !path.starts_with(directory),
        _ => true,
    };
    if leads_out && !is_local {
        let message = format!("{} leads out of what was fetched", path.display());
        report.error(source.span, message);
        return None;
    }
    match text_file::read(&path) {
        Ok(Ok(text)) => Some((path, text)),
        Ok(Err(other)) => {
            report.take_over(other);
            None
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            report.error(source.span, message);
            None
        }
    }
}
