//! From the metadata of a repository to what is stated of its images, and to the images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use avocado_events::{AmountUnit, Event, Sink as _, StepStatus};
use avocado_manifest::{Digest, Manifest, OsImage};
use avocado_provenance::{
    LONGEST_ENVELOPE, PROVENANCE_TARGET, ProvenanceStatement, runtime_subjects,
};
use avocado_text::{count, escape, table};
use avocado_tuf::{TargetInfo, TargetKind};
use serde_json::json;

use super::repository::VerifiedRepository;
use super::{BuiltRuntime, VerifiedPlace, trusted_keys};
use crate::failure::{Context as _, Failure, Result};
use crate::output::WorkSummary;
use crate::session::Session;

/// The stage of what takes time.
const STAGE: &str = "verify images";

/// The longest manifest that is read, in bytes.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// Where the bytes of a subject were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckedAt {
    Repository,
    Build,
    /// They are not here: what is known is the digest that two signed documents agree on.
    Nowhere,
}

impl CheckedAt {
    fn as_str(self) -> &'static str {
        match self {
            CheckedAt::Repository => "repository",
            CheckedAt::Build => "build",
            CheckedAt::Nowhere => "digest only",
        }
    }
}

pub(super) fn verify(session: &Session, verified: &VerifiedPlace) -> Result<()> {
    let VerifiedPlace { place, keys, built } = verified;
    let mut repository = VerifiedRepository::open(session, place, keys)?;
    let targets: BTreeMap<String, TargetInfo> = repository
        .targets()?
        .into_iter()
        .map(|target| (target.name.clone(), target))
        .collect();
    let Some(target) = targets.get(PROVENANCE_TARGET) else {
        let message =
            format!("the repository has no statement of provenance ({PROVENANCE_TARGET})");
        return Err(Failure::new(message).hint(
            "it was published by an older version, or by others: `avocado build` states it",
        ));
    };
    let envelope = repository.read(target, LONGEST_ENVELOPE)?;
    let provenance =
        avocado_provenance::verify(&envelope, keys).map_err(|e| Failure::from_error(&e))?;
    let Some(target) = targets.get("manifest.json") else {
        return Err(Failure::new("the repository has no manifest.json"));
    };
    let manifest = repository.read(target, LONGEST_MANIFEST)?;
    let subjects = runtime_subjects(&manifest).map_err(|e| Failure::from_error(&e))?;
    let manifest = Manifest::parse(&manifest).map_err(|e| Failure::from_error(&e))?;
    let required = manifest.required_files();
    let statement = &provenance.statement;
    statement
        .check_subjects(&subjects)
        .map_err(|e| Failure::new("the statement is not about this runtime").because(&e))?;
    check_parameters(statement, &manifest, built.as_ref())?;

    let mut checked = BTreeMap::from([("manifest.json".to_owned(), CheckedAt::Repository)]);
    let images = targets
        .values()
        .filter(|target| ![PROVENANCE_TARGET, "manifest.json"].contains(&target.name.as_str()));
    let images: Vec<&TargetInfo> = images.collect();
    for image in &images {
        check_target(image, &subjects)?;
    }
    if let Some(name) = required.iter().find(|name| !targets.contains_key(*name)) {
        return Err(Failure::new(format!(
            "the repository has no {name}, the image of {}",
            role_of(name, &manifest)
        ))
        .hint("no device can install the runtime from it: publish it again"));
    }
    let done = read_images(session, &repository, &images);
    let (status, message) = match &done {
        Ok(()) => (StepStatus::Success, String::new()),
        Err(failure) => (StepStatus::Failed, failure.message.clone()),
    };
    session.output.emit(Event::step(STAGE, status, message));
    done?;
    let read = images.iter().map(|image| image.name.clone());
    checked.extend(read.map(|name| (name, CheckedAt::Repository)));
    if let Some(BuiltRuntime { os_images, .. }) = built {
        for (part, image) in [
            ("rootfs", &manifest.rootfs),
            ("initramfs", &manifest.initramfs),
        ] {
            if let Some(image) = image
                && check_os_image(os_images, part, image)?
            {
                checked.insert(image.image_id.file_name(), CheckedAt::Build);
            }
        }
    }
    let key = trusted_keys::name_of(session, &provenance.key);
    let mut summary = summary(&key, statement, &manifest, &subjects, &checked);
    say_parameters(&mut summary, statement, built.is_some());
    session.output.complete(summary)
}

