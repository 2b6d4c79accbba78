//! The child's side.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use serde::{Deserialize, Serialize};

use super::PROGRESS_STEP;
use super::moving_place::{archive_in, tree_in};
use crate::error::{At as _, BuildError};
use crate::file_digest::FileDigest;
use crate::step_context::StepContext;
use crate::step_request::StepRequest;
use crate::trees::Tree;
use crate::trees::archive::{self, ArchivedDevices, PackedAmount};

/// How hard zstd tries, as for the cache of a team: the file is there sooner than with more.
const LEVEL: i32 = 3;

/// Packs the state of a target.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackStateRequest {
    pub(super) target: Name,
    /// What goes to nobody, relative to the prefix.
    pub(super) left_out: Vec<PathBuf>,
}

/// A packed state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackedState {
    pub(super) archive: FileDigest,
    pub(super) content: PackedAmount,
}

impl StepRequest for PackStateRequest {
    const KIND: &'static str = "pack_state";
    type Result = PackedState;

    fn work(self, context: &StepContext<'_>) -> Result<PackedState, BuildError> {
        let layout = context.layout.of_target(&self.target);
        let left_out: Vec<&Path> = self.left_out.iter().map(PathBuf::as_path).collect();
        let to = archive_in(&layout.moving(), &self.target);
        let file = File::create_new(&to).at("create", &to)?;
        let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL).at("write", &to)?;
        let mut told = ToldWriter {
            to: encoder,
            stage: save_stage(&self.target),
            sink: context.sink,
            written: 0,
        };
        let devices = ArchivedDevices::Refused;
        let content = archive::pack(layout.prefix(), &left_out, devices, &mut told)?;
        let written = told.to.finish().and_then(|mut writer| writer.flush());
        written.at("write", &to)?;
        Ok(PackedState {
            archive: FileDigest::of(&to)?,
            content,
        })
    }
}

/// The name of that step.
pub(super) fn save_stage(target: &Name) -> String {
    format!("save {target}")
}

/// Tells how much was written.
struct ToldWriter<'w, W> {
    to: W,
    stage: String,
    sink: &'w dyn Sink,
    written: u64,
}

impl<W: Write> Write for ToldWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        let before = self.written / PROGRESS_STEP;
        self.written += written as u64;
        if self.written / PROGRESS_STEP > before {
            let told = Event::bytes(&self.stage, "", self.written, None);
            self.sink.emit(told);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Unpacks the state of a target, whose archive is there and has its digest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnpackStateRequest {
    pub(super) target: Name,
    /// What may be in it at most.
    pub(super) content: PackedAmount,
}

impl StepRequest for UnpackStateRequest {
    const KIND: &'static str = "unpack_state";
    type Result = ();

    fn work(self, context: &StepContext<'_>) -> Result<(), BuildError> {
        let place = context.layout.moving();
        let from = archive_in(&place, &self.target);
        let file = File::open(&from).at("open", &from)?;
        let decoder = zstd::Decoder::new(file).at("read", &from)?;
        let tree = Tree::fresh(&tree_in(&place, &self.target))?;
        let devices = ArchivedDevices::Refused;
        archive::unpack(BufReader::new(decoder), &tree, self.content, devices)?;
        // All of it is on the disk before any of it is believed: a stamp says that it is whole.
        let opened = File::open(tree.path()).at("open", tree.path())?;
        let synced = rustix::fs::syncfs(&opened).map_err(io::Error::from);
        synced.at("write", tree.path())
    }
}
