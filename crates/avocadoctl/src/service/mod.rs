//! The device's functions as varlink methods.

mod extensions;
mod runtimes;

use avocado_device::Device;
use avocado_events::{Event, Sink};
use avocado_varlink::idl::{IdlError, Interface};
use avocado_varlink::server::{Call, ReplyError, Service};

use crate::authority;
use crate::declared::Declared;
use crate::failure::chain;
use crate::model::{Forget, Forgotten, Progress, Progressed, Shown, word};
use crate::progress::Lines;

/// The definitions of the interfaces.
pub(crate) const IDL: [&str; 3] = [
    include_str!("../../varlink/org.avocado.Runtimes.varlink"),
    include_str!("../../varlink/org.avocado.Extensions.varlink"),
    include_str!("../../varlink/org.avocado.RootAuthority.varlink"),
];

/// A long piece of work tells how far it is in steps of so many percent.
const STEP: u64 = 1;

/// The service.
pub(crate) struct Agent {
    device: Device,
    interfaces: Vec<Interface>,
    log: fn(&str),
}

impl Agent {
    /// Serves `device`; `log` takes a line about each call that changes it.
    pub(crate) fn new(device: Device, log: fn(&str)) -> Result<Self, IdlError> {
        let interfaces = IDL.iter().map(|text| Interface::parse(text));
        Ok(Agent {
            device,
            interfaces: interfaces.collect::<Result<_, _>>()?,
            log,
        })
    }

    /// Logs who changed what.
    fn tell<E: std::error::Error>(&self, call: &Call, result: Result<&str, &E>) {
        let peer = match call.peer() {
            Some(peer) => peer.to_string(),
            None => "an unknown process".to_owned(),
        };
        let result = match result {
            Ok(what) => what.to_owned(),
            Err(error) => format!("failed: {}", chain(error)),
        };
        (self.log)(&format!("{} by {peer}: {result}", call.method()));
    }

    fn root_authority(&self, call: Call) -> Result<(), ReplyError> {
        match call.method() {
            "Show" => match authority::show(&self.device) {
                Ok(authority) => call.reply(&Shown { authority }),
                Err(declared) => fail(call, &declared),
            },
            "Forget" => self.forget(call),
            _ => call.method_not_implemented(),
        }
    }

    fn forget(&self, call: Call) -> Result<(), ReplyError> {
        let Ok(request) = call.parameters::<Forget>() else {
            // The parameters fit the declaration, so they fit the type.
            return call.invalid_parameter("url");
        };
        let Some(what) = request.what() else {
            return call.invalid_parameter("what");
        };
        let result = authority::forget(&self.device, &request.url, what);
        let done = format!("{} of {}", word(what), request.url);
        self.tell(&call, result.as_ref().map(|_| done.as_str()));
        match result {
            Ok(known) => call.reply(&Forgotten { known }),
            Err(declared) => fail(call, &declared),
        }
    }
}

impl Service for Agent {
    fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    fn lane(&self, _interface: &str, method: &str) -> Option<&'static str> {
        // They would wait for each other's locks otherwise, each with a thread.
        match method {
            "List" | "Inspect" | "Status" | "Show" => None,
            "AddFromUrl" | "PlanFromUrl" | "DownloadFromUrl" | "Forget" => Some("downloads"),
            "PlanFromManifest" | "Verify" => Some("reading"),
            _ => Some("store"),
        }
    }

    fn call(&self, call: Call) {
        // A client that is gone does not get its answer, and that is all.
        let _ = match call.interface() {
            "org.avocado.Extensions" => self.extensions(call),
            "org.avocado.RootAuthority" => self.root_authority(call),
            _ => self.runtimes(call),
        };
    }
}

fn fail(call: Call, declared: &Declared) -> Result<(), ReplyError> {
    call.reply_error(&declared.full_name(), &declared.parameters)
}

/// A parameter that is a text.
fn text(call: &Call, name: &str) -> Option<String> {
    let value = call.raw_parameters().get(name);
    value.and_then(|value| value.as_str()).map(str::to_owned)
}

/// Progress as replies. Those that the client does not take, because it is gone or slow, are
/// dropped: the work goes on.
struct Replies<'a> {
    call: &'a Call,
    lines: Lines,
    /// Whether the method declares numbers as well as messages.
    numbers: bool,
}

impl<'a> Replies<'a> {
    fn new(call: &'a Call) -> Self {
        Replies {
            call,
            lines: Lines::new(STEP, false),
            numbers: call.interface() == "org.avocado.Runtimes",
        }
    }
}

impl Sink for Replies<'_> {
    fn emit(&self, event: Event) {
        if let Some(message) = self.lines.line(&event) {
            let progress = Progress::of(&event).filter(|_| self.numbers);
            let _ = self.call.reply_continues(&Progressed {
                message,
                progress,
                ..Progressed::default()
            });
        }
    }
}
