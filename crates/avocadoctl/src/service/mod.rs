//! The device's functions as varlink methods.

mod extensions;
mod hitl;
mod runtimes;

use avocado_device::{Device, without_secrets};
use avocado_events::{Event, EventKind, Sink};
use avocado_varlink::idl::{IdlError, Interface};
use avocado_varlink::server::{MethodCall, ReplyError, VarlinkService};

use crate::failure::{Failure, chain};
use crate::interface::{
    ForgetParameters, ForgetReply, Progress, ProgressReply, ShowReply, forget_word,
};
use crate::progress::ProgressLines;
use crate::trust_anchor;

/// The definitions of the interfaces.
pub(crate) const IDL: [&str; 4] = [
    include_str!("../../varlink/org.avocado.Runtimes.varlink"),
    include_str!("../../varlink/org.avocado.Extensions.varlink"),
    include_str!("../../varlink/org.avocado.RootAuthority.varlink"),
    include_str!("../../varlink/org.avocado.Hitl.varlink"),
];

/// A long piece of work tells how far it is in steps of so many percent.
const STEP: u64 = 1;

/// The service.
pub(crate) struct DeviceService {
    device: Device,
    interfaces: Vec<Interface>,
}

impl DeviceService {
    /// Serves `device`.
    pub(crate) fn new(device: Device) -> Result<Self, IdlError> {
        let interfaces = IDL.iter().map(|text| Interface::parse(text));
        Ok(DeviceService {
            device,
            interfaces: interfaces.collect::<Result<_, _>>()?,
        })
    }

    /// Logs who changed what.
    fn tell<E: std::error::Error>(&self, call: &MethodCall, result: Result<&str, &E>) {
        let peer = match call.peer() {
            Some(peer) => peer.to_string(),
            None => "an unknown process".to_owned(),
        };
        let result = match result {
            Ok(what) => what.to_owned(),
            Err(error) => format!("failed: {}", chain(error)),
        };
        tracing::info!("{} by {peer}: {result}", call.method());
    }

    fn root_authority(&self, call: MethodCall) -> Result<(), ReplyError> {
        match call.method() {
            "Show" => match trust_anchor::show(&self.device) {
                Ok(authority) => call.reply(&ShowReply { authority }),
                Err(failure) => fail(call, &failure),
            },
            "Forget" if !may_lower_protection(&call) => {
                self.tell(&call, Err(&Failure::ServiceDenied));
                call.permission_denied()
            }
            "Forget" => self.forget(call),
            _ => call.method_not_implemented(),
        }
    }

    fn forget(&self, call: MethodCall) -> Result<(), ReplyError> {
        let Ok(request) = call.parameters::<ForgetParameters>() else {
            // The parameters fit the declaration, so they fit the type.
            return call.invalid_parameter("url");
        };
        let Some(what) = request.what() else {
            return call.invalid_parameter("what");
        };
        let result = trust_anchor::forget(&self.device, &request.url, what);
        let url = without_secrets(&request.url);
        let done = format!("{} of {url}", forget_word(what));
        self.tell(&call, result.as_ref().map(|_| done.as_str()));
        match result {
            Ok(known) => call.reply(&ForgetReply { known }),
            Err(failure) => fail(call, &failure),
        }
    }
}

impl VarlinkService for DeviceService {
    fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn lane(&self, _interface: &str, method: &str) -> Option<&'static str> {
        // They would wait for each other's locks otherwise, each with a thread.
        match method {
            "List" | "Inspect" | "Status" | "Show" | "MetadataGet" | "MetadataList" => None,
            "AddFromUrl" | "PlanFromUrl" | "DownloadFromUrl" | "Forget" => Some("downloads"),
            "PlanFromManifest" | "Verify" => Some("reading"),
            _ => Some("store"),
        }
    }

    fn call(&self, call: MethodCall) {
        let peer = call.peer();
        let _span = tracing::info_span!(
            "call",
            method = call.full_name(),
            uid = peer.map(|peer| peer.uid),
            pid = peer.and_then(|peer| peer.pid),
        )
        .entered();
        tracing::debug!("begins");
        // A client that is gone does not get its answer, and that is all.
        let _ = match call.interface() {
            "org.avocado.Extensions" => self.extensions(call),
            "org.avocado.Hitl" => self.hitl(call),
            "org.avocado.RootAuthority" => self.root_authority(call),
            _ => self.runtimes(call),
        };
    }
}

/// The sink of what is done without telling the client how it goes: warnings are logged.
pub(crate) fn warn(event: Event) {
    match event.kind {
        EventKind::Warning if event.item.is_empty() => tracing::warn!("{}", event.message),
        EventKind::Warning => tracing::warn!("{}: {}", event.item, event.message),
        _ => {}
    }
}

/// Whether the caller may take protection away: root, or whose the store is. A member of the group
/// `avocado` may add what is signed, and must not be able to have older things accepted again.
fn may_lower_protection(call: &MethodCall) -> bool {
    let own = rustix::process::geteuid().as_raw();
    call.peer().is_some_and(|peer| [0, own].contains(&peer.uid))
}

fn fail(call: MethodCall, failure: &Failure) -> Result<(), ReplyError> {
    match failure.reply() {
        Some((name, parameters)) => call.reply_error(name, &parameters),
        // Not declared, so not to be told to a client; nothing of the device makes one.
        None => call.method_not_implemented(),
    }
}

/// A parameter that is a text.
fn text(call: &MethodCall, name: &str) -> Option<String> {
    let value = call.raw_parameters().get(name);
    value.and_then(|value| value.as_str()).map(str::to_owned)
}

/// Progress as replies. Those that the client does not take, because it is gone or slow, are
/// dropped: the work goes on.
struct Replies<'a> {
    call: &'a MethodCall,
    lines: ProgressLines,
    /// Whether the method declares numbers as well as messages.
    numbers: bool,
}

impl<'a> Replies<'a> {
    fn new(call: &'a MethodCall) -> Self {
        Replies {
            call,
            lines: ProgressLines::new(STEP, false),
            numbers: call.interface() == "org.avocado.Runtimes",
        }
    }
}

impl Sink for Replies<'_> {
    fn emit(&self, event: Event) {
        if let Some(message) = self.lines.line(&event) {
            let progress = Progress::of(&event).filter(|_| self.numbers);
            let _ = self.call.reply_continues(&ProgressReply {
                message,
                progress,
                ..ProgressReply::default()
            });
        }
    }
}
