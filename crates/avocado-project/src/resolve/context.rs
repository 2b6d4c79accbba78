use std::collections::BTreeMap;
use std::path::PathBuf;

use avocado_manifest::Name;
use serde::de::DeserializeOwned;

use crate::decode::{Spanned, decode};
use crate::model::{Placed, SourcePlace, state_dir};
use crate::overrides::KernelOverride;
use crate::raw::Text;
use crate::report::Report;
use crate::shape::{Reading, Shape};
use crate::source::Span;
use crate::text::quoted;
use crate::yaml::{Entry, Key, Node, Value};

/// What came of the `source` of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceState {
    /// It is wrong, which is reported.
    Wrong,
    NotFetched,
    /// Its avocado.yaml is merged, and its files are here.
    FetchedTo(PathBuf),
}

/// What every part of the resolution needs, and the checks that all of them make.
pub(super) struct ResolveContext<'a> {
    pub(super) root: &'a Node,
    /// Where the files are that the present part names.
    pub(super) src_dir: PathBuf,
    /// Whether these were fetched: what they say is not what the user says.
    pub(super) is_foreign: bool,
    pub(super) sources: &'a BTreeMap<String, SourceState>,
    pub(super) kernel_overrides: &'a [KernelOverride],
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) report: &'a mut Report,
}

impl<'a> ResolveContext<'a> {
    /// The same for a part whose files are elsewhere.
    pub(super) fn within(&mut self, src_dir: PathBuf) -> ResolveContext<'_> {
        ResolveContext {
            root: self.root,
            is_foreign: src_dir.starts_with(state_dir(&self.src_dir)),
            src_dir,
            sources: self.sources,
            kernel_overrides: self.kernel_overrides,
            env: self.env,
            report: self.report,
        }
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// The entries of a top-level map of names; empty where it is absent or no map.
    pub(super) fn section(&mut self, name: &str) -> &'a [Entry] {
        let Some(node) = self.root.get(name) else {
            return &[];
        };
        match node.entries() {
            Some(entries) => entries,
            None => {
                let found = node.describe();
                let message = format!("`{name}` must be a map, found {found}");
                self.report.error(node.span, message);
                &[]
            }
        }
    }

    /// A name that becomes a part of paths.
    pub(super) fn name(&mut self, text: &Text) -> Option<Name> {
        text.parse()
            .map_err(|error| {
                let message = format!("{error}");
                self.report.error(text.span, message);
            })
            .ok()
    }

    /// The place of a span, for the model.
    pub(super) fn place(&self, span: Span) -> SourcePlace {
        self.report.place(span)
    }

    /// A value with its place, for the model.
    pub(super) fn placed<T>(&self, value: T, span: Span) -> Placed<T> {
        let place = self.place(span);
        Placed { value, place }
    }

    /// The place of a value that was written, for the model.
    pub(super) fn place_of<T>(&self, value: Option<&Spanned<T>>) -> Option<SourcePlace> {
        value.map(|value| self.place(value.span))
    }

    /// The entries of a section that is one thing (then it is called `default`) or a map of
    /// named ones. `None` where the section is absent.
    pub(super) fn one_or_named(&mut self, name: &str) -> Option<Vec<(Text, &'a Node)>> {
        let node = self.root.get(name)?;
        let entries = self.section(name);
        node.entries()?;
        let shape = Shape::of_project().field(name);
        if matches!(shape.read(node), Reading::Names(_)) {
            let named = entries.iter().map(|e| (spanned(&e.key), &e.value));
            return Some(named.collect());
        }
        let field = entries.iter().find(|e| shape.has_key(&e.key.text));
        let mut mixed = false;
        for entry in entries {
            let known = shape.has_key(&entry.key.text);
            if let (false, Value::Mapping(_), Some(field)) = (known, &entry.value.value, field) {
                let (key, field) = (quoted(&entry.key.text), &field.key.text);
                let message = format!(
                    "`{name}` mixes one unnamed entry (it has `{field}`) with a named one, {key}"
                );
                self.report
                    .error(entry.key.span, message)
                    .hint("move the fields of the unnamed entry below `default:`");
                mixed = true;
            }
        }
        if mixed {
            return None;
        }
        let span = node.span;
        let value = "default".to_owned();
        Some(vec![(Spanned { value, span }, node)])
    }

    /// A section that may be absent.
    pub(super) fn decoded<T: DeserializeOwned + Default>(&mut self, section: &str) -> T {
        let node = self.root.get(section);
        let decoded = node.and_then(|node| decode(node, self.report));
        decoded.map(|d| d.value).unwrap_or_default()
    }
}

pub(super) fn spanned(key: &Key) -> Text {
    Spanned {
        value: key.text.clone(),
        span: key.span,
    }
}
