//! Kernels: those of the project, and which one a runtime has.

use crate::decode::{Spanned, TextOr, decode};
use crate::model::{KernelConfig, KernelOrigin, Placed};
use crate::raw::{RawKernel, Text};
use crate::suggest;
use crate::text::quoted;
use crate::version_spec::VersionSpec;

use super::context::ResolveContext;
use super::{images, paths, values};

/// The kernels of the project by name; `None` for those that are wrong.
pub(super) struct Kernels(Vec<(Text, Option<KernelConfig>)>);

pub(super) fn kernels(cx: &mut ResolveContext<'_>) -> Kernels {
    let mut kernels = Vec::new();
    for (name, node) in cx.one_or_named("kernel").unwrap_or_default() {
        let raw = decode::<RawKernel>(node, cx.report);
        let kernel = raw.and_then(|raw| kernel(cx, Some(&name), raw.value));
        kernels.push((name, kernel));
    }
    Kernels(kernels)
}

/// The kernel that a runtime names, has inline over the project's, or gets because it says nothing.
pub(super) fn kernel_of(
    cx: &mut ResolveContext<'_>,
    runtime: &Text,
    raw: Option<Spanned<TextOr<RawKernel>>>,
    kernels: &Kernels,
) -> Option<KernelConfig> {
    let names = || kernels.0.iter().map(|(name, _)| name.as_str());
    let named = |name: &str| kernels.0.iter().find(|(known, _)| known.value == name);
    let default = match &kernels.0[..] {
        [only] => Some(only),
        _ => named("default"),
    };
    match raw {
        Some(Spanned {
            value: TextOr::Text(name),
            span,
        }) => match named(&name) {
            Some((_, kernel)) => kernel.clone(),
            None => {
                let message = format!("the kernel {} does not exist", quoted(&name));
                cx.report
                    .error(span, message)
                    .hint(suggest::hint(&name, names()));
                None
            }
        },
        Some(Spanned {
            value: TextOr::Other(raw),
            ..
        }) => {
            let own = kernel(cx, None, raw)?;
            let base = default.and_then(|(_, kernel)| kernel.as_ref());
            Some(base.map_or_else(|| own.clone(), |base| over(base, own.clone())))
        }
        None => match default {
            Some((_, kernel)) => kernel.clone(),
            None if kernels.0.is_empty() => None,
            None => {
                let message = format!(
                    "the runtime {} does not say which kernel it has",
                    quoted(runtime)
                );
                let names: Vec<String> = names().map(quoted).collect();
                cx.report
                    .error(runtime.span, message)
                    .hint(format!("add `kernel:` with one of {}", names.join(", ")));
                None
            }
        },
    }
}

/// `name` is that of an entry of the section; without one it is a runtime's own.
fn kernel(cx: &mut ResolveContext<'_>, name: Option<&str>, raw: RawKernel) -> Option<KernelConfig> {
    let feed = raw.package.as_ref().or(raw.version.as_ref());
    let origin = match (raw.compile, raw.install, feed) {
        (Some(compile), _, Some(feed)) => {
            let message =
                "a kernel is compiled (`compile`) or from the feed (`package`, `version`)";
            cx.report
                .error(feed.span, message)
                .hint(format!("remove this, or `compile: {}`", compile.value));
            return None;
        }
        (Some(compile), Some(install), None) => KernelOrigin::Compiled {
            install: paths::script(cx, Some(&install))?,
            section: cx.placed(compile.value, compile.span),
        },
        (Some(part), None, None) => {
            let message = "a kernel that is compiled has no `install`";
            cx.report
                .error(part.span, message)
                .hint("add `install:` with the script that installs it");
            return None;
        }
        (None, Some(part), _) => {
            let message = "a kernel that is installed by a script has no `compile`";
            cx.report
                .error(part.span, message)
                .hint("add `compile:` with a section of `sdk.compile`");
            return None;
        }
        (None, None, _) => KernelOrigin::Feed {
            package: raw.package.map(|text| cx.placed(text.value, text.span)),
            version: version(cx, raw.version),
        },
    };
    Some(KernelConfig {
        origin,
        kab: values::kab(cx, raw.image.as_ref(), None),
        not_fetched: images::not_fetched(cx, "kernel", name, raw.source.map(|s| s.span)),
    })
}

/// Which versions are meant; `None` for all.
fn version(cx: &mut ResolveContext<'_>, text: Option<Text>) -> Option<Placed<VersionSpec>> {
    let text = text?;
    if text.trim() == "*" {
        return None;
    }
    match text.parse() {
        Ok(spec) => Some(cx.placed(spec, text.span)),
        Err(_) => {
            let message = format!("{} is not a version of a kernel", quoted(&text));
            cx.report
                .error(text.span, message)
                .hint("write for example \"6.12.69\", \"6.12.*\" or \">=6.6, <6.12\"");
            None
        }
    }
}

/// What a runtime says of its kernel, over what the project says.
fn over(base: &KernelConfig, own: KernelConfig) -> KernelConfig {
    let origin = match (&base.origin, own.origin) {
        (
            KernelOrigin::Feed { package, version },
            KernelOrigin::Feed {
                package: own_package,
                version: own_version,
            },
        ) => KernelOrigin::Feed {
            package: own_package.or_else(|| package.clone()),
            version: own_version.or_else(|| version.clone()),
        },
        (
            base @ KernelOrigin::Compiled { .. },
            KernelOrigin::Feed {
                package: None,
                version: None,
            },
        ) => base.clone(),
        (_, own) => own,
    };
    KernelConfig {
        origin,
        kab: own.kab.or_else(|| base.kab.clone()),
        not_fetched: own.not_fetched.or_else(|| base.not_fetched.clone()),
    }
}
