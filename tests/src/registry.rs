//! A registry of container images on this machine, with images of a few files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use avocado_manifest::Digest;
use serde_json::{Value, json};

use crate::HarnessError;
use crate::error::file;
use crate::tools::ToolCall;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What it has, by its path below `/v2/`: the type and the bytes.
type Contents = BTreeMap<String, (&'static str, Vec<u8>)>;

/// A registry, over HTTP.
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    contents: Arc<Mutex<Contents>>,
    ended: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl TestRegistry {
    /// One without images.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start() -> Result<Self, HarnessError> {
        let place = Path::new("127.0.0.1:0");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(file("listen at", place))?;
        let address = listener.local_addr().map_err(file("listen at", place))?;
        let contents = Arc::new(Mutex::new(Contents::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (of_server, end) = (Arc::clone(&contents), Arc::clone(&ended));
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let contents = Arc::clone(&of_server);
                // A client that goes away has no answer.
                std::thread::spawn(move || drop(answer(&stream, &contents)));
            }
        });
        Ok(TestRegistry {
            address,
            contents,
            ended,
            server: Some(server),
        })
    }

    /// What the name of an image in it begins with.
    #[must_use]
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image there, under a tag: one for each processor, made of layers that are trees. Returns
    /// the digest of the list of them.
    ///
    /// # Errors
    /// A tree cannot be packed.
    pub fn put(
        &self,
        name: &str,
        tag: &str,
        images: &[(&str, &[&Path])],
    ) -> Result<String, HarnessError> {
        let mut manifests = Vec::new();
        for (architecture, layers) in images {
            let bytes = self.image(name, architecture, layers)?;
            let mut described = self.manifest(name, MANIFEST, bytes, None);
            described["platform"] = json!({"architecture": architecture, "os": "linux"});
            manifests.push(described);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let bytes = index.to_string().into_bytes();
        let digest = named(&bytes);
        self.manifest(name, INDEX, bytes, Some(tag));
        Ok(digest)
    }

    /// Puts one image there, for one processor and in no list. Returns its digest.
    ///
    /// # Errors
    /// A tree cannot be packed.
    pub fn put_alone(
        &self,
        name: &str,
        tag: &str,
        architecture: &str,
        layers: &[&Path],
    ) -> Result<String, HarnessError> {
        let bytes = self.image(name, architecture, layers)?;
        let digest = named(&bytes);
        self.manifest(name, MANIFEST, bytes, Some(tag));
        Ok(digest)
    }

    /// The manifest of an image whose blobs are there.
    fn image(
        &self,
        name: &str,
        architecture: &str,
        layers: &[&Path],
    ) -> Result<Vec<u8>, HarnessError> {
        let (mut blobs, mut diffs) = (Vec::new(), Vec::new());
        for layer in layers {
            let bytes = packed(layer)?;
            diffs.push(named(&bytes));
            blobs.push(self.blob(name, LAYER, bytes));
        }
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let config = self.blob(name, CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": blobs,
        });
        Ok(manifest.to_string().into_bytes())
    }

    fn blob(&self, name: &str, kind: &'static str, bytes: Vec<u8>) -> Value {
        let described = described(kind, &bytes);
        self.add(format!("{name}/blobs/{}", named(&bytes)), kind, bytes);
        described
    }

    fn manifest(&self, name: &str, kind: &'static str, bytes: Vec<u8>, tag: Option<&str>) -> Value {
        let described = described(kind, &bytes);
        if let Some(tag) = tag {
            self.add(format!("{name}/manifests/{tag}"), kind, bytes.clone());
        }
        self.add(format!("{name}/manifests/{}", named(&bytes)), kind, bytes);
        described
    }

    fn add(&self, path: String, kind: &'static str, bytes: Vec<u8>) {
        let contents = self.contents.lock();
        let mut contents = contents.unwrap_or_else(PoisonError::into_inner);
        contents.insert(path, (kind, bytes));
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // It hears of it when somebody calls.
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn named(bytes: &[u8]) -> String {
    format!("sha256:{}", Digest::of(bytes))
}

fn described(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": named(bytes), "size": bytes.len()})
}

/// The tree as one layer, with the owners that its files have.
fn packed(tree: &Path) -> Result<Vec<u8>, HarnessError> {
    let archive = tree.with_extension("tar");
    ToolCall::new("tar")
        .args([
            "--sort=name",
            "--mtime=@1000000000",
            "--numeric-owner",
            "-cf",
        ])
        .arg(&archive)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .ok()?;
    fs::read(&archive).map_err(file("read", &archive))
}

fn answer(mut stream: &TcpStream, contents: &Mutex<Contents>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    let found = {
        let contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
        match path {
            "" => Some(("application/json", b"{}".to_vec())),
            path => contents.get(path).cloned(),
        }
    };
    let (status, kind, body) = match found {
        Some((kind, body)) => ("200 OK", kind, body),
        None => {
            let body =
                json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "it is not here"}]});
            (
                "404 Not Found",
                "application/json",
                body.to_string().into_bytes(),
            )
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method != Some("HEAD") {
        stream.write_all(&body)?;
    }
    Ok(())
}
