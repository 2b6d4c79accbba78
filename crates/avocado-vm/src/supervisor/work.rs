//! Whether the guest works although its connections are silent: the signs of it, and what they are
//! found by.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use avocado_events::chain;
use avocado_qemu::{GuestAgent, Machine, QemuError};
use tokio::time::sleep;

use super::guest;
use super::guest_sessions;

/// Bytes per second above which the guest's disks are at work: an idle guest writes its journal.
const BUSY_DISK: u64 = 32 << 10;
/// The same for its network, where an idle guest asks for the time and for its address.
const BUSY_NETWORK: u64 = 1 << 10;
/// What a byte of a connection that is not counted costs on the guest's network at most: headers,
/// acknowledgements, encryption.
const INFRA_OVERHEAD: u64 = 2;
/// How long to count where nothing was counted before.
const SHORT_WINDOW: Duration = Duration::from_secs(1);

/// So many looks in a row that the guest's agent does not answer count as work.
const MOST_SILENCES: u8 = 3;

/// What shows that the guest works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkSign {
    /// A request of docker's that is open: exec, attach, wait, build, pull, and so on.
    DockerRequest,
    /// A program in a session of ssh.
    SshSession,
    Processor,
    Disk,
    Network,
    Containers,
}

impl WorkSign {
    /// For `status` and the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WorkSign::DockerRequest => "docker",
            WorkSign::SshSession => "ssh",
            WorkSign::Processor => "cpu",
            WorkSign::Disk => "disk",
            WorkSign::Network => "network",
            WorkSign::Containers => "containers",
        }
    }
}

/// What went through the guest's disks and network, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkCounters {
    pub(crate) at: Instant,
    pub(crate) disk: Option<u64>,
    pub(crate) network: Option<u64>,
    /// What connections brought to the network that are not counted.
    pub(crate) infra: u64,
}

impl WorkCounters {
    async fn read(machine: &Machine, infra: impl Fn() -> u64) -> WorkCounters {
        let disk = machine.disk_bytes().await.ok();
        let network = machine.agent().network_bytes(guest::DEVICE).await.ok();
        WorkCounters {
            at: Instant::now(),
            disk,
            network,
            infra: infra(),
        }
    }

    /// What moved since `before` that is more than an idle guest moves.
    pub(crate) fn sign_since(&self, before: &WorkCounters) -> Option<WorkSign> {
        let time = self.at.saturating_duration_since(before.at).as_millis();
        let time = u64::try_from(time).unwrap_or(u64::MAX).max(1);
        let rate = |bytes: u64| bytes.saturating_mul(1000) / time;
        let moved = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        let disk = moved(self.disk, before.disk).unwrap_or(0);
        if rate(disk) > BUSY_DISK {
            return Some(WorkSign::Disk);
        }
        let infra = self.infra.saturating_sub(before.infra);
        let network = moved(self.network, before.network).unwrap_or(0);
        let network = network.saturating_sub(infra.saturating_mul(INFRA_OVERHEAD));
        (rate(network) > BUSY_NETWORK).then_some(WorkSign::Network)
    }
}

/// How the guest's agent answered what runs in sessions of ssh.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SessionTeller {
    /// It has told that once.
    told: bool,
    /// How often it has not answered in time since.
    silences: u8,
}

impl SessionTeller {
    /// Whether this answer is work, and what kept that from being known. A guest without an agent,
    /// or with one that runs no programs, tells nothing; one that told before and is silent may be
    /// too busy to answer, but not for ever.
    fn judge(&mut self, answer: Result<bool, QemuError>) -> (bool, Option<String>) {
        match answer {
            Ok(works) => {
                *self = SessionTeller {
                    told: true,
                    silences: 0,
                };
                (works, None)
            }
            Err(error @ QemuError::Timeout { .. })
                if self.told && self.silences < MOST_SILENCES =>
            {
                self.silences += 1;
                let problem = format!(
                    "it stays awake because nobody knows whether programs run in sessions of ssh: {}",
                    chain(&error)
                );
                (true, Some(problem))
            }
            Err(_) => (false, None),
        }
    }
}

