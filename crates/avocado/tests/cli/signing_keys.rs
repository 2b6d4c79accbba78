use serde_json::Value;

use crate::{Place, there};

#[test]
fn a_key_is_created_listed_and_removed() {
    let place = Place::new();
    let created = place
        .run(&["signing-keys", "create", "release"])
        .ok()
        .stdout;
    let id = created.split_whitespace().last().unwrap().to_owned();
    assert_eq!(created, format!("created release\nkey id  {id}\n"));
    assert_eq!(id.len(), 64);
    let home = place.path("home/.config/avocado/signing-keys");
    assert!(there(home.join(format!("{id}.key"))));

    let table = place.run(&["signing-keys", "list"]).ok().stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].starts_with("NAME ") && rows[1].starts_with("release  ed25519"));
    assert!(rows[1].ends_with(&id));

    let json = place
        .run(&["signing-keys", "list", "--output", "json"])
        .ok()
        .stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], "release");
    assert_eq!(json[0]["keyid"], id.as_str());
    assert_eq!(json[0]["algorithm"], "ed25519");

    place.run(&["signing-keys", "remove", &id]).ok();
    assert!(!there(home.join(format!("{id}.key"))));
    let json = place
        .run(&["signing-keys", "list", "--output", "json"])
        .ok()
        .stdout;
    assert_eq!(json, "[]\n");
}

#[test]
fn the_directory_can_be_chosen() {
    let place = Place::new();
    let mut command = place.command();
    command
        .env("AVOCADO_SIGNING_KEYS_DIR", "keys")
        .args(["signing-keys", "create"]);
    place.end(&mut command).ok();
    assert!(there(place.path("keys/keys.json")) && !there(place.path("home")));
}

#[test]
fn a_key_is_not_replaced_and_not_guessed() {
    let place = Place::new();
    place.run(&["signing-keys", "create", "a"]).ok();
    let twice = place.run(&["signing-keys", "create", "a"]).failed(1);
    insta::assert_snapshot!("key-exists", twice.stderr);
    let unknown = place.run(&["signing-keys", "remove", "b"]).failed(1);
    insta::assert_snapshot!("key-unknown", unknown.stderr);
}
