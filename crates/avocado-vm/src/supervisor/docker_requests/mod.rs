//! What a client of docker's API waits for, read along from the bytes of its connection.
//!
//! A request that was not answered to its end is work: a container that runs in the foreground, an
//! exec, an attach, a wait, a build, a pull. Not so one that only watches (events, logs, stats):
//! programs leave those open for days. Nothing here changes a byte. What is not understood is no
//! work of its own, and hides nothing: a connection that turns into another protocol stays with the
//! request that it began with. A client that has too many requests open is not read along any
//! further, and what it waits for is not known to be work.

use std::collections::VecDeque;

use super::http_message::{BodyFrame, MessageHead, MessagePart, MessageReader};

/// The most requests of one connection that wait for their answers. Clients of docker wait for one after the
/// other; whoever says more of them at once is not read along any further.
pub(super) const MOST_OPEN: usize = 100;

/// Reads along both directions of one connection.
#[derive(Debug)]
pub(crate) struct DockerRequests {
    from_client: MessageReader,
    from_guest: MessageReader,
    /// Those whose answer has not ended, in their order.
    open: VecDeque<OpenRequest>,
    /// How many of those are work: this is asked for with every byte.
    work: usize,
}

#[derive(Debug, Clone, Copy)]
struct OpenRequest {
    /// Whether the guest works for it.
    is_work: bool,
    /// Whether its answer has no body, whatever the headers say.
    is_head: bool,
}

impl DockerRequests {
    pub(crate) fn new() -> Self {
        DockerRequests {
            from_client: MessageReader::new(),
            from_guest: MessageReader::new(),
            open: VecDeque::new(),
            work: 0,
        }
    }

    /// Whether the guest works for a request that is open.
    pub(crate) fn is_work(&self) -> bool {
        self.work > 0
    }

    /// How many requests wait for the end of their answers; none where the connection does not carry
    /// requests and answers, or not any more.
    pub(crate) fn open(&self) -> Option<usize> {
        let is_opaque = self.from_client.is_opaque() || self.from_guest.is_opaque();
        (!is_opaque).then_some(self.open.len())
    }

    /// What the connection carries from here on is passed over.
    pub(crate) fn give_up(&mut self) {
        self.open.clear();
        self.work = 0;
        self.from_client.begin_body(BodyFrame::UntilClosed);
        self.from_guest.begin_body(BodyFrame::UntilClosed);
    }

    /// To be called before the bytes are passed on: an answer must not come first.
    pub(crate) fn client_says(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.from_client.read(&mut bytes) {
            if let MessagePart::Head(head) = part {
                match OpenRequest::parse(head.first_line()) {
                    Some(request) => {
                        if self.open.len() == MOST_OPEN {
                            return self.give_up();
                        }
                        self.work += usize::from(request.is_work);
                        self.open.push_back(request);
                        let body = head.body().unwrap_or(BodyFrame::Length(0));
                        self.from_client.begin_body(body);
                    }
                    None => self.from_client.begin_body(BodyFrame::UntilClosed),
                }
            }
        }
    }

    pub(crate) fn guest_says(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.from_guest.read(&mut bytes) {
            match part {
                MessagePart::Head(head) => self.begin_answer(&head),
                MessagePart::End => {
                    let ended = self.open.pop_front();
                    self.work -= usize::from(ended.is_some_and(|request| request.is_work));
                }
            }
        }
    }

    fn begin_answer(&mut self, head: &MessageHead) {
        let status = head.first_line().split_ascii_whitespace().nth(1);
        let status: Option<u16> = status.and_then(|status| status.parse().ok());
        let (Some(status), Some(request)) = (status, self.open.front()) else {
            self.from_guest.begin_body(BodyFrame::UntilClosed);
            return;
        };
        if status != 101 && (100..200).contains(&status) {
            // The real answer is still to come.
            self.from_guest = MessageReader::new();
            return;
        }
        let body = match status {
            // From here on it is another protocol, for this request.
            101 => BodyFrame::UntilClosed,
            204 | 304 => BodyFrame::Length(0),
            _ if request.is_head => BodyFrame::Length(0),
            _ => head.body().unwrap_or(BodyFrame::UntilClosed),
        };
        self.from_guest.begin_body(body);
        if body == BodyFrame::UntilClosed {
            self.from_client.begin_body(BodyFrame::UntilClosed);
        }
    }
}

impl OpenRequest {
    /// None: this is no first line of a request.
    fn parse(line: &str) -> Option<OpenRequest> {
        let mut words = line.split_ascii_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        if !words.next()?.starts_with("HTTP/1.") {
            return None;
        }
        let path = target.split('?').next().unwrap_or_default();
        let last = path.trim_end_matches('/').rsplit('/').next();
        let watches = method == "GET" && matches!(last, Some("events" | "logs" | "stats"));
        Some(OpenRequest {
            is_work: !watches,
            is_head: method == "HEAD",
        })
    }
}

#[cfg(test)]
mod tests;
