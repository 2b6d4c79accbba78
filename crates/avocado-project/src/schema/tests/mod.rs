mod agreement;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::*;
use crate::raw::*;
use crate::report::Report;
use crate::source::FileId;
use crate::yaml::{self, Node, Value};

/// The schema without the freedom to write keys that it does not have; they are warned of.
fn closed(mut schema: Json) -> Json {
    fn close(schema: &mut Json) {
        match schema {
            Json::Object(object) => {
                object.values_mut().for_each(close);
                if object.get("properties").is_some_and(Json::is_object)
                    && object.contains_key("type")
                {
                    object.insert("additionalProperties".to_owned(), json!(false));
                }
            }
            Json::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

fn validator(schema: &Json) -> Validator {
    jsonschema::draft202012::new(schema).expect("a JSON Schema")
}

/// YAML as JSON: what an editor checks by the schema.
fn as_json(node: &Node) -> Json {
    match &node.value {
        _ if node.is_null() => Json::Null,
        Value::Scalar(scalar) => match (scalar.as_u64(), scalar.as_bool()) {
            (Some(number), _) => number.into(),
            (_, Some(truth)) => truth.into(),
            _ => scalar.text.clone().into(),
        },
        Value::Sequence(items) => items.iter().map(as_json).collect(),
        Value::Mapping(entries) => entries
            .iter()
            .map(|entry| (entry.key.text.clone(), as_json(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// What in a file is not as the schema says.
fn misfits_of(text: &str) -> Vec<String> {
    let mut report = Report::new(Path::new("f"), text);
    let node = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let validator = validator(&closed(json_schema()));
    let document = as_json(&node);
    let errors = validator.iter_errors(&document);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

fn projects_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).unwrap();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(projects_below(&path));
        } else if path.file_name().is_some_and(|name| name == "avocado.yaml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_examples_are_as_the_schema_says() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let projects = projects_below(&examples);
    assert!(projects.len() >= 2, "{projects:?}");
    for path in projects {
        let found = misfits_of(&fs::read_to_string(&path).unwrap());
        assert_eq!(found, [""; 0], "{}", path.display());
    }
}

#[test]
fn the_schema_takes_what_is_read_and_nothing_else() {
    let good = r#"
source_date_epoch: "{{ env.EPOCH }}"
distro: {version: 2024, target-t: {channel: edge}}
runtime: {dev: {extensions: [app, {net: {enabled: false}}], packages: {a: , b: 1.0, c: {version: x}}}}
rootfs: {packages: {target-t: {a: }, kernel-6.6.*: {b: 1}, kernel-x: 1}, permissions: dev}
initramfs: {small: {filesystem: cpio}, large: }
permissions: {dev: {users: [{name: root, uid: 0}], groups: {wheel: 10, video: }}}
extensions:
  app: {version: 0.1.0, on_merge: one, subvolumes: {x: true}, reload_service_manager: true}
"#;
    assert_eq!(misfits_of(good), [""; 0]);
    for (bad, found) in [
        ("no_target: x", "'no_target' was unexpected"),
        ("distro: {no_release: 1}", "'no_release' was unexpected"),
        ("extensions: {a: {packages: [x]}}", "/extensions/a:"),
        ("extensions: {a: {var_files: [~]}}", "/extensions/a:"),
        (
            "extensions: {a: {reload_service_manager: 'yes'}}",
            "/extensions/a:",
        ),
        ("source_date_epoch: []", "/source_date_epoch"),
        ("source_date_epoch: '7'", "/source_date_epoch"),
    ] {
        let misfits = misfits_of(bad);
        assert!(
            misfits.len() == 1 && misfits[0].contains(found),
            "{bad}: {misfits:?}"
        );
    }
}

/// Answers with the keys that a type asks the decoder for.
struct KeysOf;

impl<'de> Deserializer<'de> for KeysOf {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        Err(Error::custom(fields.join(" ")))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("not a section"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn keys<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let asked = T::deserialize(KeysOf).err().map(|error| error.to_string());
    asked
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_that_the_decoder_knows_is_in_the_schema() {
    let known = [
        ("Cache", keys::<RawCache>()),
        ("CompilePackage", keys::<RawCompilePackage>()),
        ("Connect", keys::<RawConnect>()),
        ("Dependency", keys::<RawDependency>()),
        ("Distro", keys::<RawDistro>()),
        ("DockerImage", keys::<RawDockerImage>()),
        ("Extension", keys::<RawExtension>()),
        ("ExtensionSdk", keys::<RawExtensionSdk>()),
        ("Group", keys::<RawGroup>()),
        ("Image", keys::<RawImage>()),
        ("ImageType", keys::<RawImageType>()),
        ("Inclusion", keys::<RawInclusion>()),
        ("Kernel", keys::<RawKernel>()),
        ("Overlay", keys::<RawOverlay>()),
        ("Package", keys::<RawPackage>()),
        ("Permissions", keys::<RawPermissions>()),
        ("ProvisionProfile", keys::<RawProvisionProfile>()),
        ("Repo", keys::<RawRepo>()),
        ("Repository", keys::<RawRepository>()),
        ("Runtime", keys::<RawRuntime>()),
        ("Sdk", keys::<RawSdk>()),
        ("SdkCompile", keys::<RawSdkCompile>()),
        ("Signing", keys::<RawSigning>()),
        ("Source", keys::<RawSource>()),
        ("SplitPackage", keys::<RawSplitPackage>()),
        ("Subvolume", keys::<RawSubvolume>()),
        ("User", keys::<RawUser>()),
        ("Var", keys::<RawVar>()),
        ("VarFile", keys::<RawVarFile>()),
        ("VersionFile", keys::<RawVersionFile>()),
    ];
    let schema = json_schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let names: BTreeSet<&str> = definitions.keys().map(String::as_str).collect();
    // None is forgotten above.
    assert_eq!(names, known.iter().map(|(name, _)| *name).collect());
    let all = known
        .iter()
        .map(|(name, keys)| (&schema["$defs"][name], keys));
    for (definition, keys) in all.chain([(&schema, &keys::<RawTop>())]) {
        let present = |(name, property): (&String, &Json)| {
            let old = property.get("deprecated").is_some();
            (!old).then(|| name.clone())
        };
        let properties = definition["properties"].as_object().unwrap();
        let properties: BTreeSet<String> = properties.iter().filter_map(present).collect();
        assert_eq!(properties, *keys, "{definition}");
    }
    assert_eq!(schema["title"], "avocado.yaml");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

#[test]
fn every_key_says_what_it_is() {
    let schema = crate::json_schema();
    let definitions = schema["$defs"].as_object().unwrap().iter();
    let named = definitions.map(|(name, definition)| (name.as_str(), definition));
    for (section, definition) in named.chain([("the project", &schema)]) {
        let properties = definition["properties"].as_object().unwrap();
        for (key, property) in properties {
            let description = property.get("description").and_then(Json::as_str);
            assert!(description.is_some(), "`{key}` of {section}");
        }
    }
}