/// What to look at.
pub(crate) struct WorkLook<F> {
    /// What was counted when the guest was last looked at, since it last slept.
    pub(crate) before: Option<WorkCounters>,
    /// Bytes of connections that are not counted, so far.
    pub(crate) infra: F,
    /// Whether what goes through disks and network counts: a counted connection is open.
    pub(crate) rates: bool,
    /// Whether one to ssh is.
    pub(crate) ssh: bool,
    /// How its agent answered so far.
    pub(crate) teller: SessionTeller,
    /// From which ports sessions come that do not count.
    pub(crate) uncounted: HashSet<u16>,
    /// Whether running containers are work.
    pub(crate) containers: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct WorkFound {
    pub(crate) sign: Option<WorkSign>,
    /// For the next look.
    pub(crate) counters: Option<WorkCounters>,
    pub(crate) problem: Option<String>,
    /// For the next look.
    pub(crate) teller: SessionTeller,
}

/// Looks at what the processor time and the open requests do not show. The first sign is enough.
pub(crate) async fn find_work(machine: &Machine, look: WorkLook<impl Fn() -> u64>) -> WorkFound {
    let mut found = WorkFound {
        sign: None,
        counters: None,
        problem: None,
        teller: look.teller,
    };
    if look.rates {
        let before = match look.before {
            Some(before) => before,
            None => {
                let before = WorkCounters::read(machine, &look.infra).await;
                sleep(SHORT_WINDOW).await;
                before
            }
        };
        let now = WorkCounters::read(machine, &look.infra).await;
        found.counters = Some(now);
        found.sign = now.sign_since(&before);
    }
    let agent = machine.agent();
    if found.sign.is_none() && look.ssh {
        let answer = runs_program(&agent, &look.uncounted).await;
        let (works, problem) = found.teller.judge(answer);
        found.sign = works.then_some(WorkSign::SshSession);
        found.problem = problem;
    }
    if found.sign.is_none() && look.containers {
        match guest::has_running_containers(&agent).await {
            Ok(true) => found.sign = Some(WorkSign::Containers),
            Ok(false) => {}
            Err(error) => {
                // Better awake for nothing than asleep with work.
                found.sign = Some(WorkSign::Containers);
                found.problem = Some(format!(
                    "it stays awake because nobody knows whether containers run: {}",
                    chain(&error)
                ));
            }
        }
    }
    found
}

/// Whether a program runs in a session of ssh that counts.
async fn runs_program(agent: &GuestAgent, uncounted: &HashSet<u16>) -> Result<bool, QemuError> {
    let agent = agent.with_limit(guest::COMMAND_LIMIT);
    let list = async |line: &[&str]| -> Result<String, QemuError> {
        // Its exit code says no more than that a process ended meanwhile.
        let output = agent.exec(line).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let processes = list(&guest_sessions::LIST_PROCESSES).await?;
    let connections = if uncounted.is_empty() {
        String::new()
    } else {
        list(&guest_sessions::LIST_CONNECTIONS).await?
    };
    Ok(guest_sessions::runs_program(
        &processes,
        &connections,
        uncounted,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_told_before_and_is_silent_has_work_to_do_for_a_while() {
        let silent = || {
            Err(QemuError::Timeout {
                command: "guest-exec".to_owned(),
                limit: Duration::from_secs(20),
            })
        };
        let refused = || {
            Err(QemuError::Refused {
                command: "guest-exec".to_owned(),
                description: "it is disabled".to_owned(),
            })
        };
        let mut teller = SessionTeller::default();
        assert_eq!(teller.judge(silent()), (false, None));
        assert_eq!(teller.judge(refused()), (false, None));
        for _ in 0..2 {
            assert_eq!(teller.judge(Ok(true)), (true, None));
            assert_eq!(teller.judge(Ok(false)), (false, None));
            for _ in 0..MOST_SILENCES {
                let (works, problem) = teller.judge(silent());
                assert!(works && problem.is_some_and(|problem| problem.contains("guest-exec")));
            }
            assert_eq!(teller.judge(silent()), (false, None));
            assert_eq!(teller.judge(refused()), (false, None));
        }
    }

    #[test]
    fn more_than_an_idle_guest_moves_is_work() {
        let start = Instant::now();
        let counters = |secs: u64, disk, network, infra| WorkCounters {
            at: start + Duration::from_secs(secs),
            disk,
            network,
            infra,
        };
        let before = counters(0, Some(1000), Some(1000), 500);
        let minute = |disk: u64, network: u64, infra: u64| {
            counters(60, Some(1000 + disk), Some(1000 + network), 500 + infra)
        };
        for (now, expected) in [
            (minute(0, 0, 0), None),
            // What an idle guest has to say.
            (minute(1 << 20, 30 << 10, 0), None),
            (minute(8 << 20, 0, 0), Some(WorkSign::Disk)),
            (minute(0, 1 << 20, 0), Some(WorkSign::Network)),
            // Programs that look every few seconds.
            (minute(0, 1 << 20, 800 << 10), None),
            (minute(0, 2 << 20, 800 << 10), Some(WorkSign::Network)),
            // In no time, and not known.
            (counters(0, Some(1000), Some(1000), 500), None),
            (
                counters(0, Some(2000), Some(1000), 500),
                Some(WorkSign::Disk),
            ),
            (
                counters(60, None, Some(1 << 20), 500),
                Some(WorkSign::Network),
            ),
            (counters(60, None, None, 500), None),
            // A device that is gone took its count along.
            (counters(60, Some(0), Some(0), 0), None),
        ] {
            assert_eq!(now.sign_since(&before), expected, "{now:?}");
        }
        let unknown = counters(0, None, None, 0);
        assert_eq!(minute(8 << 20, 8 << 20, 0).sign_since(&unknown), None);
    }
}
