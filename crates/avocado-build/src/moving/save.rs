//! From a state to its file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use avocado_backend::Processor;
use avocado_events::{Cancel, Event, Sink};
use avocado_manifest::{DigestHasher, Name};
use tar::{Builder, EntryType, Header};

use super::manifest::{MANIFEST_FILE, SavedTarget, StateManifest};
use super::moving_place::MovingPlace;
use super::request::{PackStateRequest, PackedState, save_stage};
use super::{MovedState, PROGRESS_STEP, told};
use crate::build_context::BuildContext;
use crate::containers;
use crate::error::{At as _, BuildError};
use crate::layout::Layout;
use crate::options::Options;
use crate::run::in_project;

/// Writes the state of the project to `to`: that of one target, or of all that have one. It has what
/// builds made and the stamps by which the next one knows that; what hangs on this machine (the digests
/// of known files, what its tools say of themselves), the sources, the lock file and the signing keys are
/// not in it. The same state makes the same bytes.
///
/// # Errors
/// When there is no such state, something in it cannot be packed (a device), `to` does not take it, or
/// `cancel` asks to stop. What was written is of no use then.
pub fn save_state(
    options: &Options,
    only: Option<&Name>,
    to: &mut dyn Write,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<MovedState, BuildError> {
    // Looked at before the lock, which would make the directory of one.
    let state = options.project.state_dir();
    if targets_in(&state, only)?.is_empty() {
        return Err(nothing_to_save(&state, only));
    }
    in_project(options, cancel, sink, |context| {
        let targets = targets_in(&state, only)?;
        save_in(context, &targets, to, sink)
    })
}

pub(super) fn save_in(
    context: &BuildContext<'_>,
    targets: &[Name],
    to: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<MovedState, BuildError> {
    let place = MovingPlace::new(&context.layout)?;
    let mut saved = Vec::new();
    for target in targets {
        let layout = context.layout.of_target(target);
        layout.check()?;
        let stage = save_stage(target);
        let request = PackStateRequest {
            target: target.clone(),
            left_out: left_out(context, &layout),
        };
        let packed = told(&stage, sink, || context.run_step(&stage, request, sink))?;
        let PackedState { archive, content } = packed;
        saved.push(SavedTarget {
            target: target.clone(),
            architectures: architectures(&layout),
            archive,
            content,
        });
    }
    let manifest = StateManifest::new(&context.options.cli_version, saved);
    let mut writer = MeasuredWriter {
        to: BufWriter::new(to),
        hasher: DigestHasher::default(),
        size: 0,
    };
    told(WRITE_STAGE, sink, || {
        write(&manifest, &place, &mut writer, context.cancel, sink)?;
        writer.to.flush().at("write", Path::new(WRITTEN))
    })?;
    Ok(MovedState {
        targets: manifest.targets,
        sha256: writer.hasher.finish(),
        size: writer.size,
    })
}

/// What of a target's state goes to no other machine, relative to the prefix: what other processes have
/// there while they run, and signing keys, should somebody keep them there.
fn left_out(context: &BuildContext<'_>, layout: &Layout) -> Vec<PathBuf> {
    let prefix = layout.prefix();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let keyrings = context.keyrings().map(|keyring| {
        let below = real(keyring).strip_prefix(real(prefix)).map(PathBuf::from);
        below.unwrap_or_else(|_| keyring.clone())
    });
    let own = [layout.hitl(), layout.cache_work()].into_iter();
    let own = own.chain(layout.locks());
    let own = own.map(|path| {
        path.strip_prefix(prefix)
            .map_or(path.clone(), PathBuf::from)
    });
    own.chain(keyrings)
        .chain(stores_of_containers(context, layout))
        .collect()
}

/// The stores of container images in the trees of var partitions: they have devices and attributes that
/// only root gives, and are made again of what is beside them.
fn stores_of_containers<'a>(
    context: &BuildContext<'a>,
    layout: &'a Layout,
) -> impl Iterator<Item = PathBuf> + 'a {
    let runtimes = context.project.runtimes.iter().map(|r| &r.name);
    let stored = runtimes.filter(|name| layout.container_store(name).is_file());
    stored.filter_map(|name| {
        let place = layout.var_tree(name).join(containers::PLACE);
        Some(place.strip_prefix(layout.prefix()).ok()?.to_owned())
    })
}

