//! Downloads over HTTP: what a bad network does to them, and what a restart keeps.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use avocado_events::{Event, Silent};
use avocado_fs::recorded::RecordedFile;
use avocado_fs::{AtPath, PathError};
use avocado_http::TransportError;
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_tuf::client::{Destination, DownloadOrigin, ResumePoint};
use avocado_tuf::{RemoteRepository, TargetInfo, TufClient, TufError};

use crate::support::{Device, Forge};

const SIZE: usize = 3_000_000;

/// A repository behind a server, with one big target.
struct Site {
    forge: Forge,
    server: TestServer,
    device: Device,
    big: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        Site::with(|_| {})
    }

    fn with(options: impl FnOnce(&mut avocado_serve::ServeOptions)) -> Self {
        let mut forge = Forge::new();
        let big: Vec<u8> = (0..SIZE as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        forge.add("app", "big.raw", &big);
        forge.publish_all();
        let mut opts = avocado_serve::ServeOptions::new(forge.dir.path());
        options(&mut opts);
        let server = TestServer::start(opts).unwrap();
        let mut device = forge.device();
        device.limits.read = Duration::from_secs(20);
        Site {
            forge,
            server,
            device,
            big,
        }
    }

    fn client_with(&self, token: Option<&str>) -> Result<TufClient, TufError> {
        let remote = RemoteRepository {
            metadata_url: format!("{}/metadata", self.server.url()).parse().unwrap(),
            targets_url: format!("{}/targets/", self.server.url()).parse().unwrap(),
            auth_token: token.map(str::to_owned),
        };
        TufClient::open(self.device.trusted(), remote, self.device.options())
    }

    fn client(&self) -> (TufClient, TargetInfo) {
        let mut client = self.client_with(None).unwrap();
        let info = client.target("big.raw").unwrap().unwrap();
        (client, info)
    }

    /// Starts a download that breaks for good after `bytes`.
    fn interrupt(&mut self, bytes: u64) {
        let attempts = std::mem::replace(&mut self.device.limits.attempts, 1);
        let (client, info) = self.client();
        self.device.limits.attempts = attempts;
        self.server
            .faults()
            .add(FaultRule::new(Fault::Cut(bytes), "*.raw"));
        let error = client
            .download(&info, &self.device.partial(), &Silent)
            .unwrap_err();
        assert!(matches!(error, TufError::Fetch { .. }), "{error:?}");
        self.server.faults().clear();
        let there = fs::metadata(self.device.partial()).unwrap().len();
        assert_eq!(there, bytes);
    }

    /// Downloads with a new client and says what ranges were asked for.
    fn resume(&self) -> Vec<Option<String>> {
        let (client, info) = self.client();
        let before = self.server.requests().len();
        client
            .download(&info, &self.device.partial(), &Silent)
            .unwrap();
        assert!(fs::read(self.device.partial()).unwrap() == self.big);
        let mut left: Vec<_> = fs::read_dir(self.device.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["partial", "trusted"]);
        let requests = self.server.requests();
        requests[before..]
            .iter()
            .map(|request| request.range.clone())
            .collect()
    }
}

#[test]
fn bytes_and_progress_arrive() {
    let site = Site::new();
    let (client, info) = site.client();
    let events = Mutex::new(Vec::new());
    let sink = |event: Event| events.lock().unwrap().push(event);
    client
        .download(&info, &site.device.partial(), &sink)
        .unwrap();
    assert!(fs::read(site.device.partial()).unwrap() == site.big);
    let events = events.into_inner().unwrap();
    assert!(
        events
            .iter()
            .all(|e| e.stage == "download" && e.item == "big.raw" && e.total == Some(SIZE as u64))
    );
    assert!(events.is_sorted_by_key(|e| e.done));
    assert_eq!(events.first().unwrap().done, Some(0));
    assert_eq!(events.last().unwrap().done, Some(SIZE as u64));
}

#[test]
fn a_note_of_any_length_is_no_obstacle() {
    let site = Site::new();
    let mut note = site.device.partial().into_os_string();
    note.push(".resume");
    // A server may have named the state of the file at length, and a crash may leave anything.
    fs::write(&note, vec![b' '; 1 << 20]).unwrap();
    fs::write(site.device.partial(), b"of something else").unwrap();
    let (client, info) = site.client();
    client
        .download(&info, &site.device.partial(), &avocado_events::Silent)
        .unwrap();
    assert!(fs::read(site.device.partial()).unwrap() == site.big);
    assert!(!std::path::Path::new(&note).exists());
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let site = Site::new();
    site.server
        .faults()
        .add(FaultRule::new(Fault::Cut(1_000_000), "*.raw").first(2));
    let ranges = site.resume();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=1000000-"));
    assert_eq!(ranges[2].as_deref(), Some("bytes=2000000-"));
}

