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
        // Engines take names in whatever case.
        (
            Container,
            json!({"hostconfig": {"binds": ["/in:/m"]}, "HostConfig": {"Binds": ["/in/b:/b"]}}),
            Ok(Some(json!({"hostconfig": {"binds": ["/guest:/m"]},
                "HostConfig": {"Binds": ["/guest/b:/b"]}}))),
        ),
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
