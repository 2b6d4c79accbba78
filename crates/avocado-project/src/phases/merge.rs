//! The merging of a fetched avocado.yaml into the project's tree.

use std::collections::VecDeque;
use std::path::Path;

use super::parse;
use super::source::SourcedSection;
use crate::interpolate::{self, InterpolationContext};
use crate::report::Report;
use crate::shape::{Reading, Shape};
use crate::source::Span;
use crate::text::quoted;
use crate::yaml::{Entry, Key, Node, Value};

/// An avocado.yaml that was fetched for an extension.
pub(super) struct FetchedFile<'a> {
    pub(super) extension: &'a str,
    pub(super) path: &'a Path,
    pub(super) text: String,
    /// What is taken over besides the extension.
    pub(super) include: &'a [String],
    /// Where the project says that it is fetched.
    pub(super) stated_at: Span,
}

/// Fills a project's tree with what fetched files add to it. What the tree has stays as it is.
pub(super) struct Merge<'a> {
    pub(super) root: &'a mut Node,
    pub(super) context: &'a InterpolationContext<'a>,
    pub(super) cli_version: &'a str,
    pub(super) report: &'a mut Report,
}

impl Merge<'_> {
    /// Answers with the names of the extensions that came along because the one that was fetched
    /// needs them.
    pub(super) fn add(&mut self, fetched: &FetchedFile<'_>) -> Vec<String> {
        let file = self.report.add_file(fetched.path, fetched.text.as_str());
        let Some(other) = parse::parse(file, self.cli_version, self.report) else {
            return Vec::new();
        };
        let Some(extension) = self.extension(&other, fetched) else {
            let name = quoted(fetched.extension);
            let message = format!("what was fetched for the extension {name} does not define it");
            let hint = format!("it is looked for in {}", fetched.path.display());
            self.report.error(fetched.stated_at, message).hint(hint);
            return Vec::new();
        };
        let extension = extension.into_iter().filter(|e| e.key.text != "source");
        let mut needed = VecDeque::new();
        let mut compiled = Vec::new();
        self.take(
            fetched.extension,
            extension.collect(),
            &mut needed,
            &mut compiled,
        );
        let mut along = Vec::new();
        while let Some(name) = needed.pop_front() {
            // One that is fetched itself is the project's to name.
            let Some(extension) = self.named(&other, &name) else {
                continue;
            };
            if self.has_extension(&name) || extension.iter().any(|e| e.key.text == "source") {
                continue;
            }
            self.take(&name, extension, &mut needed, &mut compiled);
            along.push(name);
        }
        self.include(&other, fetched.include, &compiled);
        along
    }

    /// Fills an entry of `rootfs`, `initramfs` or `kernel` with what the fetched file says of the
    /// entry of its name there, else of its only one or the one that is called `default`.
    pub(super) fn add_section(&mut self, fetched: &FetchedFile<'_>, sourced: &SourcedSection) {
        let file = self.report.add_file(fetched.path, fetched.text.as_str());
        let Some(other) = parse::parse(file, self.cli_version, self.report) else {
            return;
        };
        let section = sourced.section.as_str();
        let shape = Shape::of_project().field(section);
        let entry = sourced.entry.as_str();
        let found = other.get(section).and_then(|node| match shape.read(node) {
            Reading::Names(_) => match (node.get(entry), node.entries()) {
                (Some(named), _) => named.entries(),
                (None, Some([only])) => only.value.entries(),
                (None, _) => node.get("default")?.entries(),
            },
            _ => node.entries(),
        });
        let Some(found) = found else {
            let message = format!("what was fetched for {sourced} does not define it");
            let hint = format!("it is looked for in {}", fetched.path.display());
            self.report.error(fetched.stated_at, message).hint(hint);
            return;
        };
        let mut found = found.to_vec();
        if let Some(chained) = found.iter().find(|e| e.key.text == "source") {
            let message = format!("{sourced} would come from yet another project");
            self.report
                .error(chained.key.span, message)
                .hint("name that project in the `source` of this one");
            return;
        }
        shape.rename_old_keys(&mut found, self.report);
        let mut compiled = compiled_sections(&found);
        let scripts = found.iter().filter(|e| e.key.text == "compile");
        compiled.extend(scripts.filter_map(|e| e.value.as_text()).map(str::to_owned));
        let names_permissions = found.iter().any(|e| e.key.text == "permissions");
        let is_named = self
            .root
            .get(section)
            .is_some_and(|node| matches!(shape.read(node), Reading::Names(_)));
        if is_named {
            self.fill(&[section, entry], found);
        } else {
            self.fill(&[section], found);
        }
        // Those that it names, where this project has none.
        if names_permissions && self.root.get("permissions").is_none() {
            let permissions = other.get("permissions").and_then(Node::entries);
            self.fill(&["permissions"], permissions.unwrap_or_default().to_vec());
        }
        self.include(&other, fetched.include, &compiled);
    }

    /// Takes over what the patterns name, and the sections of `sdk.compile` of these names.
    fn include(&mut self, other: &Node, patterns: &[String], compiled: &[String]) {
        let patterns = patterns.iter().map(|pattern| pattern.split('.').collect());
        // What its packages are compiled by comes along, whatever else does.
        let compiled = compiled.iter().map(|name| vec!["sdk", "compile", name]);
        for path in patterns.chain(compiled) {
            let path: Vec<&str> = path;
            match &path[..] {
                [section @ .., "*"] => {
                    let found = section.iter().try_fold(other, |node, key| node.get(key));
                    let entries = found.and_then(Node::entries).unwrap_or_default();
                    self.fill(section, entries.to_vec());
                }
                [section @ .., last] => {
                    let found = section.iter().try_fold(other, |node, key| node.get(key));
                    let entries = found.and_then(Node::entries).unwrap_or_default();
                    let entry = entries.iter().find(|entry| entry.key.text == *last);
                    self.fill(section, entry.cloned().into_iter().collect());
                }
                [] => {}
            }
        }
    }

    /// Takes over an extension, and notes what it needs and what compiles its packages.
    fn take(
        &mut self,
        name: &str,
        extension: Vec<Entry>,
        needed: &mut VecDeque<String>,
        compiled: &mut Vec<String>,
    ) {
        let extension = self.renamed(extension, &["extensions", name]);
        compiled.extend(compiled_sections(&extension));
        for name in needed_extensions(&extension) {
            let name = interpolate::text(&name, self.root, self.context, self.report);
            needed.extend(name);
        }
        self.fill(&["extensions", name], extension);
    }

    fn has_extension(&self, name: &str) -> bool {
        let extensions = self.root.get("extensions");
        extensions.and_then(|all| all.get(name)).is_some()
    }

    /// The entries of the extension of this name in a fetched file.
    fn named(&mut self, other: &Node, name: &str) -> Option<Vec<Entry>> {
        let all = other.get("extensions").and_then(Node::entries)?;
        let is_it = |entry: &&Entry| {
            let key = &entry.key.text;
            let key = interpolate::text(key, self.root, self.context, self.report);
            key.as_deref() == Some(name)
        };
        let found = all.iter().find(is_it)?;
        found.value.entries().map(<[Entry]>::to_vec)
    }

    /// The entries of the extension in a fetched file: under its name, else under its name without
    /// the target or the last part of it at the end, for an extension that is made for several; else
    /// the only one that there is.
    fn extension(&mut self, other: &Node, fetched: &FetchedFile<'_>) -> Option<Vec<Entry>> {
        let all = other.get("extensions").and_then(Node::entries)?;
        let name = fetched.extension;
        let of_target = self.context.target.and_then(|target| {
            let rest = name.strip_suffix(target)?;
            rest.strip_suffix('-')
        });
        let of_family = name.rsplit_once('-').map(|(family, _)| family);
        let names = [Some(name), of_target, of_family];
        let mut names = names.into_iter().flatten();
        let found = names.find_map(|name| self.named(other, name));
        found.or_else(|| match all {
            [only] => only.value.entries().map(<[Entry]>::to_vec),
            _ => None,
        })
    }

    /// Entries of a section, each under its present name: those of two files are compared.
    fn renamed(&mut self, mut entries: Vec<Entry>, path: &[&str]) -> Vec<Entry> {
        if let Some(section) = section_at(path) {
            section.rename_old_keys(&mut entries, self.report);
        }
        entries
    }

    /// Adds those entries to the map at `path` that it does not have.
    fn fill(&mut self, path: &[&str], entries: Vec<Entry>) {
        let Some(first) = entries.first() else {
            return;
        };
        let span = first.key.span;
        let mut node = &mut *self.root;
        let mut walked: Vec<&str> = Vec::new();
        for key in path {
            walked.push(key);
            let Some(map) = map_of(node) else {
                // A value of another kind is reported when it is decoded.
                return;
            };
            let at = match map.iter().position(|entry| entry.key.text == *key) {
                Some(at) => at,
                None => {
                    map.push(Entry {
                        key: Key {
                            text: (*key).to_owned(),
                            span,
                        },
                        value: Node {
                            value: Value::Mapping(Vec::new()),
                            span,
                        },
                    });
                    map.len() - 1
                }
            };
            let Some(entry) = map.get_mut(at) else {
                return;
            };
            node = &mut entry.value;
            if let (Some(section), Some(map)) = (section_at(&walked), map_of(node)) {
                section.rename_old_keys(map, self.report);
            }
        }
        let Some(map) = map_of(node) else {
            return;
        };
        for entry in entries {
            if map.iter().all(|known| known.key.text != entry.key.text) {
                map.push(entry);
            }
        }
    }
}

