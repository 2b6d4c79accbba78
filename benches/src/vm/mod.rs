//! The development VM: what it costs asleep, how fast it wakes, and what its proxy takes, beside
//! QEMU's own forward and a cold boot.

mod real;
mod small;

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use avocado_testbed::vm::TestVm;
use serde_json::Value;

use crate::failure::Failure;
use crate::stats::Sample;

/// For what takes as long as the machine is busy.
const LIMIT: Duration = Duration::from_secs(120);

/// How much later the first byte of a paused guest may come.
const LATER: Duration = Duration::from_millis(10);

/// Measures with a small guest, of which there is always one, and with a real one.
pub(crate) fn measure(rounds: usize, watched: Duration) -> Result<(), Failure> {
    small::measure(rounds, watched)?;
    real::measure()
}

/// Time from connecting until the first byte.
fn first_byte(port: u16) -> Result<Duration, Failure> {
    let talk = || {
        let start = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.read_exact(&mut [0])?;
        Ok::<_, std::io::Error>(start.elapsed())
    };
    talk().map_err(Failure::system("connect to the guest"))
}

fn port(status: &Value, name: &str) -> Result<u16, Failure> {
    let port = status["ports"][name].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| Failure::Wrong(format!("no port {name} in {status}")))
}

/// Asks the supervisor for something that it has to do.
fn ask(vm: &TestVm, method: &str) -> Result<(), Failure> {
    let answer = vm.ask(method)?;
    match answer.get("result") {
        Some(_) => Ok(()),
        None => Err(Failure::Wrong(format!("{method}: {answer}"))),
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Connecting so many times to a guest that runs, or sleeps, or without us in between.
fn wake(vm: &TestVm, status: &Value, connections: usize) -> Result<(), Failure> {
    let (user, direct) = (port(status, "ssh")?, port(status, "internal_ssh")?);
    let (mut forward, mut running, mut paused) = (Vec::new(), Vec::new(), Vec::new());
    // Once for everything that happens only once.
    first_byte(direct)?;
    first_byte(user)?;
    for _ in 0..connections {
        forward.push(first_byte(direct)?);
        running.push(first_byte(user)?);
        ask(vm, "hibernate")?;
        paused.push(first_byte(user)?);
    }
    let [forward, running, paused] = [forward, running, paused].map(Sample::from_iter);
    tell("first byte: QEMU's forward", &forward);
    tell("first byte: the VM's port, running", &running);
    tell("first byte: the VM's port, paused", &paused);
    let later = paused.median().saturating_sub(running.median());
    println!(
        "  waking takes {:.1} ms (target: at most {} ms, {})",
        millis(later),
        LATER.as_millis(),
        verdict(later <= LATER),
    );
    Ok(())
}

fn tell(what: &str, sample: &Sample) {
    let [half, most, all] = [50, 95, 100].map(|p| millis(sample.percentile(p)));
    println!("{what:<36} p50 {half:>6.1} ms   p95 {most:>6.1} ms   at most {all:>6.1} ms");
}
