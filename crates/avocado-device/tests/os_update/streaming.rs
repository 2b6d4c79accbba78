//! An OS that is written to the other slot while it is downloaded (`stream_os_to_partition`).

use std::fs;

use avocado_device::{
    Activation, AddRequest, Cancel, DeviceConfig, DeviceError, RuntimeEntry, RuntimeSource,
    StoreProblem,
};
use avocado_events::Silent;
use avocado_manifest::os_bundle::OsBundleChunks;
use avocado_manifest::{Digest, ImageId, Manifest};
use avocado_test_server::{Fault, FaultRule};
use serde_json::json;

use crate::board::{Board, PARTITION, TestBundle, has_uboot_tools};
use crate::common::*;
use crate::world::World;

/// The size of a chunk, in bytes of an artifact.
const CHUNK: usize = 4096;

/// A board that trusts a publisher, and streams.
struct StreamingBoard {
    board: Board,
    world: World,
}

/// A published runtime with its OS.
struct PublishedOs {
    manifest: Manifest,
    file: String,
    chunks: OsBundleChunks,
}

impl StreamingBoard {
    /// None: the programs of its boot loader are not here.
    fn new(test: &str) -> Option<Self> {
        if !has_uboot_tools(test) {
            return None;
        }
        let mut board = Board::new();
        board.set(&[("avocado_boot_slot", "a")]);
        board.config = DeviceConfig {
            stream_os_to_partition: true,
            auto_gc: false,
            ..DeviceConfig::default()
        };
        let world = World::new();
        world.desk.trust(&board.paths.base, world.now);
        Some(StreamingBoard { board, world })
    }

    /// Publishes a runtime with an OS, and the index of its chunks as `change` leaves it.
    fn publish_changed(
        &self,
        bundle: &TestBundle,
        change: impl FnOnce(&mut OsBundleChunks),
    ) -> PublishedOs {
        let (archive, mut chunks) = bundle.chunked(CHUNK);
        let digest = Digest::of(&archive);
        change(&mut chunks);
        let id = ImageId::from_digest(digest);
        let index = chunks.to_json().unwrap();
        let manifest = bundle.runtime(&bundle.build, digest, Some(Digest::of(&index)));
        let json = manifest.to_json().unwrap();
        self.world.publish_as(&[
            ("manifest.json".into(), &json),
            (id.file_name(), &archive),
            (OsBundleChunks::file_name(&id), &index),
        ]);
        let file = id.file_name();
        PublishedOs {
            manifest,
            file,
            chunks,
        }
    }

    fn publish(&self, bundle: &TestBundle) -> PublishedOs {
        self.publish_changed(bundle, |_| {})
    }

    fn request(&self) -> AddRequest {
        self.world.request()
    }

    fn add(&self) -> Result<RuntimeEntry, DeviceError> {
        self.board.device().add_from_url(&self.request(), &Silent)
    }

    /// Adds the published runtime, which is refused; why. Nothing is staged of it.
    fn add_refused(&self) -> String {
        let before = self.board.device().list().unwrap();
        let error = self.add().unwrap_err();
        assert_eq!(self.board.device().list().unwrap(), before);
        let DeviceError::Staging(reason) = error else {
            panic!("{error:?}");
        };
        avocado_events::chain(&reason)
    }

    /// Where the requests for a file began, since the last `seen` requests.
    fn ranges(&self, file: &str, seen: usize) -> Vec<u64> {
        let requests = self.world.server.requests();
        let of_file = requests[seen..].iter().filter(|r| r.path.ends_with(file));
        of_file
            .map(|request| match &request.range {
                Some(range) => {
                    let begin = range.strip_prefix("bytes=").unwrap();
                    begin.strip_suffix('-').unwrap().parse().unwrap()
                }
                None => 0,
            })
            .collect()
    }

    fn seen(&self) -> usize {
        self.world.server.requests().len()
    }

