use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::call::MethodCall;
use super::connection::{CallState, Connection};
use super::interface_table::{CallRejection, InterfaceTable};
use super::peer::PeerCredentials;
use super::reply_writer::{ReactorInbox, ReactorMessage};
use super::{
    Listener, ServerEnd, ServerError, ServerOptions, ServiceInfo, VarlinkService, set_nonblocking,
    system,
};
use crate::wire::{self, CallMode, MessageDecoder};

const WAKE: u64 = 0;
const STOP: u64 = 1;
const LISTEN: u64 = 2;
/// Connections are numbered from here, and no number is used twice.
const FIRST_CONNECTION: u64 = 1 << 32;
/// What every connection may have waiting, in bytes: only those with more are added up.
const UNCOUNTED: usize = 4 * 1024;
/// The user whose calls come first.
const ROOT: Option<u32> = Some(0);
/// After a failure to accept for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Reactor {
    service: Arc<dyn VarlinkService>,
    interfaces: InterfaceTable,
    options: ServerOptions,
    epoll: OwnedFd,
    inbox: Arc<ReactorInbox>,
    stop: Option<OwnedFd>,
    stopping: Option<Instant>,
    listeners: Vec<Listener>,
    /// Set while no connection can be accepted: until then, or until one is closed.
    paused: Option<Instant>,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    /// Calls that wait for their turn.
    waiting: VecDeque<WaitingCall>,
    running: usize,
    /// Lanes in which a call runs.
    busy: Vec<&'static str>,
    idle_since: Instant,
    scratch: Vec<u8>,
}

struct WaitingCall {
    id: u64,
    lane: Option<&'static str>,
    call: MethodCall,
}

