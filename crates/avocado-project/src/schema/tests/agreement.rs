//! The schema and the decoder agree on documents that are made of the schema.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestError, TestRunner};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::{closed, validator};
use crate::decode::decode;
use crate::raw::*;
use crate::report::Report;
use crate::schema::json_schema;
use crate::source::FileId;
use crate::yaml;

/// A section that is decoded on its own.
struct Section {
    name: &'static str,
    /// What the decoder says of it.
    complaints: fn(&str) -> Vec<String>,
}

/// Everything that the decoder says of a section, warnings as well.
fn complaints<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let mut report = Report::new(Path::new("f"), text);
    let node = yaml::parse(FileId::MAIN, &mut report).expect("JSON is YAML");
    decode::<T>(&node, &mut report);
    report.finish().iter().map(ToString::to_string).collect()
}

macro_rules! sections {
    ($($name:literal: $type:ty),* $(,)?) => {
        [$(Section { name: $name, complaints: complaints::<$type> }),*]
    };
}

/// The whole file.
const PROJECT: &str = "avocado.yaml";

/// What a section holds that is decoded as a section of its own.
const SECTIONS_WITHIN: [(&str, &str); 16] = [
    (PROJECT, "cache"),
    (PROJECT, "connect"),
    (PROJECT, "distro"),
    (PROJECT, "extensions"),
    (PROJECT, "initramfs"),
    (PROJECT, "kernel"),
    (PROJECT, "permissions"),
    (PROJECT, "provision_profiles"),
    (PROJECT, "repos"),
    (PROJECT, "rootfs"),
    (PROJECT, "runtimes"),
    (PROJECT, "sdk"),
    ("Extension", "source"),
    ("Image", "source"),
    ("Kernel", "source"),
    ("Sdk", "compile"),
];

#[test]
fn schema_and_decoder_agree() {
    let sections = sections! {
        "avocado.yaml": RawTop,
        "Cache": RawCache,
        "Connect": RawConnect,
        "Distro": RawDistro,
        "Extension": RawExtension,
        "Image": RawImage,
        "Kernel": RawKernel,
        "Permissions": RawPermissions,
        "ProvisionProfile": RawProvisionProfile,
        "Repository": RawRepository,
        "Runtime": RawRuntime,
        "Sdk": RawSdk,
        "SdkCompile": RawSdkCompile,
        "Source": RawSource,
    };
    let root = closed(decoded_at_once(json_schema()));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    for Section { name, complaints } in sections {
        let mut schema = root["$defs"][name].clone();
        schema["$defs"] = root["$defs"].clone();
        let accepts = validator(&schema);
        let documents = value(&schema, &schema, 0).prop_filter("a section", Json::is_object);
        let agreed = TestRunner::new(config.clone()).run(&documents, |document| {
            let text = document.to_string();
            let errors: Vec<String> = accepts
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            let said = complaints(&text);
            prop_assert_eq!(
                errors.is_empty(),
                said.is_empty(),
                "{}\nschema: {:#?}\ndecoder: {:#?}",
                text,
                errors,
                said
            );
            Ok(())
        });
        if let Err(TestError::Fail(reason, _)) = agreed {
            panic!("{name}: {reason}");
        }
    }
}

/// The schema of sections without those within, and without old names, which are replaced before
/// anything is decoded.
fn decoded_at_once(mut schema: Json) -> Json {
    let mut definitions = std::mem::take(schema["$defs"].as_object_mut().unwrap());
    definitions.insert(PROJECT.to_owned(), schema);
    for (name, definition) in &mut definitions {
        let properties = definition["properties"].as_object_mut().unwrap();
        properties.retain(|key, property| {
            property.get("deprecated").is_none()
                && !SECTIONS_WITHIN.contains(&(name.as_str(), key.as_str()))
        });
    }
    json!({ "$defs": definitions })
}

/// Mostly what the schema takes.
fn value(schema: &Json, root: &Json, depth: u32) -> BoxedStrategy<Json> {
    let fitting = fitting(schema, root, depth);
    if depth == 0 {
        return fitting;
    }
    prop_oneof![30 => fitting, 1 => anything()].boxed()
}

fn fitting(schema: &Json, root: &Json, depth: u32) -> BoxedStrategy<Json> {
    if let Some(path) = schema.get("$ref").and_then(Json::as_str) {
        let definition = root.pointer(&path[1..]).expect("a definition");
        return fitting(definition, root, depth);
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Json::as_array) {
        let each = alternatives.iter().map(|one| fitting(one, root, depth));
        return proptest::strategy::Union::new(each).boxed();
    }
    let types = match schema.get("type") {
        Some(Json::Array(types)) => types.clone(),
        Some(one) => vec![one.clone()],
        None => return anything(),
    };
    let of_type = |name: &Json| match name.as_str().unwrap_or_default() {
        "array" => list(schema, root, depth),
        "object" => map(schema, root, depth),
        "boolean" => any::<bool>().prop_map(Json::from).boxed(),
        "integer" | "number" => number().boxed(),
        "null" => Just(Json::Null).boxed(),
        _ => text().boxed(),
    };
    proptest::strategy::Union::new(types.iter().map(of_type)).boxed()
}

fn list(schema: &Json, root: &Json, depth: u32) -> BoxedStrategy<Json> {
    let Some(items) = schema.get("items").filter(|_| depth < 6) else {
        return Just(json!([])).boxed();
    };
    proptest::collection::vec(value(items, root, depth + 1), 0..3)
        .prop_map(Json::from)
        .boxed()
}

fn map(schema: &Json, root: &Json, depth: u32) -> BoxedStrategy<Json> {
    let empty = Just(Map::new()).boxed();
    if depth >= 6 {
        return empty.prop_map(Json::from).boxed();
    }
    let known: Vec<(BoxedStrategy<String>, BoxedStrategy<Json>)> =
        match schema.get("properties").and_then(Json::as_object) {
            Some(properties) => properties
                .iter()
                .map(|(key, of)| (Just(key.clone()).boxed(), value(of, root, depth + 1)))
                .chain([(
                    select(&["x", "y"][..]).prop_map(str::to_owned).boxed(),
                    anything(),
                )])
                .collect(),
            None => {
                let of = schema.get("additionalProperties").cloned();
                let of = of.unwrap_or(Json::Bool(true));
                let name = select(&["a", "b-c", "7"][..]).prop_map(str::to_owned);
                vec![(name.boxed(), value(&of, root, depth + 1))]
            }
        };
    let unknown = known.len() - 1;
    // Few keys at once, and an unknown one seldom: most documents are to be right.
    let chosen = any::<Index>().prop_flat_map(move |index| {
        let at = match index.index(known.len() * 12) {
            at if at % known.len() == unknown && at >= known.len() && unknown > 0 => 0,
            at => at % known.len(),
        };
        (known[at].0.clone(), known[at].1.clone())
    });
    proptest::collection::vec(chosen, 0..4)
        .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into())
        .boxed()
}

fn number() -> impl Strategy<Value = Json> {
    select(&[0_u64, 1, 1000, 70_000, 5_000_000_000][..]).prop_map(Json::from)
}

fn text() -> impl Strategy<Value = Json> {
    select(&["", "a", "1.2.3", "*", "true", "7", "null", "ü\n#: x"][..]).prop_map(Json::from)
}

fn anything() -> BoxedStrategy<Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        number(),
        Just(json!(-1)),
        Just(json!(1.5)),
        text(),
        Just(json!([])),
        Just(json!(["a"])),
        Just(json!([null])),
        Just(json!({})),
        Just(json!({"a": "b"})),
    ]
    .boxed()
}
