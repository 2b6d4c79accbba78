//! With the image that a user builds: a Debian userland.

use std::path::Path;
use std::time::{Duration, Instant};

use avocado_testbed::project::BuildEvents;
use avocado_testbed::vm::TestVm;
use avocado_testbed::vm_image::VmImage;

use super::{LIMIT, ask, first_byte, millis, port, verdict, wake};
use crate::failure::Failure;
use crate::stats::Sample;

/// How often the guest boots, and how often it is brought back from the file.
const BOOTS: usize = 2;
/// How long the guest sleeps before its clock is looked at.
const PAUSE: Duration = Duration::from_secs(5);
/// How wrong its clock may be.
const CLOCK: Duration = Duration::from_millis(100);

pub(super) fn measure() -> Result<(), Failure> {
    let image = VmImage::ensure()?;
    let vm = TestVm::new()?;
    let image = image.directory().display().to_string();
    let start = || {
        vm.start(&[
            "--vm-source",
            &image,
            "--memory-mib",
            "768",
            "--cpus",
            "1",
            "--var-size",
            "2G",
            "--idle-hibernate-secs",
            "0",
        ])
    };
    // The first start also probes accelerators and copies a disk.
    start()?;
    let accelerator = vm.status()?["accelerator"].clone();
    println!("\n== the VM, the real guest ({accelerator})");
    let (mut boots, mut wakes) = (Vec::new(), Vec::new());
    let mut saved = 0;
    for _ in 0..BOOTS {
        vm.vm(&["stop"]).ok()?;
        boots.push(boot(&vm, start)?);
        let user = port(&vm.status()?, "ssh")?;
        ask(&vm, "release")?;
        saved = std::fs::metadata(vm.file("saved-memory")).map_or(0, |found| blocks(&found));
        let left = vm.processes();
        if left.len() != 1 {
            return Err(Failure::Wrong(format!("{left:?} is left after a release")));
        }
        wakes.push(first_byte(user)?);
    }
    let [boots, wakes] = [boots, wakes].map(Sample::from_iter);
    println!("QEMU's start to ssh banner, cold boot                     {boots}");
    println!("connecting to ssh banner, memory released (no QEMU)       {wakes}");
    let ratio = wakes.ratio(&boots);
    println!(
        "  bringing it back takes {ratio:.3} × a cold boot (target: at most 0.1, {}); its memory took {} MiB on disk",
        verdict(ratio <= 0.1),
        saved >> 20,
    );
    wake(&vm, &vm.status()?, 20)?;
    clock(&vm)
}

fn blocks(found: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found) * 512
}

/// From QEMU's start until the guest's ssh says something.
fn boot(
    vm: &TestVm,
    start: impl FnOnce() -> Result<BuildEvents, avocado_testbed::HarnessError> + Send,
) -> Result<Duration, Failure> {
    std::thread::scope(|scope| {
        let starting = scope.spawn(start);
        let limit = Instant::now() + LIMIT;
        let pid = vm.file("qemu.pid");
        while !has_text(&pid) {
            if Instant::now() > limit || starting.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let began = Instant::now();
        let port = std::fs::read_to_string(vm.file("ssh-port"));
        let port = port.map_err(Failure::system("read the port"))?;
        let port = port.trim().parse().unwrap_or(0);
        // It is answered when the guest is up.
        first_byte(port)?;
        let time = began.elapsed();
        match starting.join() {
            Ok(started) => drop(started?),
            Err(_) => return Err(Failure::Wrong("the start panicked".into())),
        }
        Ok(time)
    })
}

fn has_text(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| !bytes.is_empty())
}

/// Its clock stands still while it sleeps.
fn clock(vm: &TestVm) -> Result<(), Failure> {
    let user = port(&vm.status()?, "ssh")?;
    let mut session = vm.session("internal_ssh")?;
    ask(vm, "hibernate")?;
    std::thread::sleep(PAUSE);
    first_byte(user)?;
    let woke = Instant::now();
    let mut clocks = session.clocks(1)?;
    let behind = clocks.error();
    while clocks.error() > CLOCK && woke.elapsed() < LIMIT {
        clocks = session.clocks(3)?;
    }
    let set = woke.elapsed();
    let clocks = session.clocks(20)?;
    let (error, unknown) = (clocks.error(), clocks.uncertainty());
    println!(
        "guest clock after {} s asleep: {:.1} ms wrong, known to {:.1} ms, {:.0} ms after its first byte (first look: {:.0} ms; target: at most {} ms, {})",
        PAUSE.as_secs(),
        millis(error),
        millis(unknown),
        millis(set),
        millis(behind),
        CLOCK.as_millis(),
        verdict(error + unknown <= CLOCK),
    );
    Ok(())
}
