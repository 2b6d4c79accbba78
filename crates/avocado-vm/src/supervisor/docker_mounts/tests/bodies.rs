use serde_json::{Value, json};

use super::super::body::BodyKind;

/// Changes `/in/…` to `/guest/…`, leaves `/same`, and refuses others.
fn change(path: &str) -> Result<Option<String>, String> {
    match path.strip_prefix("/in") {
        Some(rest) => Ok(Some(format!("/guest{rest}"))),
        None if path == "/same" => Ok(None),
        None => Err(path.to_owned()),
    }
}

fn changed(kind: BodyKind, body: Value) -> Result<Option<Value>, String> {
    let mut after = body.clone();
    let said = kind.change_paths(&mut after, &mut change)?;
    assert_eq!(said, after != body);
    Ok(said.then_some(after))
}

#[test]
fn only_paths_of_the_machine_are_changed() {
    use BodyKind::{Container, PodmanSpec, Service, Volume};
    for (kind, body, expected) in [
        (
            Container,
            json!({"Image": "x", "Volumes": {"/v": {}}}),
            Ok(None),
        ),
        (Container, json!(null), Ok(None)),
        (Container, json!([1, "HostConfig"]), Ok(None)),
        (
            Container,
            json!({"HostConfig": {"Binds": null, "Mounts": 7}}),
            Ok(None),
        ),
        (
            Container,
            json!({"Image": "x", "HostConfig": {"Binds": ["/in/a:/m:ro", "cache:/c", "/same:/s"]}}),
            Ok(Some(json!({"Image": "x",
                "HostConfig": {"Binds": ["/guest/a:/m:ro", "cache:/c", "/same:/s"]}}))),
        ),
        // Engines take names in whatever case, and letters that are the same in another one.
        (
            Container,
            json!({"ho\u{17f}tconfig": {"binds": ["/in:/m"]}}),
            Ok(Some(json!({"ho\u{17f}tconfig": {"binds": ["/guest:/m"]}}))),
        ),
        (
            Service,
            json!({"Tas\u{212a}Template": {"ContainerSpec": {"Mounts": [
                {"Type": "bind", "Source": "/other"}]}}}),
            Err("/other".to_owned()),
        ),
        // Podman takes these for what it mounts as well.
        (
            Container,
            json!({"Volumes": {"/v": {}, "/in/a:/m": {}, "n:/n": {}}}),
            Ok(Some(
                json!({"Volumes": {"/v": {}, "/guest/a:/m": {}, "n:/n": {}}}),
            )),
        ),
        (
            Container,
            json!({"Volumes": {"/other:/m": {}}}),
            Err("/other".to_owned()),
        ),
        (
            PodmanSpec,
            json!({"rootfs": "/in/root", "mounts": [
                {"type": "none", "source": "/in", "options": ["ro", "rbind"]}]}),
            Ok(Some(json!({"rootfs": "/guest/root", "mounts": [
                {"type": "none", "source": "/guest", "options": ["ro", "rbind"]}]}))),
        ),
        (PodmanSpec, json!({"rootfs": ""}), Ok(None)),
        (
            Container,
            json!({"HostConfig": {"Mounts": [
                {"Type": "bind", "Source": "/in", "Target": "/in"},
                {"Type": "volume", "Source": "cache", "Target": "/other"},
                {"Type": "tmpfs", "Target": "/other"},
            ]}}),
            Ok(Some(json!({"HostConfig": {"Mounts": [
                {"Type": "bind", "Source": "/guest", "Target": "/in"},
                {"Type": "volume", "Source": "cache", "Target": "/other"},
                {"Type": "tmpfs", "Target": "/other"},
            ]}}))),
        ),
        (
            Container,
            json!({"HostConfig": {"Binds": ["/in:/m", "/other:/m"]}}),
            Err("/other".to_owned()),
        ),
        (
            Container,
            json!({"HostConfig": {"Mounts": [{"type": "bind", "source": "/other"}]}}),
            Err("/other".to_owned()),
        ),
        (
            Container,
            json!({"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig":
                {"Options": {"type": "none", "o": "bind", "device": "/other"}}}}]}}),
            Err("/other".to_owned()),
        ),
        (
            Service,
            json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [
                {"Type": "bind", "Source": "/in/x"}]}}}),
            Ok(Some(json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [
                {"Type": "bind", "Source": "/guest/x"}]}}}))),
        ),
        (
            Volume,
            json!({"Name": "v", "DriverOpts": {"type": "none", "o": "rw,bind", "device": "/in"}}),
            Ok(Some(
                json!({"Name": "v", "DriverOpts": {"type": "none", "o": "rw,bind", "device": "/guest"}}),
            )),
        ),
        (
            Volume,
            json!({"DriverOpts": {"type": "nfs", "o": "addr=h", "device": ":/other"}}),
            Ok(None),
        ),
        (
            Volume,
            json!({"DriverOpts": {"type": "ext4", "device": "/dev/vdb"}}),
            Ok(None),
        ),
        (
            PodmanSpec,
            json!({"mounts": [{"type": "bind", "source": "/in"}, {"type": "devpts", "source": "x"}],
                "overlay_volumes": [{"source": "/in/o", "destination": "/o"}],
                "volumes": [{"Name": "n", "Dest": "/d"}]}),
            Ok(Some(
                json!({"mounts": [{"type": "bind", "source": "/guest"},
                {"type": "devpts", "source": "x"}],
                "overlay_volumes": [{"source": "/guest/o", "destination": "/o"}],
                "volumes": [{"Name": "n", "Dest": "/d"}]}),
            )),
        ),
    ] {
        assert_eq!(changed(kind, body.clone()), expected, "{body}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    use BodyKind::{Container, PodmanSpec, Volume};
    for (kind, body, why) in [
        (
            Container,
            json!({"hostconfig": {}, "HostConfig": {"Binds": []}}),
            "HostConfig twice",
        ),
        (
            Container,
            json!({"HostConfig": {"Binds": [], "Bind\u{17f}": []}}),
            "Binds twice",
        ),
        (
            Container,
            json!({"HostConfig": {"Mounts": [{"Type": "volume", "type": "bind"}]}}),
            "Type twice",
        ),
        (
            Container,
            json!({"HostConfig": {"Binds": ["./a:/m"]}}),
            "\"./a\"",
        ),
        (
            Container,
            json!({"HostConfig": {"Binds": ["..:/m"]}}),
            "\"..\"",
        ),
        (
            Container,
            json!({"HostConfig": {"Binds": ["~/a:/m"]}}),
            "\"~/a\"",
        ),
        (Container, json!({"Volumes": {".:/m": {}}}), "\".\""),
        (
            Container,
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "a"}]}}),
            "\"a\"",
        ),
        (
            Container,
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": ""}]}}),
            "\"\"",
        ),
        (PodmanSpec, json!({"rootfs": "root"}), "\"root\""),
        (
            PodmanSpec,
            json!({"overlay_volumes": [{"source": "./o"}]}),
            "\"./o\"",
        ),
        (
            Volume,
            json!({"DriverOpts": {"o": "bind", "device": "a"}}),
            "\"a\"",
        ),
        // Where the path ends is not known any more.
        (
            Container,
            json!({"HostConfig": {"Binds": ["/in/colon:/m"]}}),
            "--mount type=bind",
        ),
    ] {
        let mut into_colon = |path: &str| match path {
            "/in/colon" => Ok(Some("/guest/a:b".to_owned())),
            path => change(path),
        };
        let said = kind.change_paths(&mut body.clone(), &mut into_colon);
        let said = said.expect_err(&body.to_string());
        assert!(said.contains(why), "{body}: {said}");
        if why.ends_with('"') {
            assert!(said.contains("name it from the root"), "{said}");
        }
    }
    let mount = json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/in/a:b"}]}});
    let there = json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/guest/a:b"}]}});
    assert_eq!(changed(Container, mount), Ok(Some(there)));
}

