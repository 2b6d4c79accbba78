//! Bytes between a client of docker and the guest: as any bytes (`proxy`), but that the requests are read
//! along, and those that name directories of this machine are looked at before the guest gets them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep_until, timeout};

use super::docker_mounts::{GateStep, HeldRequest, HostPlaces, RequestGate, Review, review};
use super::docker_requests::DockerRequests;
use super::http_message::error_answer;
use super::lanes::asleep_failure;
use super::log::SupervisorLog;
use super::owner_handle::OwnerHandle;
use super::proxy::{BUFFER, DirectionEnd, ProxyKind, pass_on, run_both};

/// How long a client that says no more may wait for answers before it is sure that it has left. One that
/// closed its side alone, as scripts do, is still to get what it asked for.
pub(crate) const LEAVE_WAIT: Duration = Duration::from_secs(10);
/// The most that is read of a client that waits for an answer. Past that, it is not noticed that it leaves.
const AHEAD_LIMIT: usize = 1 << 20;
/// How long a client may take to hear the last words of its connection.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What it takes to answer in the guest's place.
pub(crate) struct DockerDesk {
    pub(crate) handle: OwnerHandle,
    /// Where clients of docker connect.
    pub(crate) sockets: Arc<[PathBuf]>,
    pub(crate) log: SupervisorLog,
    /// See [`LEAVE_WAIT`].
    pub(crate) leave_wait: Duration,
}

/// Moves bytes until both sides are done or one breaks.
pub(crate) async fn run<C, G>(client: C, guest: &mut G, kind: ProxyKind<'_>, desk: &DockerDesk)
where
    C: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (mut from_guest, to_guest) = tokio::io::split(guest);
    let talk = Talk {
        kind,
        requests: StdMutex::new(DockerRequests::new()),
        to_client: Mutex::new(to_client),
        changed: Notify::new(),
    };
    let up = ClientSide {
        talk: &talk,
        desk,
        gate: RequestGate::new(),
        from_client,
        to_guest,
        ahead: Vec::new(),
        ended: None,
    };
    run_both(up.run(), talk.guest_to_client(&mut from_guest)).await;
}

/// What both directions of a connection share.
struct Talk<'a, C> {
    kind: ProxyKind<'a>,
    requests: StdMutex<DockerRequests>,
    /// Held from where an answer is read along until the client has it.
    to_client: Mutex<WriteHalf<C>>,
    /// The guest said something, or will say no more.
    changed: Notify,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Talk<'_, C> {
    /// See [`DockerRequests::open`].
    fn open(&self) -> Option<usize> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).open()
    }

    fn read_along(&self, read: impl FnOnce(&mut DockerRequests)) {
        let is_work = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            read(&mut requests);
            requests.is_work()
        };
        if let ProxyKind::Counted(lease) = self.kind {
            lease.set_work(is_work);
        }
    }

    async fn guest_to_client(&self, guest: &mut (impl AsyncRead + Unpin)) -> DirectionEnd {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = guest.read(&mut buffer).await;
            let count = *read.as_ref().unwrap_or(&0);
            let bytes = buffer.get(..count).unwrap_or_default();
            let mut to_client = self.to_client.lock().await;
            self.read_along(|requests| match bytes {
                // No answer comes any more.
                [] => requests.give_up(),
                bytes => requests.guest_says(bytes),
            });
            self.changed.notify_one();
            if read.is_err() {
                return DirectionEnd::Broken;
            }
            self.kind.guest_spoke(bytes);
            let passed = match bytes {
                [] => to_client.shutdown().await,
                bytes => to_client.write_all(bytes).await,
            };
            match (passed, count) {
                (Err(_), _) => return DirectionEnd::Broken,
                (Ok(()), 0) => return DirectionEnd::Done,
                _ => {}
            }
        }
    }
}

/// From the client to the guest.
struct ClientSide<'a, C, G> {
    talk: &'a Talk<'a, C>,
    desk: &'a DockerDesk,
    gate: RequestGate,
    from_client: ReadHalf<C>,
    to_guest: WriteHalf<G>,
    /// What the client said while an answer was waited for.
    ahead: Vec<u8>,
    /// When it was found to say no more, over that.
    ended: Option<Instant>,
}