#[test]
fn a_restart_goes_on_where_the_last_one_stopped() {
    let mut site = Site::new();
    site.interrupt(1_000_000);
    assert_eq!(site.resume(), [Some("bytes=1000000-".to_owned())]);
}

#[test]
fn a_partial_file_that_is_not_of_this_target_is_not_used() {
    type Spoil = fn(&Site);
    let cases: [(&str, Spoil, usize); 5] = [
        ("no note", |s| fs::remove_file(note(s)).unwrap(), 1),
        ("torn note", |s| fs::write(note(s), "{").unwrap(), 1),
        (
            "other target",
            |s| {
                let text = fs::read_to_string(note(s)).unwrap();
                fs::write(note(s), text.replace("3000000", "2999999")).unwrap();
            },
            1,
        ),
        (
            "too long",
            |s| fs::write(s.device.partial(), vec![0; SIZE + 1]).unwrap(),
            1,
        ),
        // Only noticed at the end; then once more from the beginning.
        (
            "other bytes",
            |s| {
                let length = fs::metadata(s.device.partial()).unwrap().len() as usize;
                fs::write(s.device.partial(), vec![0; length]).unwrap();
            },
            2,
        ),
    ];
    for (name, spoil, requests) in cases {
        let mut site = Site::new();
        site.interrupt(1_000_000);
        spoil(&site);
        let ranges = site.resume();
        assert_eq!(ranges.len(), requests, "{name}");
        assert_eq!(ranges.last().unwrap(), &None, "{name}");
    }
}

fn note(site: &Site) -> std::path::PathBuf {
    site.device.dir.path().join("partial.resume")
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let site = Site::new();
    let victim = site.device.dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, site.device.partial()).unwrap();
    let (client, info) = site.client();
    assert!(matches!(
        client.download(&info, &site.device.partial(), &Silent),
        Err(TufError::Io(_))
    ));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let mut site = Site::new();
    site.interrupt(1_000_000);
    site.server
        .faults()
        .add(FaultRule::new(Fault::IgnoreRange, "*.raw"));
    assert_eq!(site.resume().len(), 1);
}

#[test]
fn a_file_that_changed_on_the_server_is_not_glued_together() {
    let mut site = Site::new();
    site.interrupt(1_000_000);
    // The same name and the same bytes in another file: its entity tag is another one.
    let info = site.client().1;
    let name = format!("targets/{}.big.raw", info.digests.sha256.unwrap());
    let path = site.forge.path(&name);
    fs::remove_file(&path).unwrap();
    fs::write(&path, &site.big).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
        .unwrap();
    let (client, info) = site.client();
    client
        .download(&info, &site.device.partial(), &Silent)
        .unwrap();
    let last = site.server.requests().pop().unwrap();
    assert!(last.range.is_some());
    assert_eq!(last.status, 200);
}

#[test]
fn a_corrupt_transfer_is_refused_and_leaves_nothing() {
    let site = Site::new();
    let (client, info) = site.client();
    site.server
        .faults()
        .add(FaultRule::new(Fault::Corrupt(5), "*.raw"));
    let error = client
        .download(&info, &site.device.partial(), &Silent)
        .unwrap_err();
    assert!(matches!(error, TufError::Digest { .. }), "{error:?}");
    assert!(!site.device.partial().exists());
    assert!(!note(&site).exists());
}

#[test]
fn a_file_longer_than_stated_is_not_even_begun() {
    let site = Site::new();
    let (client, info) = site.client();
    let name = format!("targets/{}.big.raw", info.digests.sha256.unwrap());
    fs::write(site.forge.path(&name), vec![0; SIZE * 2]).unwrap();
    let error = client
        .download(&info, &site.device.partial(), &Silent)
        .unwrap_err();
    assert!(matches!(error, TufError::TooLong { .. }), "{error:?}");
    assert!(!site.device.partial().exists());
}

