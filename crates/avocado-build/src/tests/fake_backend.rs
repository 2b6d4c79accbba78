//! A backend whose steps make small files.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use avocado_backend::{Backend, BackendError, Capabilities, Job, Processor, ToolQuery};
use avocado_events::{Cancel, Sink};
use avocado_manifest::{
    Digest, ImageId, MANIFEST_VERSION, Manifest, Name, OsBundle, OsImage, RuntimeId, RuntimeLabel,
};
use avocado_project::Project;
use serde_json::{Value, json};

use super::reading;
use crate::file_digest::FileDigest;
use crate::layout::Layout;
use crate::step_request::StepMessage;
use crate::trees::TreeFeatures;

#[derive(Debug)]
pub(crate) struct FakeBackend {
    layout: Layout,
    /// How many steps were started.
    pub(super) processes: Arc<AtomicU64>,
    /// The stage that is stopped.
    pub(super) stops: Option<&'static str>,
    /// The stage that fails.
    pub(super) fails: Option<&'static str>,
    /// Part of the header of every package: another build of the same version.
    pub(super) header: &'static str,
    /// What the scriptlets of every tree that has some make; `None` where no package has any.
    pub(super) scriptlets: Option<&'static str>,
    /// What ran scriptlets.
    pub(super) scriptlet_jobs: Arc<Mutex<Vec<Job>>>,
    /// Packages that come with every other one.
    pub(super) dependencies: &'static [&'static str],
    /// What is told of every runtime.
    pub(super) findings: &'static [&'static str],
    /// Every overlay is another one when it is copied: somebody edited it, and will take that back.
    pub(super) edits_overlays: bool,
    /// What every tool says of itself.
    pub(super) tools: &'static str,
    /// What runs programs for another processor.
    pub(super) emulator: Option<&'static str>,
    /// The project whose files, and the results of earlier steps, shape what a step makes, as those
    /// of real steps do; without one a request alone does.
    pub(super) reads: Option<PathBuf>,
}

impl FakeBackend {
    pub(crate) fn new(project: &Project) -> Self {
        FakeBackend {
            layout: Layout::new(&project.state_dir(), &project.target),
            processes: Arc::default(),
            stops: None,
            fails: None,
            header: "1",
            scriptlets: None,
            scriptlet_jobs: Arc::default(),
            dependencies: &[],
            findings: &[],
            edits_overlays: false,
            tools: "1.0",
            emulator: Some("qemu 1"),
            reads: None,
        }
    }

    fn work(&self, kind: &str, request: &Value) -> Value {
        let name = |value: &Value| -> Name { serde_json::from_value(value.clone()).unwrap() };
        let layout = &self.layout;
        match kind {
            "install" => self.install(&request["spec"], &request["read"]),
            "scriptlets" => {
                let told = &request["told"];
                json!({ "digest": digest(&json!([self.scriptlets, told])) })
            }
            "clean" => {
                let section = request["section"].as_str().unwrap();
                fs::write(layout.work("cleaned"), section).unwrap();
                Value::Null
            }
            "finish_install" => request["kernel"].clone(),
            "compile" => {
                let section = request["section"].as_str().unwrap();
                fs::create_dir_all(layout.compile(section)).unwrap();
                json!({ "built": digest(request) })
            }
            "extension_build" => {
                fs::create_dir_all(layout.extension(&name(&request["name"]))).unwrap();
                let features = TreeFeatures::default();
                json!({
                    "digest": digest(request),
                    "state": null,
                    "features": features,
                    "overlay": self.copied(&request["overlay"]),
                    "rootfs_overlay": self.copied(&request["accounts"]["rootfs_overlay"]),
                })
            }
            "extension_image" => {
                let version = name(&request["version"]);
                let path = layout.extension_image(&name(&request["name"]), &version);
                json!({
                    "image": written(&path, request),
                    "var_paths": [],
                    "var_content": digest(&request["var_files"]),
                })
            }
            "os_image" => {
                let filesystem = serde_json::from_value(request["filesystem"].clone()).unwrap();
                let extension = crate::images::extension(filesystem);
                let part = request["part"].as_str().unwrap();
                let path = layout.os_image(part, &name(&request["runtime"]), extension);
                json!({
                    "image": written(&path, request),
                    "version": "1",
                    "build_id": request["build_id_source"],
                    "states_build_id": true,
                    "overlay": self.copied(&request["overlay"]),
                })
            }
            "runtime_compile" => {
                let place = layout.runtime_compiled(&name(&request["name"]));
                let kernel = request.get("kernel").map(|_| {
                    json!({
                        "version": "6.12.69",
                        "file": "bzImage",
                        "image": written(&place.join("bzImage"), request),
                    })
                });
                fs::create_dir_all(place).unwrap();
                let runtime = layout.runtime(&name(&request["name"]));
                publish(&runtime, ".compiled.json", &["deploy", "tools"]);
                json!({ "digest": digest(request), "kernel": kernel })
            }
            "section_package" => {
                let file = format!("{}.rpm", request["name"].as_str().unwrap());
                let place = layout.compiled_package(&file);
                let digest = written(&place, request);
                json!({"packages": [{"name": request["name"], "file": file, "digest": digest}]})
            }
            "os_bundle" => {
                let runtime = name(&request["name"]);
                let chunks = layout.os_bundle_chunks(&runtime);
                json!({"bundle": {
                    "files": {
                        "archive": written(&layout.os_bundle(&runtime), request),
                        "chunks": written(&chunks, request),
                    },
                    "os_build_id": request["images"]["rootfs"]["build_id"],
                }})
            }
            "runtime_build" => self.assemble(&name(&request["name"]), request),
            "var_image" => {
                let runtime = name(&request["name"]);
                fs::create_dir_all(layout.var_tree(&runtime)).unwrap();
                json!({ "image": written(&layout.var_image(&runtime), request) })
            }
            "image_reading" => {
                let images = request["images"].as_array().unwrap().iter();
                let file = json!({"name": "a", "size": 0, "sha256": "", "sha512": ""});
                let reading = json!({
                    "file": file,
                    "inventory": avocado_sbom::ImageInventory::default(),
                    "packages": [],
                    "has_base": false,
                    "installed": [],
                });
                let images: Vec<Value> = images.map(|_| reading.clone()).collect();
                json!({"images": images, "base": [], "kernel": null})
            }
            other => panic!("no such step: {other}"),
        }
    }

