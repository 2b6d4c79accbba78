//! Ctrl-C: the first one asks the work to stop, the second one ends the program.

use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context, ExitStatus, Result};
use crate::output::Output;

/// Calls `stop` at the first signal to end; at the second the program exits at once. Children on
/// the same terminal get the signal by themselves.
pub(crate) fn on_interrupt(output: &Arc<Output>, stop: impl Fn() + Send + 'static) -> Result<()> {
    let output = output.clone();
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context(|| "cannot watch for signals".into())?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut arrived = signals.forever();
            if arrived.next().is_some() {
                output.stopping();
                stop();
            }
            if arrived.next().is_some() {
                // A user who asks twice does not want to wait for any clean-up.
                #[allow(clippy::exit)]
                std::process::exit(ExitStatus::Interrupted as i32);
            }
        })
        .context(|| "cannot watch for signals".into())?;
    Ok(())
}
