use tokio::sync::watch;

/// Tells when the server stops.
#[derive(Clone)]
pub struct StopSignal(pub(crate) watch::Receiver<bool>);

impl StopSignal {
    /// Returns when the server stops.
    pub async fn wait(&mut self) {
        // It fails when the server is gone, which is the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}
