//! What SPECIFICATION.md promises about the device's program, as far as it does not depend on
//! time: memory, sizes, bytes moved. It is the static build that is held to it.
#![allow(missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_test_support::skip;
use avocado_testbed::agent::DeviceAgent;
use avocado_testbed::kernel::{self, ProcessIo};
use avocado_testbed::published::{PublishedRepository, manifest};
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without, source_root, static_binary};
use rustix::process::{Pid, Resource, WaitId, WaitIdOptions, getrlimit, setrlimit, waitid};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// How much more than the image may be moved: metadata, the manifest, records, a log.
const BESIDES: u64 = MIB / 4;

/// The program as it goes on a device.
fn program(test: &str) -> Option<PathBuf> {
    if skip_without(test, &[TestNeed::StaticBinary("avocadoctl")]) {
        return None;
    }
    let program = static_binary("avocadoctl").unwrap();
    let named = std::env::var_os("AVOCADO_STATIC_BIN_DIR").is_some();
    let profile = program.parent().and_then(Path::file_name);
    if !named && profile.is_none_or(|profile| profile != "device") {
        skip(
            test,
            "the newest static avocadoctl is not of the profile `device`",
        );
        return None;
    }
    Some(program)
}

#[test]
fn the_program_is_small_and_needs_nothing() {
    let Some(program) = program("the_program_is_small_and_needs_nothing") else {
        return;
    };
    if skip_without(
        "the_program_is_small_and_needs_nothing",
        &[TestNeed::Tool("file")],
    ) {
        return;
    }
    let size = program.metadata().unwrap().len();
    assert!(size <= 4 * MIB, "{size} bytes");
    let said = ToolCall::new("file").arg(&program).ok().unwrap().stdout;
    assert!(
        said.contains("static") && !said.contains("not stripped"),
        "{said}"
    );
}

#[test]
fn adding_takes_little_memory_and_moves_each_byte_once() {
    let Some(program) = program("adding_takes_little_memory_and_moves_each_byte_once") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let published =
        PublishedRepository::create(&place.path().join("published"), 1024 * MIB).unwrap();
    let server = TestServer::start(ServeOptions::new(&published.directory)).unwrap();
    let add = ["runtime", "add", "--url", &server.url()];
    let sent = || server.requests().iter().map(|r| r.sent).sum::<u64>();
    let check = |door: &str, agent: &DeviceAgent, peak: u64, sent: u64, io: ProcessIo| {
        let pool = agent.base().join("images");
        let images: Vec<_> = fs::read_dir(pool).unwrap().flatten().collect();
        assert_eq!(images.len(), 1, "{door}");
        assert_eq!(images[0].metadata().unwrap().len(), published.length);

        assert!(peak <= 12 * MIB, "{door}: {peak} bytes of memory");
        let allowed = published.length..=published.length + BESIDES;
        assert!(allowed.contains(&sent), "{door}: {sent} bytes were sent");
        assert!(allowed.contains(&io.written), "{door}: {io:?}");
        // What comes through a socket is not among it, so nothing is looked at a second time.
        assert!(io.read <= BESIDES, "{door}: {io:?}");
    };

    // By the service, which is still there afterwards to be looked at.
    let agent =
        DeviceAgent::create(&program, &place.path().join("service"), &published.anchor).unwrap();
    let service = agent.serve().unwrap();
    let before = kernel::io(service.process()).unwrap();
    agent
        .call(&add)
        .limit(Duration::from_secs(600))
        .ok()
        .unwrap();
    let (memory, after) = (
        kernel::memory(service.process()).unwrap(),
        kernel::io(service.process()).unwrap(),
    );
    let io = ProcessIo {
        read: after.read - before.read,
        written: after.written - before.written,
        ..after
    };
    check("service", &agent, memory.peak, sent(), io);
    // It keeps nothing of it.
    assert!(memory.resident <= 4 * MIB, "{memory:?}");
    drop(service);
    fs::remove_dir_all(agent.base()).unwrap();

    // And by the program itself, where no service runs. Its memory is gone with its end, but a
    // peak only grows: the last look counts.
    let agent =
        DeviceAgent::create(&program, &place.path().join("direct"), &published.anchor).unwrap();
    let before = sent();
    let mut child = agent
        .command(&add)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Pid::from_child(&child);
    let mut peak = 0;
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(process), ended | WaitIdOptions::NOHANG)
        .unwrap()
        .is_none()
    {
        if let Ok(memory) = kernel::memory(child.id()) {
            peak = memory.peak.max(peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let io = kernel::io(child.id()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(peak > 0);
    check("direct", &agent, peak, sent() - before, io);
}

#[test]
fn an_idle_service_takes_little_memory() {
    let Some(program) = program("an_idle_service_takes_little_memory") else {
        return;
    };
    // Each connection takes a file on this side as well, and the usual limit is low.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let place = tempfile::tempdir().unwrap();
    let agent = DeviceAgent::create(&program, place.path(), b"").unwrap();
    for number in 0..50 {
        let digest = avocado_manifest::Digest::of(b"an image");
        let manifest = manifest(&format!("runtime-{number}"), digest).unwrap();
        let directory = agent.base().join("runtimes").join(&manifest.id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("manifest.json"), manifest.to_json().unwrap()).unwrap();
    }
    let service = agent.serve().unwrap();
    let resident = || kernel::memory(service.process()).unwrap().resident;
    let started = resident();
    assert!(started <= 4 * MIB, "{started} bytes");

    let listed = ask(&mut connect(&agent), "org.avocado.Runtimes.List");
    assert_eq!(
        listed["parameters"]["runtimes"].as_array().unwrap().len(),
        50
    );
    let asked = resident();
    assert!(asked <= 4 * MIB, "{asked} bytes");

    // Each was served once, so each is known to the service.
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = connect(&agent);
            ask(&mut client, "org.varlink.service.GetInfo");
            client
        })
        .collect();
    let connected = resident();
    let more = connected.saturating_sub(asked);
    assert!(more <= 8 * MIB, "{more} bytes more for {}", clients.len());
}

fn connect(agent: &DeviceAgent) -> UnixStream {
    UnixStream::connect(agent.socket()).unwrap()
}

fn ask(stream: &mut UnixStream, method: &str) -> Value {
    let mut message = json!({"method": method}).to_string().into_bytes();
    message.push(0);
    stream.write_all(&message).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.last() != Some(&0) {
        let n = stream.read(&mut piece).unwrap();
        assert_ne!(n, 0, "the service hung up");
        answer.extend_from_slice(&piece[..n]);
    }
    answer.pop();
    serde_json::from_slice(&answer).unwrap()
}

/// Each promise names the test or the script that holds the program to it, or says that there is
/// none yet.
#[test]
fn every_promise_names_its_test() {
    let text = fs::read_to_string(source_root().join("SPECIFICATION.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|row: &Vec<_>| row[0] != "Promise" && !row[0].starts_with('-'))
        .collect();
    assert!(rows.len() >= 5);
    for row in rows {
        let [promise, _, enforced] = row[..] else {
            panic!("{row:?}");
        };
        if matches!(enforced, "`[pending]`" | "the benchmark prints it") {
            continue;
        }
        for enforced in enforced.split(", ") {
            let enforced = enforced.trim_matches('`');
            let (file, mark) = match enforced.split_once("::") {
                Some((file, test)) => (file, format!("fn {test}(")),
                None => (enforced, "#!/".to_owned()),
            };
            let code = fs::read_to_string(source_root().join(file)).unwrap_or_default();
            assert!(code.contains(&mark), "{promise}: {enforced}");
        }
    }
}
