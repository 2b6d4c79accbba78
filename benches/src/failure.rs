//! Why something could not be measured.

use std::io;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Harness(#[from] avocado_testbed::HarnessError),
    #[error("cannot {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the server does not start")]
    Serve(#[from] avocado_serve::ServeError),
    #[error("the service does not answer")]
    Client(#[from] avocado_varlink::client::ClientError),
    /// What was measured did not do its work, so its time is worth nothing.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// What could not be done, as a verb.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Failure {
        move |source| Failure::System {
            what,
            source: source.into(),
        }
    }
}
