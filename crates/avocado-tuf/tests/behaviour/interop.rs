//! Two implementations of one specification: python-tuf reads what our writer writes, and our
//! client reads what python-tuf writes.

use std::fs;
use std::path::Path;

use avocado_events::Silent;
use avocado_manifest::Digest;
use avocado_test_server::TestServer;
use avocado_tuf::testing::TestPublisher;
use avocado_tuf::writer::{publish, renew};
use avocado_tuf::{ClientOptions, RemoteRepository, TrustedMetadata, TufClient, TufError};
use jiff::{SignedDuration, Timestamp};

use crate::python::{Python, said};
use crate::support::key;

fn serve(directory: &Path) -> TestServer {
    TestServer::start(avocado_serve::ServeOptions::new(directory)).unwrap()
}

/// Publishes files by name and content below `directory`.
fn write(directory: &Path, role: &str, files: &[(&str, &str)], now: Timestamp) {
    let desk = TestPublisher::new(directory, 1);
    desk.with(role, files, now, publish).unwrap();
}

#[test]
fn python_tuf_reads_what_our_writer_writes() {
    let Some(python) = Python::or_skip("python_tuf_reads_what_our_writer_writes") else {
        return;
    };
    let desk = tempfile::tempdir().unwrap();
    let repository = desk.path().join("repository");
    // Python goes by the system clock.
    let now = Timestamp::now() - SignedDuration::from_hours(24 * 6);
    let first = [("manifest.json", "first"), ("a.raw", "image a")];
    write(desk.path(), "runtime-dev", &first, now);
    let anchor = desk.path().join("anchor.json");
    fs::copy(repository.join("metadata/root.json"), &anchor).unwrap();

    let server = serve(&repository);
    let state = desk.path().join("state");
    let read = |names: &[&str], expected: &[&str]| {
        let url = server.url();
        let mut arguments = vec![anchor.to_str().unwrap(), &url, state.to_str().unwrap()];
        arguments.extend(names);
        let lines: Vec<_> = expected
            .iter()
            .map(|text| format!("{} {}\n", text.len(), Digest::of(text.as_bytes())))
            .collect();
        assert_eq!(python.run("read_repository.py", &arguments), lines.concat());
    };
    let names = ["manifest.json", "a.raw"];
    read(&names, &["first", "image a"]);

    // The next publication, another runtime beside it, and a renewal of what would expire.
    let second = [("manifest.json", "second"), ("b.raw", "image b")];
    write(desk.path(), "runtime-dev", &second, now);
    write(desk.path(), "runtime-other", &[("c.raw", "image c")], now);
    write(desk.path(), "runtime-dev", &second, now);
    read(&["manifest.json", "b.raw"], &["second", "image b"]);
    assert!(renew(&repository, &key(1), Timestamp::now()).unwrap());
    read(&["manifest.json", "b.raw"], &["second", "image b"]);

    // What python-tuf does not accept, it does not: the test above can fail.
    let timestamp = repository.join("metadata/timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap();
    fs::write(
        &timestamp,
        text.replace("x-avocado-issued", "x-avocado-Issued"),
    )
    .unwrap();
    let arguments = [
        anchor.to_str().unwrap(),
        &server.url(),
        state.to_str().unwrap(),
    ];
    let output = python.output("read_repository.py", &arguments);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("timestamp was signed by 0/1 keys"),
        "{}",
        said(&output)
    );
}

/// What the repository of `write_repository.py` has.
const NAMES: [&str; 4] = ["a.raw", "inner/b c.raw", "inner/deep/c.raw", "größe.raw"];

#[test]
fn our_client_reads_what_python_tuf_writes() {
    let Some(python) = Python::or_skip("our_client_reads_what_python_tuf_writes") else {
        return;
    };
    let desk = tempfile::tempdir().unwrap();
    let repository = desk.path().join("repository");
    let write = |publication: &str| {
        let directory = repository.to_str().unwrap();
        python.run("write_repository.py", &[directory, publication]);
    };
    write("1");
    let root = fs::read(repository.join("metadata/1.root.json")).unwrap();
    let server = serve(&repository);
    let client = || {
        let trusted = TrustedMetadata {
            directory: desk.path().join("trusted"),
            root_directory: desk.path().join("trusted"),
            root: root.clone(),
        };
        let remote = RemoteRepository {
            metadata_url: format!("{}/metadata", server.url()).parse().unwrap(),
            targets_url: format!("{}/targets", server.url()).parse().unwrap(),
            auth_token: None,
        };
        let options = ClientOptions {
            start_time: Timestamp::now(),
            limits: Default::default(),
            relax_legacy: false,
        };
        TufClient::open(trusted, remote, options).unwrap()
    };
    let read = |publication: &str| -> Result<(), TufError> {
        let mut client = client();
        client.refresh()?;
        for name in NAMES {
            let info = client.target(name)?.unwrap();
            let partial = desk.path().join("partial");
            client.download(&info, &partial, &Silent)?;
            let text = fs::read_to_string(partial).unwrap();
            assert_eq!(text, format!("{name} of publication {publication}"));
        }
        // Listed by a role that may not speak of it.
        assert_eq!(client.target("inner/other.raw")?, None);
        Ok(())
    };
    read("1").unwrap();
    read("1").unwrap();
    write("2");
    let second = fs::read(repository.join("metadata/timestamp.json")).unwrap();
    read("2").unwrap();
    write("3");
    read("3").unwrap();
    assert_eq!(
        client().root(),
        fs::read(repository.join("metadata/2.root.json")).unwrap()
    );
    // Signed by keys that no longer count.
    fs::write(repository.join("metadata/timestamp.json"), second).unwrap();
    let error = read("2").unwrap_err();
    assert!(
        matches!(&error, TufError::Metadata { role, .. } if role == "timestamp"),
        "{error:?}"
    );
}
