//! A repository that says whatever the input wants, with signatures that are good: what is found
//! here, an insider could do.
//!
//! The input is text. A line `%% PATH FLAGS` begins a file; what follows, up to the next such
//! line, is its content.
//!
//! - `PATH` is below the repository's URL, without the version or the digest that consistent
//!   snapshots put into names, but `metadata/2.root.json`. `metadata/anchor.json` is what the
//!   device trusts. A path below `2/` takes the place of the other in the second refresh.
//! - `FLAGS` are letters: `a` and `b` sign with one of two keys, and what they sign is JSON; the
//!   others, in [`Hostile::get`] and [`Input::file`], make the server or the signature bad.
//! - In what is signed, `$a` is the id of key a and `$A` its public half; a digest `@` in
//!   `targets` or `meta` is filled in, with the length.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use avocado_http::{ResumeFrom, Transport, TransportError, TransportResponse};
use avocado_manifest::Digest;
use avocado_tuf::SigningKey;
use serde_json::{Value, json};

/// The URL of the repository.
pub const URL: &str = "http://repository";

/// Metadata announces metadata announces metadata: a timestamp, a snapshot, targets.
const DEEPEST: usize = 3;

/// The input, cut into files.
pub struct Input {
    keys: [SigningKey; 2],
    files: BTreeMap<String, (String, String)>,
}

impl Input {
    /// Cuts the input.
    pub fn new(text: &str) -> Self {
        let mut files = BTreeMap::new();
        for part in text.split("%% ").skip(1) {
            let (line, body) = part.split_once('\n').unwrap_or((part, ""));
            let (path, flags) = line.split_once(' ').unwrap_or((line, ""));
            files.insert(path.to_owned(), (flags.to_owned(), body.to_owned()));
        }
        let keys = [1, 2].map(|n| SigningKey::from_seed(&[n; 32]).unwrap());
        Input { keys, files }
    }

    /// The names of the targets.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.files.keys().filter_map(|p| p.strip_prefix("targets/"))
    }

    /// The flags and the bytes of a file.
    pub fn file(&self, path: &str, pass: u64) -> Option<(&str, Vec<u8>)> {
        self.deep(path, pass, DEEPEST)
    }

    fn deep(&self, path: &str, pass: u64, depth: usize) -> Option<(&str, Vec<u8>)> {
        let later = format!("2/{path}");
        let later = self.files.get(&later).filter(|_| pass > 1);
        let (flags, body) = later.or_else(|| self.files.get(path))?;
        let signed = self.signed(flags, body, pass, depth);
        Some((flags, signed.unwrap_or_else(|| body.as_bytes().to_vec())))
    }

    fn signed(&self, flags: &str, body: &str, pass: u64, depth: usize) -> Option<Vec<u8>> {
        if !flags.contains(['a', 'b']) {
            return None;
        }
        let mut text = body.to_owned();
        for (key, [id, public]) in self.keys.iter().zip([["$a", "$A"], ["$b", "$B"]]) {
            text = text.replace(id, &key.id());
            text = text.replace(public, &hex(key.public().as_bytes()));
        }
        let mut signed: Value = serde_json::from_str(&text).ok()?;
        for (member, place) in [("targets", "targets/"), ("meta", "metadata/")] {
            let entries = signed.get_mut(member).and_then(Value::as_object_mut);
            for (name, entry) in entries.into_iter().flatten() {
                if depth > 0 && entry.pointer("/hashes/sha256") == Some(&json!("@")) {
                    let found = self.deep(&format!("{place}{name}"), pass, depth - 1);
                    let bytes = found.map(|(_, bytes)| bytes).unwrap_or_default();
                    entry["hashes"]["sha256"] = json!(Digest::of(&bytes));
                    entry["length"] = json!(bytes.len());
                }
            }
        }
        let mut message = Vec::new();
        canonical(&signed, &mut message);
        let mut signatures = Vec::new();
        for (key, flag) in self.keys.iter().zip(['a', 'b']) {
            if flags.contains(flag) {
                let sig = hex(&key.sign(&message));
                signatures.push(json!({"keyid": key.id(), "sig": sig}));
            }
        }
        if flags.contains('d') {
            // The same key twice.
            signatures.extend(signatures.clone());
        }
        if flags.contains('x') {
            signatures.truncate(signatures.len().saturating_sub(1));
        }
        Some(
            json!({"signatures": signatures, "signed": signed})
                .to_string()
                .into_bytes(),
        )
    }
}

