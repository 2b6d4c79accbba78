//! `avocado sdk|ext|runtime|rootfs|initramfs clean`: removes what builds made of one part.

use avocado_build::CleanedPart;
use avocado_events::{Event, Sink};
use avocado_project::PackageScope;
use serde_json::json;

use crate::commands::build_run::{cancellable, failure, options, start};
use crate::commands::project;
use crate::failure::Result;
use crate::output::WorkSummary;
use crate::session::Session;

pub(super) fn run(session: &Session, part: &CleanedPart) -> Result<()> {
    let options = options(session)?;
    let (project, action) = (&options.project, "clean");
    let runtime = match part {
        CleanedPart::Whole(PackageScope::Runtime(name)) => Some(name),
        _ => None,
    };
    if let CleanedPart::Whole(scope) = part {
        project::check_scope(project, scope)?;
    }
    start(session, action, project, runtime);
    let cancel = cancellable(session)?;
    let removed = avocado_build::clean_part(&options, part, &cancel, &*session.output);
    let removed = removed.map_err(|e| failure(&e))?;
    for path in &removed {
        let told = Event::info(format!("removed {}", path.display()));
        session.output.emit(told);
    }
    let mut summary = WorkSummary::default();
    summary.fields.insert("removed".into(), json!(removed));
    if removed.is_empty() {
        summary.closing = "Nothing to remove".to_owned();
    }
    session.output.complete(summary)
}