    fn pool(&self) -> Vec<String> {
        let names = fs::read_dir(self.board.paths.base.join("images")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    fn starts(&mut self, slot: &str, build: &str) {
        self.board.starts(slot);
        self.board.device().merge(&Silent).unwrap();
        assert_eq!(self.board.active().as_deref(), Some(build));
        assert!(!self.board.waits());
    }
}

#[test]
fn an_os_goes_to_its_slot_and_nowhere_else() {
    let Some(mut at) = StreamingBoard::new("an_os_goes_to_its_slot_and_nowhere_else") else {
        return;
    };
    let mut published = Vec::new();
    for (build, slot, from) in [("one", "b", "a"), ("two", "a", "b"), ("three", "b", "a")] {
        let os = at.publish(&TestBundle::new(build));
        let active = at.board.active();
        at.add().unwrap();
        // Written, and no more than that.
        let written = at.board.build_in(&format!("rootfs-{slot}"));
        assert_eq!(written, format!("AVOCADO_OS_BUILD_ID={build}\n"));
        assert_eq!(at.board.get("avocado_boot_slot"), from);
        assert!(!at.board.waits());
        assert_eq!(at.board.active(), active);
        assert!(!at.pool().contains(&os.file), "{:?}", at.pool());
        let verified = at.board.device().verify(&Cancel::new(), &Silent).unwrap();
        assert!(verified.is_good(), "{:?}", verified.problems);

        let seen = at.seen();
        let pending = at.board.writes(&os.manifest);
        assert_eq!(pending.previous_slot.as_deref(), Some(from));
        assert_eq!(at.board.get("avocado_boot_slot"), slot);
        at.starts(slot, build);
        assert_eq!(at.seen(), seen, "everything was there");
        published.push(os);
    }
    // The OS before is in the other slot still: going back to it needs no server.
    let seen = at.seen();
    at.board.writes(&published[1].manifest);
    at.starts("a", "two");
    assert_eq!(at.seen(), seen);
    // The one before that is nowhere.
    let refused = at.board.refuses_before_writing(&published[0].manifest);
    let why = "the slot b does not have the OS of the runtime";
    assert!(refused.iter().any(|p| p.contains(why)), "{refused:?}");
}

#[test]
fn verifying_tells_that_an_os_is_in_its_slot_no_more() {
    let name = "verifying_tells_that_an_os_is_in_its_slot_no_more";
    let Some(mut at) = StreamingBoard::new(name) else {
        return;
    };
    let found = |at: &StreamingBoard| {
        let found = at.board.device().verify(&Cancel::new(), &Silent).unwrap();
        (found.is_good(), found.problems)
    };
    let gone = |os: &PublishedOs, part: &str, found: (bool, Vec<StoreProblem>)| {
        let (false, [StoreProblem::OsGone { runtimes, why }]) = (found.0, &found.1[..]) else {
            panic!("{found:?}");
        };
        assert_eq!(*runtimes, std::slice::from_ref(&os.manifest.id));
        assert!(why.contains(part), "{why}");
    };
    let first = at.publish(&TestBundle::new("one"));
    at.add().unwrap();
    assert_eq!(found(&at), (true, Vec::new()));
    // One byte of it is another; one of its partitions is not there.
    let partition = at.board.partition("rootfs-b");
    let whole = fs::read(&partition).unwrap();
    let mut bytes = whole.clone();
    bytes[9 * CHUNK / 2] ^= 1;
    fs::write(&partition, bytes).unwrap();
    gone(
        &first,
        "the slot b does not have what was written",
        found(&at),
    );
    fs::remove_file(&partition).unwrap();
    let (good, problems) = found(&at);
    let [StoreProblem::OsUnknown { runtimes, why }] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert!(!good && *runtimes == [first.manifest.id.clone()] && why.contains("rootfs-b"));
    fs::write(&partition, whole).unwrap();
    assert_eq!(found(&at), (true, Vec::new()));
    // What runs is there, whatever it made of its partitions.
    at.board.writes(&first.manifest);
    at.starts("b", "one");
    let boot = at.board.partition("boot-b");
    let mut bytes = fs::read(&boot).unwrap();
    bytes[0] ^= 1;
    fs::write(&boot, bytes).unwrap();
    assert_eq!(found(&at), (true, Vec::new()));
    // Going back to it takes a download then.
    let second = at.publish(&TestBundle::new("two"));
    at.add().unwrap();
    at.board.writes(&second.manifest);
    at.starts("a", "two");
    gone(
        &first,
        "the slot b does not have what was written",
        found(&at),
    );
    // Another OS in its place is as usual.
    at.publish(&TestBundle::new("three"));
    at.add().unwrap();
    let replaced = StoreProblem::OsReplaced {
        runtimes: vec![first.manifest.id.clone()],
    };
    assert!(found(&at) == (true, vec![replaced]), "{:?}", found(&at));
    // But for the active runtime, where something else runs.
    fs::write(&at.board.paths.os_release[0], "AVOCADO_OS_BUILD_ID=third\n").unwrap();
    fs::remove_file(at.board.paths.base.join("os-slots.json")).unwrap();
    let (good, problems) = found(&at);
    assert!(!good);
    let of_active = |p: &&StoreProblem| matches!(p, StoreProblem::OsGone { runtimes, .. } if *runtimes == [second.manifest.id.clone()]);
    assert_eq!(problems.iter().filter(of_active).count(), 1, "{problems:?}");
}

#[test]
fn a_stream_that_broke_off_goes_on_where_it_was() {
    let Some(mut at) = StreamingBoard::new("a_stream_that_broke_off_goes_on_where_it_was") else {
        return;
    };
    let os = at.publish(&TestBundle::new("new"));
    let broken = os.chunks.artifacts[1].chunks[3];
    let faults = at.world.server.faults();
    faults.add(FaultRule::new(Fault::Corrupt(broken.offset + 1), "*.raw"));
    let why = at.add_refused();
    assert!(why.contains("is not what was signed"), "{why}");
    // What came before is in the partition, what did not hold is not.
    let new = TestBundle::new("new");
    let rootfs = &new.files[1].1;
    let slot = fs::read(at.board.partition("rootfs-b")).unwrap();
    assert!(slot[..3 * CHUNK] == rootfs[..3 * CHUNK]);
    assert!(slot[3 * CHUNK..] == [0; PARTITION][3 * CHUNK..]);
    assert_eq!(at.board.get("avocado_boot_slot"), "a");

    at.world.server.faults().clear();
    let seen = at.seen();
    at.add().unwrap();
    assert_eq!(at.ranges(&os.file, seen), [broken.offset]);
    at.board.writes(&os.manifest);
    at.starts("b", "new");
}

#[test]
fn only_what_the_slot_does_not_have_is_fetched() {
    let Some(at) = StreamingBoard::new("only_what_the_slot_does_not_have_is_fetched") else {
        return;
    };
    let os = at.publish(&TestBundle::new("new"));
    at.add().unwrap();
    // Everything is there.
    let seen = at.seen();
    at.add().unwrap();
    assert_eq!(at.ranges(&os.file, seen), [0; 0]);
    // Something else wrote to the slot, and the activation finds it.
    let partition = at.board.partition("rootfs-b");
    let mut bytes = fs::read(&partition).unwrap();
    bytes[5 * CHUNK] ^= 1;
    fs::write(&partition, bytes).unwrap();
    let refused = at.board.refuses_before_writing(&os.manifest);
    assert!(refused[0].contains("add the runtime again"), "{refused:?}");
    at.add().unwrap();
    let chunk = os.chunks.artifacts[1].chunks[5];
    assert_eq!(at.ranges(&os.file, seen), [chunk.offset]);
    at.board.writes(&os.manifest);
}

#[test]
fn nothing_is_written_where_something_is_in_the_way() {
    let Some(at) = StreamingBoard::new("nothing_is_written_where_something_is_in_the_way") else {
        return;
    };
    let untouched = || {
        let partitions = ["boot-a", "boot-b", "rootfs-a", "rootfs-b"];
        let bytes = partitions.map(|name| fs::read(at.board.partition(name)).unwrap());
        (bytes, at.board.get("avocado_boot_slot"))
    };
    let before = untouched();
    let refused = |bundle: &TestBundle, why: &str| {
        let os = at.publish(bundle);
        let seen = at.seen();
        let told = at.add_refused();
        assert!(told.contains(why), "{why}: {told}");
        assert_eq!(at.ranges(&os.file, seen), [0; 0], "{why}");
        assert_eq!(untouched(), before, "{why}");
    };
    let good = TestBundle::new("new");
    let mut large = good.clone();
    large.files[1].1 = vec![7; PARTITION + 1];
    let digest = Digest::of(&large.files[1].1);
    let large = large.with("/update/artifacts/1/sha256", json!(digest));
    refused(&large, "65537 bytes, and the partition rootfs-b 65536");
    let other = good.clone().with("/architecture", json!("other"));
    refused(&other, "for the architecture other");
    let other = good.clone().with("/os_build_id", json!("third"));
    refused(&other, "its bundle has third");
    // The slot has an OS that waits for its first boot.
    let os = at.publish(&good);
    at.add().unwrap();
    at.board.writes(&os.manifest);
    let before = untouched();
    at.publish(&TestBundle::new("newer"));
    let told = at.add_refused();
    assert!(told.contains("an OS update waits for its end"), "{told}");
    assert_eq!(untouched(), before);
    let request = at.request();
    let source = RuntimeSource::Repository(&request);
    let plan = at.board.device().plan(source, &Cancel::new(), &Silent);
    let problems = plan.unwrap().os_update.unwrap().problems.join("\n");
    assert!(
        problems.contains("an OS update waits for its end"),
        "{problems}"
    );
    // The same one is no other one.
    at.publish(&good);
    at.add().unwrap();
    assert_eq!(untouched(), before);
}

/// What does not stand for the bundle that the manifest names is told, and the bundle comes by the other way.
#[test]
fn an_index_that_cannot_be_used_fills_the_pool() {
    type Change = fn(&mut OsBundleChunks);
    let changes: [(&str, Change); 4] = [
        ("one of another bundle", |chunks| {
            chunks.bundle.sha256 = Digest::of(b"other");
        }),
        ("that of another bundle", |chunks| chunks.bundle.length += 1),
        ("rootfs.img is not there", |chunks| {
            chunks.artifacts.truncate(1);
        }),
        ("is not all of it in chunks", |chunks| {
            chunks.artifacts[1].chunks.truncate(1);
        }),
    ];
    for (why, change) in changes {
        let Some(at) = StreamingBoard::new("an_index_that_cannot_be_used_fills_the_pool") else {
            return;
        };
        let os = at.publish_changed(&TestBundle::new("new"), change);
        let events = Events::default();
        let device = at.board.device();
        device.add_from_url(&at.request(), &events).unwrap();
        let told = events.warnings().join("\n");
        assert!(told.contains(why), "{why}: {told}");
        assert!(at.pool().contains(&os.file), "{why}");
        let slot = fs::read(at.board.partition("rootfs-b")).unwrap();
        assert!(slot.iter().all(|byte| *byte == 0), "{why}");
        at.board.writes(&os.manifest);
    }
}

/// Every role of a repository may list an index; the manifest says which one counts.
#[test]
fn an_index_that_the_manifest_does_not_name_is_refused() {
    let name = "an_index_that_the_manifest_does_not_name_is_refused";
    let Some(at) = StreamingBoard::new(name) else {
        return;
    };
    let bundle = TestBundle::new("new");
    let (archive, mut chunks) = bundle.chunked(CHUNK);
    let named = Digest::of(&chunks.to_json().unwrap());
    let manifest = bundle.runtime("new", Digest::of(&archive), Some(named));
    let id = ImageId::from_digest(Digest::of(&archive));
    chunks.description = chunks.description.replace("testboard", "other");
    at.world.publish_as(&[
        ("manifest.json".into(), &manifest.to_json().unwrap()),
        (id.file_name(), &archive),
        (OsBundleChunks::file_name(&id), &chunks.to_json().unwrap()),
    ]);
    let told = at.add_refused();
    assert!(told.contains("do not mean the same chunks"), "{told}");
}

#[test]
fn a_bundle_that_rotted_in_the_pool_is_not_in_the_way() {
    let Some(mut at) = StreamingBoard::new("a_bundle_that_rotted_in_the_pool_is_not_in_the_way")
    else {
        return;
    };
    let os = at.publish(&TestBundle::new("new"));
    let images = at.board.paths.base.join("images");
    fs::create_dir_all(&images).unwrap();
    fs::write(images.join(&os.file), "rotten").unwrap();
    at.add().unwrap();
    assert!(!at.pool().contains(&os.file));
    at.board.writes(&os.manifest);
    at.starts("b", "new");
}

/// What is known of the OS that runs does not hang on how it came.
#[test]
fn a_bundle_for_another_board_is_refused_whatever_the_active_one_came_by() {
    let name = "a_bundle_for_another_board_is_refused_whatever_the_active_one_came_by";
    let Some(at) = StreamingBoard::new(name) else {
        return;
    };
    let own = at.publish(&TestBundle::new("old"));
    fs::write(at.board.at("initramfs-build-id"), "init-old").unwrap();
    at.add().unwrap();
    let activated = at
        .board
        .device()
        .activate(own.manifest.id.as_str(), &Silent);
    assert!(matches!(activated, Ok(Activation::Active(_))));
    at.publish(&TestBundle::new("new").with("/platform", json!("another")));
    let told = at.add_refused();
    assert!(told.contains("for the platform another"), "{told}");
}

#[test]
fn chunks_that_are_another_file_are_no_fault_of_the_disk() {
    let name = "chunks_that_are_another_file_are_no_fault_of_the_disk";
    let Some(at) = StreamingBoard::new(name) else {
        return;
    };
    let digest = json!(Digest::of(b"another"));
    at.publish(&TestBundle::new("new").with("/update/artifacts/1/sha256", digest));
    let told = at.add_refused();
    assert!(
        told.contains("the chunks of rootfs.img are another file"),
        "{told}"
    );
    assert_eq!(at.board.get("avocado_boot_slot"), "a");
}

#[test]
fn a_chunk_that_is_signed_and_holds_something_else_is_not_written() {
    let name = "a_chunk_that_is_signed_and_holds_something_else_is_not_written";
    let Some(at) = StreamingBoard::new(name) else {
        return;
    };
    at.publish_changed(&TestBundle::new("new"), |chunks| {
        chunks.artifacts[1].chunks[2].content_sha256 = Digest::of(b"other");
    });
    let told = at.add_refused();
    assert!(told.contains("a chunk of rootfs.img is damaged"), "{told}");
    let slot = fs::read(at.board.partition("rootfs-b")).unwrap();
    assert!(slot[2 * CHUNK..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_os_that_runs_is_not_written_again() {
    let Some(at) = StreamingBoard::new("an_os_that_runs_is_not_written_again") else {
        return;
    };
    let os = at.publish(&TestBundle::new("old"));
    fs::write(at.board.at("initramfs-build-id"), "init-old").unwrap();
    at.add().unwrap();
    assert_eq!(at.ranges(&os.file, 0), [0; 0]);
    let activated = at.board.device().activate(os.manifest.id.as_str(), &Silent);
    assert!(matches!(activated, Ok(Activation::Active(_))));
    let verified = at.board.device().verify(&Cancel::new(), &Silent).unwrap();
    assert!(verified.is_good(), "{:?}", verified.problems);
}

#[test]
fn a_plan_tells_what_would_be_written_and_writes_nothing() {
    let Some(at) = StreamingBoard::new("a_plan_tells_what_would_be_written_and_writes_nothing")
    else {
        return;
    };
    let os = at.publish(&TestBundle::new("new"));
    let request = at.request();
    let source = RuntimeSource::Repository(&request);
    let device = at.board.device();
    let plan = device.plan(source, &Cancel::new(), &Silent).unwrap();
    assert_eq!(plan.fetch_bytes, os.chunks.bundle.length);
    assert_eq!(plan.disk_bytes, 0);
    let [image] = plan.images.as_slice() else {
        panic!("{:?}", plan.images);
    };
    assert!(image.streamed && !image.shared);
    let update = plan.os_update.unwrap();
    assert_eq!(update.problems, [""; 0]);
    assert_eq!(update.slot.as_deref(), Some("b"));
    let written = update.artifacts.iter().map(|a| a.partition.as_str());
    assert_eq!(written.collect::<Vec<_>>(), ["boot-b", "rootfs-b"]);
    assert_eq!(at.ranges(&os.file, 0), [0; 0]);
    // Downloading ahead leaves the slot alone too.
    device.download(&request, &Cancel::new(), &Silent).unwrap();
    assert_eq!(at.ranges(&os.file, 0), [0; 0]);
    let slot = fs::read(at.board.partition("rootfs-b")).unwrap();
    assert!(slot.iter().all(|byte| *byte == 0));
}

#[test]
fn a_slot_has_one_writer() {
    let Some(at) = StreamingBoard::new("a_slot_has_one_writer") else {
        return;
    };
    let other = at.board.add("pool", &TestBundle::new("pool"));
    let os = at.publish(&TestBundle::new("new"));
    let faults = at.world.server.faults();
    let chunk = os.chunks.artifacts[1].chunks[3];
    faults.add(FaultRule::new(Fault::Stall(chunk.offset), "*.raw"));
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| at.add());
        let stalled = |requests: &[avocado_test_server::LoggedRequest]| {
            let stalled = avocado_test_server::LoggedOutcome::Stalled;
            requests.iter().any(|r| r.outcome == stalled)
        };
        let limit = std::time::Duration::from_secs(60);
        assert!(at.world.server.wait(limit, stalled));
        let why = at.board.refuses(&other);
        assert!(why.contains("is being written by a download"), "{why}");
        faults.release();
        adding.join().unwrap().unwrap();
    });
    // Then it goes, and takes the slot.
    at.board.writes(&other);
    let why = at.board.refuses(&os.manifest);
    assert!(why.contains("add the runtime again"), "{why}");
}

#[test]
fn a_repository_without_chunks_fills_the_pool() {
    let Some(at) = StreamingBoard::new("a_repository_without_chunks_fills_the_pool") else {
        return;
    };
    let bundle = TestBundle::new("new");
    let archive = bundle.archive();
    let manifest = bundle.runtime("new", Digest::of(&archive), None);
    at.world.publish(&manifest, &[&archive]);
    let events = Events::default();
    at.board
        .device()
        .add_from_url(&at.request(), &events)
        .unwrap();
    let told = events.warnings().join("\n");
    assert!(told.contains("goes to the store first"), "{told}");
    let bundle = manifest.os_bundle.as_ref().unwrap();
    assert!(at.pool().contains(&bundle.image_id.file_name()));
    at.board.writes(&manifest);
}
