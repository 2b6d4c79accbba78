//! Messages and their framing, without a socket.
//!
//! A stream of bytes goes into a [`MessageDecoder`], which gives back one message at a time.
//! [`CallMessage::parse`] and [`ReplyMessage::parse`] read a message strictly: what the specification wants
//! answered by closing the connection is a [`Malformed`].

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The parameters of a call, a reply or an error.
pub type Parameters = Map<String, Value>;

/// Cuts a stream of bytes into messages at the NUL bytes.
#[derive(Debug)]
pub struct MessageDecoder {
    buffer: Vec<u8>,
    /// Everything before this was given out.
    start: usize,
    /// No NUL lies between `start` and this.
    searched: usize,
    longest: usize,
}

/// A message is longer than the decoder allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {0} bytes")]
pub struct TooLong(pub usize);

impl MessageDecoder {
    /// A decoder for messages of at most `longest` bytes each, without the NUL.
    pub fn new(longest: usize) -> Self {
        MessageDecoder {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            longest,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes it keeps.
    pub fn buffered(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next complete message without its NUL, or `None` while it is still incomplete.
    ///
    /// # Errors
    /// When the message is too long, whether it is complete or not. The stream is of no use then.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let unread = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = unread.iter().position(|&b| b == 0) else {
            self.searched = self.buffer.len();
            self.compact();
            return if self.buffer.len() > self.longest {
                Err(TooLong(self.longest))
            } else {
                Ok(None)
            };
        };
        let (from, to) = (self.start, self.searched + found);
        if to - from > self.longest {
            return Err(TooLong(self.longest));
        }
        self.start = to + 1;
        self.searched = self.start;
        Ok(self.buffer.get(from..to))
    }

    /// Forgets what was given out, and gives memory back when nothing is left: most connections
    /// are idle most of the time.
    fn compact(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.start);
        }
        self.searched -= self.start;
        self.start = 0;
    }
}

/// A message to which the only answer is to close the connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Not JSON, not an object, a member missing, unknown, doubled or of the wrong type.
    #[error("the message does not follow the protocol")]
    Message(#[source] serde_json::Error),
    /// More than one of `oneway`, `more` and `upgrade`.
    #[error("the call sets more than one of oneway, more and upgrade")]
    Flags,
}

/// What the caller wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallMode {
    /// Exactly one reply.
    #[default]
    Once,
    /// Nothing, not even an error.
    Oneway,
    /// Any number of replies.
    More,
    /// One reply, and then another protocol on this connection.
    Upgrade,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallMessage {
    /// The full name of the method: interface, dot, method.
    pub method: String,
    /// The parameters; absent, `null` and `{}` are the same.
    pub parameters: Parameters,
    /// How to answer.
    pub mode: CallMode,
}

impl CallMessage {
    /// Reads a call.
    ///
    /// # Errors
    /// When the connection has to be closed.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let header: Header = serde_json::from_slice(message).map_err(Malformed::Message)?;
        let mode = match (header.oneway, header.more, header.upgrade) {
            (false, false, false) => CallMode::Once,
            (true, false, false) => CallMode::Oneway,
            (false, true, false) => CallMode::More,
            (false, false, true) => CallMode::Upgrade,
            _ => return Err(Malformed::Flags),
        };
        Ok(CallMessage {
            method: header.method,
            parameters: header.parameters,
            mode,
        })
    }

    /// The interface and the method, or `None` where the name has no dot.
    pub fn name(&self) -> Option<(&str, &str)> {
        self.method.rsplit_once('.')
    }
}

/// The bytes of a call, with the NUL. Empty parameters are left out.
///
/// # Errors
/// When `parameters` cannot be written as JSON.
pub fn call_bytes(
    method: &str,
    parameters: &impl Serialize,
    mode: CallMode,
) -> Result<Vec<u8>, serde_json::Error> {
    let flag = match mode {
        CallMode::Once => None,
        CallMode::Oneway => Some("oneway"),
        CallMode::More => Some("more"),
        CallMode::Upgrade => Some("upgrade"),
    };
    frame(Some(("method", method)), parameters, flag)
}

/// The bytes of a reply, with the NUL. Empty parameters are left out.
///
/// # Errors
/// When `parameters` cannot be written as JSON.
pub fn reply_bytes(
    parameters: &impl Serialize,
    continues: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    frame(None, parameters, continues.then_some("continues"))
}