/// The canonical form, written once more: code that shares a mistake with its peer finds none.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    let string = |text: &str, out: &mut Vec<u8>| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        out.extend_from_slice(format!("\"{text}\"").as_bytes());
    };
    match value {
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push(if i == 0 { b'[' } else { b',' });
                canonical(item, out);
            }
            out.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            for (i, (name, item)) in members.iter().enumerate() {
                out.push(if i == 0 { b'{' } else { b',' });
                string(name, out);
                out.push(b':');
                canonical(item, out);
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server.
pub struct Hostile {
    /// What it has.
    pub input: Arc<Input>,
    /// Which refresh this is.
    pub pass: u64,
    /// How often it was asked for something.
    pub asked: AtomicU64,
}

impl Transport for Hostile {
    fn get(
        &self,
        url: &str,
        resume: Option<&ResumeFrom>,
    ) -> Result<TransportResponse, TransportError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        // Bounds in the client keep it from asking for ever.
        assert!(asked < 500, "the client does not end");
        let path = url
            .strip_prefix(URL)
            .and_then(|path| path.strip_prefix('/'));
        let path = path.unwrap_or_else(|| panic!("{url} is not of the repository"));
        let (flags, bytes) = plain(path)
            .find_map(|path| self.input.file(&path, self.pass))
            .ok_or(TransportError::Missing(404))?;
        let has = |flag| flags.contains(flag);
        if has('m') || (has('c') && asked.is_multiple_of(2)) {
            return Err(TransportError::Status(500));
        }
        let mut offset = 0;
        if let Some(resume) = resume.filter(|_| !has('w')) {
            offset = resume.offset;
            assert!(offset > 0);
            if has('r') {
                return Err(TransportError::Range);
            }
        }
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|from| bytes.get(from..));
        let rest = rest.unwrap_or_default().to_vec();
        let length = rest.len() as u64;
        let kept = if has('e') { rest.len() / 2 } else { rest.len() };
        let (first, second) = rest.split_at(kept);
        let mut body: Box<dyn Read + Send> = Box::new(io::Cursor::new(first.to_vec()));
        if !second.is_empty() {
            body = Box::new(body.chain(Broken));
        }
        if has('z') {
            body = Box::new(body.chain(io::repeat(b' ')));
        }
        if has('t') {
            body = Box::new(Trickle(body));
        }
        Ok(TransportResponse {
            offset: if has('o') { offset + 1 } else { offset },
            length: match () {
                () if has('l') => Some(length + 1),
                () if has('n') => None,
                () => Some(length),
            },
            validator: has('v').then(|| "\"v\"".to_owned()),
            body,
        })
    }
}

/// The names under which the input may have a file: without a version, without a digest, as is.
fn plain(path: &str) -> impl Iterator<Item = String> {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let short = file.split_once('.').filter(|(prefix, _)| match directory {
        "metadata" => prefix.bytes().all(|b| b.is_ascii_digit()),
        _ => prefix.len() == 64 || prefix.len() == 128,
    });
    let short = short.map(|(_, rest)| format!("{directory}/{rest}"));
    [Some(path.to_owned()), short].into_iter().flatten()
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// One byte at a time.
struct Trickle(Box<dyn Read + Send>);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer.get_mut(..1).unwrap_or_default())
    }
}
