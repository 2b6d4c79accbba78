//! What the service costs while nobody asks it anything.

use std::path::Path;
use std::time::{Duration, Instant};

use avocado_testbed::kernel;
use avocado_varlink::client::{VarlinkAddress, VarlinkClient};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::list;

const CONNECTIONS: usize = 1000;

pub(crate) fn measure(program: &Path, directory: &Path, time: Duration) -> Result<(), Failure> {
    println!("\n== the idle service, {} s each", time.as_secs());
    // Each connection takes a file, and the usual limit is low.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(Failure::system("allow many files"))?;

    let agent = list::store(program, directory, 50)?;
    let service = agent.serve()?;
    let process = service.process();
    let address = VarlinkAddress::of(agent.socket());
    let watch = |what: &str| -> Result<(), Failure> {
        let before = kernel::work(process)?;
        let start = Instant::now();
        std::thread::sleep(time);
        let after = kernel::work(process)?;
        let cpu = after.cpu.saturating_sub(before.cpu);
        let memory = kernel::memory(process)?;
        println!(
            "{what:<36} {:>6} KiB resident, {:.6} % of a CPU, {} wake-ups",
            memory.resident >> 10,
            100.0 * cpu.as_secs_f64() / start.elapsed().as_secs_f64(),
            after.switches.saturating_sub(before.switches),
        );
        Ok(())
    };
    let ask = |client: &mut VarlinkClient, method| client.call::<Value>(method, &json!({}));

    watch("started")?;
    ask(
        &mut VarlinkClient::connect(&address)?,
        "org.avocado.Runtimes.List",
    )?;
    watch("after a List of 50 runtimes")?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = VarlinkClient::connect(&address)?;
        // So that it is known to be served.
        ask(&mut client, "org.varlink.service.GetInfo")?;
        clients.push(client);
    }
    watch(&format!("with {CONNECTIONS} connections"))?;
    drop(clients);
    watch("without them again")
}
