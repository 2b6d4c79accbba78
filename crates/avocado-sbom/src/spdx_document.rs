//! SPDX 3.0.1 as JSON-LD, in the profile of BSI TR-03183-2.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::bill::{BillOfMaterials, FileComponent, FileOrigin, PackageRef};
use crate::cyclonedx::{all_packages, label};
use crate::file_properties::FileProperties;
use crate::format::{BillStamp, TOOL_VERSION};
use crate::{cpe, licence, package_url};

/// The node that says when and by whom everything was written.
const CREATION: &str = "_:creation";

pub(crate) fn document(bill: &BillOfMaterials, stamp: &BillStamp) -> Value {
    let mut graph = Graph::new(stamp);
    let subject = graph.subject(bill);
    let mut images = Vec::new();
    for contents in &bill.images {
        images.push(graph.image(contents));
    }
    graph.relate("contains", &subject, images, Some("complete"));
    graph.dependencies(bill);
    graph.finish(&subject)
}

struct Graph {
    namespace: String,
    created: String,
    nodes: Vec<Value>,
    relationships: usize,
    /// The nodes of the licences, by their expression.
    licences: BTreeMap<String, String>,
    /// The nodes of those who made packages, by their name.
    suppliers: BTreeMap<String, String>,
}

impl Graph {
    fn new(stamp: &BillStamp) -> Self {
        Graph {
            namespace: format!("urn:uuid:{}#", stamp.id),
            created: stamp.created.clone(),
            nodes: Vec::new(),
            relationships: 0,
            licences: BTreeMap::new(),
            suppliers: BTreeMap::new(),
        }
    }

    fn id(&self, name: &str) -> String {
        format!("{}{}", self.namespace, fragment(name))
    }

    fn add(&mut self, id: &str, kind: &str, fields: Value) {
        let mut node = Map::new();
        node.insert("type".into(), kind.into());
        node.insert("spdxId".into(), id.into());
        node.insert("creationInfo".into(), CREATION.into());
        if let Value::Object(fields) = fields {
            node.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
        }
        self.nodes.push(node.into());
    }

    fn relate(&mut self, kind: &str, from: &str, to: Vec<String>, completeness: Option<&str>) {
        // One to nothing says that there is nothing.
        let to = if to.is_empty() {
            vec!["https://spdx.org/rdf/3.0.1/terms/Core/NoneElement".to_owned()]
        } else {
            to
        };
        self.relationships += 1;
        let id = self.id(&format!("relationship-{}", self.relationships));
        let fields = json!({
            "relationshipType": kind,
            "from": from,
            "to": to,
            "completeness": completeness,
        });
        self.add(&id, "Relationship", fields);
    }

    fn subject(&mut self, bill: &BillOfMaterials) -> String {
        let id = self.id("runtime");
        let subject = &bill.subject;
        let fields = json!({
            "name": subject.name,
            "comment": format!("for {}", subject.target),
            "software_packageVersion": subject.version,
            "software_primaryPurpose": "firmware",
        });
        self.add(&id, "software_Package", fields);
        id
    }

    fn image(&mut self, contents: &crate::bill::ImageContents) -> String {
        let image = &contents.image;
        let id = self.id(&format!("image:{}", image.name));
        let fields = json!({
            "name": image.name,
            "comment": format!("avocado:image={} avocado:size={}", image.role.as_str(), image.size),
            "verifiedUsing": hashes(&image.sha512, &image.sha256),
            "software_packageVersion": image.version,
            "software_primaryPurpose": "filesystemImage",
            "software_additionalPurpose": ["archive", "container"],
        });
        self.add(&id, "software_Package", fields);
        let mut of_packages: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut inner = Vec::new();
        for file in &contents.files {
            let node = self.file(&image.name, file);
            match &file.origin {
                FileOrigin::Package { package, .. } => {
                    of_packages.entry(package).or_default().push(node);
                }
                _ => inner.push(node),
            }
        }
        for package in &contents.packages {
            let node = self.package(&image.name, package);
            if let Some(files) = of_packages.remove(label(package).as_str()) {
                self.relate("contains", &node, files, Some("complete"));
            }
            inner.push(node);
        }
        self.relate("contains", &id, inner, Some("complete"));
        id
    }

    fn file(&mut self, image: &str, file: &FileComponent) -> String {
        let id = self.id(&format!("file:{image}:{}", file.path));
        let properties = FileProperties::of(file);
        let mut purposes = Vec::new();
        if properties.is_executable {
            purposes.push("executable");
        }
        if properties.is_archive {
            purposes.extend(["archive", "container"]);
        }
        let mut comment = format!(
            "avocado:origin={} avocado:size={}",
            file.origin.kind(),
            file.size
        );
        if let FileOrigin::Package { changed: true, .. } = file.origin {
            comment += " avocado:changed=true";
        }
        let fields = json!({
            "name": format!("/{}", file.path),
            "comment": comment,
            "verifiedUsing": hashes(&file.sha512, &file.sha256),
            "software_primaryPurpose": "file",
            "software_additionalPurpose": (!purposes.is_empty()).then_some(purposes),
        });
        self.add(&id, "software_File", fields);
        id
    }

