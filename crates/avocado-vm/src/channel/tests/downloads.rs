//! What is fetched, and what of it is kept.

use super::*;

#[test]
fn only_what_differs_is_fetched_and_the_seed_stays() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    place.update();
    let seed = fs::read(place.install().join("var.img")).unwrap();
    place.publish("2.0", json!({}));
    // The kernel is the same.
    fs::copy(
        place.www().join("1.0/kernel.img"),
        place.www().join("2.0/kernel.img"),
    )
    .unwrap();
    place.edit_manifest("2.0", |manifest| {
        let digest = Digest::of(b"kernel of 1.0");
        manifest["artifacts"]["kernel"]["sha256"] = json!(digest.to_string());
        manifest["artifacts"]["kernel"]["size"] = json!(13);
        // And a file of another name takes the place of one.
        manifest["artifacts"]["initramfs"]["file"] = json!("initramfs.new");
    });
    fs::rename(
        place.www().join("2.0/initramfs.img"),
        place.www().join("2.0/initramfs.new"),
    )
    .unwrap();
    let offer = place.offer().unwrap();
    assert_eq!(offer.fetch, ["initramfs", "rootfs"]);
    assert_eq!(offer.installed.as_deref(), Some("1.0"));
    assert!(
        !offer.new_seed,
        "there is no /var that could miss something"
    );
    fs::write(place.dir().file(StateFile::Var), "").unwrap();
    assert!(place.offer().unwrap().new_seed);
    place.update();
    place.is_installed("2.0");
    assert_eq!(fs::read(place.install().join("var.img")).unwrap(), seed);
    assert_eq!(
        files(&place.install()),
        [
            "initramfs.new",
            "kernel.img",
            "manifest.json",
            "rootfs.img",
            "staging",
            "var.img"
        ]
    );
}

#[test]
fn a_new_version_of_the_same_files_is_taken_over_once() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    place.update();
    place.edit_manifest("1.0", |manifest| manifest["version"] = json!("1.0.1"));
    let offer = place.offer().unwrap();
    assert!(offer.update_available());
    assert!(offer.fetch.is_empty());
    let before = place.requests();
    place.update();
    place.is_installed("1.0.1");
    // Twice the channel and the manifest, and no file.
    assert_eq!(place.requests(), before + 4);
}

#[test]
fn cut_downloads_go_on_where_they_stopped() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(place.www().join("1.0/rootfs.img"), &bytes).unwrap();
    place.edit_manifest("1.0", |manifest| {
        let rootfs = &mut manifest["artifacts"]["rootfs"];
        rootfs["sha256"] = json!(Digest::of(&bytes).to_string());
        rootfs["size"] = json!(bytes.len());
    });
    let faults = place.server.faults();
    faults.add(FaultRule::new(Fault::Cut(1_000_000), "*/rootfs.img").first(3));
    place.update();
    place.is_installed("1.0");
    let requests = place.server.requests();
    let tries: Vec<_> = requests
        .iter()
        .filter(|r| r.path.ends_with("rootfs.img"))
        .collect();
    assert_eq!(tries.len(), 3, "each goes on");
    let sent: u64 = tries.iter().map(|r| r.sent).sum();
    assert_eq!(sent, bytes.len() as u64, "no byte came twice");
}

#[test]
fn a_server_that_dies_leaves_what_it_sent_for_the_next_run() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let faults = place.server.faults();
    // Five bytes, and then never one more.
    faults.add(FaultRule::new(Fault::Cut(0), "*/rootfs.img"));
    faults.add(FaultRule::new(Fault::Cut(5), "*/rootfs.img").first(1));
    let offer = place.offer().unwrap();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let error = place.download(&turn, &offer).unwrap_err();
    let error = channel_error(error);
    assert!(
        matches!(error, ChannelError::Cut { done: 5, .. }),
        "{error:?}"
    );
    assert!(error.hint().is_some());
    assert!(turn.pending().unwrap().is_none());
    assert!(!place.install().join(MANIFEST).exists());
    drop(turn);
    let partial = place.install().join("staging/1.0/.part-rootfs.img");
    assert_eq!(fs::read(&partial).unwrap(), b"rootf");
    faults.clear();
    place.update();
    place.is_installed("1.0");
}

#[test]
fn wrong_bytes_never_get_a_name() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let faults = place.server.faults();
    faults.add(FaultRule::new(Fault::Corrupt(3), "*/kernel.img"));
    let offer = place.offer().unwrap();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let error = channel_error(place.download(&turn, &offer).unwrap_err());
    assert!(matches!(error, ChannelError::Damaged { .. }), "{error:?}");
    let staging = place.install().join("staging/1.0");
    assert!(!staging.join("kernel.img").exists());
    assert!(turn.pending().unwrap().is_none());
    // Rubbish that an earlier run left is fetched anew, without Range as well.
    faults.clear();
    faults.add(FaultRule::new(Fault::IgnoreRange, "*"));
    fs::write(staging.join(".part-kernel.img"), "kernel rub").unwrap();
    fs::write(
        staging.join(".part-rootfs.img"),
        "longer than the whole file can be",
    )
    .unwrap();
    drop(turn);
    place.update();
    place.is_installed("1.0");
}

#[test]
fn a_file_that_is_longer_than_promised_is_not_stored() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    fs::write(place.www().join("1.0/kernel.img"), vec![1; 1 << 20]).unwrap();
    let offer = place.offer().unwrap();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let error = channel_error(place.download(&turn, &offer).unwrap_err());
    assert!(matches!(error, ChannelError::TooLarge { .. }), "{error:?}");
}

#[test]
fn progress_counts_all_files_and_ends_at_the_total() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let said = Mutex::new(Vec::new());
    let sink = |event: Event| said.lock().unwrap().push(event);
    let cancel = Cancel::new();
    turn.download(&place.source(), &offer, &cancel, &sink)
        .unwrap();
    let said = said.into_inner().unwrap();
    let last = said.iter().rev().find(|e| e.done.is_some()).unwrap();
    assert_eq!(last.done, last.total);
    let size: usize = ["kernel", "initramfs", "rootfs", "var"]
        .iter()
        .map(|r| r.len() + " of 1.0".len())
        .sum();
    assert_eq!(last.total, Some(size as u64));
    cancel.cancel();
    drop(turn);
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let error = turn
        .download(&place.source(), &offer, &cancel, &Silent)
        .unwrap_err();
    assert!(matches!(channel_error(error), ChannelError::Cancelled));
}
