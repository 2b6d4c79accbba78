//! What idle clients cost. In a program of its own, because it measures the whole process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use avocado_varlink::idl::Interface;
use avocado_varlink::server::{
    Listener, MethodCall, ServerOptions, ServiceInfo, VarlinkServer, VarlinkService,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CALL: &[u8] = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";

struct Nothing;

impl VarlinkService for Nothing {
    fn interfaces(&self) -> &[Interface] {
        &[]
    }

    fn call(&self, call: MethodCall) {
        let _ = call.method_not_implemented();
    }
}

#[test]
fn a_thousand_idle_connections_cost_less_than_8_mib() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let info = ServiceInfo {
        vendor: "Example".into(),
        product: "idle".into(),
        version: "1".into(),
        url: "https://example.org".into(),
    };
    let mut server = VarlinkServer::new(Arc::new(Nothing), info, ServerOptions::default()).unwrap();
    server
        .listen(Listener::bind(&path, 0o600).unwrap())
        .unwrap();
    let (mut stop, stopped) = UnixStream::pair().unwrap();
    server.stop_on(stopped.into()).unwrap();
    let thread = std::thread::spawn(move || server.run().unwrap());

    let call = |stream: &mut UnixStream| {
        stream.write_all(CALL).unwrap();
        let mut reply = [0; 1024];
        let n = stream.read(&mut reply).unwrap();
        assert!(n > 0 && reply[n - 1] == 0);
    };
    call(&mut UnixStream::connect(&path).unwrap());
    let before = memory();
    let mut idle: Vec<_> = (0..1000)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    idle.iter_mut().for_each(call);
    let grown = memory().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for 1000 idle connections");
    // Another client is served as before.
    call(&mut UnixStream::connect(&path).unwrap());

    stop.write_all(b"x").unwrap();
    thread.join().unwrap();
}

/// Resident memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