#[test]
fn passing_trouble_is_waited_out_and_lasting_trouble_is_told() {
    let site = Site::new();
    for file in ["timestamp.json", "*.snapshot.json", "*.raw"] {
        site.server
            .faults()
            .add(FaultRule::new(Fault::Status(503), file).first(2));
    }
    site.resume();
    let site = Site::new();
    site.server
        .faults()
        .add(FaultRule::new(Fault::Status(503), "timestamp.json"));
    let error = site.client_with(None).unwrap().refresh().unwrap_err();
    assert!(matches!(
        error,
        TufError::Fetch {
            source: TransportError::Status(503),
            ..
        }
    ));
    // Three attempts, as the limits say.
    let asked = site
        .server
        .requests()
        .iter()
        .filter(|r| r.path.ends_with("timestamp.json"))
        .count();
    assert_eq!(asked, 3);
}

#[test]
fn what_is_missing_is_not_asked_for_again() {
    for status in [403, 404] {
        let site = Site::new();
        let (client, info) = site.client();
        site.server
            .faults()
            .add(FaultRule::new(Fault::Status(status), "*.raw"));
        let error = client
            .download(&info, &site.device.partial(), &Silent)
            .unwrap_err();
        let TufError::Fetch { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(source.is_absent());
        match source {
            TransportError::Missing(404) => assert_eq!(status, 404),
            TransportError::Forbidden(403) => assert_eq!(status, 403),
            other => panic!("{other:?}"),
        }
        let asked = site
            .server
            .requests()
            .iter()
            .filter(|r| r.path.ends_with(".raw"))
            .count();
        assert_eq!(asked, 1);
    }
}

#[test]
fn a_silent_connection_is_given_up() {
    let mut site = Site::new();
    site.device.limits.read = Duration::from_millis(200);
    site.server
        .faults()
        .add(FaultRule::new(Fault::Stall(1_000_000), "*.raw").first(1));
    let ranges = site.resume();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[1].as_deref().unwrap().starts_with("bytes="));
}

#[test]
fn the_token_opens_the_repository() {
    let site = Site::with(|options| options.token = Some("secret".into()));
    let refused = site
        .client_with(Some("wrong"))
        .unwrap()
        .refresh()
        .unwrap_err();
    assert!(
        matches!(
            refused,
            TufError::Fetch {
                source: TransportError::Status(401),
                ..
            }
        ),
        "{refused:?}"
    );
    let mut client = site.client_with(Some("secret")).unwrap();
    let info = client.target("big.raw").unwrap().unwrap();
    client
        .download(&info, &site.device.partial(), &Silent)
        .unwrap();
    assert!(
        site.server
            .requests()
            .iter()
            .all(|request| request.authorization)
    );
}

#[test]
fn nobody_listening_is_an_error_that_names_the_url() {
    let site = Site::new();
    let url = site.server.url();
    let mut client = site.client_with(None).unwrap();
    site.server.stop();
    let error = client.refresh().unwrap_err();
    assert!(matches!(
        error,
        TufError::Fetch {
            source: TransportError::Connection(_),
            ..
        }
    ));
    assert!(error.to_string().contains(&url));
}

/// A part of a file, as a partition is one of a disk: it cannot be made shorter, and what it holds
/// besides is not to be touched.
struct Region {
    disk: RecordedFile,
    start: u64,
    /// What is in it according to the last call that came through.
    noted: ResumePoint,
    committed: bool,
}

impl Region {
    fn open(path: &Path, start: u64, noted: ResumePoint) -> Self {
        Region {
            disk: RecordedFile::open_device(path).unwrap(),
            start,
            noted,
            committed: false,
        }
    }
}

impl Destination for Region {
    fn resume_point(&mut self) -> Result<ResumePoint, PathError> {
        Ok(self.noted.clone())
    }

    fn restart(&mut self) -> Result<(), PathError> {
        self.noted = ResumePoint::default();
        Ok(())
    }

