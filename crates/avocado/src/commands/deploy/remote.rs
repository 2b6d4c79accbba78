//! `avocadoctl` on the device: what it is asked, and what its answer means.

use std::fmt::Display;

use avocado_ssh::{SshAddress, quote};
use serde::Deserialize;
use serde_json::Deserializer;

use super::ssh::FailedCommand;
use crate::failure::Failure;

/// The exit code by which avocadoctl says that it does not know an option.
const WRONG_USAGE: i32 = 2;

/// How avocadoctl is asked for its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// JSON documents, with the names of errors.
    Json,
    /// Text for people, as the first versions know alone.
    Text,
}

/// The command line that adds and activates a runtime. One session for both: one login, and
/// nothing is activated that was not added. The server's token comes on the standard input and goes
/// on in the environment, which every version of avocadoctl reads: a command line is seen by all
/// users of the device.
pub(super) fn deploy_command(form: AnswerForm, url: &str, id: &str) -> String {
    let program = match form {
        AnswerForm::Json => "avocadoctl --output json",
        AnswerForm::Text => "avocadoctl",
    };
    format!(
        "IFS= read -r AVOCADO_TUF_AUTH_TOKEN && export AVOCADO_TUF_AUTH_TOKEN && \
         {program} runtime add --url {} && {program} runtime activate {}",
        quote(url),
        quote(id)
    )
}

/// What avocadoctl prints when it fails and was asked for JSON.
#[derive(Debug, Deserialize)]
struct ErrorDocument {
    error: DeviceError,
}

#[derive(Debug, Deserialize)]
struct DeviceError {
    kind: String,
    message: String,
    hint: Option<String>,
    #[serde(default)]
    parameters: ErrorParameters,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorParameters {
    /// Why a runtime could not be staged, by name.
    cause: Option<String>,
}

/// Whether avocadoctl is of a version that does not know `--output json`: it has refused the
/// command line before it did anything, and not as one that knows the option would.
pub(super) fn knows_no_json(failed: &FailedCommand) -> bool {
    failed.code == WRONG_USAGE && error_document(&failed.stdout).is_none()
}

/// What a failed command means for the person who deploys. Only the names of errors decide; the
/// words of the device are repeated.
pub(super) fn explain(device: &SshAddress, failed: &FailedCommand) -> Failure {
    let Some(error) = error_document(&failed.stdout) else {
        return refused(device)
            .hint(format!(
                "the avocadoctl there does not name its errors, as older ones do not; where it \
                 speaks of signatures: {OTHER_KEY}"
            ))
            .said(&failed.last_lines);
    };
    let untrusted = error.kind == "StagingFailed"
        && error.parameters.cause.as_deref() == Some("UntrustedSignature");
    let mut failure = if untrusted {
        Failure::new(format!("{device} does not trust this signing key")).hint(OTHER_KEY)
    } else {
        refused(device).maybe_hint(error.hint.map(|hint| format!("on the device: {hint}")))
    };
    failure.causes.push(error.message);
    failure
}

/// What to do where a device trusts another key.
const OTHER_KEY: &str = "the device trusts the key that its own image was built with: name that \
                         key in `runtimes.<name>.signing.key`, or provision the device with this \
                         project";

fn refused(device: &impl Display) -> Failure {
    Failure::new(format!("{device} refused the runtime"))
}

/// The error document at the end of what avocadoctl printed. Each of its commands prints one
/// document, and after one that failed there is no other.
fn error_document(stdout: &str) -> Option<DeviceError> {
    let documents = Deserializer::from_str(stdout).into_iter::<serde_json::Value>();
    let last = documents.map_while(Result::ok).last()?;
    let document: ErrorDocument = serde_json::from_value(last).ok()?;
    Some(document.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, stdout: &str) -> FailedCommand {
        FailedCommand {
            code,
            stdout: stdout.to_owned(),
            last_lines: vec!["the last line".to_owned()],
        }
    }

    fn device() -> SshAddress {
        "root@dev:2222".parse().unwrap()
    }

    #[test]
    fn the_name_of_the_error_decides_and_not_its_words() {
        let document = |kind: &str, cause: &str, message: &str| {
            format!(
                r#"{{"status": "ok"}}
                {{"error": {{"kind": "{kind}", "message": "{message}", "hint": "do that",
                             "parameters": {{"reason": "{message}", "cause": {cause}}}}}}}"#
            )
        };
        let untrusted = "root@dev:2222 does not trust this signing key";
        let refused = "root@dev:2222 refused the runtime";
        for (kind, cause, message, expected) in [
            (
                "StagingFailed",
                "\"UntrustedSignature\"",
                "reworded",
                untrusted,
            ),
            ("StagingFailed", "\"NoSpace\"", "it is full", refused),
            (
                "StagingFailed",
                "null",
                "it has 0 of 1 needed signatures",
                refused,
            ),
            ("UpdateFailed", "null", "not merged", refused),
        ] {
            let failure = explain(&device(), &failed(1, &document(kind, cause, message)));
            assert_eq!(failure.message, expected);
            assert_eq!(failure.causes, [message]);
            let hint = failure.hint.unwrap();
            if expected == untrusted {
                assert!(hint.contains("signing.key"), "{hint}");
            } else {
                assert_eq!(hint, "on the device: do that");
            }
        }
    }

    #[test]
    fn an_older_device_is_told_apart_and_its_words_are_repeated() {
        // It does not know the option.
        assert!(knows_no_json(&failed(2, "")));
        // It knows it, and the command line was wrong in another way.
        let usage = r#"{"error": {"kind": "Usage", "message": "no such command"}}"#;
        assert!(!knows_no_json(&failed(2, usage)));
        assert!(!knows_no_json(&failed(1, "")));
        let failure = explain(&device(), &failed(1, "Runtime dev is staged"));
        assert_eq!(failure.message, "root@dev:2222 refused the runtime");
        assert_eq!(failure.causes, ["the last line"]);
        assert!(failure.hint.unwrap().contains("signing.key"));
    }

    #[test]
    fn both_commands_are_asked_alike() {
        assert_eq!(
            deploy_command(AnswerForm::Json, "http://h:1", "ab"),
            "IFS= read -r AVOCADO_TUF_AUTH_TOKEN && export AVOCADO_TUF_AUTH_TOKEN && \
             avocadoctl --output json runtime add --url 'http://h:1' && \
             avocadoctl --output json runtime activate 'ab'"
        );
        assert_eq!(
            deploy_command(AnswerForm::Text, "http://h:1", "ab"),
            "IFS= read -r AVOCADO_TUF_AUTH_TOKEN && export AVOCADO_TUF_AUTH_TOKEN && \
             avocadoctl runtime add --url 'http://h:1' && avocadoctl runtime activate 'ab'"
        );
    }
}
