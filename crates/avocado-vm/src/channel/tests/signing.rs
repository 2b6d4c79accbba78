//! Whose image it is.

use super::*;

#[test]
fn a_channel_that_was_signed_once_has_to_be() {
    let place = Place::new();
    let offered = || place.offer().map(|offer| offer.version().to_owned());
    let refused = || channel_error(place.offer().unwrap_err());
    place.publish("1.0", json!({}));
    assert_eq!(offered().unwrap(), "1.0", "nothing is signed yet");
    place.publish("1.0", json!({"signed": true}));
    place.sign("1.0", &key(1));
    assert_eq!(offered().unwrap(), "1.0");

    // Whatever the channel says now.
    place.publish("2.0", json!({}));
    assert!(
        matches!(refused(), ChannelError::NotSigned { url } if url.ends_with("2.0/manifest.json"))
    );
    place.sign("2.0", &key(1));
    assert_eq!(offered().unwrap(), "2.0");
    place.edit_manifest("2.0", |manifest| manifest["version"] = json!("9.0"));
    assert!(matches!(refused(), ChannelError::NotSigned { .. }));
    fs::remove_dir_all(place.repository()).unwrap();
    assert!(matches!(refused(), ChannelError::Untrusted { .. }));
    place.sign("2.0", &key(2));
    assert!(matches!(refused(), ChannelError::Untrusted { .. }));
}

#[test]
fn a_root_that_the_user_names_is_the_only_one() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let root = |seed| writer::root(&key(seed), now()).unwrap();
    let offered = |seed| {
        let source = place.source().signed_under(root(seed));
        source.offer(&place.dir(), now()).map_err(channel_error)
    };
    assert!(matches!(offered(1), Err(ChannelError::Untrusted { .. })));
    place.sign("1.0", &key(1));
    assert_eq!(offered(1).unwrap().version(), "1.0");
    assert!(matches!(offered(2), Err(ChannelError::Untrusted { .. })));
}

#[test]
fn plain_http_is_refused_unless_a_root_is_named() {
    let place = Place::new();
    let network = NetworkSettings::default();
    let source = ChannelClient::new("http://x.invalid/vm", "stable", PLATFORM, &network).unwrap();
    let asked =
        |source: &ChannelClient| channel_error(source.offer(&place.dir(), now()).unwrap_err());
    let refused = asked(&source);
    assert!(matches!(refused, ChannelError::Clear(_)), "{refused}");
    assert!(refused.hint().unwrap().contains("vm.channel_root"));
    let source = source.signed_under(writer::root(&key(1), now()).unwrap());
    assert!(matches!(asked(&source), ChannelError::Fetch { .. }));
    // Nor may a channel that is here name one that is not.
    let resolved = place.source().resolve("http://x.invalid/1.0");
    assert!(matches!(resolved, Err(ChannelError::Downgrade(_))));
}

#[test]
fn a_channel_is_the_same_however_its_url_is_spelled() {
    let place = Place::new();
    place.publish("1.0", json!({"signed": true}));
    place.sign("1.0", &key(1));
    place.offer().unwrap();
    place.publish("2.0", json!({}));
    let spelled = place.server.url().replace("http://", "HTTP://");
    for base in [format!("{spelled}/"), format!("{spelled}/x/..")] {
        let source = ChannelClient::new(&base, "stable", PLATFORM, &NetworkSettings::default());
        let refused = source.unwrap().offer(&place.dir(), now()).unwrap_err();
        let refused = channel_error(refused);
        assert!(matches!(refused, ChannelError::NotSigned { .. }), "{base}");
    }
}