    fn remember(&mut self, origin: &DownloadOrigin) -> Result<(), PathError> {
        self.noted.origin = Some(origin.clone());
        Ok(())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, PathError> {
        use std::os::unix::fs::FileExt;
        let read = self.disk.file().read_at(buffer, self.start + offset);
        read.at("read", self.disk.path())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PathError> {
        assert_eq!(offset, self.noted.length, "from the beginning to the end");
        self.disk
            .write_at(self.start + offset, bytes)
            .at("write", self.disk.path())?;
        self.noted.length += bytes.len() as u64;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), PathError> {
        self.committed = true;
        self.disk.sync().at("sync", self.disk.path())
    }

    fn discard(&mut self) -> Result<(), PathError> {
        self.restart()
    }
}

/// Where the disk has been written to, and whether nothing else was.
fn region_of(site: &Site, path: &Path) -> bool {
    let disk = fs::read(path).unwrap();
    let (before, rest) = disk.split_at(START as usize);
    let (target, after) = rest.split_at(SIZE);
    assert!(before.iter().chain(after).all(|byte| *byte == 0xee));
    target == site.big
}

const START: u64 = 4096;

#[test]
fn a_download_goes_into_a_region_of_a_disk_and_on_from_where_it_stopped() {
    let mut site = Site::new();
    let path = site.device.dir.path().join("disk");
    fs::write(&path, vec![0xee; SIZE + 8192]).unwrap();
    let attempts = std::mem::replace(&mut site.device.limits.attempts, 1);
    let (client, info) = site.client();
    site.device.limits.attempts = attempts;
    let cut = FaultRule::new(Fault::Cut(1_000_000), "*.raw");
    site.server.faults().add(cut);
    let mut region = Region::open(&path, START, ResumePoint::default());
    let error = client.download_to(&info, &mut region, &Silent).unwrap_err();
    assert!(matches!(error, TufError::Fetch { .. }), "{error:?}");
    assert!(!region.committed && !region_of(&site, &path));
    let noted = region.noted;
    assert_eq!(noted.length, 1_000_000);
    site.server.faults().clear();

    let (client, info) = site.client();
    let ranges = |site: &Site| {
        let requests = site.server.requests();
        requests
            .iter()
            .filter_map(|r| r.range.clone())
            .collect::<Vec<_>>()
    };
    let mut region = Region::open(&path, START, noted.clone());
    client.download_to(&info, &mut region, &Silent).unwrap();
    assert!(region.committed && region_of(&site, &path));
    assert_eq!(ranges(&site), ["bytes=1000000-"]);

    // What is noted to be there and is not the target's costs a download, and nothing else.
    fs::write(&path, vec![0xee; SIZE + 8192]).unwrap();
    let mut region = Region::open(&path, START, noted);
    client.download_to(&info, &mut region, &Silent).unwrap();
    assert!(region.committed && region_of(&site, &path));
}

/// Reads parts of the target, each with its beginning and its end.
fn read_parts(client: &TufClient, info: &TargetInfo, parts: &[(u64, u64)], site: &Site) {
    let mut reader = client.reader(info).unwrap();
    for (begin, end) in parts.iter().copied() {
        let mut part = vec![0; (end - begin) as usize];
        reader.read_at(begin, &mut part).unwrap();
        assert!(part == site.big[begin as usize..end as usize], "{begin}");
    }
}

#[test]
fn parts_of_a_target_are_read_with_few_requests() {
    let site = Site::new();
    let (client, info) = site.client();
    let before = site.server.requests().len();
    let end = SIZE as u64;
    let parts = [
        (0, 5),
        (5, 100_000),
        // Nearby.
        (200_000, 300_000),
        // Far.
        (2_000_000, 2_000_001),
        // Back.
        (10, 20),
        (end - 1, end),
        (end, end),
    ];
    read_parts(&client, &info, &parts, &site);
    let requests = site.server.requests();
    let ranges: Vec<_> = requests[before..].iter().map(|r| r.range.clone()).collect();
    let from = |at: u64| Some(format!("bytes={at}-"));
    assert_eq!(ranges, [None, from(2_000_000), from(10), from(end - 1)]);
    let mut reader = client.reader(&info).unwrap();
    let error = reader.read_at(end - 1, &mut [0; 2]).unwrap_err();
    assert!(matches!(error, TufError::TooLong { .. }), "{error}");
}

#[test]
fn parts_of_a_target_survive_a_bad_network() {
    let site = Site::new();
    let parts = [(0, 1_000_000), (1_500_000, SIZE as u64)];
    for fault in [Fault::Cut(300_000), Fault::IgnoreRange, Fault::Status(503)] {
        let rule = FaultRule::new(fault, "*.raw").first(2);
        site.server.faults().add(rule);
        let (client, info) = site.client();
        read_parts(&client, &info, &parts, &site);
        site.server.faults().clear();
    }
    // One that never gets on.
    site.server
        .faults()
        .add(FaultRule::new(Fault::Cut(10), "*.raw"));
    let (client, info) = site.client();
    let mut reader = client.reader(&info).unwrap();
    let error = reader.read_at(0, &mut [0; 1000]).unwrap_err();
    assert!(matches!(error, TufError::Fetch { .. }), "{error}");
}