    /// What an overlay is when it is copied.
    fn copied(&self, overlay: &Value) -> Value {
        if overlay.is_null() {
            return Value::Null;
        }
        let content = if self.edits_overlays {
            json!(digest(overlay))
        } else {
            overlay["content"].clone()
        };
        json!({"content": content, "filled": overlay["filled"]})
    }

    fn install(&self, spec: &Value, read: &Value) -> Value {
        let layout = &self.layout;
        let name = |value: &Value| -> Name { serde_json::from_value(value.clone()).unwrap() };
        let tree = &spec["tree"];
        let mut kernel = Value::Null;
        let root = if tree == "sdk" {
            fs::create_dir_all(layout.target_repoconf()).unwrap();
            layout.sdk()
        } else if tree == "target_sysroot" {
            layout.target_sysroot()
        } else if let Some(rootfs) = tree.get("rootfs") {
            if !spec["kernel"].is_null()
                || spec["packages"]["template"].get("kernel-image").is_some()
            {
                let version = spec["kernel"]["wanted"].as_str().unwrap_or("6.12.0");
                kernel = version.into();
                let image = layout.kernel(version).join("Image");
                written(&image, &json!(self.header));
            }
            layout.os_tree("rootfs", &name(rootfs))
        } else if let Some(initramfs) = tree.get("initramfs") {
            layout.os_tree("initramfs", &name(initramfs))
        } else if let Some(extension) = tree.get("extension") {
            layout.extension_packages(&name(extension))
        } else {
            let runtime = name(&tree["runtime"]);
            publish(&layout.runtime(&runtime), ".packages.json", &["deploy"]);
            layout.work("runtimes").join(runtime)
        };
        fs::create_dir_all(root).unwrap();
        let mut result = if read.is_null() {
            self.installed(spec, &kernel)
        } else {
            let (packages, digest) = reading::installed(spec, read, self.header, &kernel);
            json!({"digest": digest, "packages": packages, "kernel": kernel})
        };
        let is_image = ["rootfs", "initramfs", "extension"].map(|kind| tree.get(kind).is_some());
        if self.scriptlets.is_some() && is_image.contains(&true) {
            if spec["scriptlets"] == true {
                result["unfinished"] = json!({
                    "began": {"secs_since_epoch": 0, "nanos_since_epoch": 0},
                    "scriptlets": [],
                    "accounts": [],
                });
            } else {
                let skipped = json!({
                    "tree": "t", "package": "p", "scriptlets": ["%post"], "reason": "--no-scripts",
                });
                result["skipped"] = json!([skipped]);
            }
        }
        result
    }

    /// What an install makes that reads nothing.
    fn installed(&self, spec: &Value, kernel: &Value) -> Value {
        let packages = spec["packages"]["template"].as_object().unwrap();
        let names = packages.keys().map(String::as_str);
        let installed = names.chain(self.dependencies.iter().copied()).map(|name| {
            (
                name.to_owned(),
                json!({"version": "1-r0.all", "digest": self.header}),
            )
        });
        let installed: Value = installed.collect::<serde_json::Map<_, _>>().into();
        json!({
            "digest": digest(&json!([installed, self.header])),
            "packages": installed,
            "kernel": kernel,
        })
    }

