//! A disk on which bytes and names last only once they were synced.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::Op;

type Id = usize;
type Names = BTreeMap<String, Id>;

#[derive(Debug, Clone)]
enum Node {
    File {
        /// What is on the disk for sure.
        lasting: Vec<u8>,
        now: Vec<u8>,
        /// The first and the last byte (exclusive) of what was written over others since.
        overwritten: Option<(usize, usize)>,
        /// The number that the file system gave it.
        inode: u64,
    },
    Dir {
        lasting: Names,
        /// What was done since: each may or may not have reached the disk, in this order.
        since: Vec<(String, Option<Id>)>,
        /// Which changes belong together: a rename within the directory.
        groups: Vec<usize>,
    },
    Link(PathBuf),
}

/// The disk; node 0 is the directory that was recorded.
#[derive(Debug, Clone)]
pub struct Disk(Vec<Node>);

/// What a crash can leave of something that was not synced.
#[derive(Debug, Clone)]
enum Choice {
    /// The group of changes of a directory: there, or not.
    Names(Id, usize),
    /// The bytes of a file that was created or extended.
    Bytes(Id),
    /// The bytes of a file, or a device, of which a part was written over.
    Blocks(Id),
}

/// How a file that was not synced can look.
const BYTES: usize = 4;
/// How it can look besides where something in it was written over.
const BLOCKS: usize = BYTES + 2;
/// What a disk writes at once, in bytes.
const BLOCK: usize = 512;

impl Disk {
    /// The directory as it is, all of it lasting.
    pub fn of(base: &Path) -> Self {
        let mut disk = Disk(Vec::new());
        disk.load(base);
        disk
    }

    /// Adds what a [`Recorder::alias`](super::Recorder::alias) is for: the file or device `path`,
    /// all of it lasting, as `name` in the directory.
    #[must_use]
    pub fn with(mut self, path: &Path, name: &str) -> Self {
        let id = self.load(&fs::canonicalize(path).unwrap());
        let Some(Node::Dir { lasting, .. }) = self.0.first_mut() else {
            panic!("no directory");
        };
        lasting.insert(name.to_owned(), id);
        self
    }

    fn load(&mut self, path: &Path) -> Id {
        let id = self.0.len();
        let meta = fs::symlink_metadata(path).unwrap();
        if meta.is_symlink() {
            self.0.push(Node::Link(fs::read_link(path).unwrap()));
        } else if meta.is_dir() {
            self.0.push(Node::dir());
            let names: Names = fs::read_dir(path)
                .unwrap()
                .map(|entry| {
                    let entry = entry.unwrap();
                    (
                        entry.file_name().into_string().unwrap(),
                        self.load(&entry.path()),
                    )
                })
                .collect();
            if let Some(Node::Dir { lasting, .. }) = self.0.get_mut(id) {
                *lasting = names;
            }
        } else {
            let bytes = fs::read(path).unwrap();
            self.0.push(Node::File {
                lasting: bytes.clone(),
                now: bytes,
                overwritten: None,
                inode: meta.ino(),
            });
        }
        id
    }

