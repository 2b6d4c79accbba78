//! A client with the command line that the public TUF conformance suite drives:
//!
//! ```text
//! tuf-conformance-client --metadata-dir D init ROOT
//! tuf-conformance-client --metadata-dir D --metadata-url U refresh
//! tuf-conformance-client --metadata-dir D --metadata-url U --target-name N [--target-name N…]
//!                        --target-base-url B --target-dir T download
//! ```
//!
//! It exits with 0 or 1 and says on stderr why. `D` holds the trusted metadata under unversioned
//! names, beside two files of other kinds; `T` holds each target under the SHA-256 of its name.
//! Nothing of it is shipped.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use avocado_events::Silent;
use avocado_manifest::Digest;
use avocado_tuf::{ClientLimits, ClientOptions, RemoteRepository, TrustedMetadata, TufClient};

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Arguments::read(std::env::args().skip(1)).and_then(|arguments| arguments.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&*error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr)]
fn tell(error: &dyn Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        eprintln!("{error}");
        cause = error.source();
    }
}

/// Stands for a URL of which nothing is asked.
const NOWHERE: &str = "http://nowhere.invalid";

/// The command line, as it is given: every option takes a value.
#[derive(Default)]
struct Arguments {
    command: Vec<String>,
    metadata_dir: Option<PathBuf>,
    metadata_url: Option<String>,
    target_names: Vec<String>,
    target_base_url: Option<String>,
    target_dir: Option<PathBuf>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut read = Arguments::default();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                read.command.push(word);
                continue;
            };
            let value = words
                .next()
                .ok_or_else(|| format!("--{option} needs a value"))?;
            match option {
                "metadata-dir" => read.metadata_dir = Some(value.into()),
                "metadata-url" => read.metadata_url = Some(value),
                "target-name" => read.target_names.push(value),
                "target-base-url" => read.target_base_url = Some(value),
                "target-dir" => read.target_dir = Some(value.into()),
                _ => return Err(format!("there is no option --{option}").into()),
            }
        }
        Ok(read)
    }

    fn run(&self) -> Result<(), Failure> {
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        match *command.as_slice() {
            // Opening checks the root and stores it, and makes no request.
            ["init", root] => self.client(fs::read(root)?, NOWHERE, NOWHERE).map(drop),
            ["refresh"] => self.known(NOWHERE)?.refresh().map_err(Failure::from),
            ["download"] => self.download(),
            _ => Err("the command is `init ROOT`, `refresh` or `download`".into()),
        }
    }

    fn download(&self) -> Result<(), Failure> {
        let urls = given(&self.target_base_url, "--target-base-url")?;
        let directory = given(&self.target_dir, "--target-dir")?;
        let mut client = self.known(urls)?;
        client.refresh()?;
        for name in &self.target_names {
            fetch(&mut client, name, directory)?;
        }
        Ok(())
    }

    /// A client that goes on from the root that it trusts by now.
    fn known(&self, targets_url: &str) -> Result<TufClient, Failure> {
        let root = given(&self.metadata_dir, "--metadata-dir")?.join("root.json");
        let url = given(&self.metadata_url, "--metadata-url")?;
        self.client(fs::read(root)?, url, targets_url)
    }

    fn client(
        &self,
        root: Vec<u8>,
        metadata_url: &str,
        targets_url: &str,
    ) -> Result<TufClient, Failure> {
        let directory = given(&self.metadata_dir, "--metadata-dir")?;
        let trusted = TrustedMetadata {
            directory: directory.clone(),
            root_directory: directory.clone(),
            root,
        };
        let remote = RemoteRepository {
            metadata_url: metadata_url.parse()?,
            targets_url: targets_url.parse()?,
            auth_token: None,
        };
        let options = ClientOptions {
            start_time: jiff::Timestamp::now(),
            limits: ClientLimits::default(),
            relax_legacy: false,
        };
        Ok(TufClient::open(trusted, remote, options)?)
    }
}

fn given<'a, T>(option: &'a Option<T>, name: &str) -> Result<&'a T, Failure> {
    option
        .as_ref()
        .ok_or_else(|| format!("{name} is missing").into())
}

/// Brings one target, unless it is there already.
fn fetch(client: &mut TufClient, name: &str, directory: &Path) -> Result<(), Failure> {
    let target = client
        .target(name)?
        .ok_or_else(|| format!("no role lists the target `{name}`"))?;
    let digest = Digest::of(name.as_bytes());
    let file = directory.join(digest.to_string());
    if file.exists() && target.describes(&file)? {
        return Ok(());
    }
    let partial = directory.join(format!(".{digest}.part"));
    client.download(&target, &partial, &Silent)?;
    fs::rename(partial, file)?;
    Ok(())
}