impl<C, G> ClientSide<'_, C, G>
where
    C: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(mut self) -> DirectionEnd {
        match self.all().await {
            Ok(()) => DirectionEnd::Done,
            Err(end) => end,
        }
    }

    async fn all(&mut self) -> Result<(), DirectionEnd> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if !self.ahead.is_empty() {
                let bytes = std::mem::take(&mut self.ahead);
                self.work_off(&bytes).await?;
                continue;
            }
            let read = tokio::select! {
                // What is held may turn out to be no request.
                () = self.talk.changed.notified(), if self.gate.holds() => Ok(None),
                read = self.from_client.read(&mut buffer) => read.map(Some),
            };
            let read = read.map_err(|_| DirectionEnd::Broken)?;
            let bytes = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
            self.work_off(bytes).await?;
            if read == Some(0) {
                // A part of a request: the guest says what is wrong with it.
                let rest = std::mem::replace(&mut self.gate, RequestGate::new()).into_rest();
                if !rest.is_empty() {
                    self.forward(&rest).await?;
                }
                return self.forward(&[]).await;
            }
        }
    }

    /// Does with the bytes what is to be done with them. What is held then is not a whole request.
    async fn work_off(&mut self, mut bytes: &[u8]) -> Result<(), DirectionEnd> {
        loop {
            match self.gate.next(&mut bytes, self.talk.open()) {
                Some(GateStep::Pass(bytes)) => self.forward(&bytes).await?,
                Some(GateStep::AskForBody) => {
                    self.answer(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                Some(GateStep::Review(request)) => {
                    self.stay_awake().await?;
                    let places = HostPlaces {
                        workspace: self.desk.handle.shared.workspace(),
                        sockets: self.desk.sockets.to_vec(),
                    };
                    let (request, outcome) = look(request, places).await?;
                    let (status, why) = match outcome {
                        Review::Pass {
                            bytes,
                            needs_workspace,
                        } => match self.see_to_workspace(needs_workspace).await {
                            Ok(()) => {
                                self.forward(&bytes).await?;
                                continue;
                            }
                            Err(why) => ("503 Service Unavailable", why),
                        },
                        Review::Refuse(why) => ("400 Bad Request", why),
                    };
                    let (answer, closes) = request.refusal(status, &why);
                    self.refuse(&why, &answer, closes).await?;
                }
                Some(GateStep::Unreadable(why)) => {
                    let status = why.status();
                    let why = format!("the VM cannot look at the request: {}", why.why());
                    let answer = error_answer(status, &why, true);
                    self.refuse(&why, &answer, true).await?;
                }
                None if self.gate.waits() => self.wait_for_answer().await?,
                None => return Ok(()),
            }
        }
    }

    /// Returns when the guest has said something. A client that leaves meanwhile does not get what it asked
    /// for last: the guest is told, and ends what it does for it.
    async fn wait_for_answer(&mut self) -> Result<(), DirectionEnd> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let listens = self.ended.is_none() && self.ahead.len() < AHEAD_LIMIT;
            let left = self.ended.map(|ended| ended + self.desk.leave_wait);
            tokio::select! {
                () = self.talk.changed.notified() => return Ok(()),
                read = self.from_client.read(&mut buffer), if listens => match read {
                    Ok(0) => self.ended = Some(Instant::now()),
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        self.ahead.extend_from_slice(bytes);
                    }
                    Err(_) => return Err(DirectionEnd::Broken),
                },
                () = sleep_until(left.unwrap_or_else(Instant::now)), if left.is_some() => {
                    self.forward(&[]).await?;
                    return Err(DirectionEnd::Done);
                }
            }
        }
    }

    /// The guest is to be awake, and the client waits.
    async fn stay_awake(&self) -> Result<(), DirectionEnd> {
        self.wait_until_awake().await?;
        // From here on it does not fall asleep.
        self.talk.kind.client_spoke(false);
        self.wait_until_awake().await
    }

    async fn wait_until_awake(&self) -> Result<(), DirectionEnd> {
        if self.talk.kind.wait_until_awake(false).await {
            Ok(())
        } else {
            Err(DirectionEnd::Broken)
        }
    }

    async fn forward(&mut self, bytes: &[u8]) -> Result<(), DirectionEnd> {
        self.wait_until_awake().await?;
        // Before they are passed on: an answer must not come first.
        self.talk.read_along(|requests| requests.client_says(bytes));
        pass_on(bytes, &mut self.to_guest, self.talk.kind, false).await
    }

    async fn see_to_workspace(&self, is_needed: bool) -> Result<(), String> {
        if !is_needed {
            return Ok(());
        }
        let handle = &self.desk.handle;
        let is_infra = matches!(self.talk.kind, ProxyKind::Infra(_));
        let mut news = handle.shared.awake_news();
        let mounted = tokio::select! {
            biased;
            // Nothing wakes it for this client.
            _ = news.wait_for(|awake| !*awake), if is_infra => {
                return Err(asleep_failure().message);
            }
            mounted = handle.mount_workspace() => mounted,
        };
        mounted.map_err(|why| {
            format!(
                "the guest of the VM has not got its workspace: {why}. `avocado vm restart` may \
                 help, and `avocado vm logs` tells more"
            )
        })
    }

    async fn refuse(&mut self, why: &str, answer: &[u8], closes: bool) -> Result<(), DirectionEnd> {
        self.desk.log.line(&format!("docker: refused: {why}"));
        self.answer(answer).await?;
        self.talk.kind.guest_spoke(&[]);
        if !closes {
            return Ok(());
        }
        let last_words = async {
            let ended = self.talk.to_client.lock().await.shutdown().await;
            ended.map_err(drop)?;
            // Closing a socket with unread bytes would take the answer back.
            let rest = &mut tokio::io::sink();
            tokio::io::copy(&mut self.from_client, rest)
                .await
                .map_err(drop)
        };
        let _ = timeout(LAST_WORDS, last_words).await;
        Err(DirectionEnd::Broken)
    }

    /// Says something to the client in the guest's place. No answer of the guest is under way.
    async fn answer(&self, bytes: &[u8]) -> Result<(), DirectionEnd> {
        let mut to_client = self.talk.to_client.lock().await;
        let said = to_client.write_all(bytes).await;
        said.map_err(|_| DirectionEnd::Broken)
    }
}

/// Apart from the other connections: a file system may take its time.
async fn look(
    request: HeldRequest,
    places: HostPlaces,
) -> Result<(HeldRequest, Review), DirectionEnd> {
    let looked = tokio::task::spawn_blocking(move || {
        let outcome = review(&request, &places);
        (request, outcome)
    });
    looked.await.map_err(|_| DirectionEnd::Broken)
}

#[cfg(test)]
mod tests;
