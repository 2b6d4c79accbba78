//! A tree to bytes.

use std::collections::HashMap;

use crate::error::DeviceTreeError;
use crate::format::{
    COMPATIBLE, MAGIC, MAX_DEPTH, MAX_SIZE, VERSION, is_node_name, is_property_name, token,
};
use crate::tree::{DeviceTree, DeviceTreeNode};

/// Bytes of the header.
const HEADER: usize = 40;

impl DeviceTree {
    /// Writes the tree as version 17 without gaps. The same tree gives the same bytes, and
    /// [`DeviceTree::parse`] gives the same tree.
    ///
    /// # Errors
    /// A name or a reservation that the file cannot hold, or more than [`DeviceTree::parse`] would read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DeviceTreeError> {
        let mut writer = Writer::default();
        writer.node(&self.root, 1)?;
        writer.cell(token::END);
        let Writer {
            structure, strings, ..
        } = writer;

        let mut reservations = Vec::new();
        for one in &self.reservations {
            if one.address == 0 && one.size == 0 {
                return Err(DeviceTreeError::EmptyReservation);
            }
            reservations.extend(one.address.to_be_bytes());
            reservations.extend(one.size.to_be_bytes());
        }
        reservations.extend([0; 16]);

        let structure_at = HEADER + reservations.len();
        let strings_at = structure_at + structure.len();
        let size = strings_at + strings.len();
        let header = [
            number(MAGIC as usize)?,
            number(size)?,
            number(structure_at)?,
            number(strings_at)?,
            number(HEADER)?,
            VERSION,
            COMPATIBLE,
            self.boot_cpu,
            number(strings.len())?,
            number(structure.len())?,
        ];
        if size > MAX_SIZE {
            return Err(too_large());
        }
        let header: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
        Ok([header, reservations, structure, strings].concat())
    }
}

fn too_large() -> DeviceTreeError {
    DeviceTreeError::TooMuch {
        what: "more than 2 MiB",
    }
}

fn number(value: usize) -> Result<u32, DeviceTreeError> {
    u32::try_from(value).map_err(|_| too_large())
}

#[derive(Default)]
struct Writer<'a> {
    structure: Vec<u8>,
    strings: Vec<u8>,
    /// Where in `strings` a name is.
    names: HashMap<&'a str, u32>,
}

impl<'a> Writer<'a> {
    fn cell(&mut self, value: u32) {
        self.structure.extend(value.to_be_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.structure.extend(value);
        let filled = self.structure.len().next_multiple_of(4);
        self.structure.resize(filled, 0);
    }

    fn node(&mut self, node: &'a DeviceTreeNode, depth: usize) -> Result<(), DeviceTreeError> {
        if depth > MAX_DEPTH {
            return Err(DeviceTreeError::TooMuch {
                what: "nodes nested deeper than 64",
            });
        }
        if !is_node_name(&node.name, depth == 1) {
            return Err(name(&node.name));
        }
        self.cell(token::BEGIN_NODE);
        self.bytes(&[node.name.as_bytes(), b"\0"].concat());
        for property in &node.properties {
            let place = self.place(&property.name)?;
            self.cell(token::PROPERTY);
            self.cell(number(property.value.len())?);
            self.cell(place);
            self.bytes(&property.value);
        }
        for child in &node.children {
            self.node(child, depth + 1)?;
        }
        self.cell(token::END_NODE);
        Ok(())
    }

    fn place(&mut self, text: &'a str) -> Result<u32, DeviceTreeError> {
        if let Some(place) = self.names.get(text) {
            return Ok(*place);
        }
        if !is_property_name(text) {
            return Err(name(text));
        }
        let place = number(self.strings.len())?;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        self.names.insert(text, place);
        Ok(place)
    }
}

fn name(text: &str) -> DeviceTreeError {
    DeviceTreeError::Name {
        name: text.to_owned(),
    }
}
