//! `avocadoctl runtime inspect`.

use avocado_text::{escape, table};

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::Runtime;
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
    let rows = runtime.extensions.iter().map(|e| {
        let image = e
            .image_id
            .clone()
            .unwrap_or_else(|| format!("{}-{}", e.name, e.version).into());
        [e.name.to_string(), e.version.to_string(), image.to_string()]
    });
    text.push('\n');
    text.push_str(&table(["EXTENSION", "VERSION", "IMAGE"], rows, WIDTH));
    text
}
