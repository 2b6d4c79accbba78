//! What a channel says.

use super::*;

#[test]
fn what_is_wrong_with_a_channel_is_an_error() {
    let place = Place::new();
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        ChannelError::Fetch { .. }
    ));
    fs::write(place.www().join("stable.json"), "<html>").unwrap();
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        ChannelError::Index { .. }
    ));
    place.publish("1.0", json!({"platforms": {}}));
    let error = channel_error(place.offer().unwrap_err());
    assert_eq!(
        error.to_string(),
        "channel stable has no image for avocado-qemux86-64"
    );
    place.publish("1.0", json!({"min_cli_version": "99.0.0"}));
    let error = channel_error(place.offer().unwrap_err());
    assert_eq!(
        error.to_string(),
        format!(
            "version 1.0 of the image needs avocado 99.0.0 or later; this is {}",
            env!("CARGO_PKG_VERSION")
        )
    );
    place.publish("1.0", json!({"min_cli_version": "soon"}));
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        ChannelError::Index { .. }
    ));
    place.publish("1.0", json!({"min_cli_version": "0.1.0"}));
    place.offer().unwrap();
    fs::write(place.www().join("1.0/manifest.json"), "{}").unwrap();
    assert!(matches!(
        place.offer().unwrap_err(),
        crate::VmError::Manifest { .. }
    ));
    for name in ["", "..", "a/b", ".x"] {
        let error = ChannelClient::new("http://x", name, PLATFORM, &NetworkSettings::default())
            .unwrap_err();
        assert!(
            matches!(channel_error(error), ChannelError::Name(_)),
            "{name}"
        );
    }
}

#[test]
fn a_channel_is_remembered_for_a_day() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let (source, dir) = (place.source(), place.dir());
    let version = |now| source.remembered(&dir, now).unwrap().version;
    assert_eq!(version(now()), "1.0");
    place.publish("2.0", json!({}));
    let hours = |hours| now() + jiff::SignedDuration::from_hours(hours);
    assert_eq!(version(hours(23)), "1.0");
    assert_eq!(place.requests(), 1);
    // A clock that was set back proves nothing.
    assert_eq!(version(hours(-1)), "2.0");
    place.publish("3.0", json!({}));
    assert_eq!(version(hours(24)), "3.0");
    assert_eq!(version(hours(25)), "3.0");
    place.publish("4.0", json!({}));
    let asked = source.index(&dir, hours(25)).unwrap().version;
    assert_eq!(asked, "4.0", "who asks aloud is told the latest");
}

#[test]
fn secure_channels_name_nothing_insecure() {
    let source = ChannelClient::new(
        "https://x/y/",
        "stable",
        PLATFORM,
        &NetworkSettings::default(),
    )
    .unwrap();
    assert_eq!(source.url(), "https://x/y/stable.json");
    let resolve = |url| source.resolve(url).map_err(|e| e.to_string());
    assert_eq!(resolve("1.0/"), Ok("https://x/y/1.0".to_owned()));
    assert_eq!(resolve("https://z/1.0/"), Ok("https://z/1.0".to_owned()));
    assert!(resolve("http://x/y/1.0").is_err());
    assert!(resolve("file:///etc").is_err());
}

#[test]
fn the_base_is_a_url_without_secrets() {
    for base in [
        "",
        "ftp://x",
        "https://me:s3cret@x/vm",
        "https://x/vm?s3cret",
    ] {
        let network = NetworkSettings::default();
        let refused = ChannelClient::new(base, "stable", PLATFORM, &network).unwrap_err();
        let refused = channel_error(refused);
        assert!(matches!(refused, ChannelError::Base { .. }), "{base}");
        let told = format!("{refused} {refused:?}");
        assert!(!told.contains("s3cret"), "{told}");
        assert!(refused.hint().is_some());
    }
}
