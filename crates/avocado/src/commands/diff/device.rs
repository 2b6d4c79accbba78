//! A device: its active runtime, and the images of its pool. Nothing is run there but `cat` and `stat`.

use avocado_sbom::BillContents;

use crate::failure::Result;

#[cfg(target_os = "linux")]
pub(super) fn contents(address: &str, ssh_args: &[String]) -> Result<BillContents> {
    linux::contents(address, ssh_args)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn contents(_address: &str, _ssh_args: &[String]) -> Result<BillContents> {
    Err(crate::commands::only_on_linux("diff ssh://…"))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use avocado_manifest::Manifest;
    use avocado_sbom::BillContents;
    use avocado_text::escape;

    use super::super::side::of_manifest;
    use crate::commands::deploy::ssh::{Ssh, SshFailure, Stream};
    use crate::failure::{Failure, Result};
    use avocado_ssh::SshAddress;

    /// What stands between the manifest and the sizes.
    const SEPARATOR: &str = "-- images";

    /// A device without images has nothing to say of them.
    const COMMAND: &str = "cd /var/lib/avocado && cat active/manifest.json && echo '-- images' && \
                           { stat -c '%s %n' images/*.raw 2>/dev/null || :; }";

    /// The most of what a device prints that is kept, in bytes.
    const LONGEST: usize = 4 << 20;

    pub(super) fn contents(address: &str, ssh_args: &[String]) -> Result<BillContents> {
        let device: SshAddress = address.trim_end_matches('/').parse().map_err(|e| {
            Failure::usage(format!(
                "`ssh://{}` is no address of a device",
                escape(address)
            ))
            .because(&e)
        })?;
        let ssh = Ssh::new(&device, ssh_args)?;
        let mut printed = String::new();
        let mut keep = |stream: Stream, line: &str| {
            if stream == Stream::Stdout && printed.len() + line.len() < LONGEST {
                printed.push_str(line);
                printed.push('\n');
            }
        };
        ssh.run(COMMAND, "", &mut keep, || true)
            .map_err(|failure| match failure {
                SshFailure::Ssh(failure) => failure,
                SshFailure::Command(failed) => {
                    Failure::new(format!("{device} has no active runtime"))
                        .hint("bring it one: `avocado deploy`")
                        .said(&failed.last_lines)
                }
            })?;
        read(&printed).map_err(|e| {
            Failure::new(format!("{device} has no manifest that can be read")).because(&e)
        })
    }

    fn read(printed: &str) -> std::result::Result<BillContents, avocado_manifest::ManifestError> {
        let (manifest, sizes) = printed.split_once(SEPARATOR).unwrap_or((printed, ""));
        let manifest = Manifest::parse(manifest.as_bytes())?;
        let sizes: BTreeMap<&str, u64> = sizes
            .lines()
            .filter_map(|line| {
                let (size, name) = line.split_once(' ')?;
                Some((name.strip_prefix("images/")?, size.parse().ok()?))
            })
            .collect();
        Ok(of_manifest(&manifest, |file| sizes.get(file).copied()))
    }
}
