//! `List` with many runtimes, beside the same bytes from a server that does nothing else.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_manifest::Digest;
use avocado_testbed::agent::DeviceAgent;
use avocado_testbed::published::manifest;
use avocado_varlink::client::{VarlinkAddress, VarlinkClient};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::stats::Sample;

const RUNTIMES: usize = 50;

/// The target for half of the calls.
const TARGET: Duration = Duration::from_micros(300);

const LIST: &str = "org.avocado.Runtimes.List";

pub(crate) fn measure(program: &Path, directory: &Path, calls: usize) -> Result<(), Failure> {
    println!("\n== List with {RUNTIMES} runtimes, {calls} calls");
    let agent = store(program, directory, RUNTIMES)?;
    let service = agent.serve()?;
    let address = VarlinkAddress::of(agent.socket());

    let mut client = VarlinkClient::connect(&address)?;
    let answer: Value = client.call(LIST, &json!({}))?;
    let listed = answer["runtimes"].as_array().map_or(0, Vec::len);
    if listed != RUNTIMES {
        return Err(Failure::Wrong(format!("{listed} runtimes are listed")));
    }
    let bytes = answer.to_string().len();

    let list = message(LIST);
    let mut raw = Raw::connect(&agent)?;
    let one = time(calls, || raw.ask(&list))?;
    let each = time(calls, || Raw::connect(&agent)?.ask(&list))?;
    let parsed = time(calls, || {
        client
            .call::<Value>(LIST, &json!({}))
            .map(drop)
            .map_err(Failure::from)
    })?;
    let info = message("org.varlink.service.GetInfo");
    let info = time(calls, || raw.ask(&info))?;
    let floor = echo(calls, bytes).map_err(Failure::system("use a socket"))?;
    drop(service);

    tell("List, one connection", &one);
    tell("List, a connection for each call", &each);
    tell("List, and its answer parsed", &parsed);
    tell("GetInfo, one connection", &info);
    tell(&format!("{bytes} bytes from a plain socket"), &floor);
    let verdict = if one.median() < TARGET {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "  List takes {:.1} times as long as its bytes alone (target: p50 below {} µs, {verdict})",
        one.ratio(&floor),
        TARGET.as_micros(),
    );
    Ok(())
}

/// The least that a client can be: it reads as far as the end of an answer.
struct Raw(UnixStream);

impl Raw {
    fn connect(agent: &DeviceAgent) -> Result<Self, Failure> {
        let stream = UnixStream::connect(agent.socket());
        stream.map(Raw).map_err(Failure::system("connect"))
    }

    fn ask(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut buffer = [0; 64 * 1024];
        let mut talk = || {
            self.0.write_all(message)?;
            loop {
                let n = self.0.read(&mut buffer)?;
                match buffer.get(..n).and_then(<[u8]>::last) {
                    Some(0) => return Ok(()),
                    Some(_) => {}
                    None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                }
            }
        };
        talk().map_err(Failure::system("talk to the service"))
    }
}

fn message(method: &str) -> Vec<u8> {
    let mut message = json!({"method": method}).to_string().into_bytes();
    message.push(0);
    message
}

/// A store with so many runtimes of one image.
pub(crate) fn store(
    program: &Path,
    directory: &Path,
    runtimes: usize,
) -> Result<DeviceAgent, Failure> {
    let agent = DeviceAgent::create(program, directory, b"")?;
    let image = b"an image";
    let digest = Digest::of(image);
    for number in 0..runtimes {
        let manifest = manifest(&format!("runtime-{number}"), digest)?;
        let place = agent.base().join("runtimes").join(&manifest.id);
        std::fs::create_dir_all(&place)
            .and_then(|()| std::fs::write(place.join("manifest.json"), manifest.to_json().unwrap()))
            .map_err(Failure::system("write a runtime"))?;
    }
    Ok(agent)
}

fn time(calls: usize, mut call: impl FnMut() -> Result<(), Failure>) -> Result<Sample, Failure> {
    // Once for everything that happens only once.
    call()?;
    let timed = std::iter::repeat_with(|| {
        let start = Instant::now();
        call().map(|()| start.elapsed())
    });
    timed.take(calls).collect()
}

/// A server that answers each byte with `length` of them, and its client.
fn echo(calls: usize, length: usize) -> std::io::Result<Sample> {
    let (mut client, mut server) = UnixStream::pair()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let answer = vec![b'x'; length];
            let mut asked = [0; 256];
            while server.read(&mut asked).is_ok_and(|n| n > 0) && server.write_all(&answer).is_ok()
            {
            }
        });
        let mut answer = vec![0; length];
        let times: std::io::Result<Sample> = (0..calls)
            .map(|_| {
                let start = Instant::now();
                client.write_all(b"?")?;
                client.read_exact(&mut answer)?;
                Ok(start.elapsed())
            })
            .collect();
        drop(client);
        times
    })
}

fn tell(what: &str, sample: &Sample) {
    let [half, most, all] = [50, 99, 100].map(|p| sample.percentile(p).as_secs_f64() * 1e6);
    println!("{what:<36} p50 {half:>7.0} µs   p99 {most:>7.0} µs   at most {all:>7.0} µs");
}
