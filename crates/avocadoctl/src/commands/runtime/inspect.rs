//! `avocadoctl runtime inspect`.

use avocado_text::{escape, table};

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::{ManifestExtension, Runtime};
use crate::output::WIDTH;

pub(super) fn run(id: Option<&str>, context: &Context) -> Result<(), Failure> {
    let mut device = context.device(AccessMode::Read)?;
    let runtime = match id {
        Some(id) => device.inspect(Some(id))?,
        None => device.active()?.ok_or(Failure::NoActiveRuntime)?,
    };
    context.output.result(&runtime, || text(&runtime))
}

/// A runtime in full.
fn text(runtime: &Runtime) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        text.push_str(&format!("{name:<10} {}\n", escape(value)));
    };
    field(
        "Runtime:",
        &format!("{} {}", runtime.runtime.name, runtime.runtime.version),
    );
    field("ID:", &runtime.id);
    field("Active:", if runtime.active { "yes" } else { "no" });
    if runtime.previous == Some(true) {
        field("Previous:", "yes, `runtime rollback` goes back to it");
    }
    if runtime.pinned == Some(true) {
        field("Pinned:", "yes");
    }
    if runtime.waiting == Some(true) {
        let what = match runtime.on_trial {
            Some(true) => "its OS runs on trial",
            _ => "its OS is written; reboot required",
        };
        field("Waiting:", what);
    }
    if let Some(why) = &runtime.update_failed {
        field("Failed:", why);
    }
    field("Built:", &runtime.built_at);
    field(
        "Manifest:",
        &format!("version {}", runtime.manifest_version),
    );
    if let Some(id) = &runtime.os_build_id {
        field("OS build:", id);
    }
    if let Some(id) = &runtime.initramfs_build_id {
        field("Initramfs:", id);
    }
    if runtime.extensions.is_empty() {
        text.push_str("\nThere are no extensions.\n");
        return text;
    }
    text.push('\n');
    let image = |e: &ManifestExtension<'_>| {
        let of_name = || format!("{}-{}", e.name, e.version);
        e.image_id.as_deref().map_or_else(of_name, str::to_owned)
    };
    let all = runtime.extensions.iter();
    let as_usual = |e: &ManifestExtension<'_>| e.enabled.is_none() && e.overridden.is_none();
    text.push_str(&if all.clone().all(as_usual) {
        let rows = all.map(|e| [e.name.to_string(), e.version.to_string(), image(e)]);
        table(["EXTENSION", "VERSION", "IMAGE"], rows, WIDTH)
    } else {
        let rows = all.map(|e| {
            let (name, version) = (e.name.to_string(), e.version.to_string());
            [name, version, enabled(e).to_owned(), image(e)]
        });
        table(["EXTENSION", "VERSION", "ENABLED", "IMAGE"], rows, WIDTH)
    });
    text
}

/// Whether an extension is merged where its runtime is active, and what decided otherwise than its manifest.
fn enabled(extension: &ManifestExtension<'_>) -> &'static str {
    match (extension.enabled, extension.overridden) {
        (Some(false), Some(true)) => "no (ext disable)",
        (Some(false), _) => "no",
        (_, Some(true)) => "yes (ext enable)",
        _ => "yes",
    }
}
