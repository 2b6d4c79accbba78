//! `avocado provision`: what a device has on its disks when it starts for the first time.

#[cfg(target_os = "linux")]
mod device;

use std::path::PathBuf;

use clap::Args;

use super::runtime::RuntimeSelection;
use super::tools::ToolArgs;
#[cfg(not(target_os = "linux"))]
use super::tools::key_values;
#[cfg(not(target_os = "linux"))]
use crate::failure::Result;
#[cfg(not(target_os = "linux"))]
use crate::session::Session;

#[derive(Debug, Args)]
pub(crate) struct ProvisionArgs {
    #[command(flatten)]
    runtime: RuntimeSelection,

    /// How: a profile of the stone manifest, instead of its default
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,

    /// Set a variable of the target's program that provisions
    #[arg(long = "env", value_name = "KEY=VALUE")]
    variables: Vec<String>,

    /// Copy what is made to this directory, or to this file; for a program of the target, where it is to
    /// leave it, below the project
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,

    /// Write the disk to this device, a card or a stick, after asking, and read it back
    #[arg(long, value_name = "DEVICE")]
    device: Option<PathBuf>,

    /// Write to the device without asking
    #[arg(short, long, requires = "device")]
    yes: bool,

    /// Write to a disk, too, that is neither removable nor at USB or MMC: it may be that of a machine
    #[arg(long, requires = "device")]
    allow_fixed_disk: bool,

    /// List the profiles, and make nothing
    #[arg(long, conflicts_with_all = ["profile", "variables", "out", "device"])]
    list: bool,

    #[command(flatten)]
    tools: ToolArgs,
}

#[cfg(target_os = "linux")]
pub(super) use linux::run;

