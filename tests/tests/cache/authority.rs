//! A server of a cache that an authority of the team vouches for.

use std::fs;

use avocado_serve::{FileServer, ServeOptions, UploadOptions};

use super::common::authority::authority;
use super::common::cannot_build;
use super::{ONE_IMAGE, Team, is_shared_by_cache, shared, told};

#[test]
fn a_server_with_a_private_authority_is_a_cache_for_those_who_name_it() {
    if cannot_build("a_server_with_a_private_authority_is_a_cache_for_those_who_name_it") {
        return;
    }
    let team = Team::new();
    let root = team.path("served");
    fs::create_dir(&root).unwrap();
    let (certificate, identity) = authority();
    let server = FileServer::start(ServeOptions {
        tls: Some(identity),
        uploads: Some(UploadOptions::default()),
        ..ServeOptions::new(&root)
    });
    let server = server.unwrap();
    let file = team.path("ca.pem");
    fs::write(&file, certificate).unwrap();
    let url = format!("url: '{}'", server.url());
    is_shared_by_cache(&team, &format!("{url}, ca: {}", file.display()), &[]);

    // Who does not name it, names another one, or none that is there, makes everything.
    let (other, _) = authority();
    let foreign = team.path("foreign.pem");
    fs::write(&foreign, other).unwrap();
    for ca in ["", ", ca: ../../../foreign.pem", ", ca: none.pem"] {
        let machine = team.machine("third", &format!("{{{url}{ca}}}"));
        let events = machine.run(&ONE_IMAGE);
        let warnings = told(&events);
        assert_eq!(warnings.len(), 1, "{ca}: {warnings:?}");
        assert!(warnings[0].contains("left out"), "{ca}: {warnings:?}");
        assert_eq!(shared(events.steps("success")), ["ext image hello-config"]);
        fs::remove_dir_all(team.path("third")).unwrap();
    }
}
