//! The list of packages that an edit is about: where it is, and what keeps it from being edited.

use super::Document;
use super::change::{self, Addition};
use crate::diagnostic::Diagnostic;
use crate::error::ProjectError;
use crate::model::PackageScope;
use crate::resolve::default_package;
use crate::shape::{Reading, Shape};
use crate::source::Span;
use crate::suggest;
use crate::text::quoted;
use crate::yaml::{Entry, Node, Value};

/// One package, and the list that it is or is to be in.
pub(super) struct PackageList<'t, 'p> {
    document: Document<'t>,
    /// The keys from the root to the list, in the spelling of the file.
    keys: Vec<String>,
    package: &'p str,
    /// What the list stands for while it is not written.
    implied: Option<&'static str>,
}

/// Why a text is not edited.
struct Refusal {
    span: Option<Span>,
    why: String,
}

impl<'t, 'p> PackageList<'t, 'p> {
    pub(super) fn find(
        document: Document<'t>,
        scope: &PackageScope,
        package: &'p str,
    ) -> Result<Self, ProjectError> {
        let root = &document.root;
        let old_or = |node: Option<&Node>, old: &str, new: &str| {
            let has = |key: &str| node.is_some_and(|node| node.get(key).is_some());
            if has(old) && !has(new) { old } else { new }.to_owned()
        };
        let named = |section: String, name: &str| vec![section, name.to_owned()];
        let mut keys = match scope {
            PackageScope::Extension(name) => named("extensions".to_owned(), name.as_str()),
            PackageScope::Runtime(name) => {
                named(old_or(Some(root), "runtime", "runtimes"), name.as_str())
            }
            PackageScope::Sdk => vec!["sdk".to_owned()],
            PackageScope::Rootfs => image_keys(&document, "rootfs", package)?,
            PackageScope::Initramfs => image_keys(&document, "initramfs", package)?,
        };
        let section = keys.iter().try_fold(root, |node, key| node.get(key));
        keys.push(old_or(section, "dependencies", "packages"));
        let list = PackageList {
            implied: match scope {
                PackageScope::Rootfs => Some(default_package("rootfs")),
                PackageScope::Initramfs => Some(default_package("initramfs")),
                _ => None,
            },
            keys,
            package,
            document,
        };
        list.check_section(scope, section_place(&list))?;
        Ok(list)
    }

