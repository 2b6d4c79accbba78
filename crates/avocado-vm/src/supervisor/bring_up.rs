//! From a launch to a machine: one that runs already, one whose memory was saved, or a new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use avocado_events::{Event, Sink, chain};
use avocado_manifest::VmRole;
use avocado_qemu::{
    Accelerator, Architecture, BinaryIdentity, Drive, Events, Format, Identity, Machine, Probe,
    ProbeKey, RunState, Sockets, Spec, Tpm, device_tree, find_binary, find_swtpm, probe,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::time::{Instant, sleep};

use super::error::Error;
use super::log;
use super::record::{ImageFacts, Record, Saved};
use super::tunnel;
use crate::dir::{File, StateDir};
use crate::image::Image;
use crate::launch::Launch;
use crate::{access, disk, files};

/// What a machine is made from.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) dir: StateDir,
    pub(crate) launch: Launch,
    /// Where to look for QEMU.
    pub(crate) search: Vec<PathBuf>,
    pub(crate) sink: Arc<dyn Sink>,
}

/// A machine that is there.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) machine: Machine,
    pub(crate) events: Events,
    pub(crate) record: Record,
    pub(crate) port: u16,
    pub(crate) how: How,
}

/// How it came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It was started, and the guest boots.
    Booted,
    /// Its memory was restored, and the guest runs.
    Restored,
    /// It was there already. `ready`: its guest had answered before.
    Adopted { paused: bool, ready: bool },
}

/// Waiting for saved memory, which is still there; ending; past help. In every other state, which
/// it may leave by itself, a guest is let alone.
const LOST: [&str; 4] = ["inmigrate", "shutdown", "guest-panicked", "internal-error"];

/// How soon after its start a QEMU has its files.
const APPEARS: Duration = Duration::from_secs(3);
/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Lines of QEMU's log that go into a notice.
const QEMU_SAID: usize = 5;

/// What the accelerator's probe found, so that it is not done at each start.
pub(crate) const PROBE: &str = "accelerator.json";

/// Brings the machine up for `vm start`, where there is none to take over.
pub(crate) async fn start(context: &Arc<Context>) -> Result<Up, Error> {
    let dir = &context.dir;
    let record = prepare(context).await?;
    let Some(saved) = Saved::read(dir) else {
        return boot(context, record).await;
    };
    match saved.fits(&record) {
        Ok(()) => match restore(context, record.clone()).await {
            Ok(up) => Ok(up),
            Err(NotRestored { error, kept: true }) => {
                let text = "the saved memory is kept for another try; `avocado vm stop --force` \
                            gives it up";
                context.sink.emit(Event::warning(text));
                Err(error)
            }
            Err(NotRestored { error, kept: false }) => {
                refused(context, &error.to_string());
                boot(context, record).await
            }
        },
        Err(why) => {
            refused(context, &why);
            boot(context, record).await
        }
    }
}

/// Brings the machine back whose memory was saved by this supervisor.
pub(crate) async fn bring_back(
    context: &Arc<Context>,
    mut record: Record,
) -> Result<Up, NotRestored> {
    let kept = |kept| move |error: Error| NotRestored { error, kept };
    // It may have been replaced meanwhile.
    let qemu = BinaryIdentity::of(&record.spec.binary);
    record.qemu = qemu.map_err(|error| kept(true)(error.into()))?;
    let fits = match Saved::read(&context.dir) {
        None => Err("it is not there any more".to_owned()),
        Some(saved) => saved.fits(&record),
    };
    let why = match fits {
        Ok(()) => match restore(context, record.clone()).await {
            Err(NotRestored { error, kept: false }) => error.to_string(),
            other => return other,
        },
        Err(why) => why,
    };
    refused(context, &why);
    let image = load(context).await.map_err(kept(false))?;
    let facts = ImageFacts::of(&image);
    let record = Record {
        image: facts,
        ..record
    };
    boot(context, record).await.map_err(kept(false))
}

/// The saved memory is of no use: the guest boots, and says why.
fn refused(context: &Context, why: &str) {
    let text = format!("the saved memory is not used, and the guest boots anew: {why}");
    context.sink.emit(Event::warning(text));
}

