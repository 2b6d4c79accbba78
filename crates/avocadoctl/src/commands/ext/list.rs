//! `avocadoctl ext list`.

use avocado_text::table;

use super::{kind_text, version_text};
use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::Extension;
use crate::output::WIDTH;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let extensions = context.device(AccessMode::Read)?.extensions()?;
    context.output.result(&extensions, || text(&extensions))
}

/// The extensions that are there, as a table.
fn text(extensions: &[Extension]) -> String {
    if extensions.is_empty() {
        return "There are no extensions.\n".to_owned();
    }
    let rows = extensions.iter().map(|e| {
        let file = e.path.rsplit('/').next().unwrap_or(&e.path);
        let slash = if e.is_directory { "/" } else { "" };
        [
            e.name.clone(),
            version_text(e.version.as_deref()),
            kind_text(e.is_sysext, e.is_confext).to_owned(),
            format!("{}{slash}", file),
        ]
    });
    table(["EXTENSION", "VERSION", "TYPE", "FILE"], rows, WIDTH)
}
