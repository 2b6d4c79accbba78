//! Which bytes of a client are held, and for how long.
//!
//! Only a request that may name paths is held, from its first byte to its last. All else passes as it
//! comes, whatever it is.

use std::borrow::Cow;

use super::super::docker_requests::MOST_OPEN;
use super::super::http_message::{BodyFrame, HEAD_LIMIT, MessageHead, MessagePart, MessageReader};
use super::body::BodyKind;

/// The longest request that is held, with the frames of its pieces.
const HOLD_LIMIT: usize = 4 << 20;

/// What is to be done next with what a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GateStep<'a> {
    /// These go to the guest.
    Pass(Cow<'a, [u8]>),
    /// The client waits to be asked for the body of the request.
    AskForBody,
    /// To be looked at. What was sent before it has been answered.
    Review(HeldRequest),
    /// A request that cannot be looked at. Where the next one begins is not known.
    Unreadable(UnreadableRequest),
}

/// Why a request cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnreadableRequest {
    NotUnderstood,
    TooLong,
    LongHead,
    /// It begins a connection of HTTP/2.
    OtherVersion,
}

impl UnreadableRequest {
    /// The status of the answer.
    pub(crate) fn status(self) -> &'static str {
        match self {
            UnreadableRequest::NotUnderstood | UnreadableRequest::TooLong => "400 Bad Request",
            UnreadableRequest::LongHead => "431 Request Header Fields Too Large",
            UnreadableRequest::OtherVersion => "505 HTTP Version Not Supported",
        }
    }

    pub(crate) fn why(self) -> &'static str {
        match self {
            UnreadableRequest::NotUnderstood => "it is not understood",
            UnreadableRequest::TooLong => "it is longer than 4 MiB",
            UnreadableRequest::LongHead => "its head is longer than 1 MiB",
            UnreadableRequest::OtherVersion => "it is HTTP/2; use HTTP/1.1",
        }
    }
}

/// A request that may name paths, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeldRequest {
    pub(super) kind: BodyKind,
    pub(super) head: MessageHead,
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Where its body begins.
    pub(super) body_start: usize,
}

/// Stands in one connection, before the guest.
#[derive(Debug)]
pub(crate) struct RequestGate {
    reader: MessageReader,
    state: GateState,
    /// What was not passed on yet.
    held: Vec<u8>,
    waits: bool,
}

#[derive(Debug)]
enum GateState {
    /// Before the end of the first line of a request.
    FirstLine,
    /// In a request that is none of ours.
    Passing,
    /// In one that is held.
    Holding(BodyKind),
    /// In its body.
    HoldingBody {
        kind: BodyKind,
        head: MessageHead,
        body_start: usize,
        /// The client waits to be asked for it.
        is_awaited: bool,
    },
    /// All of it is there.
    Whole(HeldRequest),
    Unreadable(UnreadableRequest),
    /// Not requests, or not any more.
    Stream,
}

impl RequestGate {
    pub(crate) fn new() -> Self {
        RequestGate {
            reader: MessageReader::new(),
            state: GateState::FirstLine,
            held: Vec::new(),
            waits: false,
        }
    }

