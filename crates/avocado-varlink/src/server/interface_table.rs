use std::sync::Arc;

use super::{MethodCall, ReplyError, SERVICE_IDL, ServiceInfo, VarlinkService};
use crate::idl::{IdlError, Interface};
use crate::wire::Parameters;

/// The interfaces of a service, its own and `org.varlink.service`.
pub(super) struct InterfaceTable {
    service: Arc<dyn VarlinkService>,
    own: Interface,
    info: ServiceInfo,
}

/// Why a call does not get to its handler.
pub(super) enum CallRejection {
    Interface(String),
    Method,
    Parameter(String),
}

impl InterfaceTable {
    pub(super) fn new(
        service: Arc<dyn VarlinkService>,
        info: ServiceInfo,
    ) -> Result<Self, IdlError> {
        Ok(InterfaceTable {
            service,
            own: Interface::parse(SERVICE_IDL)?,
            info,
        })
    }

    fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        std::iter::once(&self.own).chain(self.service.interfaces())
    }

    /// Whether the method exists and its parameters fit.
    pub(super) fn check(&self, call: &MethodCall) -> Result<(), CallRejection> {
        let name = match call.interface() {
            "" => call.full_name(),
            name => name,
        };
        let Some(interface) = self.interfaces().find(|i| i.name() == name) else {
            return Err(CallRejection::Interface(name.to_owned()));
        };
        if !interface.has_method(call.method()) {
            return Err(CallRejection::Method);
        }
        let fits = interface.check_call(call.method(), call.raw_parameters());
        fits.map_err(|misfit| CallRejection::Parameter(misfit.0))
    }

    /// Whether this call is ours to answer.
    pub(super) fn describes(&self, call: &MethodCall) -> bool {
        call.interface() == self.own.name()
    }

    /// Answers a call of `org.varlink.service`.
    pub(super) fn describe(&self, call: MethodCall) -> Result<(), ReplyError> {
        let mut reply = Parameters::new();
        if call.method() == "GetInfo" {
            let ServiceInfo {
                vendor,
                product,
                version,
                url,
            } = &self.info;
            let names: Vec<_> = self.interfaces().map(Interface::name).collect();
            reply.insert("vendor".into(), vendor.as_str().into());
            reply.insert("product".into(), product.as_str().into());
            reply.insert("version".into(), version.as_str().into());
            reply.insert("url".into(), url.as_str().into());
            reply.insert("interfaces".into(), names.into());
            return call.reply(&reply);
        }
        let wanted = call.raw_parameters().get("interface");
        let wanted = wanted.and_then(|v| v.as_str()).unwrap_or_default();
        match self.interfaces().find(|i| i.name() == wanted) {
            Some(interface) => {
                reply.insert("description".into(), interface.text().into());
                call.reply(&reply)
            }
            None => {
                let wanted = wanted.to_owned();
                call.interface_not_found(&wanted)
            }
        }
    }
}