/// The sections of `sdk.compile` that the packages of an extension name, for any target.
fn compiled_sections(extension: &[Entry]) -> Vec<String> {
    let mut sections = Vec::new();
    for entry in extension {
        let Some(entries) = entry.value.entries() else {
            continue;
        };
        let key = entry.key.text.as_str();
        if key == "packages" || key == "dependencies" {
            let named = entries.iter().filter_map(|p| p.value.get("compile"));
            sections.extend(named.filter_map(Node::as_text).map(str::to_owned));
        } else if key.starts_with("target-") {
            sections.extend(compiled_sections(entries));
        }
    }
    sections
}

/// The extensions that an extension needs, for any target.
fn needed_extensions(extension: &[Entry]) -> Vec<String> {
    let mut needed = Vec::new();
    for entry in extension {
        let key = entry.key.text.as_str();
        if key == "extensions" || key == "depends_on" {
            match &entry.value.value {
                Value::Mapping(entries) => needed.extend(keys(entries)),
                Value::Sequence(items) => {
                    for item in items {
                        needed.extend(item.as_text().map(str::to_owned));
                        needed.extend(keys(item.entries().unwrap_or_default()));
                    }
                }
                Value::Scalar(_) => {}
            }
        } else if key.starts_with("target-") {
            needed.extend(needed_extensions(entry.value.entries().unwrap_or_default()));
        }
    }
    needed
}