    /// Whether bytes are held, which pass should the connection turn into another protocol.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether nothing can be done before an answer ends.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// What is left when the client sends no more: a part of a request.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.held
    }

    /// What to do next. `input` then begins after what was taken from it. `open`: how many requests
    /// wait for the end of their answers; none where the connection carries no requests any more.
    /// Nothing left to do: more bytes are needed, or an answer.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        open: Option<usize>,
    ) -> Option<GateStep<'a>> {
        self.waits = false;
        let Some(open) = open else {
            if let GateState::Whole(request) = std::mem::replace(&mut self.state, GateState::Stream)
            {
                self.held = request.bytes;
            }
            return self.pass_all(input);
        };
        loop {
            match std::mem::replace(&mut self.state, GateState::FirstLine) {
                GateState::Stream => {
                    self.state = GateState::Stream;
                    return self.pass_all(input);
                }
                GateState::FirstLine => {
                    if self.held.is_empty() {
                        let blank = input.iter().take_while(|byte| b"\r\n".contains(byte));
                        let blank = take(input, blank.count());
                        if !blank.is_empty() {
                            return Some(GateStep::Pass(Cow::Borrowed(blank)));
                        }
                    }
                    if input.is_empty() {
                        return None;
                    }
                    if open >= MOST_OPEN {
                        self.waits = true;
                        return None;
                    }
                    let line = input.iter().position(|byte| *byte == b'\n');
                    let line = take(input, line.map_or(input.len(), |end| end + 1));
                    self.held.extend_from_slice(line);
                    match first_line(&self.held) {
                        FirstLine::Incomplete => return None,
                        FirstLine::Ours(kind) => {
                            self.reader = MessageReader::new();
                            let mut line = self.held.as_slice();
                            // Its head cannot end with it.
                            let _ = self.reader.read(&mut line);
                            self.state = GateState::Holding(kind);
                        }
                        FirstLine::Unreadable(why) => self.state = GateState::Unreadable(why),
                        FirstLine::Other => {
                            self.reader = MessageReader::new();
                            let mut passed = std::mem::take(&mut self.held);
                            let _ = self.pass(&mut passed.as_slice());
                            // In one piece with what comes after it.
                            passed.extend_from_slice(self.pass(input));
                            return Some(GateStep::Pass(Cow::Owned(passed)));
                        }
                    }
                }
                GateState::Passing => {
                    let passed = self.pass(input);
                    if !passed.is_empty() {
                        return Some(GateStep::Pass(Cow::Borrowed(passed)));
                    }
                    if !matches!(self.state, GateState::Unreadable(_)) {
                        return None;
                    }
                }
                GateState::Holding(kind) => {
                    let Some(MessagePart::Head(head)) = self.hold(input) else {
                        if let Some(why) = self.given_up() {
                            self.state = GateState::Unreadable(why);
                            continue;
                        }
                        self.state = GateState::Holding(kind);
                        return None;
                    };
                    let body = head.body().unwrap_or(BodyFrame::Length(0));
                    self.reader.begin_body(body);
                    let expects = head.header("expect");
                    let is_awaited =
                        expects.is_some_and(|what| what.eq_ignore_ascii_case("100-continue"));
                    let is_long = matches!(body, BodyFrame::Length(length)
                        if length > HOLD_LIMIT as u64);
                    self.state = if is_long {
                        GateState::Unreadable(UnreadableRequest::TooLong)
                    } else {
                        GateState::HoldingBody {
                            kind,
                            head,
                            body_start: self.held.len(),
                            is_awaited,
                        }
                    };
                }
                GateState::HoldingBody {
                    kind,
                    head,
                    body_start,
                    is_awaited,
                } => {
                    if let Some(_end) = self.hold(input) {
                        self.state = GateState::Whole(HeldRequest {
                            kind,
                            head,
                            bytes: std::mem::take(&mut self.held),
                            body_start,
                        });
                        continue;
                    }
                    if let Some(why) = self.given_up() {
                        self.state = GateState::Unreadable(why);
                        continue;
                    }
                    let asks = is_awaited && open == 0;
                    self.waits = is_awaited && open > 0;
                    self.state = GateState::HoldingBody {
                        kind,
                        head,
                        body_start,
                        is_awaited: is_awaited && !asks,
                    };
                    return asks.then_some(GateStep::AskForBody);
                }
                GateState::Whole(request) => {
                    if open > 0 {
                        // What comes after a request that turns the connection into another protocol
                        // only looks like one.
                        self.waits = true;
                        self.state = GateState::Whole(request);
                        return None;
                    }
                    return Some(GateStep::Review(request));
                }
                GateState::Unreadable(why) => {
                    self.state = GateState::Unreadable(why);
                    self.waits = open > 0;
                    return (open == 0).then_some(GateStep::Unreadable(why));
                }
            }
        }
    }

    fn pass_all<'a>(&mut self, input: &mut &'a [u8]) -> Option<GateStep<'a>> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            return Some(GateStep::Pass(Cow::Owned(held)));
        }
        let all = take(input, input.len());
        (!all.is_empty()).then_some(GateStep::Pass(Cow::Borrowed(all)))
    }

    /// Reads along in a request that is none of ours, to its end at most. What of it may pass.
    fn pass<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let before = *bytes;
        self.read_along(bytes);
        let read = before.len() - bytes.len();
        let read = before.get(..read).unwrap_or_default();
        if self.reader.is_too_long() {
            // Engines do not read it either. What comes after it may be a request again for them, but
            // would not be one here.
            self.held.extend_from_slice(read);
            self.state = GateState::Unreadable(UnreadableRequest::LongHead);
            return &[];
        }
        read
    }

    fn read_along(&mut self, bytes: &mut &[u8]) {
        self.state = GateState::Passing;
        while let Some(part) = self.reader.read(bytes) {
            match part {
                MessagePart::Head(head) if is_request(head.first_line()) => {
                    let body = head.body().unwrap_or(BodyFrame::Length(0));
                    self.reader.begin_body(body);
                }
                MessagePart::Head(_) => self.reader.begin_body(BodyFrame::UntilClosed),
                MessagePart::End => {
                    self.state = GateState::FirstLine;
                    return;
                }
            }
        }
        if self.reader.is_opaque() {
            self.state = GateState::Stream;
        }
    }

    /// Reads on in a request that is held.
    fn hold(&mut self, input: &mut &[u8]) -> Option<MessagePart> {
        let before = *input;
        let part = self.reader.read(input);
        let read = before.len() - input.len();
        self.held
            .extend_from_slice(before.get(..read).unwrap_or_default());
        part
    }

    /// Why what is held will not be a request.
    fn given_up(&self) -> Option<UnreadableRequest> {
        if self.reader.is_too_long() {
            return Some(UnreadableRequest::LongHead);
        }
        if self.reader.is_opaque() {
            return Some(UnreadableRequest::NotUnderstood);
        }
        (self.held.len() > HOLD_LIMIT).then_some(UnreadableRequest::TooLong)
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

/// How a client begins that takes the other side for one of HTTP/2 without asking.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0";

enum FirstLine {
    Incomplete,
    Ours(BodyKind),
    Other,
    Unreadable(UnreadableRequest),
}

fn first_line(bytes: &[u8]) -> FirstLine {
    const STARTS: [&[u8]; 2] = [b"POST ", HTTP_2];
    let Some((b'\n', line)) = bytes.split_last() else {
        let may_be = |start: &&[u8]| start.starts_with(bytes) || bytes.starts_with(start);
        return match STARTS.iter().any(may_be) {
            true if bytes.len() > HEAD_LIMIT => FirstLine::Unreadable(UnreadableRequest::LongHead),
            true => FirstLine::Incomplete,
            false => FirstLine::Other,
        };
    };
    if bytes.starts_with(HTTP_2) {
        return FirstLine::Unreadable(UnreadableRequest::OtherVersion);
    }
    let line = String::from_utf8_lossy(line);
    let kind = line
        .strip_prefix("POST ")
        .filter(|_| is_request(&line))
        .and_then(|rest| BodyKind::of_target(rest.split_ascii_whitespace().next()?));
    kind.map_or(FirstLine::Other, FirstLine::Ours)
}

fn is_request(line: &str) -> bool {
    let version = line.split_ascii_whitespace().nth(2);
    version.is_some_and(|version| version.starts_with("HTTP/1."))
}
