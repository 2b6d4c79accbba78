//! The reboot that an update needs, where the configuration lets the device do that by itself.

use avocado_events::{Event, Sink};

use super::pending_update::PendingUpdate;
use super::reboot_timer;
use crate::context::DeviceContext;
use crate::reboot_policy::RebootPolicy;
use crate::tool;

/// An update was written.
pub(crate) fn after_update(context: &DeviceContext, pending: &PendingUpdate, sink: &dyn Sink) {
    match &context.config.reboot {
        RebootPolicy::At(time) => return reboot_timer::schedule(context, pending, time, sink),
        RebootPolicy::Now => reboot(context, pending.reboot_argument.as_deref(), sink),
        RebootPolicy::Never | RebootPolicy::Rollback => {}
    }
    // The same update may have been written under another configuration.
    reboot_timer::cancel(context, sink);
}

/// An update failed, and what failed runs still.
pub(crate) fn after_rollback(context: &DeviceContext, sink: &dyn Sink) {
    if context.config.reboot != RebootPolicy::Never {
        reboot(context, None, sink);
    }
}

fn reboot(context: &DeviceContext, argument: Option<&str>, sink: &dyn Sink) {
    // Without a service manager this is no device that could be started again.
    if !context.paths.systemd.exists() {
        return;
    }
    let argument = argument.map(|argument| format!("--reboot-argument={argument}"));
    let mut arguments = vec!["reboot".to_owned(), "--no-block".to_owned()];
    arguments.extend(argument);
    sink.emit(Event::info("the device reboots"));
    if let Err(reason) = tool::must(&context.paths.tools.systemctl, &arguments) {
        let why = avocado_events::chain(&reason);
        sink.emit(Event::warning(format!("the device does not reboot: {why}")));
    }
}