#[test]
fn targets() {
    for (target, kind) in [
        ("/containers/create", Some(BodyKind::Container)),
        ("/v1.41/containers/create?name=x", Some(BodyKind::Container)),
        (
            "http://d/v1.24/containers/create",
            Some(BodyKind::Container),
        ),
        ("/services/create", Some(BodyKind::Service)),
        (
            "/v1.41/services/abc/update?version=1",
            Some(BodyKind::Service),
        ),
        ("/volumes/create", Some(BodyKind::Volume)),
        (
            "/v4.0.0/libpod/containers/create",
            Some(BodyKind::PodmanSpec),
        ),
        ("/v4.0.0/libpod/pods/create", Some(BodyKind::PodmanSpec)),
        ("/v4.0.0/libpod/volumes/create", Some(BodyKind::Volume)),
        ("/containers/%63reate", Some(BodyKind::Container)),
        (
            "/v1.41/container%73%2fcreate?x=%",
            Some(BodyKind::Container),
        ),
        ("//containers//create", Some(BodyKind::Container)),
        ("/containers/create%", None),
        ("/containers/%zzcreate", None),
        ("/", None),
        ("", None),
        ("http://d", None),
        ("/volumes/create/x", None),
        ("/build?x=/containers/create", None),
        ("/containers/create/start", None),
        ("/images/create", None),
    ] {
        assert_eq!(BodyKind::of_target(target), kind, "{target}");
    }
}
