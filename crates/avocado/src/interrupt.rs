//! Ctrl-C: the first one asks the work to stop, the second one ends the program.

use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

#[cfg(target_os = "linux")]
use signal_hook::consts::SIGQUIT;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context, ExitStatus, Result};
use crate::output::Output;

/// Calls `stop` at the first signal to end; at the second the program exits at once. Children on
/// the same terminal get the signal by themselves. A signal that was ignored when the program was
/// started stays ignored, as `nohup` and the `&` of a shell want it.
pub(crate) fn on_interrupt(output: &Arc<Output>, stop: impl Fn() + Send + 'static) -> Result<()> {
    watch(output, &[SIGINT, SIGTERM, SIGHUP], |_| false, stop)
}

/// The same for a command that starts another one at the same terminal: from the moment on that
/// [`ChildInterrupts::leave`] names, Ctrl-C is for that one.
#[cfg(target_os = "linux")]
pub(crate) fn until_left_to_a_child(
    output: &Arc<Output>,
    stop: impl Fn() + Send + 'static,
) -> Result<ChildInterrupts> {
    let interrupts = ChildInterrupts::default();
    let ChildInterrupts { left, came } = interrupts.clone();
    let is_for_child = move |signal| {
        let of_keys = signal == SIGINT || signal == SIGQUIT;
        let is_for_child = of_keys && left.load(Ordering::Relaxed);
        came.fetch_or(is_for_child, Ordering::Relaxed);
        is_for_child
    };
    watch(
        output,
        &[SIGINT, SIGQUIT, SIGTERM, SIGHUP],
        is_for_child,
        stop,
    )?;
    Ok(interrupts)
}

/// Whose Ctrl-C is.
#[cfg(target_os = "linux")]
#[derive(Clone, Default)]
pub(crate) struct ChildInterrupts {
    left: Arc<AtomicBool>,
    came: Arc<AtomicBool>,
}

#[cfg(target_os = "linux")]
impl ChildInterrupts {
    /// A child's from now on.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether one came that was left to the child.
    pub(crate) fn came_to_child(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

fn watch(
    output: &Arc<Output>,
    signals: &[i32],
    is_for_child: impl Fn(i32) -> bool + Send + 'static,
    stop: impl Fn() + Send + 'static,
) -> Result<()> {
    let output = output.clone();
    let ignored = ignored_signals();
    let heard = signals.iter();
    let heard = heard.filter(|signal| ignored & (1 << (**signal - 1)) == 0);
    let mut signals = Signals::new(heard).context(|| "cannot watch for signals".into())?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut arrived = signals.forever().filter(|signal| !is_for_child(*signal));
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

/// A bit for each signal, the lowest for signal 1. None where the system has no such list.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}
