//! A tunnel whose `ssh` is played by a test.

use std::path::Path;

use super::*;

pub(crate) struct PlayedTunnel {
    pub(crate) tunnel: Arc<DockerTunnel>,
    _kill: oneshot::Receiver<()>,
    _end: watch::Sender<bool>,
    ports: Arc<Mutex<TunnelPorts>>,
}

impl PlayedTunnel {
    pub(crate) fn new(dir: &StateDir, log: &SupervisorLog) -> PlayedTunnel {
        let tunnel = DockerTunnel::new(dir, log, Box::new(|_| ()));
        let (kill, killed) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let ports = Arc::new(Mutex::new(TunnelPorts::new(dir)));
        let process = TunnelProcess {
            _kill: kill,
            ended,
            ports: ports.clone(),
        };
        *tunnel.process.lock().unwrap() = Some(process);
        // ssh serves it when it is up.
        std::fs::write(tunnel.socket(), "").unwrap();
        PlayedTunnel {
            tunnel,
            _kill: killed,
            _end: end,
            ports,
        }
    }

    /// Where docker in the guest is to be.
    pub(crate) fn docker_socket(&self) -> PathBuf {
        self.tunnel.socket()
    }

    /// Lets a socket be a port of the guest.
    pub(crate) async fn lead_to(&self, port: &GuestPort, socket: &Path) {
        self.ports.lock().await.play(port, socket);
    }
}
