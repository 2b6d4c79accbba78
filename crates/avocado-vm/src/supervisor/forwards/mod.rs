//! Ports of the guest that are reached at ports of this host: those that its containers publish, and
//! those that commands ask for.
//!
//! The supervisor listens itself, so that a connection is counted and wakes the guest as on every
//! lane. Into the guest the bytes go through the tunnel's `ssh`, which is told of each port once
//! ([`docker_tunnel`](super::docker_tunnel)). QEMU's own forward (`hostfwd_add`) would reach no port
//! that is published on the guest's loopback address, and would accept connections for a guest that
//! sleeps. An `ssh -W` for each connection would add a process to each.
//!
//! `follow` learns from docker in the guest what is published, `containers` asks for it, `published`
//! reads what it says, `docker_get` is a question to it, `commands` is what commands ask for, `listen` is the host's side, `board` is what is told of all this.

mod board;
mod commands;
mod containers;
mod docker_get;
mod follow;
mod listen;
mod published;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;

use super::docker_tunnel::{DockerTunnel, GuestPort};
use super::lane_load::Lane;
use super::lanes::Lanes;
use super::listeners::{self, LaneDoor};
use super::log::SupervisorLog;
use super::shared_state::SharedState;
use crate::status::VmForward;
pub(crate) use board::ForwardBoard;
pub(crate) use follow::follow_docker;
use listen::ForwardListener;
pub(crate) use published::PublishedPort;
use published::PublishedPorts;

/// The most ports that are forwarded for containers, and again for commands: each needs two
/// descriptors.
const MOST_FORWARDS: usize = 500;

/// So many problems are told in the status.
const MOST_TOLD: usize = 5;

/// Told with each list of what is published, so that the next supervisor knows it, should this one be
/// killed.
pub(crate) type PublishedObserver = Box<dyn Fn(&[PublishedPort]) + Send + Sync>;

/// For whom a port is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ForwardUser {
    Container(String),
    /// Its process id, where the system tells.
    Command(Option<u32>),
}

impl fmt::Display for ForwardUser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardUser::Container(name) => write!(out, "container {name}"),
            ForwardUser::Command(Some(process)) => write!(out, "a command (process {process})"),
            ForwardUser::Command(None) => write!(out, "a command"),
        }
    }
}

/// Everything that is forwarded.
pub(crate) struct Forwards {
    lanes: Lanes,
    door: LaneDoor,
    tunnel: Arc<DockerTunnel>,
    shared: SharedState,
    log: SupervisorLog,
    on_published: PublishedObserver,
    state: Mutex<ForwardsState>,
}

#[derive(Default)]
struct ForwardsState {
    published: BTreeMap<u16, OpenForward>,
    /// By the number of the request.
    commands: BTreeMap<u64, Vec<OpenForward>>,
    /// The number of the next request.
    next_command: u64,
    /// Why it is not known what is published.
    not_followed: Option<String>,
    /// What could not be forwarded of what is published.
    problems: BTreeSet<String>,
    /// What is not forwarded, which is no problem.
    notices: BTreeSet<String>,
    /// A task for each listener, which ends with its last connection.
    tasks: JoinSet<()>,
}

impl ForwardsState {
    fn all(&self) -> impl Iterator<Item = &OpenForward> {
        self.published
            .values()
            .chain(self.commands.values().flatten())
    }
}

/// A port that is listened on.
struct OpenForward {
    to: GuestPort,
    user: ForwardUser,
    addresses: Vec<String>,
    /// Why it is not forwarded at every address.
    problem: Option<String>,
    /// Ends the listener, when it is dropped.
    end: oneshot::Sender<()>,
    /// Fails when the listener is closed.
    closed: oneshot::Receiver<()>,
}

impl OpenForward {
    /// Returns when nobody listens there any more.
    async fn close(self) {
        drop(self.end);
        let _ = self.closed.await;
    }

    fn problem(&self) -> Option<String> {
        let why = self.problem.as_ref()?;
        Some(format!("{} {why}", describe(&self.to, &self.user)))
    }

    fn shown(&self) -> VmForward {
        let (container, command) = match &self.user {
            ForwardUser::Container(name) => (Some(name.clone()), None),
            ForwardUser::Command(process) => (None, *process),
        };
        VmForward {
            addresses: self.addresses.clone(),
            guest_port: self.to.port,
            container,
            command,
        }
    }
}

impl Forwards {
    pub(crate) fn new(
        lanes: &Lanes,
        tunnel: Arc<DockerTunnel>,
        shared: SharedState,
        log: SupervisorLog,
        on_published: PublishedObserver,
    ) -> Arc<Forwards> {
        Arc::new(Forwards {
            door: LaneDoor::new(Lane::Forward, lanes),
            lanes: lanes.clone(),
            tunnel,
            shared,
            log,
            on_published,
            state: Mutex::default(),
        })
    }

