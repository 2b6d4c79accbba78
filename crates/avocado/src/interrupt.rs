//! Ctrl-C: the first one asks the work to stop, the second one ends the program.

use std::sync::Arc;
use std::{fs, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context, ExitStatus, Result};
use crate::output::Output;

/// Calls `stop` at the first signal to end; at the second the program exits at once. Children on
/// the same terminal get the signal by themselves. A signal that was ignored when the program was
/// started stays ignored, as `nohup` and the `&` of a shell want it.
pub(crate) fn on_interrupt(output: &Arc<Output>, stop: impl Fn() + Send + 'static) -> Result<()> {
    let output = output.clone();
    let ignored = ignored_signals();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter();
    let heard = heard.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(heard).context(|| "cannot watch for signals".into())?;
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

/// While what is returned lives, Ctrl-C does not end this program: it is for a child that is at the
/// same terminal.
#[cfg(target_os = "linux")]
pub(crate) fn left_to_others() -> Result<Signals> {
    Signals::new([SIGINT, signal_hook::consts::SIGQUIT])
        .context(|| "cannot watch for signals".into())
}

/// A bit for each signal, the lowest for signal 1. None where the system has no such list.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}
