use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use avocado_fs::{OpenFileWarning, PathError, read_stream_at_most};
use clap::Args;

use crate::{OnRequest, ServeOptions, TlsIdentity, UploadOptions};

/// The largest file that an argument names, in bytes.
const LONGEST: u64 = 1 << 20;

const MIB: u64 = 1 << 20;

/// What a program that serves a directory is told on its command line.
#[derive(Args)]
pub struct ServeArguments {
    /// The directory whose files are served
    directory: PathBuf,
    /// Where to listen; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    address: SocketAddr,
    /// The bearer token that every request must carry; every user of this machine can read it in
    /// the list of processes
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// The file of that token: its first line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The PEM file of the server's certificate, with its intermediate ones; switches TLS on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The PEM file of the certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Keep what is put to `/ac/<key>` and `/cas/<SHA-256>`: the cache of a team
    #[arg(long)]
    cache: bool,
    /// The file of the token that a request to keep something must carry: its first line. Without it,
    /// the token for reading is enough
    #[arg(long, value_name = "FILE", requires = "cache")]
    push_token_file: Option<PathBuf>,
    /// The largest file that is kept, in MiB
    #[arg(long, value_name = "MIB", requires = "cache", default_value_t = 8192)]
    max_file: u64,
    /// How much is kept, in MiB: what was used first leaves. Without it there is no limit
    #[arg(long, value_name = "MIB", requires = "cache")]
    max_size: Option<u64>,
    /// Do not list the requests on stderr
    #[arg(short, long)]
    quiet: bool,
}

impl ServeArguments {
    /// What they mean. `on_request` is told about requests, unless it shall be quiet; `warn` hears
    /// where others can read what is secret.
    ///
    /// # Errors
    /// When a file cannot be read, or has no token in it.
    pub fn options(
        self,
        on_request: OnRequest,
        warn: &dyn Fn(OpenFileWarning),
    ) -> Result<ServeOptions, PathError> {
        let secret = |path: &Path| {
            let bytes = read_stream_at_most(path, LONGEST)?;
            avocado_fs::open_to_others(path).into_iter().for_each(warn);
            Ok::<_, PathError>(bytes)
        };
        let token = match &self.token_file {
            Some(path) => Some(first_line(path, secret(path)?)?),
            None => self.token,
        };
        let push_token = match &self.push_token_file {
            Some(path) => Some(first_line(path, secret(path)?)?),
            None => None,
        };
        let uploads = self.cache.then(|| UploadOptions {
            token: push_token,
            max_file: self.max_file.saturating_mul(MIB),
            max_size: self.max_size.map(|size| size.saturating_mul(MIB)),
        });
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsIdentity {
                cert_pem: read_stream_at_most(cert, LONGEST)?,
                key_pem: secret(key)?,
            }),
            _ => None,
        };
        Ok(ServeOptions {
            root: self.directory,
            address: self.address,
            token,
            tls,
            uploads,
            on_request: (!self.quiet).then_some(on_request),
        })
    }
}

fn first_line(path: &Path, bytes: Vec<u8>) -> Result<String, PathError> {
    let text = String::from_utf8(bytes).ok();
    let line = text.as_ref().and_then(|text| text.lines().next());
    match line.map(str::trim).filter(|line| !line.is_empty()) {
        Some(token) => Ok(token.to_owned()),
        // An empty one would let everybody in.
        None => Err(PathError {
            action: "find a token in",
            path: path.to_owned(),
            source: io::Error::from(io::ErrorKind::InvalidData),
        }),
    }
}