    /// That there is a section to add packages to.
    fn check_section(
        &self,
        scope: &PackageScope,
        source: Option<Span>,
    ) -> Result<(), ProjectError> {
        let (kind, name) = match scope {
            PackageScope::Extension(name) => ("extension", name),
            PackageScope::Runtime(name) => ("runtime", name),
            _ => return self.check_source(source),
        };
        let section = self.keys.first().map_or("", String::as_str);
        let names = self.document.root.get(section);
        if names.is_some_and(|names| names.get(name.as_str()).is_some()) {
            return self.check_source(source);
        }
        let span = names.map(|names| names.span);
        let message = format!("there is no {kind} {}", quoted(name.as_str()));
        let known = names.and_then(Node::entries).unwrap_or_default();
        let known: Vec<&str> = known.iter().map(|entry| entry.key.text.as_str()).collect();
        let near = suggest::nearest(name.as_str(), known.iter().copied());
        let hint = match (near, &known[..]) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, []) => self.by_hand(),
            (None, known) => format!("it has {}; or {}", known.join(", "), self.by_hand()),
        };
        Err(self.place(span, message).with_hint(hint).into())
    }

    /// A list here would take the place of the one that comes from elsewhere.
    fn check_source(&self, source: Option<Span>) -> Result<(), ProjectError> {
        match source {
            Some(span) if self.list().is_none() => Err(self.refuse(&Refusal {
                span: Some(span),
                why: "it is taken from elsewhere, whose packages a list here would replace"
                    .to_owned(),
            })),
            _ => Ok(()),
        }
    }

    fn list(&self) -> Option<&Node> {
        let root = &self.document.root;
        self.keys.iter().try_fold(root, |node, key| node.get(key))
    }

    /// The text with the package; `None` where it is there.
    pub(super) fn add(&self) -> Result<Option<String>, ProjectError> {
        let list = self.list();
        if list.is_some_and(|list| list.get(self.package).is_some()) {
            return Ok(None);
        }
        // A list that says nothing stands for one as well.
        let implied = self.implied.filter(|_| list.is_none_or(Node::is_null));
        let implied = implied.filter(|implied| *implied != self.package);
        let packages: Vec<&str> = implied.into_iter().chain([self.package]).collect();
        let (document, root) = (self.document.text, &self.document.root);
        let (holders, rest) = self.descend().map_err(|why| self.refuse(&why))?;
        let map = holders.last().map_or(root, |holder| &holder.value);
        let addition = Addition {
            keys: rest,
            packages: &packages,
        };
        let step = change::step_of(document, root);
        let text = change::add(document, map, holders.last().copied(), step, &addition);
        let mut expected = root.clone();
        let written = self.keys.len() - rest.len();
        if let Some(map) = at(&mut expected, self.keys.get(..written).unwrap_or_default()) {
            addition.apply(map);
        }
        self.checked(text, &expected, map.span).map(Some)
    }

    /// The text without the package.
    pub(super) fn remove(&self) -> Result<String, ProjectError> {
        let (document, root) = (self.document.text, &self.document.root);
        let list = self.list();
        if list.is_none_or(|list| list.get(self.package).is_none()) {
            let message = format!(
                "{} has no package {}",
                quoted(&self.keys.join(".")),
                quoted(self.package)
            );
            let known = list.and_then(Node::entries).unwrap_or_default();
            let known: Vec<&str> = known.iter().map(|entry| entry.key.text.as_str()).collect();
            let mut found = self.place(list.map(|list| list.span), message);
            if !known.is_empty() {
                found = found.with_hint(suggest::hint(self.package, known));
            }
            return Err(found.into());
        }
        let (holders, _) = self.descend().map_err(|why| self.refuse(&why))?;
        let Some(holder) = holders.last() else {
            return Err(self.refuse(&Refusal::of(None, "it is written in an unusual way")));
        };
        let map = &holder.value;
        let entries = change::written(map);
        let entry = entries.iter().find(|e| e.key.text == self.package);
        let Some(entry) = entry else {
            let why = Refusal::of(holder.key.span, "the package comes from `<<`");
            return Err(self.refuse(&why));
        };
        let text = change::remove(document, map, holder, entry);
        let mut expected = root.clone();
        if let Some(Value::Mapping(entries)) =
            at(&mut expected, &self.keys).map(|list| &mut list.value)
        {
            entries.retain(|entry| entry.key.text != self.package);
        }
        self.checked(text, &expected, entry.key.span)
    }

    /// The entries on the way to the list, as far as it is written, and the keys that are not.
    fn descend(&self) -> Result<(Vec<&Entry>, &[String]), Refusal> {
        let mut map = &self.document.root;
        let mut holders = Vec::new();
        for (depth, key) in self.keys.iter().enumerate() {
            let entries = change::written(map);
            let Some(entry) = entries.into_iter().find(|e| e.key.text == *key) else {
                if map.get(key).is_some() {
                    return Err(Refusal::of(map.span, format!("`{key}` comes from `<<`")));
                }
                return Ok((holders, self.keys.get(depth..).unwrap_or_default()));
            };
            if change::is_alias(entry) {
                return Err(Refusal::of(entry.key.span, format!("`{key}` is an alias")));
            }
            holders.push(entry);
            map = &entry.value;
        }
        Ok((holders, &[]))
    }

    /// A new text that says what it is to say.
    fn checked(
        &self,
        text: Option<String>,
        expected: &Node,
        span: Span,
    ) -> Result<String, ProjectError> {
        let says_it = |text: &String| {
            let tree = self.document.reread(text);
            tree.is_some_and(|tree| change::says_the_same(&tree, expected))
        };
        text.filter(says_it).ok_or_else(|| {
            let why = "it is written in a way that an edit could change more of";
            self.refuse(&Refusal::of(span, why))
        })
    }

    fn refuse(&self, refusal: &Refusal) -> ProjectError {
        let message = format!(
            "{} cannot be edited safely: {}",
            quoted(&self.keys.join(".")),
            refusal.why
        );
        self.place(refusal.span, message)
            .with_hint(self.by_hand())
            .into()
    }

    fn place(&self, span: Option<Span>, message: String) -> Diagnostic {
        let span = span.unwrap_or_default();
        self.document.report.place(span).error(message)
    }

    fn by_hand(&self) -> String {
        format!(
            "edit it by hand: the package is `{}: \"*\"` in the map `{}`",
            self.package,
            self.keys.join(".")
        )
    }
}

impl Refusal {
    fn of(span: impl Into<Option<Span>>, why: impl Into<String>) -> Self {
        Refusal {
            span: span.into(),
            why: why.into(),
        }
    }
}

/// Where a section says that it comes from elsewhere.
fn section_place(list: &PackageList<'_, '_>) -> Option<Span> {
    let (_, section) = list.keys.split_last()?;
    let root = &list.document.root;
    let section = section.iter().try_fold(root, |node, key| node.get(key))?;
    section.get("source").map(|source| source.span)
}

/// The keys of the rootfs or the initramfs that counts where none is named.
fn image_keys(
    document: &Document<'_>,
    section: &'static str,
    package: &str,
) -> Result<Vec<String>, ProjectError> {
    let Some(node) = document.root.get(section) else {
        return Ok(vec![section.to_owned()]);
    };
    let Reading::Names(_) = Shape::of_project().field(section).read(node) else {
        return Ok(vec![section.to_owned()]);
    };
    let entries = node.entries().unwrap_or_default();
    let names = entries.iter().map(|entry| entry.key.text.as_str());
    // What differs for one target is no image.
    let names = names.filter(|name| !name.starts_with("target-"));
    let names: Vec<&str> = names.collect();
    let name = match names[..] {
        [only] => only,
        _ if names.contains(&"default") => "default",
        _ => {
            let message = format!("there are several `{section}`: {}", names.join(", "));
            let place = document.report.place(node.span).error(message);
            let hint = format!(
                "edit it by hand: the package is `{package}: \"*\"` in the map \
                 `{section}.<name>.packages`"
            );
            return Err(place.with_hint(hint).into());
        }
    };
    Ok(vec![section.to_owned(), name.to_owned()])
}

/// The node at the end of these keys.
fn at<'n>(root: &'n mut Node, keys: &[String]) -> Option<&'n mut Node> {
    keys.iter().try_fold(root, |node, key| {
        let Value::Mapping(entries) = &mut node.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|entry| entry.key.text == *key);
        entry.map(|entry| &mut entry.value)
    })
}