/// The bytes of an error reply, with the NUL. Empty parameters are left out.
///
/// # Errors
/// When `parameters` cannot be written as JSON.
pub fn error_bytes(name: &str, parameters: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    frame(Some(("error", name)), parameters, None)
}

/// A message. The parameters are written once, in place: a list may be long.
fn frame(
    name: Option<(&str, &str)>,
    parameters: &impl Serialize,
    flag: Option<&str>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    let member = |bytes: &mut Vec<u8>, name: &str| {
        bytes.push(if bytes.is_empty() { b'{' } else { b',' });
        bytes.extend_from_slice(format!("\"{name}\":").as_bytes());
    };
    if let Some((key, value)) = name {
        member(&mut bytes, key);
        serde_json::to_writer(&mut bytes, value)?;
    }
    let before = bytes.len();
    member(&mut bytes, "parameters");
    let start = bytes.len();
    serde_json::to_writer(&mut bytes, parameters)?;
    if matches!(bytes.get(start..), Some(b"{}" | b"null")) {
        bytes.truncate(before);
    }
    if let Some(flag) = flag {
        member(&mut bytes, flag);
        bytes.extend_from_slice(b"true");
    }
    if bytes.is_empty() {
        bytes.push(b'{');
    }
    bytes.extend_from_slice(b"}\0");
    Ok(bytes)
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplyMessage {
    /// The result, or what the error tells.
    pub parameters: Parameters,
    /// More replies to the same call follow.
    pub continues: bool,
    /// The full name of the error, when the call failed.
    pub error: Option<String>,
}

impl ReplyMessage {
    /// Reads a reply.
    ///
    /// # Errors
    /// When the message is no reply; the connection is of no use then.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(message).map_err(Malformed::Message)
    }
}

#[derive(Default)]
struct Header {
    method: String,
    parameters: Parameters,
    oneway: bool,
    more: bool,
    upgrade: bool,
}

/// Takes the members of a message in any order, each at most once; skips vendors' members, whose
/// names have a dot; refuses every other name.
fn members<'de, A: MapAccess<'de>>(
    mut map: A,
    known: &'static [&'static str],
    mut take: impl FnMut(&mut A, &str) -> Result<(), A::Error>,
) -> Result<Vec<&'static str>, A::Error> {
    let mut seen = Vec::new();
    while let Some(key) = map.next_key::<String>()? {
        if let Some(name) = known.iter().find(|name| **name == key) {
            if seen.contains(name) {
                return Err(de::Error::duplicate_field(name));
            }
            seen.push(*name);
            take(&mut map, name)?;
        } else if key.contains('.') {
            map.next_value::<IgnoredAny>()?;
        } else {
            return Err(de::Error::unknown_field(&key, known));
        }
    }
    Ok(seen)
}

/// The value of a nullable member: `null` is as good as absent.
fn nullable<'de, A: MapAccess<'de>, T: Deserialize<'de> + Default>(
    map: &mut A,
) -> Result<T, A::Error> {
    Ok(map.next_value::<Option<T>>()?.unwrap_or_default())
}

struct Members<T>(std::marker::PhantomData<T>);

impl<'de> Visitor<'de> for Members<Header> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Header, A::Error> {
        const KNOWN: &[&str] = &["method", "parameters", "oneway", "more", "upgrade"];
        let mut header = Header::default();
        let seen = members(map, KNOWN, |map, name| {
            match name {
                "method" => header.method = map.next_value()?,
                "parameters" => header.parameters = nullable(map)?,
                "oneway" => header.oneway = nullable(map)?,
                "more" => header.more = nullable(map)?,
                _ => header.upgrade = nullable(map)?,
            }
            Ok(())
        })?;
        if !seen.contains(&"method") {
            return Err(de::Error::missing_field("method"));
        }
        Ok(header)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members::<Header>(std::marker::PhantomData))
    }
}

impl<'de> Visitor<'de> for Members<ReplyMessage> {
    type Value = ReplyMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ReplyMessage, A::Error> {
        const KNOWN: &[&str] = &["parameters", "continues", "error"];
        let mut reply = ReplyMessage::default();
        members(map, KNOWN, |map, name| {
            match name {
                "parameters" => reply.parameters = nullable(map)?,
                "continues" => reply.continues = nullable(map)?,
                _ => reply.error = map.next_value()?,
            }
            Ok(())
        })?;
        if reply.continues && reply.error.is_some() {
            return Err(de::Error::custom("an error cannot continue"));
        }
        Ok(reply)
    }
}

impl<'de> Deserialize<'de> for ReplyMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members::<ReplyMessage>(std::marker::PhantomData))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