impl Reactor {
    pub(super) fn new(
        service: Arc<dyn VarlinkService>,
        info: ServiceInfo,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("create an event queue"))?;
        let inbox = Arc::new(ReactorInbox::new().map_err(system("create an event counter"))?);
        let wake = EventData::new_u64(WAKE);
        epoll::add(&epoll, &inbox.wake, wake, EventFlags::IN).map_err(system("watch a counter"))?;
        Ok(Reactor {
            interfaces: InterfaceTable::new(service.clone(), info)?,
            service,
            options,
            epoll,
            inbox,
            stop: None,
            stopping: None,
            listeners: Vec::new(),
            paused: None,
            connections: HashMap::new(),
            next_id: FIRST_CONNECTION,
            waiting: VecDeque::new(),
            running: 0,
            busy: Vec::new(),
            idle_since: Instant::now(),
            scratch: vec![0; 16 * 1024],
        })
    }

    pub(super) fn listen(&mut self, listener: Listener) -> Result<(), ServerError> {
        set_nonblocking(&listener.fd).map_err(system("prepare the listening socket"))?;
        let data = EventData::new_u64(LISTEN + self.listeners.len() as u64);
        epoll::add(&self.epoll, &listener.fd, data, EventFlags::IN)
            .map_err(system("watch the listening socket"))?;
        self.listeners.push(listener);
        Ok(())
    }

    pub(super) fn stop_on(&mut self, stop: OwnedFd) -> Result<(), ServerError> {
        let data = EventData::new_u64(STOP);
        epoll::add(&self.epoll, &stop, data, EventFlags::IN)
            .map_err(system("watch for the request to stop"))?;
        self.stop = Some(stop);
        Ok(())
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) -> Result<(), ServerError> {
        set_nonblocking(&fd).map_err(system("prepare a connection"))?;
        let id = self.next_id;
        self.next_id += 1;
        let max_message = self.options.max_message;
        let connection = Connection::new(id, fd, self.inbox.clone(), max_message);
        let (fd, data) = (&connection.replies.fd, EventData::new_u64(id));
        epoll::add(&self.epoll, fd, data, connection.interest)
            .map_err(system("watch a connection"))?;
        self.connections.insert(id, connection);
        Ok(())
    }

    pub(super) fn run(mut self) -> Result<ServerEnd, ServerError> {
        self.idle_since = Instant::now();
        let mut events = Vec::with_capacity(256);
        loop {
            if let Some(ended) = self.ended() {
                return Ok(ended);
            }
            events.clear();
            let timeout = self.timeout().and_then(|t| t.try_into().ok());
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(system("wait for events")(errno)),
            }
            for event in &events {
                let flags = event.flags;
                match event.data.u64() {
                    WAKE => {}
                    STOP => {
                        if self.stop_requested() {
                            return Ok(ServerEnd::Stopped);
                        }
                    }
                    id if id >= FIRST_CONNECTION => self.on_event(id, flags),
                    listener => self.accept((listener - LISTEN) as usize),
                }
            }
            for message in self.inbox.take() {
                match message {
                    ReactorMessage::Finished { id, lane } => self.on_finished(id, lane),
                    ReactorMessage::Blocked(id) => self.on_event(id, EventFlags::empty()),
                }
            }
            self.start_jobs();
            self.resume_accepting();
        }
    }

    fn ended(&self) -> Option<ServerEnd> {
        if let Some(deadline) = self.stopping {
            let over = self.running == 0 || Instant::now() >= deadline;
            return over.then_some(ServerEnd::Stopped);
        }
        if !self.connections.is_empty() || self.running > 0 {
            return None;
        }
        if self.listeners.is_empty() {
            return Some(ServerEnd::NoClients);
        }
        let idle = self.options.exit_on_idle?;
        (self.idle_since.elapsed() >= idle).then_some(ServerEnd::Idle)
    }

    fn timeout(&self) -> Option<Duration> {
        let idle = if self.connections.is_empty() && self.running == 0 {
            self.options.exit_on_idle.map(|idle| self.idle_since + idle)
        } else {
            None
        };
        let next = [self.stopping, self.paused, idle]
            .into_iter()
            .flatten()
            .min()?;
        // Rounded up, so that the deadline has passed when the wait is over.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// True when there is no more patience.
    fn stop_requested(&mut self) -> bool {
        if let Some(stop) = &self.stop {
            let _ = rustix::io::read(stop, &mut [0; 64]);
        }
        if self.stopping.is_some() {
            return true;
        }
        self.stopping = Some(Instant::now() + self.options.stop_grace);
        self.listeners.clear();
        self.waiting.clear();
        self.connections
            .retain(|_, connection| matches!(connection.call, CallState::Running));
        for connection in self.connections.values() {
            connection.replies.cancel(true);
        }
        false
    }

    fn accept(&mut self, listener: usize) {
        // A bound, so that a flood of new clients does not starve the others.
        for _ in 0..64 {
            let Some(listener) = self.listeners.get(listener) else {
                return;
            };
            match accept_with(&listener.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                // Too many already: closed at once.
                Ok(fd) if !self.has_room_for(&fd) => {}
                // A connection that cannot be watched is closed; others may still come.
                Ok(fd) => drop(self.adopt(fd)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.paused = Some(Instant::now() + ACCEPT_PAUSE);
                    self.watch_listeners(EventFlags::empty());
                    return;
                }
            }
        }
    }

    fn has_room_for(&self, fd: &OwnedFd) -> bool {
        let options = &self.options;
        let uid = PeerCredentials::of(fd).map(|peer| peer.uid);
        let all = self.connections.len();
        if uid == ROOT {
            return all < options.max_connections;
        }
        let of_user = self.connections.values().filter(|c| c.uid() == uid);
        all < options.max_connections - options.max_connections / 64
            && of_user.count() < options.max_connections_per_user
    }

    /// Whether the user of a connection, which is not in the map, has more waiting here than one
    /// user may.
    fn is_greedy(&self, connection: &Connection) -> bool {
        let own = connection.buffered();
        let others = self.connections.values();
        let of_user = others.filter(|other| other.uid() == connection.uid());
        own > UNCOUNTED
            && own + of_user.map(Connection::buffered).sum::<usize>()
                > self.options.max_buffered_per_user
    }

    /// Nothing more goes to or comes from a client.
    fn lose(&mut self, id: u64, connection: &mut Connection) {
        connection.gone = true;
        connection.replies.close();
        // The kernel would report this again and again.
        let _ = epoll::delete(&self.epoll, &connection.replies.fd);
        if connection.call == CallState::Waiting {
            self.waiting
                .retain(|job| job.id != id || job.call.is_oneway());
            if self.waiting.iter().all(|job| job.id != id) {
                connection.call = CallState::Idle;
            }
        }
    }

    fn resume_accepting(&mut self) {
        if self.paused.is_some_and(|until| Instant::now() >= until) {
            self.paused = None;
            self.watch_listeners(EventFlags::IN);
        }
    }

    fn watch_listeners(&self, flags: EventFlags) {
        for (i, listener) in self.listeners.iter().enumerate() {
            let data = EventData::new_u64(LISTEN + i as u64);
            let _ = epoll::modify(&self.epoll, &listener.fd, data, flags);
        }
    }

    fn on_event(&mut self, id: u64, flags: EventFlags) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        if flags.intersects(EventFlags::IN) {
            connection.readable = true;
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) && !connection.gone {
            connection.readable = true;
            self.lose(id, &mut connection);
        }
        self.advance(id, connection);
    }

    fn on_finished(&mut self, id: u64, lane: Option<&'static str>) {
        self.running -= 1;
        self.busy.retain(|busy| Some(*busy) != lane);
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        connection.call = CallState::Idle;
        connection.closing |= connection.replies.is_unanswered();
        self.advance(id, connection);
    }

    /// Takes a connection as far as it goes without waiting, and puts it back or closes it.
    fn advance(&mut self, id: u64, mut connection: Connection) {
        while connection.call == CallState::Idle
            && !connection.closing
            && connection.replies.flush()
        {
            match connection
                .decoder
                .next_message()
                .map(|m| m.map(wire::CallMessage::parse))
            {
                Ok(Some(Ok(call))) => self.dispatch(&mut connection, call),
                Ok(Some(Err(_))) | Err(_) => connection.closing = true,
                Ok(None) if connection.readable && !connection.eof => {
                    connection.fill(&mut self.scratch)
                }
                Ok(None) => break,
            }
        }
        if !connection.closing && self.is_greedy(&connection) {
            connection.closing = true;
            connection.decoder = MessageDecoder::new(0);
            self.lose(id, &mut connection);
        }
        let drained = connection.replies.flush();
        let idle = connection.call == CallState::Idle;
        let stopping = self.stopping.is_some();
        if idle && ((drained && (connection.closing || connection.eof)) || stopping) {
            connection.replies.hang_up();
            self.idle_since = Instant::now();
            // There is room for a new one again: the pause ends now.
            self.paused = self.paused.map(|_| self.idle_since);
            return;
        }
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::OUT, !drained);
        let wants_input = idle && drained && !connection.eof && !connection.closing;
        interest.set(EventFlags::IN, wants_input);
        if interest != connection.interest && !connection.gone {
            connection.interest = interest;
            let data = EventData::new_u64(id);
            let _ = epoll::modify(&self.epoll, &connection.replies.fd, data, interest);
        }
        self.connections.insert(id, connection);
    }

    /// Answers a call, or lines it up.
    fn dispatch(&mut self, connection: &mut Connection, call: wire::CallMessage) {
        if connection.gone && call.mode != CallMode::Oneway {
            return;
        }
        let id = connection.replies.id;
        let pending = self.options.max_pending_output;
        let upgrade = call.mode == CallMode::Upgrade;
        let call = MethodCall::new(call, connection.peer, connection.replies.clone(), pending);
        // A client that is gone is noticed elsewhere.
        let _ = match self.interfaces.check(&call) {
            Err(CallRejection::Interface(interface)) => call.interface_not_found(&interface),
            Err(CallRejection::Method) => call.method_not_found(),
            Err(CallRejection::Parameter(parameter)) => call.invalid_parameter(&parameter),
            Ok(()) if upgrade => call.method_not_implemented(),
            Ok(()) if self.interfaces.describes(&call) => self.interfaces.describe(call),
            Ok(()) => {
                let lane = self.service.lane(call.interface(), call.method());
                connection.call = CallState::Waiting;
                // Started at the end of this turn of the loop, when the connection is back in the map.
                self.waiting.push_back(WaitingCall { id, lane, call });
                Ok(())
            }
        };
    }

    fn start_jobs(&mut self) {
        while self.running < self.options.max_running {
            let ready = |job: &WaitingCall| job.lane.is_none_or(|lane| !self.busy.contains(&lane));
            let mut waiting = self.waiting.iter();
            let of_root = |job: &WaitingCall| job.call.peer().is_some_and(|p| Some(p.uid) == ROOT);
            let next = waiting.position(|job| of_root(job) && ready(job));
            let Some(next) = next.or_else(|| self.waiting.iter().position(ready)) else {
                return;
            };
            let Some(job) = self.waiting.remove(next) else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(&job.id) {
                connection.call = CallState::Running;
            }
            self.running += 1;
            self.busy.extend(job.lane);
            let finished = FinishGuard {
                inbox: self.inbox.clone(),
                id: job.id,
                lane: job.lane,
            };
            let service = self.service.clone();
            // When there is no thread to be had, dropping the closure drops the call unanswered
            // and reports it finished, and so its connection is closed.
            let _ = std::thread::Builder::new()
                .name("varlink-call".into())
                .spawn(move || {
                    let _finished = finished;
                    service.call(job.call);
                });
        }
    }
}

/// Reports the end of a call, also when its handler panics.
struct FinishGuard {
    inbox: Arc<ReactorInbox>,
    id: u64,
    lane: Option<&'static str>,
}

impl Drop for FinishGuard {
    fn drop(&mut self) {
        let (id, lane) = (self.id, self.lane);
        self.inbox.post(ReactorMessage::Finished { id, lane });
    }
}
