//! The image, a connection that keeps the guest awake, and looks into the guest.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use avocado_testbed::tools::{TestNeed, skip_without};
use avocado_testbed::vm::TestVm;
use avocado_testbed::vm::session::GuestSession;
use avocado_testbed::vm_image::VmImage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::common;

/// For everything that takes as long as the machine is busy. Nothing depends on the value.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// Two emulated guests at once would both be slow.
pub(crate) fn lock_qemu() -> MutexGuard<'static, ()> {
    static QEMU_LOCK: Mutex<()> = Mutex::new(());
    QEMU_LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The image, if this machine can make and run one.
pub(crate) fn image(test: &str) -> Option<PathBuf> {
    let needs = [
        TestNeed::Tool("qemu-system-x86_64"),
        TestNeed::Tool("ssh"),
        TestNeed::Tool("ssh-keygen"),
        TestNeed::Tool("btrfs"),
    ];
    if skip_without(test, &needs) || common::cannot_build(test) {
        return None;
    }
    static IMAGE: OnceLock<VmImage> = OnceLock::new();
    let image = IMAGE.get_or_init(|| VmImage::ensure().unwrap());
    Some(image.directory().to_owned())
}

/// Ends a process, and waits until it has ended.
pub(crate) fn kill(id: &Value) {
    let id = Pid::from_raw(i32::try_from(id.as_u64().unwrap()).unwrap()).unwrap();
    let process = pidfd_open(id, PidfdFlags::empty()).unwrap();
    kill_process(id, Signal::KILL).unwrap();
    let limit = Timespec::try_from(SOON).unwrap();
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
}

/// What a listener says by itself.
pub(crate) fn words(port: &Value) -> String {
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A connection that is counted: it wakes the guest, and keeps it awake while it is open.
pub(crate) struct Hold {
    _stream: TcpStream,
}

impl Hold {
    pub(crate) fn new(vm: &TestVm) -> Self {
        let port = vm.status().unwrap()["ports"]["ssh"].as_u64().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut start = [0; 4];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"SSH-");
        Hold { _stream: stream }
    }
}

/// The value of the guest that changes with each boot.
pub(crate) fn boot_id(session: &mut GuestSession) -> String {
    session.ok("cat /proc/sys/kernel/random/boot_id").unwrap()
}

/// The clock is set soon after a wake. Until then it is behind by as long as the guest slept.
pub(crate) fn assert_clock(session: &mut GuestSession) {
    let deadline = Instant::now() + SOON;
    loop {
        let clocks = session.clocks(5).unwrap();
        let (error, unknown) = (clocks.error(), clocks.uncertainty());
        if error + unknown <= Duration::from_millis(100) {
            println!("           clock: {error:?} wrong, known to {unknown:?}");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{error:?} wrong, known to {unknown:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The file systems of the guest have nothing to complain about.
pub(crate) fn assert_sound(session: &mut GuestSession) {
    let stats = session.ok("btrfs device stats /var").unwrap();
    let counts: Vec<_> = stats
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(
        counts.len() >= 5 && counts.iter().all(|n| *n == "0"),
        "{stats}"
    );
    let said = session.ok("dmesg").unwrap();
    let bad = |line: &&str| {
        ["error", "corrupt", "bad tree"]
            .iter()
            .any(|word| line.to_lowercase().contains(word))
            && ["btrfs", "erofs", "ext4", "i/o error"]
                .iter()
                .any(|word| line.to_lowercase().contains(word))
    };
    let bad: Vec<_> = said.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// A port that is free now.
pub(crate) fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}
