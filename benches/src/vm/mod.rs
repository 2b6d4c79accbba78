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

/// For what takes as long as the machine is busy.
const LIMIT: Duration = Duration::from_secs(120);

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
