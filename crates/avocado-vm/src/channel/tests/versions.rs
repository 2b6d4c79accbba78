//! Newer and older images.

use super::*;

#[test]
fn an_older_version_is_installed_only_by_its_name() {
    let place = Place::new();
    place.publish("2.0", json!({}));
    place.update();
    place.publish("1.10", json!({}));
    let offer = place.offer().unwrap();
    assert!(offer.differs() && offer.is_older() && !offer.update_available());
    let check = |wanted| offer.check_version(wanted).map_err(channel_error);
    let refused = check(None).unwrap_err();
    assert!(matches!(refused, ChannelError::Older { .. }));
    assert_eq!(
        refused.to_string(),
        "the channel has version 1.10 of the image, and 2.0, which is newer, is installed"
    );
    check(Some("1.10")).unwrap();
    assert!(matches!(
        check(Some("1.9")),
        Err(ChannelError::OtherVersion { .. })
    ));
    place.publish("2.0.1", json!({}));
    let offer = place.offer().unwrap();
    assert!(offer.update_available());
    offer.check_version(None).unwrap();
}