    fn assemble(&self, name: &Name, request: &Value) -> Value {
        let layout = &self.layout;
        let os_image = |part: &str| {
            let sha256: Digest =
                serde_json::from_value(request[part]["image"]["sha256"].clone()).unwrap();
            Some(OsImage {
                version: None,
                image_id: ImageId::from_digest(sha256),
                sha256: Some(sha256),
                image_type: None,
            })
        };
        let os_bundle = |file: FileDigest| OsBundle {
            image_id: ImageId::from_digest(file.sha256),
            sha256: Some(file.sha256),
            os_build_id: None,
            initramfs_build_id: None,
            chunks_sha256: None,
        };
        let bundle = serde_json::from_value::<Option<FileDigest>>(
            request["os_bundle"]["files"]["archive"].clone(),
        );
        let manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            id: RuntimeId::from_digest(digest(request)),
            built_at: request["built_at"].as_str().unwrap().into(),
            runtime: RuntimeLabel {
                name: name.to_string(),
                version: "1".into(),
            },
            rootfs: os_image("rootfs"),
            initramfs: os_image("initramfs"),
            kernel: None,
            extensions: Vec::new(),
            os_bundle: bundle.unwrap().map(os_bundle),
        };
        let path = layout.manifest(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, manifest.to_json().unwrap()).unwrap();
        json!({
            "id": manifest.id,
            "version": manifest.runtime.version,
            "manifest": FileDigest::of(&path).unwrap(),
            "os_bundle": request["os_bundle"]["files"],
            "findings": self.findings,
        })
    }
}

impl Backend for FakeBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            loop_mounts: true,
            devices: false,
            network: false,
        }
    }

    fn run(&self, job: &Job, _cancel: &Cancel, _sink: &dyn Sink) -> Result<Value, BackendError> {
        if self.stops == Some(job.stage.as_str()) {
            return Err(BackendError::Cancelled);
        }
        if self.fails == Some(job.stage.as_str()) {
            return Err(BackendError::Failed {
                message: "no luck".to_owned(),
                kind: None,
                source: None,
            });
        }
        // As Linux does: no string of an environment may be longer.
        let is_too_long =
            |(name, value): (&String, &OsString)| name.len() + value.len() + 2 > 128 << 10;
        if let Some(variable) = job.environment.iter().find(|v| is_too_long(*v)) {
            panic!("{}: argument list too long: {}", job.stage, variable.0);
        }
        self.processes.fetch_add(1, Ordering::SeqCst);
        let message: StepMessage<Value> = serde_json::from_value(job.request.clone()).unwrap();
        let StepMessage {
            kind,
            mut request,
            source_date_epoch,
            ..
        } = message;
        if kind == "scriptlets" {
            // As packages may do it.
            request["told"] = json!([source_date_epoch, format!("{:?}", job.environment)]);
            self.scriptlet_jobs.lock().unwrap().push(job.clone());
        }
        let Some(project) = &self.reads else {
            return Ok(self.work(&kind, &request));
        };
        let read = reading::read(
            project,
            &self.layout,
            &kind,
            &request,
            job,
            source_date_epoch,
        );
        request["read"] = json!(read);
        if let Some(message) = reading::differs_from_lock(&request["spec"], self.header) {
            return Err(BackendError::Failed {
                message,
                kind: None,
                source: None,
            });
        }
        let result = self.work(&kind, &request);
        reading::leave(&self.layout, &kind, &request, &result);
        Ok(result)
    }

    fn tool_identity(&self, query: &ToolQuery) -> Result<Option<String>, BackendError> {
        Ok(Some(format!("{} {}", query.tool, self.tools)))
    }

    fn emulator_identity(&self, _processor: Processor) -> Result<Option<String>, BackendError> {
        Ok(self.emulator.map(ToOwned::to_owned))
    }

    fn processes(&self) -> u64 {
        self.processes.load(Ordering::SeqCst)
    }
}

fn digest(value: &Value) -> Digest {
    Digest::of(value.to_string().as_bytes())
}

/// Files in the directory of a runtime, and the list that has them.
fn publish(runtime: &Path, list: &str, names: &[&str]) {
    fs::create_dir_all(runtime).unwrap();
    for name in names {
        fs::write(runtime.join(name), list).unwrap();
    }
    fs::write(runtime.join(list), json!(names).to_string()).unwrap();
}

/// A file whose content follows from `content`.
fn written(path: &Path, content: &Value) -> FileDigest {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A new file, as every step makes one: the old one may be linked to elsewhere. Whole at once,
    // because two steps may bring the same kernel.
    let mut new = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    new.write_all(content.to_string().as_bytes()).unwrap();
    let digest = FileDigest::of(new.path()).unwrap();
    new.persist(path).unwrap();
    digest
}
