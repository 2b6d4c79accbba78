//! The var partition.

use crate::decode::{Spanned, TextOr};
use crate::model::{Subvolume, VarPartition};
use crate::raw::{RawSubvolume, RawSubvolumes, RawVar};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;
use super::values::plain;

pub(super) fn var_partition(cx: &mut ResolveContext<'_>, raw: Option<RawVar>) -> VarPartition {
    let raw = raw.unwrap_or_default();
    if let Some(compression) = &raw.compression {
        cx.without_effect(compression.span, "compression")
            .hint("the var partition is made without one");
    }
    VarPartition {
        compression: plain(raw.compression),
        subvolumes: subvolumes(cx, raw.subvolumes),
    }
}

pub(super) fn subvolumes(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawSubvolumes>,
) -> Vec<Subvolume> {
    let raw = raw.unwrap_or_default().0;
    if let Some((first, _)) = raw.first() {
        cx.without_effect(first.span, "subvolumes")
            .hint("what is put there is in plain directories");
    }
    let mut subvolumes = Vec::new();
    for (path, value) in raw {
        let mut like = RawSubvolume::default();
        match value {
            None => {}
            Some(Spanned { value, span }) => match value {
                TextOr::Other(raw) => like = raw,
                TextOr::Text(text) => match text.as_str() {
                    "true" => {}
                    "false" => like.enabled = Some(false),
                    "ro" => like.writable = Some(false),
                    other => {
                        let message = format!("{} is not a kind of subvolume", quoted(other));
                        let hint = suggest::hint(other, ["true", "false", "ro"]);
                        cx.report.error(span, message).hint(hint);
                        continue;
                    }
                },
            },
        }
        subvolumes.push(Subvolume {
            enabled: like.enabled.unwrap_or(true),
            writable: like.writable.unwrap_or(true),
            compression: plain(like.compression),
            nodatacow: like.nodatacow.unwrap_or(false),
            quota: plain(like.quota),
            path: cx.placed(path.value, path.span),
        });
    }
    subvolumes
}
