//! Bytes to a tree.

use std::ops::Range;

use crate::error::DeviceTreeError;
use crate::format::{
    COMPATIBLE, MAGIC, MAX_DEPTH, MAX_NAME, MAX_SIZE, VERSION, is_node_name, is_property_name,
    token,
};
use crate::tree::{DeviceTree, DeviceTreeNode, DeviceTreeProperty, MemoryReservation};

impl DeviceTree {
    /// Reads a device tree of version 16 or newer. What follows after the size that it states is
    /// not looked at.
    ///
    /// # Errors
    /// It is not one, is damaged, or exceeds [`MAX_SIZE`], [`MAX_DEPTH`] or [`MAX_NAME`].
    pub fn parse(bytes: &[u8]) -> Result<DeviceTree, DeviceTreeError> {
        let header = Header::read(bytes)?;
        let bytes = bytes
            .get(..header.size)
            .ok_or(DeviceTreeError::Bounds { part: "end" })?;
        Ok(DeviceTree {
            boot_cpu: header.boot_cpu,
            reservations: reservations(bytes, header.reservations)?,
            root: Structure::new(bytes, &header)?.tree()?,
        })
    }
}

struct Header {
    size: usize,
    structure: Range<usize>,
    strings: Range<usize>,
    reservations: usize,
    boot_cpu: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, DeviceTreeError> {
        let field = |index: usize| cell(bytes, index * 4).ok_or(DeviceTreeError::NotATree);
        let place = |index: usize| field(index).map(|value| value as usize);
        if field(0)? != MAGIC {
            return Err(DeviceTreeError::NotATree);
        }
        let size = place(1)?;
        let (version, compatible) = (field(5)?, field(6)?);
        if version < COMPATIBLE || compatible > VERSION {
            return Err(DeviceTreeError::Version {
                version,
                compatible,
            });
        }
        if size > MAX_SIZE {
            return Err(DeviceTreeError::TooMuch {
                what: "more than 2 MiB",
            });
        }
        let structure = place(2)?;
        let structure_end = if version >= VERSION {
            structure.checked_add(place(9)?)
        } else {
            Some(size)
        };
        let strings = place(3)?;
        let header = Header {
            size,
            structure: within(structure, structure_end, size, 4, "structure")?,
            strings: within(strings, strings.checked_add(place(8)?), size, 1, "strings")?,
            reservations: place(4)?,
            boot_cpu: field(7)?,
        };
        within(header.reservations, Some(size), size, 8, "reservations")?;
        Ok(header)
    }
}

fn within(
    begin: usize,
    end: Option<usize>,
    size: usize,
    alignment: usize,
    part: &'static str,
) -> Result<Range<usize>, DeviceTreeError> {
    match end {
        Some(end) if begin <= end && end <= size && begin.is_multiple_of(alignment) => {
            Ok(begin..end)
        }
        _ => Err(DeviceTreeError::Bounds { part }),
    }
}

