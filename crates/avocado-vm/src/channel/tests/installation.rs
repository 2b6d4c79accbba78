//! From the staging directory to the image.

use super::*;

#[test]
fn an_image_is_installed_and_then_current() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    assert!(offer.update_available());
    assert_eq!(offer.installed, None);
    place.update();
    place.is_installed("1.0");
    assert_eq!(files(&place.install().join("staging")), [".lock"]);
}

#[test]
fn an_interrupted_installation_is_finished() {
    // After each rename.
    for moved in 0..=4 {
        let place = Place::new();
        place.publish("1.0", json!({}));
        place.update();
        place.publish("2.0", json!({}));
        let offer = place.offer().unwrap();
        let turn = UpdateLock::take(&place.dir()).unwrap();
        let pending = place.download(&turn, &offer).unwrap();
        turn.remember_running().unwrap();
        drop((pending, turn));
        let staging = place.install().join("staging/2.0");
        for name in ["initramfs.img", "kernel.img", "rootfs.img", MANIFEST]
            .iter()
            .take(moved)
        {
            fs::rename(staging.join(name), place.install().join(name)).unwrap();
        }
        let turn = UpdateLock::take(&place.dir()).unwrap();
        assert!(turn.was_running());
        match turn.pending().unwrap() {
            Some(pending) => {
                assert_eq!(pending.version(), Some("2.0"));
                let lock = VmLock::take(&place.dir(), "test").unwrap();
                turn.install(&pending, &lock).unwrap();
            }
            None => assert_eq!(moved, 4),
        }
        place.is_installed("2.0");
        assert_eq!(
            files(&place.install().join("staging")),
            [".lock", ".was-running"]
        );
        forget_running(&place.dir()).unwrap();
        assert!(!turn.was_running());
    }
}

#[test]
fn what_another_version_left_is_dropped() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let old = place.install().join("staging/0.9");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join(".part-rootfs.img"), "half").unwrap();
    place.update();
    assert!(!old.exists());
}

#[test]
fn there_is_one_update_at_a_time() {
    let place = Place::new();
    let turn = UpdateLock::take(&place.dir()).unwrap();
    let error = channel_error(UpdateLock::take(&place.dir()).unwrap_err());
    assert!(matches!(error, ChannelError::Busy), "{error:?}");
    drop(turn);
    UpdateLock::take(&place.dir()).unwrap();
}

#[test]
fn a_version_that_is_a_path_stays_inside() {
    let place = Place::new();
    place.publish("1.0", json!({"version": "../../../out"}));
    place.update();
    assert_eq!(files(place.root.path()), ["vm", "www"]);
    assert_eq!(files(&place.install().join("staging")), [".lock"]);
}
