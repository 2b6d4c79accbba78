//! The reboot into an update at a time of its own: a timer of systemd, for as long as the update waits for it.
//!
//! Both units are below `/run`: a reboot for any other reason ends them as well.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};

use super::pending_update::{self, PendingUpdate};
use super::plan::OsUpdatePlan;
use crate::config::DeviceConfig;
use crate::context::DeviceContext;
use crate::error::FailureReason;
use crate::merge::service_manager::ServiceManager;
use crate::paths::DevicePaths;
use crate::reboot_policy::{CalendarEvent, RebootPolicy};
use crate::store::files;
use crate::tool;

const TIMER: &str = "avocado-reboot.timer";
const SERVICE: &str = "avocado-reboot.service";

/// Has the device reboot at a time, unless the update is given up before. Where that cannot be, it is told: the
/// update is written, and any reboot will do.
pub(super) fn schedule(
    context: &DeviceContext,
    pending: &PendingUpdate,
    time: &CalendarEvent,
    sink: &dyn Sink,
) {
    let not = |why: &str| {
        sink.emit(Event::warning(format!(
            "the device does not reboot by itself at `{time}`: {why}"
        )));
    };
    let Some(manager) = ServiceManager::running(&context.paths) else {
        return not("systemd does not run");
    };
    let marker = pending_update::path(context.base());
    let Some(service) = service(&context.paths.tools.systemctl, &marker, pending) else {
        return not("a path or an argument of it cannot be written into a unit");
    };
    let [own_timer, own_service] = units(&context.paths);
    let begun = write(&own_service, &service)
        .and_then(|()| write(&own_timer, &timer(time)))
        .and_then(|()| manager.reload())
        // One that runs already may have another time.
        .and_then(|()| manager.ask("restart", &[TIMER]));
    match begun {
        Ok(()) => sink.emit(Event::info(format!(
            "the device reboots by itself at `{time}`"
        ))),
        Err(reason) => {
            not(&avocado_events::chain(&reason));
            cancel(context, sink);
        }
    }
}

/// Ends what [`schedule`] began, if anything.
pub(super) fn cancel(context: &DeviceContext, sink: &dyn Sink) {
    let units = units(&context.paths);
    if !units.iter().any(|unit| unit.exists()) {
        return;
    }
    let manager = ServiceManager::running(&context.paths);
    // First of all: a timer whose file is gone would run on.
    let stopped = manager
        .as_ref()
        .map_or(Ok(()), |manager| manager.ask("stop", &[TIMER]));
    let removed = units.iter().map(|unit| files::remove(unit));
    let removed = removed.fold(Ok(()), Result::and);
    let reloaded = manager.map_or(Ok(()), |manager| manager.reload());
    for reason in [stopped, removed, reloaded]
        .into_iter()
        .filter_map(Result::err)
    {
        let why = avocado_events::chain(&reason);
        // Without the marker its service does nothing.
        sink.emit(Event::warning(format!(
            "{TIMER} is not needed any more, and could not be removed: {why}"
        )));
    }
}

/// The time at which the device reboots by itself.
pub(crate) fn scheduled(config: &DeviceConfig, paths: &DevicePaths) -> Option<String> {
    match &config.reboot {
        RebootPolicy::At(time) if units(paths).iter().all(|unit| unit.exists()) => {
            Some(time.to_string())
        }
        _ => None,
    }
}

