//! Starts that fail, and need no guest.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use avocado_testbed::vm::TestVm;

use crate::harness::{SOON, image, kill, lock_qemu};

#[test]
fn a_full_disk_is_told_and_nothing_is_half() {
    let name = "a_full_disk_is_told_and_nothing_is_half";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let vm = TestVm::new().unwrap();
    fs::create_dir(vm.dir()).unwrap();
    resize(&vm, "size=2m,mode=0700");
    let source = image.display().to_string();
    let output = vm.vm(&["start", "--vm-source", &source]).run().unwrap();
    assert!(!output.status.success());
    for part in ["no space left", "var.btrfs", "free some space"] {
        assert!(output.stderr.contains(part), "{part} is not in {output}");
    }
    vm.gone(SOON).unwrap();
    assert_eq!(vm.status().unwrap()["state"], "stopped");
    let names = fs::read_dir(vm.dir()).unwrap().flatten();
    let disks: Vec<_> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("var.btrfs"))
        .collect();
    assert_eq!(disks, [""; 0]);
}

/// Gives the state directory a file system of its own, or another size.
fn resize(vm: &TestVm, options: &str) {
    let mount = ToolCall::new("mount")
        .args(["-t", "tmpfs", "-o"])
        .arg(options);
    mount.arg("tmpfs").arg(vm.dir()).ok().unwrap();
}

#[test]
fn a_disk_that_fills_up_stops_the_guest_until_there_is_space() {
    let name = "a_disk_that_fills_up_stops_the_guest_until_there_is_space";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let vm = TestVm::new().unwrap();
    fs::create_dir(vm.dir()).unwrap();
    resize(&vm, "size=400m,mode=0700");
    let source = image.display().to_string();
    let options = ["--memory-mib", "512", "--cpus", "2", "--var-size", "2G"];
    vm.start(&[["--vm-source", &source].as_slice(), &options].concat())
        .unwrap();
    std::thread::scope(|scope| {
        let fill = "dd if=/dev/urandom of=/var/fill bs=1M count=500 status=none && sync";
        // It ends with the supervisor.
        let fill = scope.spawn(|| vm.vm(&["shell", "--", fill]).run());
        let status = vm.wait_for("hibernated", SOON).unwrap();
        let deadline = Instant::now() + SOON;
        while !vm.status().unwrap()["problem"].to_string().contains("disk") {
            assert!(Instant::now() < deadline, "{}", vm.log("supervisor.log"));
            std::thread::sleep(Duration::from_millis(50));
        }
        // The next supervisor leaves the guest as it is, too.
        kill(&status["supervisor_pid"]);
        let output = vm.vm(&["start", "--vm-source", &source]).run().unwrap();
        assert!(output.stderr.contains("free some space"), "{output}");
        resize(&vm, "remount,size=2g,mode=0700");
        vm.start(&["--vm-source", &source]).unwrap();
        assert_eq!(vm.status().unwrap()["pid"], status["pid"]);
        let _ = fill.join();
    });
    vm.vm(&["shell", "--", "sync && test -s /var/fill"])
        .ok()
        .unwrap();
    let status = vm.status().unwrap();
    assert!(
        status["problem"].is_null(),
        "{status}\n{}",
        vm.log("supervisor.log")
    );
    vm.vm(&["stop"]).ok().unwrap();
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() {
    let name = "a_port_that_is_taken_is_named_and_nothing_is_left";
    let Some(image) = image(name) else { return };
    let _lock = lock_qemu();
    let vm = TestVm::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let source = image.display().to_string();
    let output = vm.vm(&["start", "--vm-source", &source, "--ssh-port", &port]);
    let output = output.run().unwrap();
    assert!(!output.status.success());
    assert!(output.stderr.contains(&format!("port {port}")), "{output}");
    assert!(output.stderr.contains("--ssh-port"), "{output}");
    vm.gone(SOON).unwrap();
    assert_eq!(vm.status().unwrap()["state"], "stopped");
}

#[test]
fn without_an_image_it_says_how_to_get_one() {
    let name = "without_an_image_it_says_how_to_get_one";
    if skip_without(name, &[TestNeed::StaticBinary("avocado")]) {
        return;
    }
    let vm = TestVm::new().unwrap();
    let output = vm.vm(&["start"]).run().unwrap();
    assert!(!output.status.success());
    for part in ["no image", "avocado vm update", "--vm-source"] {
        assert!(output.stderr.contains(part), "{part} is not in {output}");
    }
    let status = vm.status().unwrap();
    assert_eq!(
        (&status["state"], &status["running"]),
        (&"stopped".into(), &false.into())
    );
    assert_eq!(status["paused"], false);
}
