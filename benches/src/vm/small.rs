//! With a guest that is nothing but a server which greets and says back what it hears.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use avocado_testbed::vm::TestVm;
use avocado_testbed::{kernel, small_guest};
use serde_json::Value;

use super::{LIMIT, ask, millis, port, verdict, wake};
use crate::failure::Failure;
use crate::stats::Sample;

/// How much goes into the guest and back, each time.
const BYTES: usize = 16 << 20;

pub(super) fn measure(rounds: usize, watched: Duration) -> Result<(), Failure> {
    let vm = TestVm::new()?;
    let image = vm.scratch().join("image");
    small_guest::image(&image)?;
    let image = image.display().to_string();
    vm.start(&[
        "--vm-source",
        &image,
        "--memory-mib",
        "256",
        "--cpus",
        "1",
        "--idle-hibernate-secs",
        "0",
    ])?;
    let status = vm.status()?;
    println!("\n== the VM, a small guest ({})", status["accelerator"]);
    wake(&vm, &status, 50)?;
    throughput(&status, rounds)?;
    sleep(&vm, watched)
}

/// Bytes to the guest and back, with and without us in between.
fn throughput(status: &Value, rounds: usize) -> Result<(), Failure> {
    let (user, direct) = (port(status, "ssh")?, port(status, "internal_ssh")?);
    let (mut forward, mut proxied) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        forward.push(there_and_back(direct)?);
        proxied.push(there_and_back(user)?);
    }
    let [forward, proxied] = [forward, proxied].map(Sample::from_iter);
    let mib = BYTES >> 20;
    println!("{mib} MiB there and back: QEMU's forward   {forward}");
    println!("{mib} MiB there and back: the VM's port    {proxied}");
    let share = forward.ratio(&proxied);
    println!(
        "  the proxy passes {share:.2} × as much as the forward alone (target: at least 0.9, {})",
        verdict(share >= 0.9),
    );
    Ok(())
}

fn there_and_back(port: u16) -> Result<Duration, Failure> {
    let talk = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut greeting = [0];
        // A line, of which the rest is not interesting.
        while greeting != *b"\n" {
            stream.read_exact(&mut greeting)?;
        }
        let mut writer = stream.try_clone()?;
        let start = Instant::now();
        let sender = std::thread::spawn(move || {
            let block = vec![b'x'; 64 << 10];
            for _ in 0..BYTES / block.len() {
                writer.write_all(&block)?;
            }
            Ok::<_, std::io::Error>(())
        });
        let mut buffer = vec![0; 256 << 10];
        let mut left = BYTES;
        while left > 0 {
            let most = buffer.len().min(left);
            match stream.read(buffer.get_mut(..most).unwrap_or_default())? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => left -= count,
            }
        }
        let time = start.elapsed();
        sender.join().unwrap_or(Ok(()))?;
        Ok::<_, std::io::Error>(time)
    };
    talk().map_err(Failure::system("send bytes through the guest"))
}

/// No client connects.
fn sleep(vm: &TestVm, watched: Duration) -> Result<(), Failure> {
    ask(vm, "hibernate")?;
    let status = vm.status()?;
    let process = |name: &str| u32::try_from(status[name].as_u64().unwrap_or(0)).unwrap_or(0);
    let all = [process("pid"), process("supervisor_pid")];
    let look = || all.map(kernel::work);
    let before = look();
    let start = Instant::now();
    std::thread::sleep(watched);
    let after = look();
    let time = start.elapsed();
    for ((name, before), after) in ["QEMU", "supervisor"].into_iter().zip(before).zip(after) {
        let (before, after) = (before?, after?);
        let used = after.cpu.saturating_sub(before.cpu);
        let share = used.as_secs_f64() / time.as_secs_f64();
        let (target, met) = match name {
            "QEMU" => ("no tick of 10 ms", used < Duration::from_millis(10)),
            _ => ("below 0.1 %", share < 0.001),
        };
        println!(
            "paused for {} s, {name:<12} {:.3} ms of a processor, {:.4} %, {} wake-ups (target: {target}, {})",
            time.as_secs(),
            millis(used),
            share * 100.0,
            after.switches.saturating_sub(before.switches),
            verdict(met),
        );
    }
    Ok(())
}
