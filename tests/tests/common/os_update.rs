//! Steps of an update of the OS of a machine that boots from slot a at first, with release 1.

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::board::running;
use avocado_testbed::disk_guest::DiskGuest;
use avocado_testbed::project::TestProject;

/// The id of the active runtime.
pub(crate) fn active(guest: &DiskGuest) -> String {
    let link = guest.run("readlink /var/lib/avocado/active").unwrap();
    link.trim().trim_start_matches("runtimes/").to_owned()
}

/// Brings the runtime that was built to the guest.
pub(crate) fn add(guest: &DiskGuest, project: &TestProject) {
    let repository = project.state().join("output/runtimes/dev/repository");
    let server = TestServer::start(ServeOptions::new(&repository)).unwrap();
    let url = server.url().replace("127.0.0.1", DiskGuest::HOST);
    guest
        .run(&format!("avocadoctl runtime add --url {url}"))
        .unwrap();
}

/// Activates a runtime with another OS, which is to be tried at the next boot.
pub(crate) fn activate(guest: &DiskGuest, id: &str) {
    let before = active(guest);
    guest
        .run(&format!("avocadoctl runtime activate {id}"))
        .unwrap();
    assert_eq!(active(guest), before, "an OS has to prove itself");
    let status = guest.run("avocadoctl status").unwrap();
    assert!(status.contains("reboot required"), "{status}");
}

/// Waits until a trial has ended well.
pub(crate) fn committed(guest: &DiskGuest) {
    let gone = "test ! -e /var/lib/avocado/pending-update.json";
    guest
        .until_succeeds("the OS to be committed", gone)
        .unwrap();
}

/// Waits until the machine is back on a by itself; what it says of the update.
pub(crate) fn back_on_a(guest: &DiskGuest, first: &str) -> String {
    let is_back =
        "test \"$(findmnt -n -o SOURCE /)\" = \"$(readlink -f /dev/disk/by-partlabel/rootfs-a)\" &&
        test ! -e /var/lib/avocado/pending-update.json && avocadoctl status";
    let status = guest
        .until_succeeds("the machine to go back", is_back)
        .unwrap();
    assert!(status.contains("FAILED"), "{status}");
    assert_eq!(running(guest).unwrap(), ("a".into(), "1".into()));
    assert_eq!(active(guest), first);
    status
}
