//! A failure as an error reply of the service, and read back from it.

use avocado_varlink::client::ClientError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Failure;

impl Failure {
    /// The error reply of the service: the full name of the error and its parameters; `None` for
    /// what no interface declares.
    pub(crate) fn reply(&self) -> Option<(String, Map<String, Value>)> {
        let Ok(Value::Object(mut members)) = serde_json::to_value(self) else {
            return None;
        };
        match (members.remove("error"), members.remove("parameters")) {
            (Some(Value::String(name)), Some(Value::Object(parameters))) => {
                Some((name, parameters))
            }
            _ => None,
        }
    }
}

/// A failure of a call through the socket. An error reply of the interfaces is the variant that
/// the service made it from.
impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let ClientError::Service { name, .. } = &error
            && name == "org.varlink.service.PermissionDenied"
        {
            return Failure::ServiceDenied;
        }
        if let ClientError::Service { name, parameters } = &error
            && let Ok(declared) = Failure::deserialize(json!({
                "error": name,
                "parameters": parameters,
            }))
        {
            return declared;
        }
        Failure::Connection(error)
    }
}