/// Reads every image from beginning to end.
fn read_images(
    session: &Session,
    repository: &VerifiedRepository,
    images: &[&TargetInfo],
) -> Result<()> {
    let output = &session.output;
    output.emit(Event::step(STAGE, StepStatus::Running, ""));
    let progress = |event: Event| {
        if event.unit == AmountUnit::Bytes {
            output.emit(Event {
                stage: STAGE.to_owned(),
                ..event
            });
        }
    };
    images
        .iter()
        .try_for_each(|image| repository.check(image, &progress))
}

/// What is stated to have been built is the runtime that the manifest names, and, where there is a
/// project to hold it against, for the target and the board that the project has.
fn check_parameters(
    statement: &ProvenanceStatement,
    manifest: &Manifest,
    built: Option<&BuiltRuntime>,
) -> Result<()> {
    let parameters = &statement.predicate.build_definition.external_parameters;
    if parameters.runtime != manifest.runtime.name {
        return Err(Failure::new(format!(
            "the statement is about the runtime `{}`, and the manifest about `{}`",
            escape(&parameters.runtime),
            escape(&manifest.runtime.name)
        )));
    }
    let Some(built) = built else {
        return Ok(());
    };
    let stated = [
        ("runtime", Some(&parameters.runtime), Some(&built.runtime)),
        ("target", Some(&parameters.target), Some(&built.target)),
        (
            "board",
            parameters.target_board.as_ref(),
            built.board.as_ref(),
        ),
    ];
    for (what, stated, expected) in stated {
        if stated != expected {
            let shown = |name: Option<&String>| {
                name.map_or("none".to_owned(), |name| format!("`{}`", escape(name)))
            };
            return Err(Failure::new(format!(
                "the statement names the {what} {}, and the project has {}",
                shown(stated),
                shown(expected)
            ))
            .hint("it was built before the project was changed: run `avocado build`"));
        }
    }
    Ok(())
}

/// The target whose chunks this one lists, if it does.
fn indexed(name: &str) -> Option<&str> {
    match TargetKind::of(name) {
        Some(TargetKind::ChunkIndex) => name.strip_suffix(".chunks"),
        _ => None,
    }
}

/// Of what was stated, and in no document besides, it is told that nothing was there to hold it against.
fn say_parameters(summary: &mut WorkSummary, statement: &ProvenanceStatement, is_checked: bool) {
    let parameters = &statement.predicate.build_definition.external_parameters;
    let checked: &[&str] = if is_checked {
        &["runtime", "target", "targetBoard"]
    } else {
        &["runtime"]
    };
    let field = "parameters_checked".to_owned();
    summary.fields.insert(field, json!(checked));
    if !is_checked {
        let target = escape(&parameters.target);
        let board = parameters.target_board.as_deref();
        let board = board.map_or_else(String::new, |b| format!(", board {}", escape(b)));
        let told = format!("; that it is for {target}{board} is stated, and not checked");
        summary.closing.push_str(&told);
    }
}

/// What a device would find is what is stated, and nothing besides.
fn check_target(target: &TargetInfo, subjects: &BTreeMap<String, Digest>) -> Result<()> {
    let name = escape(&target.name);
    let Some(stated) = subjects.get(&target.name) else {
        return Err(Failure::new(format!(
            "the repository has {name}, of which nothing says how it was made"
        ))
        .hint("it belongs to no extension of the runtime: publish it again without that file"));
    };
    match target.digests.sha256 {
        Some(found) if found == *stated => Ok(()),
        Some(found) => Err(Failure::new(format!(
            "{name} in the repository has the digest {found}, and {stated} was made"
        ))),
        None => Err(Failure::new(format!(
            "the metadata of the repository has no sha256 of {name}"
        ))),
    }
}

