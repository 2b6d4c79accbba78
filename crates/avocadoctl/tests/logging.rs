//! What the program logs, how much of it, and what never.
#![allow(missing_docs)]

mod common;

use std::process::Output;

use common::publisher::{Publisher, TOKEN};
use common::*;
use jiff::Timestamp;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program with a filter for its log.
fn run(device: &Device, args: &[&str], filter: Option<&str>) -> Output {
    let mut command = device.command(args);
    command.env_remove("AVOCADO_LOG");
    if let Some(filter) = filter {
        command.env("AVOCADO_LOG", filter);
    }
    command.output().unwrap()
}

#[test]
fn a_command_says_more_when_asked() {
    let device = Device::new();
    let list = |more: &[&str], filter| {
        stderr(&run(
            &device,
            &[&["runtime", "list"], more].concat(),
            filter,
        ))
    };
    assert_eq!(list(&[], None), "");
    assert!(list(&["-v"], None).starts_with("on the store at "));
    assert!(list(&[], Some("info")).starts_with("on the store at "));
    // The variable decides where it is set.
    assert_eq!(list(&["-vv"], Some("error")), "");
    let service = device.serve();
    assert!(list(&["-v"], None).starts_with("by the service at "));
    let debug = list(&["-vv"], None);
    assert!(
        debug.contains("debug avocadoctl::access: calls method=org.avocado.Runtimes.List"),
        "{debug}"
    );
    let (code, _) = service.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn what_is_no_filter_is_an_error() {
    let device = Device::new();
    let output = run(&device, &["runtime", "list"], Some("loud"));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.starts_with("error: AVOCADO_LOG cannot be used: `loud` is not a level"),
        "{said}"
    );
}

/// Everything is logged that there is, on the way of a token to a server.
#[test]
fn a_token_is_never_logged() {
    let device = Device::new();
    let publisher = Publisher::new(&device);
    let manifest = runtime("dev", "1", "2026-01-01T00:00:00Z", Vec::new());
    publisher
        .desk
        .publish_runtime(&manifest, &[], Timestamp::now());
    let url = publisher.server.url();
    for service in [false, true] {
        let running = service.then(|| device.serve_logging("trace"));
        let mut command = device.command(&["runtime", "add", "--url", &url]);
        let output = command
            .env("AVOCADO_TUF_AUTH_TOKEN", TOKEN)
            .env("AVOCADO_LOG", "trace")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = stderr(&output);
        assert!(!said.contains(TOKEN), "{said}");
        if let Some(running) = running {
            let (_, log) = running.stop();
            assert!(!log.join("\n").contains(TOKEN), "{log:?}");
        } else {
            assert!(
                said.contains("answered status=200 [state_change change=add"),
                "{said}"
            );
        }
    }
}