/// Why there is no machine. `kept`: the saved memory is still good.
#[derive(Debug)]
pub(crate) struct NotRestored {
    pub(crate) error: Error,
    pub(crate) kept: bool,
}

/// Takes over the machine of a supervisor that was killed, if there is one. Must not be dropped on
/// the way: the machine would be nobody's.
pub(crate) async fn adopt(context: &Context) -> Result<Option<Up>, Error> {
    let dir = &context.dir;
    let Some(mut record) = Record::read(dir) else {
        return Ok(None);
    };
    if let Some(tunnel) = record.tunnel.take() {
        tunnel::end_stale(&tunnel);
    }
    let found = match &record.identity {
        Some(identity) => match Machine::adopt(identity, &record.spec).await {
            // Also in the very moment in which it is taken over.
            Ok(None) | Err(avocado_qemu::Error::Exited { .. }) => {
                lost(context);
                None
            }
            found => found?,
        },
        None => adopt_unknown(dir, &record).await,
    };
    let Some((machine, events)) = found else {
        return Ok(None);
    };
    let paused = match machine.run_state().await? {
        RunState::Running => false,
        RunState::Paused => true,
        RunState::Other(state) if !LOST.contains(&state.as_str()) => false,
        RunState::Other(state) => {
            let text = format!("a QEMU that is {state} is ended");
            context.sink.emit(Event::warning(text));
            machine.kill();
            machine.exited().await;
            return Ok(None);
        }
    };
    Saved::discard(dir)?;
    dir.remove(File::SavedMemory)?;
    let port = machine.ssh_forward().await?;
    record.identity = Some(machine.identity());
    record.write(dir)?;
    let text = "a VM that ran without supervisor was taken over; new options for the machine count \
                from its next start";
    context.sink.emit(Event::info(text));
    let ready = record.ready;
    let how = How::Adopted { paused, ready };
    Ok(Some(Up {
        machine,
        events,
        record,
        port,
        how,
    }))
}

/// Tells of a QEMU that ended while it had no supervisor: what was open in the guest is gone, unless
/// its memory had been saved.
fn lost(context: &Context) {
    let dir = &context.dir;
    if Saved::read(dir).is_some() {
        return;
    }
    let mut text = "QEMU ended while the VM had no supervisor, and the guest boots anew".to_owned();
    let said = log::last_lines(&dir.file(File::QemuLog), QEMU_SAID);
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(&said);
    }
    context.sink.emit(Event::warning(text));
}

/// The machine of a supervisor that was killed while QEMU started: QEMU's own file tells which
/// process it may be, and its socket whether it is. Both appear in the first moments.
async fn adopt_unknown(dir: &StateDir, record: &Record) -> Option<(Machine, Events)> {
    let age = std::fs::metadata(dir.file(File::Machine)).and_then(|found| found.modified());
    let age = age.ok().and_then(|then| then.elapsed().ok());
    let patience = match age {
        Some(age) => APPEARS.saturating_sub(age),
        None => Duration::ZERO,
    };
    let deadline = Instant::now() + patience;
    loop {
        if let Some(identity) = record.process(dir)
            && let Ok(Some(found)) = Machine::adopt(&identity, &record.spec).await
        {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(LOOK).await;
    }
}

/// Everything but QEMU: image, disks, key, accelerator.
async fn prepare(context: &Arc<Context>) -> Result<Record, Error> {
    let image = load(context).await?;
    let (dir, launch) = (&context.dir, &context.launch);
    let architecture: Architecture = image.manifest().architecture.parse()?;
    let binary = match &launch.qemu {
        Some(binary) => binary.clone(),
        None => find_binary(context.search.iter().cloned(), architecture)?,
    };
    let accelerator = match &launch.accelerator {
        Some(name) => name.parse()?,
        None => accelerator(context, &binary, architecture).await?,
    };
    let key = {
        let context = context.clone();
        let image = image.clone();
        blocking(move || {
            let (dir, launch) = (&context.dir, &context.launch);
            disk::prepare_var(dir, &image, launch.var_size, &*context.sink)?;
            dir.write(File::Manifest, image.manifest_bytes())?;
            let path = |path: &Path| path.display().to_string().into_bytes();
            dir.write(File::ArtifactDir, &path(&launch.image))?;
            match &launch.workspace {
                Some(workspace) => dir.write(File::Workspace, &path(workspace))?,
                None => dir.remove(File::Workspace)?,
            }
            access::prepare_key(dir)
        })
        .await?
    };
    // On arm64 a device tree of the user's takes the TPM away: it has a place in QEMU's own only.
    let tpm = match (architecture, &launch.device_tree) {
        (Architecture::Aarch64, Some(_)) => None,
        _ => find_swtpm(context.search.iter().cloned()),
    };
    let tpm = tpm.map(|binary| Tpm {
        binary,
        directory: dir.file(File::Tpm),
    });
    let parts = (binary, architecture, accelerator, tpm);
    let mut spec = spec(dir, launch, &image, parts, &key)?;
    match device_tree::prepare(
        &spec,
        device_tree::Choice::Automatic,
        &dir.file(File::DeviceTrees),
    )
    .await
    {
        Ok(tree) => spec.device_tree = tree,
        Err(error) => {
            let text = format!("the guest gets no idle states: {}", chain(&error));
            context.sink.emit(Event::warning(text));
        }
    }
    Ok(Record {
        identity: None,
        qemu: BinaryIdentity::of(&spec.binary)?,
        spec,
        image: ImageFacts::of(&image),
        launch: launch.clone(),
        tunnel: None,
        ready: false,
    })
}

/// The image, verified.
async fn load(context: &Arc<Context>) -> Result<Image, Error> {
    let context = context.clone();
    let load = move || {
        let image = Image::load(&context.launch.image)?;
        image.verify(&*context.sink)?;
        Ok(image)
    };
    blocking(load).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::System {
            what: "finish the work",
            source: std::io::Error::other(error),
        }),
    }
}