fn keys(entries: &[Entry]) -> impl Iterator<Item = String> {
    entries.iter().map(|entry| entry.key.text.clone())
}

/// The entries of a map, to add to; null becomes a map.
fn map_of(node: &mut Node) -> Option<&mut Vec<Entry>> {
    if node.is_null() {
        node.value = Value::Mapping(Vec::new());
    }
    match &mut node.value {
        Value::Mapping(entries) => Some(entries),
        _ => None,
    }
}

/// The section at a path of avocado.yaml, where there is one.
fn section_at(path: &[&str]) -> Option<&'static Shape> {
    let end = path.iter().try_fold(Shape::of_project(), |shape, key| {
        match shape.reading_of_maps() {
            Reading::Section(section) => Some(section.field(key)),
            Reading::Names(names) => Some(names),
            Reading::Opaque => None,
        }
    })?;
    match end.reading_of_maps() {
        Reading::Section(section) => Some(section),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_are_compiled_by_comes_along() {
        let tree = |report: &mut Report, text: &str| {
            let file = report.add_file(Path::new("f"), text);
            parse::parse(file, "1.0.0", report).unwrap()
        };
        let mut report = Report::new(Path::new("main"), "");
        let main = "{extensions: {app: }, sdk: {compile: {shared: {compile: mine}}}}";
        let mut root = tree(&mut report, main);
        let text = "
sdk: {compile: {shared: {compile: theirs}, app: {compile: a}, arm: {compile: b}, other: {}}}
extensions:
  app:
    packages: {x: {compile: app, install: i}, y: {compile: shared}, z: '*'}
    target-arm: {packages: {x: {compile: arm}}}
";
        let context = InterpolationContext {
            env: &|_| None,
            target: None,
        };
        let mut merge = Merge {
            root: &mut root,
            context: &context,
            cli_version: "1.0.0",
            report: &mut report,
        };
        merge.add(&FetchedFile {
            extension: "app",
            path: Path::new("theirs"),
            text: text.to_owned(),
            include: &[],
            stated_at: Span::default(),
        });
        let compile = root.get("sdk").and_then(|sdk| sdk.get("compile")).unwrap();
        let scripts = compile.entries().unwrap().iter();
        let scripts: Vec<_> = scripts
            .map(|e| (e.key.text.as_str(), e.value.get("compile").unwrap()))
            .map(|(key, script)| (key, script.as_text().unwrap()))
            .collect();
        assert_eq!(scripts, [("shared", "mine"), ("app", "a"), ("arm", "b")]);
    }
}