/// Whether there is such a time, before anything is written.
pub(super) fn look(context: &DeviceContext, plan: &mut OsUpdatePlan) {
    let RebootPolicy::At(time) = &context.config.reboot else {
        return;
    };
    let program = &context.paths.tools.systemd_analyze;
    let arguments = ["calendar", "--iterations=1", "--", time.as_str()];
    match tool::must(program, &arguments) {
        Ok(ended) if never(&ended.said) => plan.problems.push(format!(
            "the device is to reboot `at {time}` (`avocado.update.reboot`), and there is no such time any more"
        )),
        Ok(_) => {}
        Err(FailureReason::NoTool { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            plan.notes.push(format!(
                "{} is not here: whether `{time}` is a time to reboot at (`avocado.update.reboot`) was \
                 not looked at",
                program.display()
            ));
        }
        Err(reason) => plan.problems.push(format!(
            "the device is to reboot `at {time}` (`avocado.update.reboot`), which systemd does not take \
             for a time: {}",
            avocado_events::chain(&reason)
        )),
    }
}

/// Whether systemd says of a time that it will not come.
fn never(said: &str) -> bool {
    let next = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Next elapse:"));
    next.is_some_and(|next| next.trim() == "never")
}

fn units(paths: &DevicePaths) -> [PathBuf; 2] {
    [TIMER, SERVICE].map(|unit| paths.systemd.join(unit))
}

fn write(path: &Path, text: &str) -> Result<(), FailureReason> {
    fs::write(path, text).map_err(FailureReason::file("write", path))
}

fn timer(time: &CalendarEvent) -> String {
    let time = specifiers_escaped(time.as_str());
    format!(
        "[Unit]\nDescription=Time of the reboot into an OS update\n\n\
         [Timer]\nOnCalendar={time}\nAccuracySec=1s\n"
    )
}

/// None: something in it is no text, or has characters that a line of a unit cannot have.
fn service(systemctl: &Path, marker: &Path, pending: &PendingUpdate) -> Option<String> {
    let marker = specifiers_escaped(line(marker.to_str()?)?);
    let mut command = word(systemctl.to_str()?)? + " reboot --no-block";
    if let Some(argument) = &pending.reboot_argument {
        command += " ";
        command += &word(&format!("--reboot-argument={argument}"))?;
    }
    Some(format!(
        "[Unit]\nDescription=Reboot into an OS update\nConditionPathExists={marker}\n\n\
         [Service]\nType=oneshot\nExecStart={command}\n"
    ))
}

fn line(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

/// One word of a command: systemd.service(5), "command lines".
fn word(text: &str) -> Option<String> {
    let mut escaped = String::new();
    for c in specifiers_escaped(line(text)?).chars() {
        match c {
            '\\' | '"' => escaped.extend(['\\', c]),
            '$' => escaped.push_str("$$"),
            _ => escaped.push(c),
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.=".contains(c);
    Some(if escaped.chars().all(plain) {
        escaped
    } else {
        format!("\"{escaped}\"")
    })
}

/// `%` begins a specifier.
fn specifiers_escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_are_what_systemd_reads() {
        let time: CalendarEvent = "Sun *-*-* 02:30 Europe/Berlin".parse().unwrap();
        assert_eq!(
            timer(&time),
            "[Unit]\n\
             Description=Time of the reboot into an OS update\n\
             \n\
             [Timer]\n\
             OnCalendar=Sun *-*-* 02:30 Europe/Berlin\n\
             AccuracySec=1s\n"
        );
        let service = |marker: &str, argument: Option<&str>| {
            let pending = PendingUpdate {
                reboot_argument: argument.map(str::to_owned),
                ..PendingUpdate::default()
            };
            service(Path::new("systemctl"), Path::new(marker), &pending)
        };
        assert_eq!(
            service("/var/lib/avocado/pending-update.json", None).unwrap(),
            "[Unit]\n\
             Description=Reboot into an OS update\n\
             ConditionPathExists=/var/lib/avocado/pending-update.json\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart=systemctl reboot --no-block\n"
        );
        let special = service("/a b/50%/x", Some("0 tryboot")).unwrap();
        assert!(special.contains("\nConditionPathExists=/a b/50%%/x\n"));
        assert!(
            special.ends_with(
                "\nExecStart=systemctl reboot --no-block \"--reboot-argument=0 tryboot\"\n"
            ),
            "{special}"
        );
        let special = service("/x", Some(r#"%i $HOME "a" \b ;"#)).unwrap();
        assert!(
            special.ends_with("\"--reboot-argument=%%i $$HOME \\\"a\\\" \\\\b ;\"\n"),
            "{special}"
        );
        assert_eq!(service("/x", Some("a\nExecStart=/bin/other")), None);
        assert_eq!(service("/x\n[Service]", None), None);
    }

    #[test]
    fn a_time_that_will_not_come_is_seen() {
        assert!(never(
            "Normalized form: 2020-01-01 00:00:00\n    Next elapse: never"
        ));
        assert!(!never(
            "    Next elapse: Wed 2026-12-02 03:00:00 UTC\n       From now: 23h left"
        ));
        assert!(!never(""));
    }
}