    /// Does what was recorded.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path, inode) => {
                let node = Node::File {
                    lasting: Vec::new(),
                    now: Vec::new(),
                    overwritten: None,
                    inode: *inode,
                };
                self.add(path, node);
            }
            Op::MakeDirectory(path) => self.add(path, Node::dir()),
            Op::Symlink(path, target) => self.add(path, Node::Link(target.clone())),
            Op::HardLink(path, original) => {
                let id = self.find(original);
                let (dir, name) = self.place(path);
                self.change(dir, &[(name, Some(id))]);
            }
            Op::Append(path, bytes) => self.file(path).0.extend_from_slice(bytes),
            Op::WriteAt(path, offset, bytes) => {
                let (now, overwritten) = self.file(path);
                let start = usize::try_from(*offset).unwrap();
                let end = start + bytes.len();
                let over = end.min(now.len());
                if start < over {
                    let (first, last) = overwritten.unwrap_or((start, over));
                    *overwritten = Some((first.min(start), last.max(over)));
                }
                now.resize(now.len().max(end), 0);
                now[start..end].copy_from_slice(bytes);
            }
            Op::SetLength(path, length) => {
                let (now, overwritten) = self.file(path);
                now.resize(usize::try_from(*length).unwrap(), 0);
                // What is cut off is no longer written over.
                *overwritten = overwritten.and_then(|(first, last)| {
                    (first < now.len()).then_some((first, last.min(now.len())))
                });
            }
            Op::Sync(path) => {
                let id = self.find(path);
                let Node::File {
                    lasting,
                    now,
                    overwritten,
                    ..
                } = &mut self.0[id]
                else {
                    panic!("{} is no file", path.display());
                };
                lasting.clone_from(now);
                *overwritten = None;
            }
            Op::SyncDirectory(path) => {
                let id = self.find(path);
                let all = self.names(id);
                self.0[id] = Node::Dir {
                    lasting: all,
                    since: Vec::new(),
                    groups: Vec::new(),
                };
            }
            Op::Remove(path) => {
                let (dir, name) = self.place(path);
                self.change(dir, &[(name, None)]);
            }
            Op::Rename(from, to) => {
                let id = self.find(from);
                let ((source, old), (target, new)) = (self.place(from), self.place(to));
                if source == target {
                    self.change(source, &[(old, None), (new, Some(id))]);
                } else {
                    // POSIX promises nothing about the two directories together.
                    self.change(target, &[(new, Some(id))]);
                    self.change(source, &[(old, None)]);
                }
            }
        }
    }

    /// What a file holds now, and what of it was written over.
    fn file(&mut self, path: &Path) -> (&mut Vec<u8>, &mut Option<(usize, usize)>) {
        let id = self.find(path);
        match &mut self.0[id] {
            Node::File {
                now, overwritten, ..
            } => (now, overwritten),
            _ => panic!("{} is no file", path.display()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) {
        let id = self.0.len();
        self.0.push(node);
        let (dir, name) = self.place(path);
        self.change(dir, &[(name, Some(id))]);
    }

    fn change(&mut self, dir: Id, changes: &[(String, Option<Id>)]) {
        let Node::Dir { since, groups, .. } = &mut self.0[dir] else {
            panic!("no directory");
        };
        since.extend_from_slice(changes);
        groups.push(changes.len());
    }

    /// What a directory has now.
    fn names(&self, dir: Id) -> Names {
        let Node::Dir { lasting, since, .. } = &self.0[dir] else {
            panic!("no directory");
        };
        let mut names = lasting.clone();
        for (name, id) in since {
            set(&mut names, name, *id);
        }
        names
    }

    fn find(&self, path: &Path) -> Id {
        path.iter().fold(0, |dir, name| {
            let names = self.names(dir);
            let name = name.to_str().unwrap();
            *names
                .get(name)
                .unwrap_or_else(|| panic!("no {}", path.display()))
        })
    }

    fn place(&self, path: &Path) -> (Id, String) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.find(path.parent().unwrap()), name)
    }

    /// Calls `each` with what a crash can leave now, at most `limit` times: with everything if
    /// there is no more than that, or else with the extremes and a choice by `random`.
    pub fn crash(
        &self,
        limit: usize,
        random: &mut impl FnMut() -> u64,
        mut each: impl FnMut(&CrashState<'_>),
    ) {
        let choices = self.choices();
        let ways = |choice: &Choice| match choice {
            Choice::Names(..) => 2,
            Choice::Bytes(_) => BYTES,
            Choice::Blocks(_) => BLOCKS,
        };
        let all = choices
            .iter()
            .try_fold(1_usize, |n, choice| n.checked_mul(ways(choice)))
            .unwrap_or(usize::MAX);
        let mut picked = vec![0; choices.len()];
        let mut tell = |picked: &[usize]| {
            each(&CrashState {
                disk: self,
                choices: &choices,
                picked,
            });
        };
        if all <= limit {
            for mut n in 0..all {
                for (pick, choice) in picked.iter_mut().zip(&choices) {
                    *pick = n % ways(choice);
                    n /= ways(choice);
                }
                tell(&picked);
            }
            return;
        }
        // Nothing of it, all of it, all but one thing and nothing but one thing; then any.
        for told in 0..limit {
            let extreme = told % 2;
            picked.fill(extreme);
            let single = (told / 2).checked_sub(1);
            match single.filter(|n| *n < choices.len()) {
                Some(n) => {
                    let at = (n + random() as usize) % choices.len();
                    picked[at] = 1 - extreme;
                }
                None if single.is_some() => {
                    for (pick, choice) in picked.iter_mut().zip(&choices) {
                        *pick = (random() % ways(choice) as u64) as usize;
                    }
                }
                None => {}
            }
            tell(&picked);
        }
    }

    fn choices(&self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (id, node) in self.0.iter().enumerate() {
            match node {
                Node::Dir { groups, .. } => {
                    choices.extend((0..groups.len()).map(|group| Choice::Names(id, group)));
                }
                Node::File {
                    lasting,
                    now,
                    overwritten,
                    ..
                } if lasting != now => choices.push(match overwritten {
                    Some(_) => Choice::Blocks(id),
                    None => Choice::Bytes(id),
                }),
                _ => {}
            }
        }
        choices
    }
}

/// What a crash can leave of a [`Disk`].
#[derive(Debug)]
pub struct CrashState<'a> {
    disk: &'a Disk,
    choices: &'a [Choice],
    picked: &'a [usize],
}

