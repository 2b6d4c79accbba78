use std::io::{Read as _, Write as _};

use super::*;

fn content(disk: &VolatileDisk) -> &[u8] {
    disk.lasting()
}

#[test]
fn what_was_flushed_lasts_and_of_the_rest_every_part_may() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let mut disk = VolatileDisk::new(vec![0; 8 * SECTOR]);
        disk.write(0, vec![1; 2 * SECTOR]).unwrap();
        disk.flush();
        disk.write(SECTOR, vec![2; 4 * SECTOR]).unwrap();
        assert_eq!(
            disk.read(SECTOR, 1).unwrap(),
            [2],
            "what is read is what was written"
        );
        let all = disk.lose(&mut CutRandom::new(seed));
        assert_eq!(all.lost + all.kept + all.torn, 1);
        assert_eq!(content(&disk)[..SECTOR], [1; SECTOR]);
        let sectors: Vec<u8> = content(&disk)
            .chunks(SECTOR)
            .skip(1)
            .take(4)
            .map(|s| s[0])
            .collect();
        assert!(
            content(&disk)
                .chunks(SECTOR)
                .all(|s| s.iter().all(|byte| *byte == s[0]))
        );
        match sectors.as_slice() {
            [2, 2, 2, 2] => kept += 1,
            [1, 0, 0, 0] => lost += 1,
            _ => torn += 1,
        }
        assert_eq!(disk.read(0, 8 * SECTOR).unwrap(), content(&disk));
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
    let mut disk = VolatileDisk::new(vec![0; SECTOR]);
    assert!(disk.write(1, vec![1; SECTOR]).is_none() && disk.read(usize::MAX, 2).is_none());
}

/// A client for one export.
struct Client(UnixStream);

impl Client {
    fn connect(socket: &Path, export: &str) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(0x4948_4156_454f_5054_u64.to_be_bytes());
        hello.extend(1_u32.to_be_bytes());
        hello.extend(u32::try_from(export.len()).unwrap().to_be_bytes());
        hello.extend(export.as_bytes());
        stream.write_all(&hello).unwrap();
        let mut about = [0; 10];
        stream.read_exact(&mut about).unwrap();
        Client(stream)
    }

    /// Asks, and says whether there is an answer.
    fn ask(&mut self, kind: u16, offset: u64, length: u32, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend([0; 2]);
        request.extend(kind.to_be_bytes());
        request.extend(7_u64.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(bytes);
        self.0.write_all(&request).unwrap();
        let mut reply = [0; 16];
        self.0.read_exact(&mut reply).ok()?;
        assert_eq!(reply[4..8], [0; 4], "an error");
        let mut read = vec![0; if kind == 0 { length as usize } else { 0 }];
        self.0.read_exact(&mut read).unwrap();
        Some(read)
    }
}

fn visit(mark: u8) -> MarkVisit {
    MarkVisit { mark, time: 1 }
}

#[test]
fn the_power_goes_at_its_moment_and_nothing_is_answered_from_there_on() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let disk = |name: &str| (name.to_owned(), VolatileDisk::new(vec![0; 32 * SECTOR]));
    let disks = NamedDisks::from([disk("var"), disk(MARKS)]);
    let moment = CutMoment {
        from: visit(2),
        until: visit(3),
        operations: 2,
    };
    let power = DiskPower::on(&socket, disks, Some(moment)).unwrap();
    let (mut var, mut marks) = (
        Client::connect(&socket, "var"),
        Client::connect(&socket, MARKS),
    );
    let sector = [5; SECTOR];
    assert!(var.ask(1, 0, 512, &sector).is_some());
    assert!(marks.ask(1, 2 * 4096, 512, &sector).is_some());
    assert!(var.ask(3, 0, 0, &[]).is_some());
    assert_eq!(var.ask(0, 0, 512, &[]).unwrap(), sector);
    assert!(!power.is_cut());
    let waiting = std::thread::spawn(move || {
        // It does not return before all is over.
        var.ask(1, 1024, 512, &sector).is_none()
    });
    crate::wait::until(
        "the cut",
        std::time::Duration::from_secs(10),
        || Ok(power.is_cut().then_some(())),
        String::new,
    )
    .unwrap();
    let var = || String::from("var");
    assert_eq!(
        power.events(),
        [
            DiskEvent::Write(var()),
            DiskEvent::Mark(2),
            DiskEvent::Flush(var()),
            DiskEvent::Write(var())
        ]
    );
    assert_eq!(
        operations_between(&power.events(), visit(2), visit(3)),
        None
    );
    let (disks, lost) = power.off(&mut CutRandom::new(1));
    assert!(waiting.join().unwrap());
    assert_eq!(lost.lost + lost.kept + lost.torn, 1);
    assert_eq!(disks["var"].lasting()[..512], sector);
}
