use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::*;
use crate::raw::*;
use crate::report::Report;
use crate::source::FileId;
use crate::yaml::{self, Node, Value};

/// What in a file is not as the schema says: its path, for each.
fn misfits(node: &Node, schema: &Json, root: &Json, at: &str) -> Vec<String> {
    if let Some(path) = schema.get("$ref").and_then(Json::as_str) {
        let definition = root
            .pointer(&path[1..])
            .expect("every reference leads somewhere");
        return misfits(node, definition, root, at);
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Json::as_array) {
        let tried = alternatives.iter().map(|one| misfits(node, one, root, at));
        return tried.min_by_key(Vec::len).unwrap_or_default();
    }
    if let Some(types) = schema.get("type").and_then(Json::as_array) {
        let name = match &node.value {
            _ if node.is_null() => "null",
            Value::Scalar(scalar) if scalar.as_u64().is_some() => "integer",
            Value::Scalar(scalar) if scalar.as_bool().is_some() => "boolean",
            Value::Scalar(_) => "string",
            Value::Sequence(_) => "array",
            Value::Mapping(_) => "object",
        };
        let number = name == "integer" && types.iter().any(|t| t == "number");
        if !number && !types.iter().any(|t| t == name) {
            return vec![format!("{at}: {name}, not {types:?}")];
        }
    }
    let mut found = Vec::new();
    match &node.value {
        Value::Mapping(entries) => {
            for entry in entries {
                let key = &entry.key.text;
                let at = format!("{at}.{key}");
                let property = schema.get("properties").and_then(|p| p.get(key));
                match property.or_else(|| schema.get("additionalProperties")) {
                    Some(schema) => found.extend(misfits(&entry.value, schema, root, &at)),
                    None if key.starts_with("target-") || schema.get("properties").is_none() => {}
                    None => found.push(at),
                }
            }
        }
        Value::Sequence(items) => {
            if let Some(schema) = schema.get("items") {
                found.extend(
                    items
                        .iter()
                        .flat_map(|item| misfits(item, schema, root, at)),
                );
            }
        }
        Value::Scalar(_) => {}
    }
    found
}

fn misfits_of(text: &str) -> Vec<String> {
    let mut report = Report::new(Path::new("f"), text);
    let node = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
    let schema = json_schema();
    misfits(&node, &schema, &schema, "")
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
rootfs: {packages: {}, permissions: dev}
initramfs: {small: {filesystem: cpio}, large: }
permissions: {dev: {users: [{name: root, uid: 0}], groups: {wheel: 10, video: }}}
extensions:
  app: {version: 0.1.0, on_merge: one, subvolumes: {x: true}, reload_service_manager: true}
"#;
    assert_eq!(misfits_of(good), [""; 0]);
    for (bad, at) in [
        ("defalt_target: x", ".defalt_target"),
        ("distro: {relase: 1}", ".distro.relase"),
        ("extensions: {a: {pakages: {}}}", ".extensions.a.pakages"),
        (
            "extensions: {a: {packages: [x]}}",
            ".extensions.a.packages: array",
        ),
        ("source_date_epoch: []", ".source_date_epoch: array"),
    ] {
        let found = misfits_of(bad);
        assert!(
            found.len() == 1 && found[0].starts_with(at),
            "{bad}: {found:?}"
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
