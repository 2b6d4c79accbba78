//! CycloneDX 1.6 as JSON, in the profile of BSI TR-03183-2.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::bill::{
    BillOfMaterials, FileComponent, FileOrigin, ImageComponent, ImageContents, PackageComponent,
    PackageRef,
};
use crate::file_properties::FileProperties;
use crate::format::{BillStamp, TOOL_VERSION};
use crate::{cpe, package_url};

pub(crate) fn document(bill: &BillOfMaterials, stamp: &BillStamp) -> Value {
    let subject = &bill.subject;
    let components: Vec<Value> = bill.images.iter().map(image).collect();
    let graph = Dependencies::of(bill);
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": stamp.id.urn().to_string(),
        "version": 1,
        "metadata": {
            "timestamp": stamp.created,
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [{
                "type": "application",
                "name": "avocado",
                "version": TOOL_VERSION,
            }]},
            "component": {
                "type": "firmware",
                "bom-ref": SUBJECT,
                "name": subject.name,
                "version": subject.version,
                "properties": [property("avocado:target", &subject.target)],
            },
        },
        "components": components,
        "dependencies": graph.dependencies,
        "compositions": graph.compositions,
    })
}

/// What refers to the runtime.
const SUBJECT: &str = "runtime";

pub(crate) fn image_ref(name: &str) -> String {
    format!("image:{name}")
}

fn package_ref(package: &PackageRef) -> String {
    format!("package:{}:{}", package.image, package.package)
}

