//! The extensions that an extension needs.

use crate::decode::{MapOrList, Spanned, TextOr};
use crate::model::ExtensionDependency;
use crate::raw::{RawDependencies, RawDependency, Text};

use super::context::ResolveContext;

pub(super) fn dependencies(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawDependencies>,
) -> Vec<ExtensionDependency> {
    let mut named: Vec<(Text, Option<TextOr<RawDependency>>)> = Vec::new();
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
            Some(TextOr::Text(version)) => Some(version),
            Some(TextOr::Other(raw)) => raw.version.map(|text| text.value),
            None => None,
        };
        if let Some(name) = cx.name(&text) {
            let name = cx.placed(name, text.span);
            dependencies.push(ExtensionDependency { name, version });
        }
    }
    dependencies
}