fn cell(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

fn reservations(bytes: &[u8], begin: usize) -> Result<Vec<MemoryReservation>, DeviceTreeError> {
    let (entries, _) = bytes.get(begin..).unwrap_or_default().as_chunks::<16>();
    let mut found = Vec::new();
    for entry in entries {
        let entry = u128::from_be_bytes(*entry);
        if entry == 0 {
            return Ok(found);
        }
        found.push(MemoryReservation {
            address: (entry >> 64) as u64,
            size: entry as u64,
        });
    }
    Err(DeviceTreeError::Damaged {
        offset: begin,
        problem: "the list of reserved memory has no end",
    })
}

/// A walk along the structure.
struct Structure<'a> {
    bytes: &'a [u8],
    /// What is still to be read.
    left: Range<usize>,
    /// Where the token begins that is being read.
    token: usize,
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    fn new(bytes: &'a [u8], header: &Header) -> Result<Self, DeviceTreeError> {
        let strings = bytes.get(header.strings.clone());
        Ok(Structure {
            bytes,
            left: header.structure.clone(),
            token: header.structure.start,
            strings: strings.ok_or(DeviceTreeError::Bounds { part: "strings" })?,
        })
    }

    fn damaged(&self, problem: &'static str) -> DeviceTreeError {
        DeviceTreeError::Damaged {
            offset: self.token,
            problem,
        }
    }

    /// The root, when everything below it is read.
    fn tree(mut self) -> Result<DeviceTreeNode, DeviceTreeError> {
        // Nodes that are begun, each of them in the one before it.
        let mut open: Vec<DeviceTreeNode> = Vec::new();
        let mut root = None;
        loop {
            self.token = self.left.start;
            match self.number()? {
                token::BEGIN_NODE => {
                    if open.is_empty() && root.is_some() {
                        return Err(self.damaged("a second root"));
                    }
                    if open.len() == MAX_DEPTH {
                        return Err(DeviceTreeError::TooMuch {
                            what: "nodes nested deeper than 64",
                        });
                    }
                    open.push(DeviceTreeNode::new(self.node_name(open.is_empty())?));
                }
                token::PROPERTY => {
                    let property = self.property()?;
                    let Some(node) = open.last_mut() else {
                        return Err(self.damaged("a property outside of a node"));
                    };
                    if !node.children.is_empty() {
                        return Err(self.damaged("a property after a node"));
                    }
                    node.properties.push(property);
                }
                token::END_NODE => {
                    let Some(node) = open.pop() else {
                        return Err(self.damaged("an end without a node"));
                    };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(node),
                        None => root = Some(node),
                    }
                }
                token::NOP => {}
                token::END if open.is_empty() => {
                    return root.ok_or_else(|| self.damaged("no node at all"));
                }
                token::END => return Err(self.damaged("an end within a node")),
                _ => return Err(self.damaged("an unknown token")),
            }
        }
    }

    /// The next bytes; what fills them up to four is skipped.
    fn take(&mut self, length: usize) -> Result<&'a [u8], DeviceTreeError> {
        let short = self.damaged("the structure ends here");
        let begin = self.left.start;
        let end = begin.checked_add(length).ok_or_else(|| short.clone())?;
        if end > self.left.end {
            return Err(short);
        }
        // The structure itself is aligned. What is missing at its end will be missed by the
        // next read.
        self.left.start = end.next_multiple_of(4).min(self.left.end);
        self.bytes.get(begin..end).ok_or(short)
    }

    fn number(&mut self) -> Result<u32, DeviceTreeError> {
        let bytes = self.take(4)?;
        cell(bytes, 0).ok_or_else(|| self.damaged("the structure ends here"))
    }

    fn node_name(&mut self, root: bool) -> Result<String, DeviceTreeError> {
        let rest = self.bytes.get(self.left.clone()).unwrap_or_default();
        let name = text(rest).ok_or_else(|| self.damaged("a name without an end"))?;
        if !is_node_name(name, root) {
            return Err(self.damaged("not a name for this node"));
        }
        self.take(name.len() + 1)?;
        Ok(name.to_owned())
    }

    fn property(&mut self) -> Result<DeviceTreeProperty, DeviceTreeError> {
        let length = self.number()? as usize;
        let name = self.number()? as usize;
        let value = self.take(length)?;
        let name = self.strings.get(name..).and_then(text);
        let name = name.ok_or_else(|| self.damaged("a property without a name"))?;
        if !is_property_name(name) {
            return Err(self.damaged("not a name for a property"));
        }
        Ok(DeviceTreeProperty {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// The text that begins `bytes`, if it ends soon enough for a name.
fn text(bytes: &[u8]) -> Option<&str> {
    let near = bytes.get(..=MAX_NAME).unwrap_or(bytes);
    let end = near.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(near.get(..end)?).ok()
}