fn file_ref(image: &str, path: &str) -> String {
    format!("file:{image}:{path}")
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

fn properties_of(name: &str, properties: FileProperties) -> Vec<Value> {
    vec![
        property("bsi:component:filename", name),
        property("bsi:component:executable", properties.executable()),
        property("bsi:component:archive", properties.archive()),
        property("bsi:component:structured", properties.structured()),
    ]
}

fn hashes(sha512: &str, sha256: &str) -> Value {
    json!([
        {"alg": "SHA-512", "content": sha512},
        {"alg": "SHA-256", "content": sha256},
    ])
}

fn image(contents: &ImageContents) -> Value {
    let ImageContents {
        image,
        packages,
        files,
    } = contents;
    let mut of_packages: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut others = Vec::new();
    for file in files {
        let component = file_component(image, file);
        match &file.origin {
            FileOrigin::Package { package, .. } => {
                of_packages.entry(package).or_default().push(component);
            }
            _ => others.push(component),
        }
    }
    let mut inner: Vec<Value> = packages
        .iter()
        .map(|package| {
            let files = of_packages.remove(label(package).as_str());
            package_component(&image.name, package, files.unwrap_or_default())
        })
        .collect();
    inner.extend(others);
    let mut properties = properties_of(&image.file_name, FileProperties::IMAGE);
    properties.push(property("avocado:image", image.role.as_str()));
    properties.push(property("avocado:size", &image.size.to_string()));
    let mut component = Map::new();
    component.insert("type".into(), "firmware".into());
    component.insert("bom-ref".into(), image_ref(&image.name).into());
    component.insert("name".into(), image.name.clone().into());
    if let Some(version) = &image.version {
        component.insert("version".into(), version.clone().into());
    }
    component.insert("hashes".into(), hashes(&image.sha512, &image.sha256));
    component.insert("properties".into(), properties.into());
    component.insert("components".into(), inner.into());
    component.into()
}

/// Name, version, release and architecture, as rpm shows them.
pub(crate) fn label(package: &PackageComponent) -> String {
    let PackageComponent {
        name,
        version,
        release,
        arch,
        ..
    } = package;
    format!("{name}-{version}-{release}.{arch}")
}

fn package_component(image: &str, package: &PackageComponent, files: Vec<Value>) -> Value {
    let label = label(package);
    let reference = package_ref(&PackageRef {
        image: image.to_owned(),
        package: label.clone(),
    });
    let mut component = Map::new();
    component.insert("type".into(), "library".into());
    component.insert("bom-ref".into(), reference.into());
    if let Some(vendor) = &package.vendor {
        component.insert("supplier".into(), json!({"name": vendor}));
    }
    component.insert("name".into(), package.name.clone().into());
    component.insert("version".into(), package.evr().into());
    if let Some(summary) = &package.summary {
        component.insert("description".into(), summary.clone().into());
    }
    if let Some(licence) = &package.licence {
        component.insert(
            "licenses".into(),
            json!([{"expression": licence, "acknowledgement": "declared"}]),
        );
    }
    component.insert("cpe".into(), cpe::guess(package).into());
    component.insert("purl".into(), package_url::of(package).into());
    if let Some(url) = &package.url {
        let references = json!([{"type": "website", "url": url}]);
        component.insert("externalReferences".into(), references);
    }
    let mut properties = properties_of(&format!("{label}.rpm"), FileProperties::IMAGE);
    properties.push(property("avocado:cpe", "guessed"));
    if let Some(source) = &package.source_rpm {
        properties.push(property("avocado:source", source));
    }
    if let Some(digest) = &package.header_sha256 {
        properties.push(property("avocado:header-sha256", digest));
    }
    component.insert("properties".into(), properties.into());
    if !files.is_empty() {
        component.insert("components".into(), files.into());
    }
    component.into()
}

fn file_component(image: &ImageComponent, file: &FileComponent) -> Value {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let mut properties = properties_of(name, FileProperties::of(file));
    properties.push(property("avocado:size", &file.size.to_string()));
    properties.push(property("avocado:origin", file.origin.kind()));
    match &file.origin {
        FileOrigin::Package { changed: true, .. } => {
            properties.push(property("avocado:changed", "true"));
        }
        FileOrigin::Overlay {
            replaces: Some(package),
        } => properties.push(property("avocado:replaces-file-of", package)),
        FileOrigin::Scripts { scripts } => {
            let scripts = scripts.iter();
            properties.extend(scripts.map(|script| property("avocado:script", script)));
        }
        _ => {}
    }
    json!({
        "type": "file",
        "bom-ref": file_ref(&image.name, &file.path),
        "name": format!("/{}", file.path),
        "hashes": hashes(&file.sha512, &file.sha256),
        "properties": properties,
    })
}

/// What needs what, and of what that is all.
struct Dependencies {
    dependencies: Vec<Value>,
    compositions: Vec<Value>,
}

impl Dependencies {
    fn of(bill: &BillOfMaterials) -> Self {
        let mut dependencies = Vec::new();
        let images = bill.images.iter().map(|i| image_ref(&i.image.name));
        let images: Vec<String> = images.collect();
        dependencies.push(json!({"ref": SUBJECT, "dependsOn": images}));
        // What is whole: the runtime and its images, of which every file is here.
        let assemblies: Vec<&str> = std::iter::once(SUBJECT)
            .chain(images.iter().map(String::as_str))
            .collect();
        let mut complete = vec![SUBJECT.to_owned()];
        let mut incomplete = Vec::new();
        let known: BTreeSet<String> = all_packages(bill).map(|(of, _)| package_ref(&of)).collect();
        for contents in &bill.images {
            let image = &contents.image.name;
            let packages = contents.packages.iter().map(|package| {
                package_ref(&PackageRef {
                    image: image.clone(),
                    package: label(package),
                })
            });
            let packages: Vec<String> = packages.collect();
            dependencies.push(json!({"ref": image_ref(image), "dependsOn": packages}));
            complete.push(image_ref(image));
        }
        for (of, package) in all_packages(bill) {
            let needed = package.dependencies.iter().map(package_ref);
            let needed: Vec<String> = needed.filter(|needed| known.contains(needed)).collect();
            // A bill of one extension has nothing of the OS that it is for.
            let is_complete = package.is_complete && needed.len() == package.dependencies.len();
            let reference = package_ref(&of);
            dependencies.push(json!({"ref": reference, "dependsOn": needed}));
            if is_complete {
                complete.push(reference);
            } else {
                incomplete.push(reference);
            }
        }
        let mut compositions = vec![
            json!({"aggregate": "complete", "assemblies": assemblies, "dependencies": complete}),
        ];
        if !incomplete.is_empty() {
            compositions.push(json!({"aggregate": "incomplete", "dependencies": incomplete}));
        }
        Dependencies {
            dependencies,
            compositions,
        }
    }
}

/// Every package of a bill.
pub(crate) fn all_packages(
    bill: &BillOfMaterials,
) -> impl Iterator<Item = (PackageRef, &PackageComponent)> {
    bill.images.iter().flat_map(|contents| {
        contents.packages.iter().map(|package| {
            let of = PackageRef {
                image: contents.image.name.clone(),
                package: label(package),
            };
            (of, package)
        })
    })
}