    /// Forwards what is published, and nothing else that was.
    async fn set_published(&self, published: PublishedPorts) {
        let mut state = self.state.lock().await;
        while state.tasks.try_join_next().is_some() {}
        (self.on_published)(&published.tcp);
        let notices = published.notices;
        let mut problems = published.problems;
        let (wanted, not_wanted) = choose(published.tcp, published.left_out);
        problems.extend(not_wanted);
        let keeps = |number: &u16, open: &OpenForward| {
            let is_wanted = wanted.get(number).is_some_and(|port| port.to == open.to);
            is_wanted && !(open.problem.is_some() && listen::is_free_on_ipv6(*number))
        };
        let gone: Vec<_> = state
            .published
            .extract_if(.., |number, open| !keeps(number, open))
            .collect();
        for (_, open) in gone {
            self.close(open, &mut state.tasks).await;
        }
        for (number, port) in wanted {
            let user = ForwardUser::Container(port.container);
            if let Some(open) = state.published.get_mut(&number) {
                // It may have another name by now.
                open.user = user;
                problems.extend(open.problem());
                continue;
            }
            let what = describe(&port.to, &user);
            match listen::listen_on_loopback(number) {
                Ok(listener) => {
                    let open = self.open(listener, port.to, user, &mut state.tasks);
                    let at = open.addresses.join(" and ");
                    self.log.line(&format!("{what} is forwarded: {at}"));
                    problems.extend(open.problem());
                    state.published.insert(number, open);
                }
                Err(why) => drop(problems.insert(format!("{what} is not forwarded: {why}"))),
            }
        }
        for news in problems.difference(&state.problems) {
            self.log.line(news);
        }
        for news in notices.difference(&state.notices) {
            self.log.line(news);
        }
        (state.problems, state.notices) = (problems, notices);
        state.not_followed = None;
        self.show(&state);
    }

    /// Tells why it is not known what is published, until it is.
    async fn set_not_followed(&self, why: Option<String>) {
        let mut state = self.state.lock().await;
        state.not_followed = why;
        self.show(&state);
    }

    /// Listens no more. Connections that are open go on.
    async fn close(&self, open: OpenForward, tasks: &mut JoinSet<()>) {
        let what = describe(&open.to, &open.user);
        self.log.line(&format!("{what} is not forwarded any more"));
        let (to, tunnel) = (open.to.clone(), self.tunnel.clone());
        open.close().await;
        tasks.spawn(async move { tunnel.forget(&to).await });
    }

    /// Serves a listener.
    fn open(
        &self,
        listener: ForwardListener,
        to: GuestPort,
        user: ForwardUser,
        tasks: &mut JoinSet<()>,
    ) -> OpenForward {
        let addresses = listener.addresses();
        let problem = listener.problem().map(str::to_owned);
        let (end, ends) = oneshot::channel();
        let (listener, closed) = listener.tell_end();
        let (lanes, target) = (self.lanes.clone(), to.clone());
        tasks.spawn(listeners::accept(
            listener,
            self.door.clone(),
            move |client| lanes.clone().forward(client, target.clone()),
            async move { drop(ends.await) },
        ));
        OpenForward {
            to,
            user,
            addresses,
            problem,
            end,
            closed,
        }
    }

    /// Puts on the board what is forwarded.
    fn show(&self, state: &ForwardsState) {
        let shown = state.all().map(OpenForward::shown).collect();
        let problems = state.not_followed.iter().chain(&state.problems);
        let mut problems: Vec<&str> = problems.map(String::as_str).collect();
        if problems.len() > MOST_TOLD {
            problems.truncate(MOST_TOLD);
            problems.push("and more, which the log names");
        }
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        self.shared.forwards().set(shown, problem);
    }

    /// Ends everything, with the connections.
    pub(crate) async fn end(&self) {
        self.state.lock().await.tasks.shutdown().await;
    }
}

/// What is forwarded of what is published, by its port, and why the rest is not. `too_many` are not
/// even in it.
fn choose(
    published: Vec<PublishedPort>,
    mut too_many: usize,
) -> (BTreeMap<u16, PublishedPort>, BTreeSet<String>) {
    let mut problems = BTreeSet::new();
    let mut wanted: BTreeMap<u16, PublishedPort> = BTreeMap::new();
    for port in published {
        let (number, container) = (port.to.port, &port.container);
        if let Some(other) = wanted.get(&number) {
            // Containers in the same network lead to the same port: one forward is for all of them.
            if other.to != port.to && other.container != *container {
                problems.insert(format!(
                    "port {number} of container {container} is not forwarded: container {} has it \
                     at another address of the guest, and is forwarded",
                    other.container
                ));
            }
        } else if wanted.len() == MOST_FORWARDS {
            too_many += 1;
        } else {
            wanted.insert(number, port);
        }
    }
    if too_many > 0 {
        problems.insert(format!(
            "{too_many} ports of containers are not forwarded: {MOST_FORWARDS} are, which is the most"
        ));
    }
    (wanted, problems)
}

/// A port and for whom it is forwarded, as the beginning of a sentence.
fn describe(to: &GuestPort, user: &ForwardUser) -> String {
    match user {
        ForwardUser::Container(_) => format!("port {} of {user}", to.port),
        ForwardUser::Command(_) => format!("port {} of the guest, for {user},", to.port),
    }
}

#[cfg(test)]
mod tests;
