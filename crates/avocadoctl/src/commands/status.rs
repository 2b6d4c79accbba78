//! `avocadoctl status`.

use avocado_text::escape;

use super::{Context, ext};
use crate::access::AccessMode;
use crate::failure::Failure;
use crate::interface::{Degraded, DeviceStatus, OsUpdate, OsUpdateState};

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let status = context.device(AccessMode::Read)?.status()?;
    context.output.result(&status, || text(&status))
}

/// What is active and merged, for people.
fn text(status: &DeviceStatus) -> String {
    let mut text = match &status.runtime {
        Some(r) => {
            let (name, version) = (escape(&r.runtime.name), escape(&r.runtime.version));
            format!("Runtime:  {name} {version} ({})\n", r.short_id())
        }
        None => "Runtime:  none is active\n".to_owned(),
    };
    if let Some(id) = &status.os_build_id {
        text.push_str(&format!("OS build: {}\n", escape(id)));
    }
    if let Some(state) = &status.degraded {
        text.push_str(&degraded_text(state));
    }
    if let Some(update) = &status.os_update {
        text.push_str(&update_text(update));
    }
    text.push('\n');
    text.push_str(&ext::status::table_of(&status.extensions));
    text
}

/// What an update of the OS came to so far.
fn update_text(update: &OsUpdate) -> String {
    let build = match &update.os_build_id {
        Some(id) => format!("OS build {id}"),
        None => "an OS".to_owned(),
    };
    let build = escape(&build);
    match update.state {
        OsUpdateState::Waiting => {
            let how = match &update.reboot_argument {
                Some(argument) => {
                    let argument = escape(argument);
                    format!(" (`systemctl reboot --reboot-argument='{argument}'`)")
                }
                None => String::new(),
            };
            match &update.why {
                Some(why) => format!("Update:   {build} waits for its proof: {}\n", escape(why)),
                None => {
                    let by_itself = match &update.reboots_at {
                        Some(time) => format!(", by itself at `{}`", escape(time)),
                        None => String::new(),
                    };
                    format!("Update:   {build} is written; reboot required{how}{by_itself}\n")
                }
            }
        }
        OsUpdateState::OnTrial => {
            let waits_for = escape(update.waits_for.as_deref().unwrap_or_default());
            let why = update.why.as_deref().map(escape).unwrap_or_default();
            let why = if why.is_empty() {
                String::new()
            } else {
                format!(": {why}")
            };
            format!("Update:   {build} runs on trial, waiting for {waits_for}{why}\n")
        }
        OsUpdateState::Failed => {
            let why = escape(update.why.as_deref().unwrap_or_default());
            format!("Update:   {build} FAILED: {why}\n")
        }
        OsUpdateState::Other => format!("Update:   {build}\n"),
    }
}

/// What is merged in the place of what should be, and why.
fn degraded_text(state: &Degraded) -> String {
    let what = match (&state.merged, state.left_out.is_empty()) {
        (_, false) => format!("merged without {}", state.left_out.join(", ")),
        (Some(id), true) => format!("runtime {} is merged instead", id.get(..8).unwrap_or(id)),
        (None, true) => "nothing is merged".to_owned(),
    };
    format!(
        "DEGRADED: {}\n          {}\n",
        escape(&what),
        escape(&state.why)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_reboot_is_told() {
        let update = serde_json::json!({
            "state": "waiting", "osBuildId": "os-new", "rebootsAt": "Sun *-*-* 02:30",
        });
        let text = update_text(&serde_json::from_value(update).unwrap());
        assert_eq!(
            text,
            "Update:   OS build os-new is written; reboot required, by itself at `Sun *-*-* 02:30`\n"
        );
    }
}
