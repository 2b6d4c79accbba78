use avocado_varlink::client::ClientError;
use avocado_varlink::idl::Interface;
use serde_json::{Value, json};

use super::{FailedWork, Failure};

/// One of each that the interfaces declare.
fn declared() -> Vec<Failure> {
    let work = |hint: Option<&str>| FailedWork {
        reason: "it broke".into(),
        hint: hint.map(str::to_owned),
    };
    vec![
        Failure::RuntimeNotFound { id: "a".into() },
        Failure::AmbiguousRuntimeId {
            id: "a".into(),
            candidates: vec!["ab".into(), "ac".into()],
        },
        Failure::RemoveActiveRuntime {},
        Failure::RemovePinnedRuntime { id: "a".into() },
        Failure::MetadataKeyNotFound {
            id: "a".to_owned(),
            key: "k".to_owned(),
        },
        Failure::NoPreviousRuntime {},
        Failure::StagingFailed {
            what: work(Some("mend it")),
            cause: Some("NoSpace".into()),
        },
        Failure::StagingFailed {
            what: work(None),
            cause: None,
        },
        Failure::UpdateFailed(work(Some("mend it"))),
        Failure::MergeFailed(work(None)),
        Failure::UnmergeFailed(work(None)),
        Failure::ExtensionNotFound { name: "a".into() },
        Failure::ConfigurationError {
            message: "m".into(),
        },
        Failure::CommandFailed {
            command: "List".into(),
            message: "m".into(),
        },
        Failure::HitlMountFailed {
            extension: "a".into(),
            reason: "r".into(),
        },
        Failure::HitlUnmountFailed {
            extension: "a".into(),
            reason: "r".into(),
        },
        Failure::NoRootAuthority {},
        Failure::ParseFailed { reason: "r".into() },
        Failure::ForgetFailed { reason: "r".into() },
    ]
}

#[test]
fn what_the_service_answers_is_what_its_client_reads() {
    for failure in declared() {
        let (name, parameters) = failure.reply().unwrap();
        let (interface, error) = name.rsplit_once('.').unwrap();
        let all = crate::service::IDL.map(|text| Interface::parse(text).unwrap());
        let declared = all.iter().find(|i| i.name() == interface).unwrap();
        assert_eq!(declared.check_error(error, &parameters), Ok(()), "{name}");
        let read = Failure::from(ClientError::Service {
            name: name.to_owned(),
            parameters,
        });
        assert_eq!(read.document(), failure.document(), "{name}");
        assert!(name.ends_with(&failure.kind()), "{name}");
        assert!(!failure.to_string().is_empty());
    }
}

#[test]
fn every_declared_error_has_a_failure() {
    let names: Vec<&str> = declared()
        .iter()
        .filter_map(|failure| Some(failure.reply()?.0))
        .collect();
    for text in crate::service::IDL {
        let mut lines = text.lines();
        let interface = lines.find_map(|line| line.strip_prefix("interface "));
        let errors = lines.filter_map(|line| line.strip_prefix("error "));
        for error in errors {
            let error = error.split([' ', '(']).next().unwrap();
            let name = format!("{}.{error}", interface.unwrap());
            assert!(names.contains(&name.as_str()), "{name}");
        }
    }
}

#[test]
fn errors_of_other_versions_are_told_as_they_are() {
    let read = |name: &str, parameters: Value| {
        let Value::Object(parameters) = parameters else {
            panic!("no object")
        };
        Failure::from(ClientError::Service {
            name: name.into(),
            parameters,
        })
    };
    // What an older service does not say, and what a newer one says in addition.
    let old = read(
        "org.avocado.Runtimes.StagingFailed",
        json!({"reason": "it broke", "more": 1}),
    );
    assert_eq!(old.kind(), "StagingFailed");
    assert_eq!((old.to_string().as_str(), old.hint()), ("it broke", None));
    let new = read("org.avocado.Runtimes.Surprise", json!({"why": "w"}));
    assert_eq!(new.kind(), "org.avocado.Runtimes.Surprise");
    assert!(new.to_string().starts_with("the service refused the call"));
    assert_eq!(new.document()["error"]["parameters"]["why"], "w");
}

#[test]
fn hints_name_what_to_set() {
    use avocado_device::{DeviceError, FailureReason, TransportError};

    let hint = |source: TransportError| {
        let url = "https://a/timestamp.json".to_owned();
        let source = Box::new(avocado_tuf::TufError::Fetch { url, source });
        let url = "https://a".to_owned();
        let error = DeviceError::Staging(FailureReason::Repository { url, source });
        Failure::of_runtimes(&error, false)
            .hint()
            .unwrap_or_default()
    };
    let proxied = |source| TransportError::Proxied {
        proxy: "http://p:3128".to_owned(),
        source: Box::new(source),
    };
    assert!(hint(TransportError::Forbidden(403)).contains("AVOCADO_TUF_AUTH_TOKEN"));
    assert!(hint(TransportError::Status(401)).contains("AVOCADO_TUF_AUTH_TOKEN"));
    assert!(hint(proxied(TransportError::Status(407))).contains("avocado.update.proxy"));
    assert_eq!(hint(TransportError::Missing(404)), "");
}

#[test]
fn what_adding_again_repairs_is_said_where_something_stays_merged() {
    use avocado_device::{DeviceError, FailureReason};

    let image = "app 0.1.0".to_owned();
    let path = std::path::PathBuf::from("/var/lib/avocado/images/a.raw");
    let wrong = FailureReason::ImageWrong {
        image: image.clone(),
        path: path.clone(),
    };
    let missing = FailureReason::ImageMissing { image, path };
    for source in [wrong, missing] {
        let restored = true;
        let error = DeviceError::Merge { restored, source };
        let hint = |failure: Failure| failure.hint().unwrap_or_default();
        let expected = "adding the runtime again repairs its images";
        assert_eq!(hint(Failure::of_extensions(&error, "refresh")), expected);
        let error = DeviceError::Update {
            id: "0".repeat(64).parse().unwrap(),
            back_to: None,
            source: Box::new(FailureReason::Merge(Box::new(error))),
        };
        assert_eq!(hint(Failure::of_runtimes(&error, true)), expected);
    }
}
