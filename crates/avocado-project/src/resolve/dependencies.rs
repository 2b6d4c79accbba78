//! What an extension says that it needs: other extensions, and which versions of them.

use avocado_manifest::Name;

use crate::decode::{MapOrList, Spanned, TextOr};
use crate::raw::{RawDependencies, RawDependency, Text};
use crate::source::Span;
use crate::text::quoted;
use crate::version_spec::VersionSpec;

use super::context::ResolveContext;

/// An extension that another one needs, and where that is written.
pub(super) struct StatedDependency {
    pub(super) name: Name,
    pub(super) span: Span,
    /// `None` for all versions.
    pub(super) version: Option<Spanned<VersionSpec>>,
}

pub(super) fn dependencies(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawDependencies>,
) -> Vec<StatedDependency> {
    let mut named: Vec<(Text, Option<Spanned<TextOr<RawDependency>>>)> = Vec::new();
    match raw {
        None => {}
        Some(MapOrList::Map(map)) => named.extend(map.0),
        Some(MapOrList::List(list)) => {
            for Spanned { value, span } in list {
                match value {
                    TextOr::Text(value) => named.push((Spanned { value, span }, None)),
                    TextOr::Other(entries) => match <[_; 1]>::try_from(entries.0) {
                        Ok([entry]) => named.push(entry),
                        Err(_) => {
                            let message = "each entry names one extension";
                            cx.report
                                .error(span, message)
                                .hint("write `- name` or `- name: \">=1.2\"`");
                        }
                    },
                }
            }
        }
    }
    let mut dependencies = Vec::new();
    for (text, constraint) in named {
        let version = match constraint {
            Some(Spanned { value, span }) => match value {
                TextOr::Text(value) => Some(Spanned { value, span }),
                TextOr::Other(raw) => raw.version,
            },
            None => None,
        };
        let version = version.and_then(|text| versions(cx, text));
        if let Some(name) = cx.name(&text) {
            dependencies.push(StatedDependency {
                name,
                span: text.span,
                version,
            });
        }
    }
    dependencies
}

/// Which versions will do; `None` for all of them.
fn versions(cx: &mut ResolveContext<'_>, text: Text) -> Option<Spanned<VersionSpec>> {
    let Spanned { value, span } = text;
    if value.trim() == "*" {
        return None;
    }
    match value.parse() {
        Ok(value) => Some(Spanned { value, span }),
        Err(_) => {
            let message = format!("{} does not say which versions will do", quoted(&value));
            cx.report
                .error(span, message)
                .hint("write for example \"*\", \"1.2.3\", \"1.2.*\" or \">=1.2, <2\"");
            None
        }
    }
}
