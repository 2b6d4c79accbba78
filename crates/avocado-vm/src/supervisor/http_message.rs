//! The frames of HTTP/1.1: where in the bytes of one direction a message begins and ends.

/// The longest head that is read, as engines read it.
pub(super) const HEAD_LIMIT: usize = 1 << 20;

/// What comes after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFrame {
    /// So many bytes, perhaps none.
    Length(u64),
    /// Pieces, each with its size in front.
    Chunked,
    /// Everything until the connection is closed.
    UntilClosed,
}

/// What was found in the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessagePart {
    /// The first line and the headers. The reader waits to be told what follows.
    Head(MessageHead),
    /// The end of a message.
    End,
}

/// The first line and the headers of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MessageHead(String);

impl MessageHead {
    pub(super) fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// The value of the first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.0.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What the headers say of the body; none where they say nothing.
    pub(super) fn body(&self) -> Option<BodyFrame> {
        if self.header("transfer-encoding").is_some_and(|coding| {
            coding
                .rsplit(',')
                .next()
                .is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"))
        }) {
            return Some(BodyFrame::Chunked);
        }
        self.header("content-length")?
            .parse()
            .ok()
            .map(BodyFrame::Length)
    }
}

/// Reads along one direction.
#[derive(Debug)]
pub(super) enum MessageReader {
    /// The bytes of a head so far.
    Head(Vec<u8>),
    /// A head was handed over; what follows it is still to be told.
    Told,
    Body(u64),
    /// The line with the size of a piece, so far.
    ChunkSize(Vec<u8>),
    /// The rest of a piece, with the end of its line.
    Chunk(u64),
    /// A line after the last piece, so far.
    Trailer(Vec<u8>),
    /// Not HTTP, or not any more.
    Opaque,
    /// A head or a line that is longer than any may be.
    TooLong,
}

impl MessageReader {
    pub(super) fn new() -> Self {
        MessageReader::Head(Vec::new())
    }

    /// Whether what is read is not HTTP, or not any more.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self, MessageReader::Opaque | MessageReader::TooLong)
    }

    /// Whether that is so because of a head or a line that is too long.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, MessageReader::TooLong)
    }

    /// What follows the head that was handed over.
    pub(super) fn begin_body(&mut self, body: BodyFrame) {
        *self = match body {
            BodyFrame::Length(length) => MessageReader::Body(length),
            BodyFrame::Chunked => MessageReader::ChunkSize(Vec::new()),
            BodyFrame::UntilClosed => MessageReader::Opaque,
        };
    }

    /// Reads on in `bytes`, which then begin after what was read. None: they are used up.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Option<MessagePart> {
        loop {
            match self {
                // Needs no bytes.
                MessageReader::Body(0) => {
                    *self = MessageReader::new();
                    return Some(MessagePart::End);
                }
                MessageReader::Opaque | MessageReader::TooLong => {
                    *bytes = &[];
                    return None;
                }
                _ if bytes.is_empty() => return None,
                MessageReader::Told => return None,
                MessageReader::Head(head) => {
                    if !take_line(bytes, head) {
                        self.give_up_if_long();
                        continue;
                    }
                    if !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
                        if head.iter().all(u8::is_ascii_whitespace) {
                            // An empty line between two messages.
                            head.clear();
                        }
                        self.give_up_if_long();
                        continue;
                    }
                    let head = String::from_utf8_lossy(head).into_owned();
                    *self = MessageReader::Told;
                    return Some(MessagePart::Head(MessageHead(head)));
                }
                MessageReader::Body(left) => skip(bytes, left),
                MessageReader::ChunkSize(line) => {
                    if !take_line(bytes, line) {
                        self.give_up_if_long();
                        continue;
                    }
                    let text = String::from_utf8_lossy(line);
                    let size = text.split(';').next().unwrap_or_default().trim();
                    *self = match u64::from_str_radix(size, 16) {
                        Ok(0) => MessageReader::Trailer(Vec::new()),
                        // With the end of its line.
                        Ok(size) => MessageReader::Chunk(size.saturating_add(2)),
                        Err(_) => MessageReader::Opaque,
                    };
                }
                MessageReader::Chunk(left) => {
                    skip(bytes, left);
                    if *left == 0 {
                        *self = MessageReader::ChunkSize(Vec::new());
                    }
                }
                MessageReader::Trailer(line) => {
                    if !take_line(bytes, line) {
                        self.give_up_if_long();
                        continue;
                    }
                    *self = if line.iter().all(u8::is_ascii_whitespace) {
                        MessageReader::Body(0)
                    } else {
                        MessageReader::Trailer(Vec::new())
                    };
                }
            }
        }
    }

    /// What is longer than any head or line is none.
    fn give_up_if_long(&mut self) {
        if let MessageReader::Head(text)
        | MessageReader::ChunkSize(text)
        | MessageReader::Trailer(text) = self
            && text.len() > HEAD_LIMIT
        {
            *self = MessageReader::TooLong;
        }
    }
}

/// Moves bytes to `line`, up to and with the end of a line. Says whether that was there.
fn take_line(bytes: &mut &[u8], line: &mut Vec<u8>) -> bool {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (taken, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
    line.extend_from_slice(taken);
    *bytes = rest;
    end.is_some()
}

/// An answer whose body is `{"message": …}`, as docker's API answers to what it does not do. `closes`: it
/// is the last one of its connection.
pub(super) fn error_answer(status: &str, message: &str, closes: bool) -> Vec<u8> {
    let body = serde_json::json!({ "message": message }).to_string();
    let last = if closes { "Connection: close\r\n" } else { "" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         {last}\r\n{body}"
    )
    .into_bytes()
}

fn skip(bytes: &mut &[u8], left: &mut u64) {
    let count = usize::try_from(*left).unwrap_or(usize::MAX);
    let count = count.min(bytes.len());
    *bytes = bytes.get(count..).unwrap_or_default();
    *left -= count as u64;
}
