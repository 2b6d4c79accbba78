//! A repository: what its manifest says of its images, and how large they are there. Nobody verifies
//! signatures for that; `avocado verify` does.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use avocado_http::{HttpClient, RepositoryUrl, Transport as _};
use avocado_manifest::Manifest;
use avocado_sbom::BillContents;
use avocado_tuf::ClientLimits;

use super::side::of_manifest;
use crate::failure::{Context as _, Failure, Result};
use crate::session::Session;

/// The longest manifest that is read, in bytes.
const LONGEST_MANIFEST: u64 = 4 << 20;

/// One in a directory of this machine.
pub(super) fn of_directory(directory: &Path) -> Result<BillContents> {
    let targets = directory.join("targets");
    let path = targets.join("manifest.json");
    let text = fs::read(&path).context(|| {
        let directory = directory.display();
        format!(
            "{directory} is no repository of a runtime: cannot read targets/manifest.json in it"
        )
    })?;
    let manifest = Manifest::parse(&text)
        .map_err(|e| Failure::new(format!("{}: {e}", path.display())).because(&e))?;
    Ok(of_manifest(&manifest, |file| {
        fs::metadata(targets.join(file)).ok().map(|file| file.len())
    }))
}

/// One on a server.
pub(super) fn of_url(session: &Session, url: &str) -> Result<BillContents> {
    let url: RepositoryUrl = url
        .parse()
        .map_err(|e| Failure::usage("the URL of the repository cannot be used").because(&e))?;
    let network = session.environment.network(url.as_str());
    let ClientLimits { connect, read, .. } = ClientLimits::default();
    let client = HttpClient::over(&network, std::slice::from_ref(&url), None, connect, read)
        .map_err(|e| Failure::from_error(&e))?;
    let place = url.join("targets/manifest.json");
    let cannot = || format!("cannot fetch {place}");
    let answer = client.get(&place, None).map_err(|e| {
        Failure::new(cannot())
            .because(&e)
            .hint("is there a repository, with `metadata` and `targets`?")
    })?;
    let mut text = Vec::new();
    let mut body = answer.body.take(LONGEST_MANIFEST);
    body.read_to_end(&mut text).context(cannot)?;
    let manifest =
        Manifest::parse(&text).map_err(|e| Failure::new(format!("{place}: {e}")).because(&e))?;
    Ok(of_manifest(&manifest, |file| {
        // The head of the answer says it; the rest is not read.
        let answer = client.get(&url.join(&format!("targets/{file}")), None);
        answer.ok().and_then(|answer| answer.length)
    }))
}
