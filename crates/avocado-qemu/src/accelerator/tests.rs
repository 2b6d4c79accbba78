use avocado_test_support::skip;

use super::*;
use crate::find_binary;

fn binary(test: &str, architecture: Architecture) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = find_binary(std::env::split_paths(&path), architecture);
    if let Err(error) = &found {
        skip(test, error);
    }
    found.ok()
}

#[tokio::test]
async fn the_guests_get_through_where_they_are_emulated() {
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let test = "the_guests_get_through_where_they_are_emulated";
        let Some(binary) = binary(test, architecture) else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let result = run_probe_guest(&binary, architecture, Accelerator::Tcg, dir.path()).await;
        assert_eq!(result.unwrap(), Ok(()), "{architecture}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_qemu_that_runs_nothing_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new("/bin/true");
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let result = run_probe_guest(program, architecture, Accelerator::Kvm, dir.path()).await;
        assert!(result.unwrap().is_err(), "{architecture}");
    }
}

#[tokio::test]
async fn what_is_chosen_works() {
    let Some(binary) = binary("what_is_chosen_works", Architecture::X86_64) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let architecture = Architecture::X86_64;
    let found = probe_accelerator(&binary, architecture, dir.path())
        .await
        .unwrap();
    assert_eq!(
        found.notice.is_some(),
        found.accelerator == Accelerator::Tcg
    );
    let result = run_probe_guest(&binary, architecture, found.accelerator, dir.path()).await;
    assert_eq!(result.unwrap(), Ok(()), "{found:?}");
    assert_eq!(
        found.key,
        AcceleratorProbeKey::of(&binary, architecture).unwrap()
    );
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(
        serde_json::from_str::<AcceleratorProbe>(&json).unwrap(),
        found
    );
}

#[test]
fn an_architecture_that_this_host_is_not() {
    let other = match std::env::consts::ARCH {
        "x86_64" => Architecture::Aarch64,
        _ => Architecture::X86_64,
    };
    let notice = host_accelerator(other).unwrap_err();
    assert!(notice.contains(other.name()), "{notice}");
}

#[cfg(unix)]
#[test]
fn the_first_complaint_is_the_reason() {
    use std::os::unix::process::ExitStatusExt;
    let output = |stderr: &str| Output {
        status: std::process::ExitStatus::from_raw(6),
        stdout: vec![],
        stderr: stderr.as_bytes().to_vec(),
    };
    for (stderr, expected) in [
        (
            "qemu: warning: old\nqemu: error: bad\nqemu: worse\n",
            "error: bad",
        ),
        ("bad\n", "bad"),
    ] {
        assert_eq!(failure_reason(&output(stderr)), expected);
    }
    assert!(failure_reason(&output("")).contains('6'));
}