#[cfg(not(target_os = "linux"))]
pub(super) fn run(_: &Session, args: &ProvisionArgs) -> Result<()> {
    key_values(&args.variables)?;
    let _ = (
        &args.runtime,
        &args.profile,
        &args.out,
        &args.device,
        args.yes,
        args.allow_fixed_disk,
        args.list,
        &args.tools,
    );
    Err(super::only_on_linux("provision"))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    use avocado_build::{DISK_ARTIFACT, ProvisionWish, ProvisioningProfile, Report};

    use super::{ProvisionArgs, device};
    use crate::commands::build_run::{BuildRun, Goal, failure, options_now};
    use crate::commands::project;
    use crate::commands::tools::key_values;
    use crate::failure::{Context, Failure, Result};
    use crate::session::Session;

    pub(in crate::commands) fn run(session: &Session, args: &ProvisionArgs) -> Result<()> {
        let project = project::load_quietly(session)?.project;
        let runtime = project::runtime(session, &project, args.runtime.name())?;
        let runtime = runtime.name.clone();
        if args.list {
            let options = options_now(session, &args.tools)?;
            let found = avocado_build::provisioning_profiles(&options, &runtime);
            return list(session, &found.map_err(|e| failure(&e))?);
        }
        let run = BuildRun::new(session, "provision", &args.tools)?;
        let here = session.environment.current_dir()?;
        if let Some(out) = &args.out {
            refuse_special(out)?;
        }
        if let Some(device) = &args.device {
            device::check(session, args, device)?;
        }
        let wish = ProvisionWish {
            profile: args.profile.clone(),
            variables: key_values(&args.variables)?.into_iter().collect(),
            out: args.out.as_deref().map(|out| here.join(out)),
            one_disk: args.device.is_some(),
        };
        let goal = Goal::Provision { runtime, wish };
        run.run_and(goal, |report, cancel| {
            let copied = match &args.out {
                Some(out) => copy_disks(report, out)?,
                None => Vec::new(),
            };
            if let Some(device) = &args.device {
                device::write(session, args, device, report, cancel)?;
            }
            Ok(copied)
        })
    }

    fn copy_disks(report: &Report, out: &Path) -> Result<Vec<PathBuf>> {
        let disks = report.artifacts.iter().filter(|a| a.kind == DISK_ARTIFACT);
        let files: Vec<PathBuf> = disks.map(|disk| disk.path.clone()).collect();
        if files.is_empty() {
            // A program of the target was told where to leave what it makes.
            return Ok(Vec::new());
        }
        let copies = destinations(&files, out)?;
        for directory in copies.iter().filter_map(|copy| copy.parent()) {
            fs::create_dir_all(directory)
                .context(|| format!("cannot create {}", directory.display()))?;
        }
        for (from, to) in files.iter().zip(&copies) {
            let copied = copy_beside(from, to);
            copied.context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        }
        Ok(copies)
    }

    /// Copies a file beside its place and moves it there when it is whole. What is a hole stays one.
    fn copy_beside(from: &Path, to: &Path) -> io::Result<()> {
        let mut part = OsString::from(".");
        part.push(to.file_name().unwrap_or_default());
        part.push(format!(".{}.part", std::process::id()));
        let part = to.with_file_name(part);
        let copy = || {
            let (source, copy) = (File::open(from)?, File::create(&part)?);
            avocado_build::copy_with_holes(&source, &copy, 0)?;
            copy.set_len(source.metadata()?.len())?;
            copy.sync_all()?;
            fs::rename(&part, to)
        };
        let done = copy();
        if done.is_err() {
            _ = fs::remove_file(&part);
        }
        done
    }

    fn list(session: &Session, profiles: &[ProvisioningProfile]) -> Result<()> {
        session.output.answer(&profiles, || {
            let row = |profile: &ProvisioningProfile| {
                let script = profile.script.clone();
                [
                    profile.name.clone(),
                    if profile.is_default { "yes" } else { "" }.to_owned(),
                    script.unwrap_or_else(|| "an image of each disk".to_owned()),
                ]
            };
            avocado_text::table(["NAME", "DEFAULT", "DOES"], profiles.iter().map(row), None)
        })
    }

    /// Where copies of these files go: `out` is a directory, or the file that the only one becomes.
    fn destinations(files: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>> {
        refuse_special(out)?;
        let text = out.as_os_str().as_encoded_bytes();
        let is_directory = out.is_dir() || text.ends_with(b"/");
        if let ([_], false) = (files, is_directory) {
            return Ok(vec![out.to_owned()]);
        }
        if out.is_file() {
            let what = format!(
                "{} is a file, and there is more than one disk",
                out.display()
            );
            return Err(Failure::usage(what).hint("name a directory with --out"));
        }
        fs::create_dir_all(out).context(|| format!("cannot create {}", out.display()))?;
        let names = files.iter().filter_map(|file| file.file_name());
        let copies: Vec<PathBuf> = names.map(|name| out.join(name)).collect();
        for copy in &copies {
            refuse_special(copy)?;
        }
        Ok(copies)
    }

    /// A copy takes the place of what is there: of a device's node it would leave a file that only looks
    /// like the device.
    fn refuse_special(path: &Path) -> Result<()> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata.context(|| format!("cannot look at {}", path.display()))?,
        };
        if metadata.is_file() || metadata.is_dir() {
            return Ok(());
        }
        let what = format!("{} is neither a file nor a directory", path.display());
        Err(Failure::usage(what)
            .hint("name a file with --out; --device writes to a card or a stick"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn one_disk_becomes_the_file_and_several_go_to_a_directory() {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let one = [PathBuf::from("/state/disk.img")];
            let two = [one[0].clone(), PathBuf::from("/state/flash.img")];
            assert_eq!(destinations(&one, &at("a.img")).unwrap(), [at("a.img")]);
            assert_eq!(
                destinations(&one, &at("new/")).unwrap(),
                [at("new/disk.img")]
            );
            assert_eq!(destinations(&one, dir.path()).unwrap(), [at("disk.img")]);
            let both = [at("out/disk.img"), at("out/flash.img")];
            assert_eq!(destinations(&two, &at("out")).unwrap(), both);
            fs::write(at("file"), "").unwrap();
            assert!(destinations(&two, &at("file")).is_err());
        }

        #[test]
        fn what_is_no_file_is_not_replaced() {
            use rustix::fs::{CWD, Mode};
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let one = [PathBuf::from("/state/disk.img")];
            rustix::fs::mkfifoat(CWD, at("disk.img"), Mode::RWXU).unwrap();
            std::os::unix::fs::symlink("disk.img", at("link")).unwrap();
            for out in [
                PathBuf::from("/dev/null"),
                at("disk.img"),
                at("link"),
                at(""),
            ] {
                let error = destinations(&one, &out).unwrap_err();
                let error = format!("{error:?}");
                assert!(error.contains("neither a file"), "{error}");
                assert!(error.contains("--device"), "{error}");
            }
        }

        #[test]
        fn a_copy_is_whole_and_keeps_holes() {
            use std::os::unix::fs::{FileExt as _, MetadataExt as _};
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            let file = File::create(&from).unwrap();
            file.write_all_at(b"start", 0).unwrap();
            file.write_all_at(b"middle", 5 << 20).unwrap();
            file.set_len(64 << 20).unwrap();
            copy_beside(&from, &to).unwrap();
            assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
            assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        }
    }
}