/// The best accelerator that works, remembered for as long as nothing changes.
async fn accelerator(
    context: &Context,
    binary: &Path,
    architecture: Architecture,
) -> Result<Accelerator, Error> {
    let path = context.dir.root().join(PROBE);
    let key = ProbeKey::of(binary, architecture)?;
    let kept = files::read(&path).ok().flatten();
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Probe>(&bytes).ok());
    let found = match kept.filter(|probe| probe.key == key) {
        Some(probe) => probe,
        None => {
            let probe = probe(binary, architecture, context.dir.root()).await?;
            if let Ok(bytes) = serde_json::to_vec(&probe) {
                files::write(&path, &bytes)?;
            }
            probe
        }
    };
    if let Some(notice) = found.notice {
        context.sink.emit(Event::info(notice));
    }
    Ok(found.accelerator)
}

fn spec(
    dir: &StateDir,
    launch: &Launch,
    image: &Image,
    (binary, architecture, accelerator, tpm): (PathBuf, Architecture, Accelerator, Option<Tpm>),
    key: &str,
) -> Result<Spec, Error> {
    let drive = |path, format, read_only| Drive {
        path,
        format,
        read_only,
    };
    // The order is the order of the guest's names: /dev/vda, /dev/vdb, …
    let mut drives = vec![
        drive(image.path(VmRole::Rootfs)?, Format::Raw, true),
        drive(dir.file(File::Var), Format::Raw, false),
    ];
    let data = dir.file(File::Data);
    if data.exists() {
        drives.push(drive(data, Format::Qcow2, false));
    }
    let mut words = vec![image.manifest().cmdline_default.clone()];
    words.extend(launch.cmdline_extra.clone());
    if tpm.is_none() {
        // systemd would wait a minute and a half for one.
        words.push("systemd.tpm2_wait=false".to_owned());
    }
    let keys = BASE64.encode(format!("{key}\n"));
    let credential = "systemd.set_credential_binary=ssh.authorized_keys.root";
    words.push(format!("{credential}:{keys}"));
    Ok(Spec {
        binary,
        architecture,
        accelerator,
        cpus: launch.cpus,
        memory_mib: launch.memory_mib,
        kernel: Some(image.path(VmRole::Kernel)?),
        initrd: Some(image.path(VmRole::Initramfs)?),
        cmdline: words.join(" "),
        drives,
        workspace: launch.workspace.clone(),
        sockets: Sockets {
            supervisor: dir.file(File::SupervisorQmp),
            public: dir.file(File::Qmp),
            agent: dir.file(File::Agent),
            control: dir.file(File::Control),
        },
        serial_log: dir.file(File::SerialLog),
        error_log: dir.file(File::QemuLog),
        pid_file: dir.file(File::QemuPid),
        tpm,
        device_tree: launch.device_tree.clone(),
    })
}

