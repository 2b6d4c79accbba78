//! What the supervisor does with the guest itself: waits for it, gives it its workspace, disk
//! and name servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use avocado_events::chain;
use avocado_qemu::{GuestAgent, QemuError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::guest_workspace::mount_workspace;
use super::log::SupervisorLog;
use super::shared_state::SharedState;
use crate::launch::VmLaunch;

/// How long one look for the ssh banner may take, and how long until the next.
const BANNER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(200));
/// How long the agent may take once ssh answers, before the guest counts as one without.
const AGENT_GRACE: Duration = Duration::from_secs(10);
/// How long a command in the guest may take: it may have just woken, under emulation.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// How long to wait until a clock that could not be set is tried again: at first, and at most.
const CLOCK_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Where the guest sees the workspace.
pub(super) const WORKSPACE: &str = "/run/workspace";
/// The guest's network device.
pub(super) const DEVICE: &str = "eth0";

/// Waits until the guest's ssh answers, and its agent if it has one. The answer is whether it
/// has; none where `limit` is over.
pub(crate) async fn await_ready(port: u16, agent: &GuestAgent, limit: Duration) -> Option<bool> {
    let deadline = Instant::now() + limit;
    let agent = await_agent(agent);
    tokio::pin!(agent);
    let mut found = false;
    let banner = await_ssh_banner(port);
    tokio::pin!(banner);
    loop {
        tokio::select! {
            () = &mut banner => break,
            () = &mut agent, if !found => found = true,
            () = tokio::time::sleep_until(deadline) => return None,
        }
    }
    if !found {
        let grace = (Instant::now() + AGENT_GRACE).min(deadline);
        found = timeout_at(grace, agent).await.is_ok();
    }
    Some(found)
}

/// Returns when an ssh server says what it is.
async fn await_ssh_banner(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let look = async || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address).await?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).await?;
        Ok(&start == b"SSH-")
    };
    while !matches!(timeout(BANNER.0, look()).await, Ok(Ok(true))) {
        sleep(BANNER.1).await;
    }
}

/// Returns when the agent answers.
pub(crate) async fn await_agent(agent: &GuestAgent) {
    while agent.sync().await.is_err() {
        sleep(BANNER.1).await;
    }
}

/// Gives the guest what belongs to this launch. Answers with what did not work.
pub(crate) async fn set_up(
    agent: &GuestAgent,
    launch: &VmLaunch,
    shared: &SharedState,
) -> Vec<String> {
    let mut problems = Vec::new();
    if launch.workspace.is_some()
        && let Err(why) = mount_workspace(agent, shared).await
    {
        problems.push(format!(
            "the workspace is not at {WORKSPACE} in the guest: {why}"
        ));
    }
    let grown = run(agent, &["btrfs", "filesystem", "resize", "max", "/var"]).await;
    if let Err(why) = grown {
        problems.push(format!("/var of the guest keeps its size: {why}"));
    }
    if !launch.dns.is_empty()
        && let Err(why) = set_name_servers(agent, launch).await
    {
        problems.push(format!("the guest keeps its own name servers: {why}"));
    }
    problems
}

async fn set_name_servers(agent: &GuestAgent, launch: &VmLaunch) -> Result<(), RunFailure> {
    let servers: Vec<String> = launch.dns.iter().map(ToString::to_string).collect();
    let mut line = vec!["resolvectl", "dns", DEVICE];
    line.extend(servers.iter().map(String::as_str));
    run(agent, &line).await?;
    let mut line = vec!["resolvectl", "domain", DEVICE];
    match launch.dns_search.as_slice() {
        // They answer for everything.
        [] => line.push("~."),
        domains => line.extend(domains.iter().map(String::as_str)),
    }
    run(agent, &line).await
}

/// Sets the guest's clock by the host's. Says whether that worked.
pub(crate) async fn set_clock(agent: &GuestAgent, log: &SupervisorLog) -> bool {
    match agent.with_limit(COMMAND_LIMIT).set_clock().await {
        Ok(error) => {
            log.line(&format!(
                "the guest's clock is set; it is wrong by {error} ms"
            ));
            true
        }
        Err(error) => {
            log.line(&format!("the guest's clock is not set: {}", chain(&error)));
            false
        }
    }
}

/// Sets the guest's clock by the host's, however often that has to be tried.
pub(crate) async fn set_late_clock(agent: &GuestAgent, log: &SupervisorLog) {
    let mut pause = CLOCK_PAUSE.0;
    loop {
        sleep(pause).await;
        // The log has the first failure: it is full of the others soon where there is no agent. Of such a guest
        // little is asked, because calls wait for each other.
        if agent.sync().await.is_ok()
            && let Ok(error) = agent.with_limit(COMMAND_LIMIT).set_clock().await
        {
            return log.line(&format!(
                "the guest's clock is set; it is wrong by {error} ms"
            ));
        }
        pause = (pause * 2).min(CLOCK_PAUSE.1);
    }
}

/// Trims the guest's disks, so that the host gets back the blocks of what was deleted there. Where
/// that fails, it is as it was.
pub(crate) async fn trim(agent: &GuestAgent, limit: Duration, log: &SupervisorLog) {
    match agent.with_limit(limit).trim().await {
        Ok(bytes) => log.line(&format!(
            "the guest's disks are trimmed: {bytes} bytes are unused"
        )),
        Err(error) => log.line(&format!(
            "the guest's disks are not trimmed: {}",
            chain(&error)
        )),
    }
}

/// Why a program in the guest did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunFailure {
    /// It did not run, or nothing tells how it ended.
    #[error("{0}")]
    NotRun(String),
    /// It ended, and said this.
    #[error("{0}")]
    Ended(String),
}

/// Runs a program in the guest. What it says about a failure is the error.
pub(super) async fn run(agent: &GuestAgent, line: &[&str]) -> Result<(), RunFailure> {
    let output = agent.with_limit(COMMAND_LIMIT).exec(line).await;
    let output = output.map_err(|error| RunFailure::NotRun(chain(&error)))?;
    if output.is_success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let why = format!("`{}` failed: {said}", line.join(" "));
    Err(match output.code {
        Some(_) => RunFailure::Ended(why),
        None => RunFailure::NotRun(why),
    })
}

/// Whether containers run in the guest.
pub(crate) async fn has_running_containers(agent: &GuestAgent) -> Result<bool, QemuError> {
    for engine in ["podman", "docker"] {
        match agent
            .with_limit(COMMAND_LIMIT)
            .exec(&[engine, "ps", "-q"])
            .await
        {
            Ok(output) if output.is_success() => {
                return Ok(!output.stdout.trim_ascii().is_empty());
            }
            // This engine is not there, or does not work: then nothing runs in it.
            Ok(_) | Err(QemuError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
