//! Single values: formats, versions, words.

use crate::decode::Spanned;
use crate::model::{Filesystem, SourcePlace};
use crate::raw::{RawImageType, Text};
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;

/// Every format with its name in avocado.yaml.
const FILESYSTEMS: [(&str, Filesystem); 8] = [
    ("squashfs", Filesystem::Squashfs),
    ("erofs", Filesystem::Erofs),
    ("erofs-lz4", Filesystem::ErofsLz4),
    ("erofs-zst", Filesystem::ErofsZst),
    ("cpio", Filesystem::Cpio),
    ("cpio.zst", Filesystem::CpioZst),
    ("cpio.lz4", Filesystem::CpioLz4),
    ("cpio.gz", Filesystem::CpioGz),
];

/// The formats of a read-only file system.
pub(super) const MOUNTED: &[Filesystem] = &[
    Filesystem::Squashfs,
    Filesystem::Erofs,
    Filesystem::ErofsLz4,
    Filesystem::ErofsZst,
];

/// The formats of an initramfs.
pub(super) const UNPACKED: &[Filesystem] = &[
    Filesystem::Cpio,
    Filesystem::CpioZst,
    Filesystem::CpioLz4,
    Filesystem::CpioGz,
];

/// The last second of the year 9999, after which a manifest has no way to write a time.
const LAST_EPOCH: u64 = 253_402_300_799;

/// The time that results have. A wrong one stops those who make some.
pub(super) fn epoch(cx: &mut ResolveContext<'_>, stated: Option<&Spanned<u64>>) -> u64 {
    let Some(epoch) = stated else {
        return 0;
    };
    if epoch.value > LAST_EPOCH {
        let message = "this time is after the year 9999: no runtime can have it";
        cx.report
            .warning(epoch.span, message)
            .hint("write the seconds since 1970, not milliseconds or less");
    }
    epoch.value
}

/// One of the `allowed` formats.
pub(super) fn filesystem(
    cx: &mut ResolveContext<'_>,
    text: Option<&Text>,
    allowed: &[Filesystem],
    default: Filesystem,
) -> Filesystem {
    let Some(text) = text else {
        return default;
    };
    let allowed = || FILESYSTEMS.iter().filter(|(_, f)| allowed.contains(f));
    if let Some((_, found)) = allowed().find(|(name, _)| *name == text.value) {
        return *found;
    }
    let message = format!(
        "{} is not a file system that can be used here",
        quoted(text)
    );
    cx.report
        .error(text.span, message)
        .hint(suggest::hint(text, allowed().map(|(name, _)| *name)));
    default
}

/// Where an image is said to go into a container of the format `kab`.
pub(super) fn kab(
    cx: &mut ResolveContext<'_>,
    image: Option<&RawImageType>,
    short: Option<&Text>,
) -> Option<SourcePlace> {
    let long = image.and_then(|image| image.r#type.as_ref());
    let mut kab = None;
    for text in [long, short].into_iter().flatten() {
        match text.as_str() {
            "raw" => {}
            "kab" => kab = Some(cx.place(text.span)),
            other => {
                let message = format!("{} is not an image type", quoted(other));
                cx.report
                    .error(text.span, message)
                    .hint(suggest::hint(other, ["raw", "kab"]));
            }
        }
    }
    kab
}

/// What a section that becomes a package of rpm says of it: two sections have the same keys.
macro_rules! rpm_metadata {
    ($raw:ident) => {
        crate::model::RpmMetadata {
            release: crate::resolve::values::plain($raw.release),
            summary: crate::resolve::values::plain($raw.summary),
            description: crate::resolve::values::plain($raw.description),
            license: crate::resolve::values::plain($raw.license),
            arch: crate::resolve::values::plain($raw.arch),
            vendor: crate::resolve::values::plain($raw.vendor),
            url: crate::resolve::values::plain($raw.url),
        }
    };
}

pub(super) use rpm_metadata;

/// The text, without its place.
pub(super) fn plain(text: Option<Text>) -> Option<String> {
    text.map(|text| text.value)
}

/// The texts, without their places.
pub(super) fn all_plain(texts: Option<Vec<Text>>) -> Vec<String> {
    let texts = texts.unwrap_or_default().into_iter();
    texts.map(|text| text.value).collect()
}

/// Commands and the like: one line of text each.
pub(super) fn lines(cx: &mut ResolveContext<'_>, texts: Option<Vec<Text>>) -> Vec<String> {
    let mut lines = Vec::new();
    for text in texts.unwrap_or_default() {
        if text.trim().is_empty() {
            cx.report.error(text.span, "this is empty");
        } else if text.contains('"') {
            let message = format!("{} has a quotation mark", quoted(&text));
            cx.report
                .error(text.span, message)
                .hint("the device splits it at spaces and runs no shell; put it into a script");
        } else if text.chars().any(char::is_control) {
            let message = format!("{} must be one line of text", quoted(&text));
            cx.report.error(text.span, message);
        } else {
            lines.push(text.value);
        }
    }
    lines
}

/// Names of units, modules and scopes: words that need no quoting anywhere.
pub(super) fn words(
    cx: &mut ResolveContext<'_>,
    texts: Option<Vec<Text>>,
    what: &str,
) -> Vec<String> {
    let mut words = Vec::new();
    for text in texts.unwrap_or_default() {
        let usable = |c: char| c.is_ascii_alphanumeric() || "@._-:\\+".contains(c);
        if text.is_empty() || text.starts_with('-') || !text.chars().all(usable) {
            let message = format!("{} is not the name of a {what}", quoted(&text));
            cx.report.error(text.span, message);
        } else {
            words.push(text.value);
        }
    }
    words
}

/// Three or more numbers with dots, then `-pre` and `+build` where there are any.
pub(super) fn is_version(text: &str) -> bool {
    let word = |text: &str| {
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        !text.is_empty() && text.chars().all(usable)
    };
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(t, b)| (t, Some(b)));
    let (numbers, pre) = text
        .split_once('-')
        .map_or((text, None), |(n, p)| (n, Some(p)));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').count() >= 3
        && numbers.split('.').all(number)
        && pre.is_none_or(word)
        && build.is_none_or(word)
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_of_extensions() {
        for good in [
            "0.1.0",
            "1.2.3.4",
            "1.2.3-rc.1",
            "1.2.3+b-5",
            "1.2.3-a-b+c",
            "2024.01.02",
        ] {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.",
            "1..3",
            "v1.2.3",
            "1.2.x",
            "1.2.3-",
            "1.2.3+",
            "1.2.3+a+b",
            "1.2.3 ",
            "*",
            "１.2.3",
            "-1.2.3",
            "1.2.3-a_b",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