/// Starts a guest from its kernel. Saved memory does not count from here on.
async fn boot(context: &Context, record: Record) -> Result<Up, Error> {
    let dir = &context.dir;
    Saved::discard(dir)?;
    dir.remove(File::SavedMemory)?;
    access::forget_host(dir)?;
    let mut record = Record {
        ready: false,
        ..record
    };
    record.write(dir)?;
    let spec = record.spec.clone();
    let booted = Machine::boot(&spec, |identity| note(dir, &mut record, identity)).await;
    let (machine, events) = booted?;
    let unowned = Unowned::new(&machine);
    let port = match machine.ssh_forward().await {
        Ok(port) => port,
        Err(error) => {
            unowned.end().await;
            return Err(error.into());
        }
    };
    unowned.keep();
    Ok(Up {
        machine,
        events,
        record,
        port,
        how: How::Booted,
    })
}

/// Brings back the memory of a guest, and lets it run.
async fn restore(context: &Context, mut record: Record) -> Result<Up, NotRestored> {
    let kept = |kept| move |error: Error| NotRestored { error, kept };
    let dir = &context.dir;
    record
        .write(dir)
        .map_err(|error| kept(true)(error.into()))?;
    let memory = dir.file(File::SavedMemory);
    let spec = record.spec.clone();
    let restored = Machine::restore(&spec, &memory, |identity| note(dir, &mut record, identity))
        .await
        .map_err(|error| {
            // The memory itself is at fault, or something that may be better the next time.
            let kept = !matches!(error, avocado_qemu::Error::Memory { .. });
            NotRestored {
                error: error.into(),
                kept,
            }
        })?;
    let (machine, events) = restored;
    let unowned = Unowned::new(&machine);
    let port = match let_run(dir, &machine).await {
        Ok(port) => port,
        Err(error) => {
            unowned.end().await;
            return Err(error);
        }
    };
    unowned.keep();
    let _ = dir.remove(File::SavedMemory);
    Ok(Up {
        machine,
        events,
        record,
        port,
        how: How::Restored,
    })
}

/// Lets a guest run whose memory was restored. Answers with the port that leads to it.
async fn let_run(dir: &StateDir, machine: &Machine) -> Result<u16, NotRestored> {
    let kept = |kept| move |error: Error| NotRestored { error, kept };
    let port = machine.ssh_forward().await;
    let port = port.map_err(|error| kept(true)(error.into()))?;
    let saved = Saved::read(dir);
    // Saved memory is used once: as soon as the guest runs, its disks are ahead of it.
    Saved::discard(dir).map_err(|error| kept(true)(error.into()))?;
    if let Err(error) = machine.resume().await {
        // Not where somebody else holds one of its disks: then it has not run, and can be had later.
        let refused = matches!(error, avocado_qemu::Error::Refused { .. });
        let stands = refused && matches!(machine.run_state().await, Ok(RunState::Paused));
        let again = saved.filter(|_| stands).map(|saved| saved.write(dir));
        return Err(kept(matches!(again, Some(Ok(()))))(error.into()));
    }
    Ok(port)
}

/// Writes down which process it is, for whoever comes after a kill in this moment.
fn note(dir: &StateDir, record: &mut Record, identity: Identity) {
    record.identity = Some(identity);
    // Without it, the files of QEMU tell.
    let _ = record.write(dir);
}

/// A machine on its way to its owner, who may be gone by then: it is killed, unless it is kept.
struct Unowned(Option<Machine>);

impl Unowned {
    fn new(machine: &Machine) -> Self {
        Unowned(Some(machine.clone()))
    }

    fn keep(mut self) {
        self.0 = None;
    }

    /// Kills it, and waits for its end.
    async fn end(mut self) {
        if let Some(machine) = self.0.take() {
            machine.kill();
            machine.exited().await;
        }
    }
}

impl Drop for Unowned {
    fn drop(&mut self) {
        if let Some(machine) = &self.0 {
            machine.kill();
        }
    }
}
