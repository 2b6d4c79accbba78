//! The types of org.avocado.Hitl.

use std::net::IpAddr;

use avocado_device::HitlRequest;
use serde::{Deserialize, Serialize};

/// The parameters of `Mount`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HitlMountParameters {
    pub(crate) server_ip: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_port: Option<String>,
    pub(crate) extensions: Vec<String>,
}

impl HitlMountParameters {
    /// What is to be mounted; the name of the parameter that cannot be used where one cannot.
    pub(crate) fn request(self) -> Result<HitlRequest, &'static str> {
        let address: IpAddr = self.server_ip.parse().map_err(|_| "serverIp")?;
        let port = self.server_port.map(|port| port.parse()).transpose();
        let port = port.map_err(|_| "serverPort")?;
        Ok(HitlRequest::new(address, port, self.extensions))
    }
}

/// The parameters of `Unmount`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HitlUnmountParameters {
    pub(crate) extensions: Vec<String>,
}

/// The result of both methods: that it is done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HitlReply {}
