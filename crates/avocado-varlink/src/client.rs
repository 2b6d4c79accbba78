//! Calls methods of a service.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::{self, CallMode, Malformed, MessageDecoder, Parameters, ReplyMessage, TooLong};

/// The longest reply that is read, in bytes.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Where a service listens: `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VarlinkAddress(PathBuf);

/// A text is not an address that this client can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address of the form unix:/path/to/socket")]
pub struct AddressError(String);

impl std::str::FromStr for VarlinkAddress {
    type Err = AddressError;

    /// Properties after a `;` are ignored.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let plain = text.split(';').next().unwrap_or_default();
        match plain.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(VarlinkAddress(path.into())),
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for VarlinkAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix:{}", self.0.display())
    }
}

impl VarlinkAddress {
    /// The address of the socket at `path`.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        VarlinkAddress(path.into())
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A call did not come to its result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No service answers at the address.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: VarlinkAddress,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {address} failed")]
    Connection {
        /// The address.
        address: VarlinkAddress,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The service closed the connection instead of answering.
    #[error("the service at {0} closed the connection without an answer")]
    Closed(VarlinkAddress),
    /// The parameters have no JSON form.
    #[error("the parameters of {method} cannot be written as JSON")]
    Parameters {
        /// The method.
        method: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The reply does not follow the protocol.
    #[error("the service at {address} does not speak varlink")]
    Protocol {
        /// The address.
        address: VarlinkAddress,
        /// What is wrong.
        #[source]
        source: Malformed,
    },
    /// The reply is too long.
    #[error("the reply of {address} is too long")]
    TooLong {
        /// The address.
        address: VarlinkAddress,
        /// The bound.
        #[source]
        source: TooLong,
    },
    /// The reply does not have the shape that the method declares.
    #[error("the reply to {method} is not what its interface declares")]
    Reply {
        /// The method.
        method: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The service answered with an error.
    #[error("{name}{}", reason(.parameters))]
    Service {
        /// The full name of the error.
        name: String,
        /// What the error tells.
        parameters: Parameters,
    },
}

/// The parameters of an error for a person: ` (reason: …)`.
fn reason(parameters: &Parameters) -> String {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let parts: Vec<_> = parameters
        .iter()
        .map(|(k, v)| format!("{k}: {}", plain(v)))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// A connection to a service.
#[derive(Debug)]
pub struct VarlinkClient {
    address: VarlinkAddress,
    stream: UnixStream,
    decoder: MessageDecoder,
}

impl VarlinkClient {
    /// Connects.
    ///
    /// # Errors
    /// When no service listens there, or the caller may not connect.
    pub fn connect(address: &VarlinkAddress) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(&address.0).map_err(|source| ClientError::Connect {
            address: address.clone(),
            source,
        })?;
        Ok(VarlinkClient {
            address: address.clone(),
            stream,
            decoder: MessageDecoder::new(MAX_REPLY),
        })
    }

    /// Calls `method` and waits for its one reply.
    ///
    /// # Errors
    /// When the service answers with an error, or does not answer as it should.
    pub fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, ClientError> {
        self.send(method, parameters, CallMode::Once)?;
        loop {
            let reply = self.receive()?;
            // A reply with `continues` was not asked for; the last one counts.
            if !reply.continues {
                return result(method, reply.parameters);
            }
        }
    }

    /// Calls `method` without waiting for anything.
    ///
    /// # Errors
    /// When the call cannot be sent.
    pub fn call_oneway(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<(), ClientError> {
        self.send(method, parameters, CallMode::Oneway)
    }

    /// Calls `method` and gives its replies one by one. Consumes the connection: a client that
    /// stops listening has to close it.
    ///
    /// # Errors
    /// When the call cannot be sent.
    pub fn call_more<R: DeserializeOwned>(
        mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<ReplyStream<R>, ClientError> {
        self.send(method, parameters, CallMode::More)?;
        Ok(ReplyStream {
            client: self,
            method: method.to_owned(),
            over: false,
            kind: PhantomData,
        })
    }

    fn send(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
        mode: CallMode,
    ) -> Result<(), ClientError> {
        let bytes = wire::call_bytes(method, parameters, mode).map_err(|source| {
            ClientError::Parameters {
                method: method.to_owned(),
                source,
            }
        })?;
        self.stream
            .write_all(&bytes)
            .map_err(|source| self.broken(source))
    }

    fn receive(&mut self) -> Result<ReplyMessage, ClientError> {
        let mut chunk = [0; 8192];
        loop {
            let address = || self.address.clone();
            match self.decoder.next_message() {
                Err(source) => {
                    return Err(ClientError::TooLong {
                        address: address(),
                        source,
                    });
                }
                Ok(Some(message)) => {
                    let reply =
                        ReplyMessage::parse(message).map_err(|source| ClientError::Protocol {
                            address: address(),
                            source,
                        })?;
                    return match reply.error {
                        Some(name) => Err(ClientError::Service {
                            name,
                            parameters: reply.parameters,
                        }),
                        None => Ok(reply),
                    };
                }
                Ok(None) => {}
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed(self.address.clone())),
                Ok(n) => self.decoder.push(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ClientError::Closed(self.address.clone()));
                }
                Err(e) => return Err(self.broken(e)),
            }
        }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::BrokenPipe => ClientError::Closed(self.address.clone()),
            _ => ClientError::Connection {
                address: self.address.clone(),
                source,
            },
        }
    }
}

fn result<R: DeserializeOwned>(method: &str, parameters: Parameters) -> Result<R, ClientError> {
    serde_json::from_value(Value::Object(parameters)).map_err(|source| ClientError::Reply {
        method: method.to_owned(),
        source,
    })
}

/// The replies to one call, in order. Ends after the last one or the first error.
#[derive(Debug)]
pub struct ReplyStream<R> {
    client: VarlinkClient,
    method: String,
    over: bool,
    kind: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Iterator for ReplyStream<R> {
    type Item = Result<R, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let reply = self.client.receive();
        self.over = reply.as_ref().map_or(true, |reply| !reply.continues);
        let reply = reply.and_then(|reply| result(&self.method, reply.parameters));
        self.over |= reply.is_err();
        Some(reply)
    }
}
