//! The time of processors that programs took, which does not hang on what else the machine does as
//! much as time does.

use std::fs;
use std::time::Duration;

use avocado_testbed::tools::ToolCall;

use crate::failure::Failure;

/// Linux counts it for others in steps of this length, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// What a program and all that it started took, user and system.
pub(crate) fn of(call: ToolCall) -> Result<Duration, Failure> {
    let before = of_children()?;
    call.ok()?;
    Ok(of_children()?.saturating_sub(before))
}

/// What one run takes, of so many that the steps of the clock do not count.
pub(crate) fn of_each(runs: u32, call: impl Fn() -> ToolCall) -> Result<Duration, Failure> {
    let before = of_children()?;
    for _ in 0..runs {
        call().ok()?;
    }
    Ok(of_children()?.saturating_sub(before) / runs)
}

/// What all processes took that this one started and that have ended.
fn of_children() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/self/stat").map_err(Failure::system("read a clock"))?;
    // The name of the program, which may have anything in it, ends with the last bracket.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ').skip(13);
    let mut next = || fields.next().and_then(|field| field.parse::<u32>().ok());
    match (next(), next()) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(Failure::Wrong(format!("/proc/self/stat says {text}"))),
    }
}