    fn package(&mut self, image: &str, package: &crate::bill::PackageComponent) -> String {
        let id = self.package_id(&PackageRef {
            image: image.to_owned(),
            package: label(package),
        });
        let purl = package_url::of(package);
        let identifiers = json!([
            {
                "type": "ExternalIdentifier",
                "externalIdentifierType": "cpe23",
                "identifier": cpe::guess(package),
                "comment": "guessed from the name",
            },
            {
                "type": "ExternalIdentifier",
                "externalIdentifierType": "packageUrl",
                "identifier": purl,
            },
        ]);
        let supplier = package.vendor.as_deref().map(|name| self.supplier(name));
        let fields = json!({
            "name": package.name,
            "summary": package.summary,
            "externalIdentifier": identifiers,
            "suppliedBy": supplier,
            "software_packageVersion": package.evr(),
            "software_packageUrl": purl,
            "software_homePage": package.url,
            "software_sourceInfo": package.source_rpm,
            "software_primaryPurpose": "install",
        });
        self.add(&id, "software_Package", fields);
        if let Some(expression) = &package.licence {
            let licence = self.licence(expression);
            self.relate("hasDeclaredLicense", &id, vec![licence], None);
        }
        id
    }

    fn package_id(&self, package: &PackageRef) -> String {
        self.id(&format!("package:{}:{}", package.image, package.package))
    }

    fn supplier(&mut self, name: &str) -> String {
        if let Some(id) = self.suppliers.get(name) {
            return id.clone();
        }
        let id = self.id(&format!("supplier-{}", self.suppliers.len() + 1));
        self.add(&id, "Organization", json!({"name": name}));
        self.suppliers.insert(name.to_owned(), id.clone());
        id
    }

    fn licence(&mut self, expression: &str) -> String {
        if let Some(id) = self.licences.get(expression) {
            return id.clone();
        }
        let id = self.id(&format!("licence-{}", self.licences.len() + 1));
        let references = licence::references(expression);
        let uris: Vec<Value> = references
            .map(|name| {
                json!({
                    "type": "DictionaryEntry",
                    "key": name,
                    "value": self.id(name),
                })
            })
            .collect();
        let fields = json!({
            "simplelicensing_licenseExpression": expression,
            "simplelicensing_customIdToUri": (!uris.is_empty()).then_some(uris),
        });
        self.add(&id, "simplelicensing_LicenseExpression", fields);
        self.licences.insert(expression.to_owned(), id.clone());
        id
    }

    fn dependencies(&mut self, bill: &BillOfMaterials) {
        let known: Vec<PackageRef> = all_packages(bill).map(|(of, _)| of).collect();
        let known: std::collections::BTreeSet<&PackageRef> = known.iter().collect();
        for (of, package) in all_packages(bill) {
            let needed = package.dependencies.iter();
            let needed: Vec<&PackageRef> = needed.filter(|n| known.contains(n)).collect();
            let is_complete = package.is_complete && needed.len() == package.dependencies.len();
            let completeness = if is_complete {
                "complete"
            } else {
                "incomplete"
            };
            if needed.is_empty() && !is_complete {
                continue;
            }
            let to = needed.into_iter().map(|n| self.package_id(n)).collect();
            let from = self.package_id(&of);
            self.relate("dependsOn", &from, to, Some(completeness));
        }
    }

    fn finish(mut self, subject: &str) -> Value {
        let tool = self.id("tool");
        let agent = self.id("agent");
        let bill = self.id("bill");
        let document = self.id("document");
        let name = format!("avocado {TOOL_VERSION}");
        let elements: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| node["spdxId"].clone())
            .collect();
        self.add(&tool, "Tool", json!({"name": name}));
        self.add(&agent, "SoftwareAgent", json!({"name": name}));
        let fields = json!({
            "rootElement": [subject],
            "element": elements,
            "software_sbomType": ["deployed"],
        });
        self.add(&bill, "software_Sbom", fields);
        let fields = json!({
            "rootElement": [bill],
            "profileConformance": ["core", "software", "simpleLicensing"],
        });
        self.add(&document, "SpdxDocument", fields);
        let creation = json!({
            "type": "CreationInfo",
            "@id": CREATION,
            "specVersion": "3.0.1",
            "created": self.created,
            "createdBy": [agent],
            "createdUsing": [tool],
        });
        let mut nodes = vec![creation];
        nodes.append(&mut self.nodes);
        json!({
            "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
            "@graph": nodes,
        })
    }
}

fn hashes(sha512: &str, sha256: &str) -> Value {
    json!([
        {"type": "Hash", "algorithm": "sha512", "hashValue": sha512},
        {"type": "Hash", "algorithm": "sha256", "hashValue": sha256},
    ])
}

/// A name as the fragment of a URI.
fn fragment(name: &str) -> String {
    let mut fragment = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => fragment.push(char::from(byte)),
            b'.' | b'-' | b'_' | b'~' | b':' | b'/' | b'+' => fragment.push(char::from(byte)),
            byte => fragment += &format!("%{byte:02X}"),
        }
    }
    fragment
}