impl CrashState<'_> {
    fn pick(&self, is: impl Fn(&Choice) -> bool) -> usize {
        let at = self.choices.iter().position(is);
        at.map_or(0, |at| self.picked[at])
    }

    fn names(&self, dir: Id) -> Names {
        let Node::Dir {
            lasting,
            since,
            groups,
        } = &self.disk.0[dir]
        else {
            panic!("no directory");
        };
        let mut names = lasting.clone();
        let mut changes = since.iter();
        for (group, size) in groups.iter().enumerate() {
            let there = self.pick(|c| matches!(c, Choice::Names(d, g) if (*d, *g) == (dir, group)));
            for (name, id) in changes.by_ref().take(*size) {
                if there == 1 {
                    set(&mut names, name, *id);
                }
            }
        }
        names
    }

    fn bytes(&self, file: Id) -> Vec<u8> {
        let Node::File {
            lasting,
            now,
            overwritten,
            ..
        } = &self.disk.0[file]
        else {
            panic!("no file");
        };
        let is_of = |c: &Choice| matches!(c, Choice::Bytes(f) | Choice::Blocks(f) if *f == file);
        match self.pick(is_of) {
            0 => lasting.clone(),
            1 => now.clone(),
            2 => now[..now.len().midpoint(lasting.len()).min(now.len())].to_vec(),
            // The length came to the disk before the bytes.
            3 => {
                let mut bytes = lasting.clone();
                bytes.resize(now.len(), 0);
                bytes
            }
            // Of what was written over, the first half came, or every other block.
            part => {
                let (first, last) = overwritten.unwrap_or_default();
                let came = |at: usize| match part {
                    4 => at < first.midpoint(last),
                    _ => (at / BLOCK).is_multiple_of(2),
                };
                let mut bytes = now.clone();
                for at in (first..last).filter(|at| !came(*at)) {
                    bytes[at] = lasting.get(at).copied().unwrap_or(0);
                }
                bytes
            }
        }
    }

    /// Everything that is left, in a form that is equal where that is equal.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        self.walk(0, Path::new(""), &mut |path, node, bytes| {
            key.extend_from_slice(path.as_os_str().as_encoded_bytes());
            key.push(0);
            match node {
                Node::Link(target) => {
                    key.extend_from_slice(b"-> ");
                    key.extend_from_slice(target.as_os_str().as_encoded_bytes());
                }
                Node::Dir { .. } => key.push(b'/'),
                Node::File { .. } => key.extend_from_slice(&bytes),
            }
            key.push(0);
        });
        key
    }

    /// A line for each path, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        self.walk(0, Path::new(""), &mut |path, node, bytes| {
            let what = match node {
                Node::Link(target) => format!(" -> {}", target.display()),
                Node::Dir { .. } => "/".to_owned(),
                Node::File { .. } => {
                    let start = bytes.get(..60).unwrap_or(&bytes);
                    format!(" {} {:?}", bytes.len(), String::from_utf8_lossy(start))
                }
            };
            text.push_str(&format!("  {}{what}\n", path.display()));
        });
        text
    }

    /// Puts it into an empty directory. Returns which numbers the files got in the place of those
    /// that they had.
    pub fn restore(&self, base: &Path) -> BTreeMap<u64, PathBuf> {
        let mut numbers = BTreeMap::new();
        let mut made = BTreeMap::new();
        self.walk(0, Path::new(""), &mut |path, node, bytes| {
            let path = base.join(path);
            match node {
                Node::Link(target) => symlink(target, path).unwrap(),
                Node::Dir { .. } => fs::create_dir(path).unwrap(),
                Node::File { inode, .. } => {
                    // Two names of one file stay two names of one file.
                    if let Some(first) = made.get(&std::ptr::from_ref(node)) {
                        fs::hard_link(first, path).unwrap();
                        return;
                    }
                    fs::write(&path, bytes).unwrap();
                    made.insert(std::ptr::from_ref(node), path.clone());
                    if *inode != 0 {
                        numbers.insert(*inode, path);
                    }
                }
            }
        });
        numbers
    }

    fn walk<'b>(&'b self, dir: Id, path: &Path, each: &mut impl FnMut(&Path, &'b Node, Vec<u8>)) {
        for (name, id) in self.names(dir) {
            let path = path.join(name);
            let node = &self.disk.0[id];
            let bytes = match node {
                Node::File { .. } => self.bytes(id),
                _ => Vec::new(),
            };
            each(&path, node, bytes);
            if matches!(node, Node::Dir { .. }) {
                self.walk(id, &path, each);
            }
        }
    }
}

impl Node {
    fn dir() -> Self {
        Node::Dir {
            lasting: Names::new(),
            since: Vec::new(),
            groups: Vec::new(),
        }
    }
}

fn set(names: &mut Names, name: &str, id: Option<Id>) {
    match id {
        Some(id) => names.insert(name.to_owned(), id),
        None => names.remove(name),
    };
}
