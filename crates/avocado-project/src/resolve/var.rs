//! The var partition.

use std::path::Path;
use std::str::FromStr;

use crate::decode::{Spanned, TextOr};
use crate::model::{Placed, Subvolume, VarCompression, VarPartition};
use crate::raw::{RawSubvolume, RawSubvolumes, RawVar, Text};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;
use super::paths;

/// The subvolume that every var partition has, where devices keep images and runtimes.
const STORE: &str = "lib/avocado";
const STORE_HINT: &str = "devices keep their images and runtimes in it";

pub(super) fn var_partition(cx: &mut ResolveContext<'_>, raw: Option<RawVar>) -> VarPartition {
    let raw = raw.unwrap_or_default();
    let compression = value(cx, raw.compression.as_ref(), "compression");
    VarPartition {
        compression: compression.map(|placed| placed.value),
        subvolumes: subvolumes(cx, raw.subvolumes),
    }
}

pub(super) fn subvolumes(
    cx: &mut ResolveContext<'_>,
    raw: Option<RawSubvolumes>,
) -> Vec<Subvolume> {
    let mut subvolumes: Vec<Subvolume> = Vec::new();
    for (key, value) in raw.unwrap_or_default().0 {
        let Some(subvolume) = subvolume(cx, &key, value) else {
            continue;
        };
        let is_same = |other: &Subvolume| *other.path == *subvolume.path;
        if let Some(other) = subvolumes.iter().find(|other| is_same(other)) {
            let message = format!("{} is stated twice", quoted(&key));
            let hint = format!("also at {}", other.path.place);
            cx.report.error(key.span, message).hint(hint);
            continue;
        }
        if *subvolume.path == Path::new(STORE) && !(subvolume.enabled && subvolume.writable) {
            let message = format!("the subvolume `{STORE}` is always there and writable");
            cx.report.error(key.span, message).hint(STORE_HINT);
            continue;
        }
        if subvolume.path.starts_with(STORE) && *subvolume.path != Path::new(STORE) {
            let message = format!("the subvolume `{STORE}` has no other one in it");
            cx.report.error(key.span, message).hint(STORE_HINT);
            continue;
        }
        subvolumes.push(subvolume);
    }
    subvolumes
}

fn subvolume(
    cx: &mut ResolveContext<'_>,
    key: &Text,
    stated: Option<Spanned<TextOr<RawSubvolume>>>,
) -> Option<Subvolume> {
    let mut like = RawSubvolume::default();
    match stated {
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
                    return None;
                }
            },
        },
    }
    let path = paths::path_on_var(cx, key, "subvolume")?;
    let nodatacow = like.nodatacow.unwrap_or(false);
    Some(Subvolume {
        enabled: like.enabled.unwrap_or(true),
        writable: like.writable.unwrap_or(true),
        compression: own_compression(cx, like.compression.as_ref(), nodatacow),
        nodatacow,
        quota: value(cx, like.quota.as_ref(), "quota"),
        path: cx.placed(path, key.span),
    })
}

/// The compression of a subvolume, where it has an effect.
fn own_compression(
    cx: &mut ResolveContext<'_>,
    text: Option<&Text>,
    nodatacow: bool,
) -> Option<Placed<VarCompression>> {
    let text = text?;
    let compression: Option<Placed<VarCompression>> = value(cx, Some(text), "compression");
    if nodatacow {
        let message = "`compression` has no effect where `nodatacow` is true";
        cx.report
            .warning(text.span, message)
            .hint("btrfs compresses no file that is written in place");
        return None;
    }
    if compression.as_ref().is_some_and(|c| c.has_level()) {
        let message = "the level of a subvolume's `compression` has no effect";
        cx.report.warning(text.span, message).hint(
            "btrfs takes the level that the partition is mounted with, which in the image is that of \
             `var.compression` of the runtime",
        );
    }
    compression
}

fn value<T: FromStr<Err = &'static str>>(
    cx: &mut ResolveContext<'_>,
    text: Option<&Text>,
    what: &str,
) -> Option<Placed<T>> {
    let text = text?;
    match text.parse() {
        Ok(value) => Some(cx.placed(value, text.span)),
        Err(why) => {
            let message = format!("{} is no {what} of a btrfs", quoted(text));
            cx.report.error(text.span, message).hint(why);
            None
        }
    }
}
