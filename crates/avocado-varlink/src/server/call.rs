use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::peer::PeerCredentials;
use super::reply_error::ReplyError;
use super::reply_writer::ReplyWriter;
use crate::wire::{self, CallMode, Parameters};

/// A call to be answered.
#[must_use = "a call without an answer closes its connection"]
pub struct MethodCall {
    call: wire::CallMessage,
    peer: Option<PeerCredentials>,
    replies: Arc<ReplyWriter>,
    max_pending_output: usize,
    answered: bool,
}

impl MethodCall {
    pub(super) fn new(
        call: wire::CallMessage,
        peer: Option<PeerCredentials>,
        replies: Arc<ReplyWriter>,
        max_pending_output: usize,
    ) -> Self {
        MethodCall {
            answered: call.mode == CallMode::Oneway,
            call,
            peer,
            replies,
            max_pending_output,
        }
    }

    /// The interface that declares the method.
    pub fn interface(&self) -> &str {
        self.call.name().map_or("", |(interface, _)| interface)
    }

    /// The method, without its interface.
    pub fn method(&self) -> &str {
        self.call.name().map_or("", |(_, method)| method)
    }

    /// The interface and the method, as the client wrote it.
    pub fn full_name(&self) -> &str {
        &self.call.method
    }

    /// Whether the client asked for more than one reply.
    pub fn wants_more(&self) -> bool {
        self.call.mode == CallMode::More
    }

    /// Whether the client wants no answer at all.
    pub fn is_oneway(&self) -> bool {
        self.call.mode == CallMode::Oneway
    }

    /// Who calls, where the kernel tells.
    pub fn peer(&self) -> Option<PeerCredentials> {
        self.peer
    }

    /// Runs `cancel`, once, when the client waits for the result no more: it has closed the
    /// connection (a client that only sends no more is still there; who calls `oneway` may go),
    /// or the server is asked to stop. It runs on the thread of the server and must not wait.
    /// Later calls replace what was set before; nothing runs once the call is answered.
    pub fn on_cancel(&self, cancel: impl FnOnce() + Send + 'static) {
        self.replies.on_cancel(!self.is_oneway(), Box::new(cancel));
    }

    /// The parameters as they came. They fit the declaration of the method.
    pub fn raw_parameters(&self) -> &Parameters {
        &self.call.parameters
    }

    /// The parameters as a type.
    ///
    /// # Errors
    /// When `T` is not what the definition declares.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(serde_json::Value::Object(self.call.parameters.clone()))
    }

    /// Sends a reply that others follow. Does nothing where the client did not ask for that.
    ///
    /// # Errors
    /// When the client is gone, or reads too slowly. The work may go on all the same.
    pub fn reply_continues(&self, parameters: &impl Serialize) -> Result<(), ReplyError> {
        if !self.wants_more() {
            return Ok(());
        }
        let message = wire::reply_bytes(parameters, true).map_err(ReplyError::Json)?;
        self.replies.send(&message, Some(self.max_pending_output))
    }

    /// Sends the last or only reply.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn reply(self, parameters: &impl Serialize) -> Result<(), ReplyError> {
        let message = wire::reply_bytes(parameters, false).map_err(ReplyError::Json)?;
        self.finish(&message)
    }

    /// Ends the call with an error. `name` includes the interface.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn reply_error(self, name: &str, parameters: &impl Serialize) -> Result<(), ReplyError> {
        let message = wire::error_bytes(name, parameters).map_err(ReplyError::Json)?;
        self.finish(&message)
    }

    /// Ends the call with `org.varlink.service.InvalidParameter`.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn invalid_parameter(self, parameter: &str) -> Result<(), ReplyError> {
        self.service_error("InvalidParameter", "parameter", parameter)
    }

    /// Ends the call with `org.varlink.service.InterfaceNotFound`.
    pub(super) fn interface_not_found(self, interface: &str) -> Result<(), ReplyError> {
        self.service_error("InterfaceNotFound", "interface", interface)
    }

    /// Ends the call with `org.varlink.service.MethodNotFound`.
    pub(super) fn method_not_found(self) -> Result<(), ReplyError> {
        let method = self.call.method.clone();
        self.service_error("MethodNotFound", "method", &method)
    }

    /// Ends the call with `org.varlink.service.MethodNotImplemented`.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn method_not_implemented(self) -> Result<(), ReplyError> {
        let method = self.call.method.clone();
        self.service_error("MethodNotImplemented", "method", &method)
    }

    /// Ends the call with `org.varlink.service.ExpectedMore`.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn expected_more(self) -> Result<(), ReplyError> {
        self.reply_error("org.varlink.service.ExpectedMore", &Parameters::new())
    }

    /// Ends the call with `org.varlink.service.PermissionDenied`.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn permission_denied(self) -> Result<(), ReplyError> {
        self.reply_error("org.varlink.service.PermissionDenied", &Parameters::new())
    }

    fn service_error(self, error: &str, field: &str, value: &str) -> Result<(), ReplyError> {
        let mut parameters = Parameters::new();
        parameters.insert(field.into(), value.into());
        self.reply_error(&format!("org.varlink.service.{error}"), &parameters)
    }

    fn finish(mut self, message: &[u8]) -> Result<(), ReplyError> {
        self.answered = true;
        self.replies.forget_cancel();
        if self.is_oneway() {
            return Ok(());
        }
        self.replies.send(message, None)
    }
}

impl Drop for MethodCall {
    fn drop(&mut self) {
        self.replies.forget_cancel();
        if !self.answered {
            self.replies.leave_unanswered();
        }
    }
}
