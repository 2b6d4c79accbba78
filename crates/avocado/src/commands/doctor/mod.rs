//! `avocado doctor`: what this machine can do, and how to get the rest.

mod host;
mod program;

use std::process::ExitCode;

use avocado_text::table;
use serde::Serialize;

use crate::failure::Result;
use crate::session::Session;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Area {
    /// Builds with the tools of this machine.
    #[serde(rename = "build_on_host")]
    Host,
    /// Builds in containers.
    #[serde(rename = "build_in_containers")]
    Container,
    /// The development VM.
    Vm,
    /// Deployment to a device.
    Deploy,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Area::Host => "build",
            Area::Container => "build in containers",
            Area::Vm => "vm",
            Area::Deploy => "deploy",
        }
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum FindingState {
    Good,
    /// Some of the area does not work without it.
    Limited,
    /// Nothing of the area works without it.
    Missing,
}

impl FindingState {
    fn name(self) -> &'static str {
        match self {
            FindingState::Good => "good",
            FindingState::Limited => "limited",
            FindingState::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    area: Area,
    state: FindingState,
    /// What was looked for.
    subject: String,
    /// What it says of itself, or what it is for where it is not there.
    found: String,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// What this machine can do.
#[derive(Debug, Serialize)]
struct Abilities {
    build_on_host: bool,
    build_in_containers: bool,
    vm: bool,
    deploy: bool,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    can: Abilities,
    findings: Vec<Finding>,
}

impl Diagnosis {
    fn of(findings: Vec<Finding>) -> Self {
        let can = |area| {
            let mut of_area = findings.iter().filter(|f| f.area == area).peekable();
            of_area.peek().is_some() && of_area.all(|f| f.state != FindingState::Missing)
        };
        Diagnosis {
            can: Abilities {
                build_on_host: can(Area::Host),
                build_in_containers: can(Area::Container),
                vm: can(Area::Vm),
                deploy: can(Area::Deploy),
            },
            findings,
        }
    }

    fn text(&self) -> String {
        let rows = self.findings.iter().map(|finding| {
            [
                finding.area.name().to_owned(),
                finding.state.name().to_owned(),
                finding.subject.clone(),
                finding.found.clone(),
            ]
        });
        let mut text = table(["FOR", "STATE", "WHAT", "FOUND"], rows, None);
        let advice = self.findings.iter().filter_map(|finding| {
            let advice = finding.advice.as_ref()?;
            Some(format!("{}: {advice}\n", finding.subject))
        });
        let advice: String = advice.collect();
        if !advice.is_empty() {
            text.push('\n');
            text.push_str(&advice);
        }
        text.push('\n');
        text.push_str(&self.can.sentence());
        text
    }
}

impl Abilities {
    fn sentence(&self) -> String {
        let build = match (self.build_on_host, self.build_in_containers) {
            (true, true) => Some("build on this machine and in containers"),
            (true, false) => Some("build on this machine"),
            (false, true) => Some("build in containers"),
            (false, false) => None,
        };
        let others = [
            (self.vm, "run the development VM"),
            (self.deploy, "deploy to devices"),
        ];
        let all = build.into_iter().map(|what| (true, what));
        let all = all.chain((!self.builds()).then_some((false, "build")));
        let (can, cannot): (Vec<_>, Vec<_>) = all.chain(others).partition(|(is, _)| *is);
        let listed = |all: Vec<(bool, &str)>| {
            let all: Vec<&str> = all.into_iter().map(|(_, what)| what).collect();
            all.join(", ")
        };
        match (can.is_empty(), cannot.is_empty()) {
            (false, true) => format!("avocado can: {}.\n", listed(can)),
            (true, false) => format!("avocado cannot: {}.\n", listed(cannot)),
            _ => format!(
                "avocado can: {}; cannot: {}.\n",
                listed(can),
                listed(cannot)
            ),
        }
    }

    /// Whether a project can be built here in any way.
    fn builds(&self) -> bool {
        self.build_on_host || self.build_in_containers
    }
}

/// Fails where nothing can be built.
pub(super) fn run(session: &Session) -> Result<ExitCode> {
    let diagnosis = Diagnosis::of(host::findings(session)?);
    session.output.answer(&diagnosis, || diagnosis.text())?;
    Ok(if diagnosis.can.builds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(area: Area, state: FindingState, subject: &str) -> Finding {
        let advice = (state == FindingState::Missing).then(|| format!("install {subject}"));
        Finding {
            area,
            state,
            subject: subject.to_owned(),
            found: "what it is for".to_owned(),
            advice,
        }
    }

    #[test]
    fn what_is_missing_takes_an_area_and_what_is_limited_does_not() {
        let diagnosis = Diagnosis::of(vec![
            finding(Area::Host, FindingState::Good, "rpm"),
            finding(Area::Host, FindingState::Missing, "dnf"),
            finding(Area::Container, FindingState::Limited, "podman"),
        ]);
        let can = &diagnosis.can;
        assert!(!can.build_on_host && can.build_in_containers && diagnosis.can.builds());
        // Of these nothing was looked at.
        assert!(!can.vm && !can.deploy);
        insta::assert_snapshot!(diagnosis.text(), @r"
        FOR                  STATE    WHAT    FOUND
        build                good     rpm     what it is for
        build                missing  dnf     what it is for
        build in containers  limited  podman  what it is for

        dnf: install dnf

        avocado can: build in containers; cannot: run the development VM, deploy to devices.
        ");
        assert!(!Diagnosis::of(Vec::new()).can.builds());
    }
}