/// Whether the image is there; it is then the one of the manifest.
fn check_os_image(directory: &Path, part: &str, image: &OsImage) -> Result<bool> {
    let Some(stated) = image.sha256 else {
        return Ok(false);
    };
    let prefix = format!("avocado-image-{part}-");
    let listing =
        fs::read_dir(directory).context(|| format!("cannot read {}", directory.display()));
    let mut found = Vec::new();
    for entry in listing?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    let mut others = Vec::new();
    for path in found {
        let digest = File::open(&path).and_then(Digest::of_reader);
        let (digest, _) = digest.context(|| format!("cannot read {}", path.display()))?;
        if digest == stated {
            return Ok(true);
        }
        others.push(path);
    }
    match others.first() {
        None => Ok(false),
        Some(path) => Err(Failure::new(format!(
            "{} is not the {part} that was published with the runtime: {stated} was made",
            path.display()
        ))
        .hint("it was changed after the build, or built anew: run `avocado build`")),
    }
}

fn summary(
    key: &str,
    statement: &ProvenanceStatement,
    manifest: &Manifest,
    subjects: &BTreeMap<String, Digest>,
    checked: &BTreeMap<String, CheckedAt>,
) -> WorkSummary {
    let at = |name: &str| checked.get(name).copied().unwrap_or(CheckedAt::Nowhere);
    let listed = subjects.iter().map(
        |(name, digest)| json!({ "name": name, "sha256": digest, "checked": at(name).as_str() }),
    );
    let definition = &statement.predicate.build_definition;
    let builder = &statement.predicate.run_details.builder;
    let mut summary = WorkSummary::default();
    for (field, value) in [
        ("runtime_id", json!(manifest.id)),
        ("signed_by", json!(key)),
        ("subjects", listed.collect()),
        ("parameters", json!(definition.external_parameters)),
        ("builder", json!(builder)),
        (
            "dependencies",
            json!(definition.resolved_dependencies.len()),
        ),
    ] {
        summary.fields.insert(field.to_owned(), value);
    }
    let rows = subjects.iter().map(|(name, digest)| {
        let role = role_of(name, manifest);
        [role, at(name).as_str().to_owned(), digest.to_string()]
    });
    summary.data = table(["WHAT", "CHECKED", "SHA-256"], rows, None);
    let absent = subjects
        .keys()
        .filter(|name| at(name) == CheckedAt::Nowhere);
    let absent = match absent.count() {
        0 => String::new(),
        absent => format!(
            "; of {} the digest alone is known here",
            count(absent as u64, "image")
        ),
    };
    summary.closing = format!(
        "{} {} is what was built, by the word of {}{absent}",
        escape(&manifest.runtime.name),
        escape(&manifest.runtime.version),
        escape(key),
    );
    summary
}

/// What a subject is to people. One image can be several extensions.
fn role_of(name: &str, manifest: &Manifest) -> String {
    if name == "manifest.json" {
        return "manifest".to_owned();
    }
    if let Some(of) = indexed(name) {
        return format!("chunks of {}", role_of(of, manifest));
    }
    let os = [
        ("rootfs", &manifest.rootfs),
        ("initramfs", &manifest.initramfs),
        ("kernel", &manifest.kernel),
    ];
    let os = os.into_iter().filter_map(|(role, image)| {
        let image = image.as_ref()?;
        (image.image_id.file_name() == name).then(|| role.to_owned())
    });
    let extensions = manifest.extensions.iter();
    let extensions = extensions
        .filter(|extension| extension.file_name() == name)
        .map(|extension| format!("{} {}", extension.name, extension.version));
    let bundle = manifest.os_bundle.iter();
    let bundle = bundle
        .filter(|bundle| bundle.image_id.file_name() == name)
        .map(|_| "OS bundle".to_owned());
    let roles: Vec<String> = os.chain(extensions).chain(bundle).collect();
    if roles.is_empty() {
        name.to_owned()
    } else {
        roles.join(", ")
    }
}
