use std::path::PathBuf;
use std::time::Duration;

use crate::error::FailureReason;
use crate::paths::DevicePaths;
use crate::tool;

/// The manager of services, if it is running.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    program: PathBuf,
}

impl ServiceManager {
    pub(crate) fn running(paths: &DevicePaths) -> Option<Self> {
        paths.systemd.exists().then(|| ServiceManager {
            program: paths.tools.systemctl.clone(),
        })
    }

    pub(crate) fn reload(&self) -> Result<(), FailureReason> {
        tool::must(&self.program, &["daemon-reload"]).map(drop)
    }

    /// Stops units, and waits for their end: what they need for it is about to go.
    pub(crate) fn stop(&self, units: &[&str], limit: Duration) -> Result<(), FailureReason> {
        if units.is_empty() {
            return Ok(());
        }
        let args = [&["stop", "--"], units].concat();
        tool::must_within(&self.program, &args, limit).map(drop)
    }

    /// What is said of units.
    pub(crate) fn show(&self, units: &[String]) -> Result<Vec<UnitStatus>, FailureReason> {
        let mut all = Vec::new();
        // Of a long answer only the end is kept.
        for some in units.chunks(25) {
            let mut args = vec!["show", PROPERTIES, "--"];
            args.extend(some.iter().map(String::as_str));
            all.extend(parse(&tool::must(&self.program, &args)?.said));
        }
        Ok(all)
    }

    /// Starts a unit, and waits until it is there.
    pub(crate) fn start(&self, unit: &str, limit: Duration) -> Result<(), FailureReason> {
        tool::must_within(&self.program, &["start", "--", unit], limit).map(drop)
    }

    /// Whether a unit is there, and may be started: not masked, and not switched off.
    pub(crate) fn is_enabled(&self, unit: &str) -> bool {
        let asked = tool::run(&self.program, &["is-enabled", "--", unit], tool::LIMIT);
        asked.is_ok_and(|ended| ended.success)
    }

    /// Whether the system is being shut down.
    pub(crate) fn is_stopping(&self) -> bool {
        let asked = tool::run(&self.program, &["is-system-running"], tool::LIMIT);
        asked.is_ok_and(|ended| ended.said == "stopping")
    }

    /// Asks for a job (`start`, `stop`, `restart`) and does not wait for it: what it waits for may
    /// be ourselves.
    pub(crate) fn ask(&self, job: &str, services: &[&str]) -> Result<(), FailureReason> {
        if services.is_empty() {
            return Ok(());
        }
        let args = [&["--no-block", job, "--"], services].concat();
        tool::must(&self.program, &args).map(drop)
    }
}

/// What systemd says of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitStatus {
    pub(crate) id: String,
    /// Whether it is there: active, or about to be.
    pub(crate) runs: bool,
    pub(crate) wanted_by: Vec<String>,
}

/// What of a unit is asked for.
const PROPERTIES: &str = "--property=Id,ActiveState,WantedBy,RequiredBy,UpheldBy";

/// Reads what `systemctl show` answers: `Key=value` by lines, and an empty one between units.
fn parse(said: &str) -> Vec<UnitStatus> {
    let mut all = Vec::new();
    for block in said.split("\n\n") {
        let mut unit = UnitStatus::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "Id" => value.clone_into(&mut unit.id),
                "ActiveState" => {
                    unit.runs = matches!(value, "active" | "activating" | "reloading");
                }
                "WantedBy" | "RequiredBy" | "UpheldBy" => {
                    unit.wanted_by
                        .extend(value.split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
        if !unit.id.is_empty() {
            all.push(unit);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_systemd_are_understood() {
        let said = "Id=a.service\nActiveState=inactive\nWantedBy=multi-user.target x.target\n\
                    RequiredBy=\nUpheldBy=y.service\n\nId=b.socket\nActiveState=active\n";
        let all = parse(said);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].id.as_str(), all[0].runs), ("a.service", false));
        assert_eq!(
            all[0].wanted_by,
            ["multi-user.target", "x.target", "y.service"]
        );
        assert!(all[1].runs && all[1].wanted_by.is_empty());
        assert_eq!(parse(""), []);
        assert_eq!(parse("\n\n=\nId=\n"), []);
    }
}
