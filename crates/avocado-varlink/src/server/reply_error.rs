/// A reply was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The client is gone.
    #[error("the client has closed the connection")]
    Disconnected,
    /// The client does not read. The reply is dropped; a later one may be taken again.
    #[error("the client does not read its replies")]
    Busy,
    /// The parameters have no JSON form.
    #[error("the reply cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}
