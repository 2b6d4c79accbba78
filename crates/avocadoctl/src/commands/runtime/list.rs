//! `avocadoctl runtime list`.

use avocado_text::{escape, table};

use crate::access::AccessMode;
use crate::commands::Context;
use crate::failure::Failure;
use crate::interface::ListReply;
use crate::output::{WIDTH, minute};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let listed = context.device(AccessMode::Read)?.list()?;
    context.output.result(&listed.runtimes, || text(&listed))
}

/// The runtimes as a table.
fn text(listed: &ListReply<'_>) -> String {
    let unreadable = listed.unreadable.iter().flatten().map(|found| {
        let (id, why) = (escape(&found.id), escape(&found.why));
        format!("\nCannot be used: {id}\n  {why}\n")
    });
    let unreadable: String = unreadable.collect();
    if listed.runtimes.is_empty() {
        return format!("There are no runtimes on this device.\n{unreadable}");
    }
    let rows = listed.runtimes.iter().map(|r| {
        let mut state = match (r.active, r.previous == Some(true)) {
            (true, _) => "* active".to_owned(),
            (_, true) => "previous".to_owned(),
            _ => String::new(),
        };
        if r.pinned == Some(true) {
            state.push_str(if state.is_empty() {
                "pinned"
            } else {
                ", pinned"
            });
        }
        [
            r.runtime.name.to_string(),
            r.runtime.version.to_string(),
            r.short_id().to_owned(),
            state,
            minute(&r.built_at),
        ]
    });
    let head = ["RUNTIME", "VERSION", "ID", "STATE", "BUILT"];
    format!("{}{unreadable}", table(head, rows, WIDTH))
}