/// The step in which the file is written.
const WRITE_STAGE: &str = "save file";

/// What is written, as errors have it: its name is the caller's.
const WRITTEN: &str = "the saved state";

fn write(
    manifest: &StateManifest,
    place: &MovingPlace,
    to: impl Write,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let written = Path::new(WRITTEN);
    let mut builder = Builder::new(to);
    let json = manifest.to_json()?;
    let mut header = header(json.len() as u64);
    let first = builder.append_data(&mut header, MANIFEST_FILE, &json[..]);
    first.at("write", written)?;
    let total = manifest.targets.iter().map(|t| t.archive.size).sum();
    let mut done = 0;
    for target in &manifest.targets {
        let path = place.archive(&target.target);
        let file = File::open(&path).at("open", &path)?;
        let mut header = self::header(target.archive.size);
        let mut content = ToldReader {
            from: file,
            done: &mut done,
            total,
            cancel,
            sink,
        };
        let appended = builder.append_data(&mut header, target.file(), &mut content);
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        appended.at("write", written)?;
    }
    builder.finish().at("write", written)
}

/// The header of a file of the archive. Nothing in it hangs on who saves, and when.
fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// The targets that have a state, in the order of their names.
fn targets_in(state: &Path, only: Option<&Name>) -> Result<Vec<Name>, BuildError> {
    let entries = match fs::read_dir(state) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("read", state)?,
    };
    let mut targets = Vec::new();
    for entry in entries {
        let entry = entry.at("read", state)?;
        let name = entry.file_name();
        // What else is there begins with a dot, which no name does.
        let Some(name) = name.to_str().and_then(|name| name.parse::<Name>().ok()) else {
            continue;
        };
        let is_wanted = only.is_none_or(|only| *only == name);
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_wanted && is_directory && has_something(&entry.path())? {
            targets.push(name);
        }
    }
    targets.sort();
    Ok(targets)
}

/// Whether there is something in the directory of a target. A run that could do nothing leaves an empty
/// one.
pub(super) fn has_something(prefix: &Path) -> Result<bool, BuildError> {
    match fs::read_dir(prefix) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        entries => Ok(entries.at("read", prefix)?.next().is_some()),
    }
}

fn nothing_to_save(state: &Path, only: Option<&Name>) -> BuildError {
    let of = only.map_or_else(String::new, |target| format!(" of target {target}"));
    BuildError::Invalid(format!(
        "there is no state{of} in {}: build something first",
        state.display()
    ))
}

/// The processors that the SDKs of a target are for.
fn architectures(layout: &Layout) -> Vec<String> {
    let all = Processor::ALL.into_iter();
    let there = all.filter(|processor| layout.sdk_for(*processor).is_dir());
    there.map(|processor| processor.to_string()).collect()
}

/// Knows the digest and the length of what was written.
struct MeasuredWriter<W> {
    to: W,
    hasher: DigestHasher,
    size: u64,
}

impl<W: Write> Write for MeasuredWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Tells how much was read, and ends where it is to stop.
struct ToldReader<'r, R> {
    from: R,
    done: &'r mut u64,
    total: u64,
    cancel: &'r Cancel,
    sink: &'r dyn Sink,
}

impl<R: Read> Read for ToldReader<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let read = self.from.read(to)?;
        let before = *self.done / PROGRESS_STEP;
        *self.done += read as u64;
        if *self.done / PROGRESS_STEP > before {
            let told = Event::bytes(WRITE_STAGE, "", *self.done, Some(self.total));
            self.sink.emit(told);
        }
        Ok(read)
    }
}
